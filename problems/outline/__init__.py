"""The parts that a problem is made of."""

from problems.outline.acceptance import Above, BeatsBaseline, Below, Criterion
from problems.outline.forecast import Forecast
from problems.outline.hyperparameters import Hyperparameters, search
from problems.outline.objectives import Binary, Costs, Multiclass, Objective, Regression
from problems.outline.problem import Examples, Files, PackageCopy, Problem, Source
from problems.outline.splits import Backtest, ByGroup, ByTime, KFold, Official, Split, SplitRows, Stratified

__all__ = [
    "Above",
    "Backtest",
    "BeatsBaseline",
    "Below",
    "Binary",
    "ByGroup",
    "ByTime",
    "Costs",
    "Criterion",
    "Examples",
    "Files",
    "Forecast",
    "Hyperparameters",
    "KFold",
    "Multiclass",
    "Objective",
    "Official",
    "PackageCopy",
    "Problem",
    "Regression",
    "Source",
    "Split",
    "SplitRows",
    "Stratified",
    "search",
]
