"""The parts that a problem is made of."""

from problems.outline.acceptance import Above, BeatsBaseline, Below, Criterion
from problems.outline.behaviour import Behaviour, Direction, Invariant
from problems.outline.drift import Drift, Limits
from problems.outline.forecast import Forecast
from problems.outline.hyperparameters import FineTuned, Hyperparameters, search
from problems.outline.objectives import Binary, Costs, Multiclass, Objective, Regression
from problems.outline.problem import (
    Champion,
    Examples,
    Files,
    Inputs,
    PackageCopy,
    Pretrained,
    Problem,
    Rows,
    Source,
    Stack,
    Truth,
    Wear,
)
from problems.outline.recommendation import Recommendation
from problems.outline.splits import (
    Backtest,
    ByGroup,
    ByTime,
    KFold,
    Official,
    Split,
    SplitRows,
    Stratified,
    TestOnly,
    WithinGroup,
)

__all__ = [
    "Above",
    "Backtest",
    "BeatsBaseline",
    "Behaviour",
    "Below",
    "Binary",
    "ByGroup",
    "ByTime",
    "Champion",
    "Costs",
    "Criterion",
    "Direction",
    "Drift",
    "Examples",
    "Files",
    "FineTuned",
    "Forecast",
    "Hyperparameters",
    "Inputs",
    "Invariant",
    "KFold",
    "Limits",
    "Multiclass",
    "Objective",
    "Official",
    "PackageCopy",
    "Pretrained",
    "Problem",
    "Recommendation",
    "Regression",
    "Rows",
    "Source",
    "Split",
    "SplitRows",
    "Stack",
    "Stratified",
    "TestOnly",
    "Truth",
    "Wear",
    "WithinGroup",
    "search",
]
