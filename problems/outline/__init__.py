"""The parts that a problem is made of."""

from problems.outline.acceptance import Above, BeatsBaseline, Below, Criterion
from problems.outline.forecast import Forecast
from problems.outline.hyperparameters import FineTuned, Hyperparameters, search
from problems.outline.objectives import Binary, Costs, Multiclass, Objective, Regression
from problems.outline.problem import Champion, Examples, Files, PackageCopy, Pretrained, Problem, Source
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
    "Below",
    "Binary",
    "ByGroup",
    "ByTime",
    "Champion",
    "Costs",
    "Criterion",
    "Examples",
    "Files",
    "FineTuned",
    "Forecast",
    "Hyperparameters",
    "KFold",
    "Multiclass",
    "Objective",
    "Official",
    "PackageCopy",
    "Pretrained",
    "Problem",
    "Recommendation",
    "Regression",
    "Source",
    "Split",
    "SplitRows",
    "Stratified",
    "TestOnly",
    "WithinGroup",
    "search",
]
