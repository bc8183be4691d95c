"""What a model must do when an example is changed: stay with its answer, or move it in one direction.

Tests of behaviour after Ribeiro et al. 2020 (CheckList, arXiv 2005.04118). They need no labels, and find what a score
on test rows does not show.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from modelkeep.errors import ModelkeepError
from problems.outline.acceptance import Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Change: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Behaviour(ABC):
    """One change to the model's inputs, and what it may do to the predictions.

    `name`    what is changed, in words
    `change`  features of n rows by input, arrays (n, …) → the same, changed; it does not edit what it is given
    """

    name: str
    change: Change

    @abstractmethod
    def met(self, before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
        """Which rows behave as wanted, bool (n,), by the predictions of an objective before and after the change."""

    @abstractmethod
    def judge(self, share: float, num_rows: int) -> Verdict:
        """The verdict on `num_rows` rows of which this share behaves as wanted."""


@dataclass(frozen=True)
class Invariant(Behaviour):
    """The answer stays. For a share `at_most` of the rows it may become another class, or a number that is further
    away than `within`, in the target's unit."""

    name: str
    change: Change
    at_most: float
    within: float = 0.0

    def met(self, before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
        import numpy as np

        if "predicted" in before:
            return before["predicted"].to_numpy() == after["predicted"].to_numpy()
        return np.abs(_number(after) - _number(before)) <= self.within

    def judge(self, share: float, num_rows: int) -> Verdict:
        changed = 1 - share
        return Verdict(
            changed <= self.at_most,
            f"{self.name}: the answer changes for {changed * 100:.1f} % of {num_rows:,} rows, wanted at most "
            f"{self.at_most * 100:g} %",
        )


@dataclass(frozen=True)
class Direction(Behaviour):
    """The number that is predicted, or the probability of a yes, does not fall (`sign` 1) or does not rise (-1), for a
    share `at_least` of the rows."""

    name: str
    change: Change
    sign: Literal[1, -1]
    at_least: float

    def met(self, before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
        return (_number(after) - _number(before)) * self.sign >= 0

    def judge(self, share: float, num_rows: int) -> Verdict:
        falls = "does not fall" if self.sign > 0 else "does not rise"
        return Verdict(
            share >= self.at_least,
            f"{self.name}: the prediction {falls} for {share * 100:.1f} % of {num_rows:,} rows, wanted at least "
            f"{self.at_least * 100:g} %",
        )


def _number(predictions: pd.DataFrame) -> np.ndarray:
    """float64 (n,). Raises ModelkeepError for predictions that are neither a number nor a yes or no."""
    import numpy as np

    for column in ("prediction", "probability"):
        if column in predictions:
            return predictions[column].to_numpy(np.float64)
    raise ModelkeepError(
        "These predictions have no direction.",
        expected="a column prediction or probability",
        received=", ".join(predictions.columns[:6]),
        next_step="use Invariant where there are several classes",
    )
