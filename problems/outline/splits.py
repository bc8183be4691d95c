"""Which examples train, which validate and which test; decided by the problem, the same for the same seed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import numpy as np

    from problems.outline.problem import Examples


@dataclass(frozen=True)
class SplitRows:
    """Row numbers (int64, ascending) of the three parts, disjoint; `validation` may be empty.

    `folds` are pairs (training rows, held-out rows) inside `train`, for cross-validation.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    folds: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


class Split(ABC):
    """How a problem divides its examples."""

    _wanted: ClassVar[tuple[str, ...]] = ("train", "test")

    def divide(self, examples: Examples, seed: int) -> SplitRows:
        """The rows of each part. Raises ModelkeepError where there are too few examples for it."""
        rows = self._divide(examples, seed)
        for part in self._wanted:
            if not len(getattr(rows, part)):
                raise ModelkeepError(
                    f"No example is left for the part {part!r} of the split.",
                    expected=f"examples enough for {self}",
                    received=f"{len(examples)} examples",
                    next_step="give more data, or a larger --sample",
                )
        return rows

    @abstractmethod
    def _divide(self, examples: Examples, seed: int) -> SplitRows: ...


@dataclass(frozen=True)
class KFold(Split):
    """A test part of the size `test` (share), and `folds` folds of the rest for cross-validation (DLWP §4.3.4).

    There is no validation part: the held-out rows of the folds serve, and the last model trains on all of the rest.
    """

    folds: int
    test: float

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        order = np.random.default_rng(seed).permutation(len(examples))
        test, train = np.split(order, [round(len(order) * self.test)])
        held_out = [np.sort(part) for part in np.array_split(train, self.folds)]
        train = np.sort(train)
        folds = tuple((np.setdiff1d(train, part), part) for part in held_out if len(part))
        return SplitRows(train, np.empty(0, np.int64), np.sort(test), folds)


@dataclass(frozen=True)
class TestOnly(Split):
    """Every example tests: for models that have learnt elsewhere."""

    __test__: ClassVar[bool] = False  # pytest takes classes of such a name for tests
    _wanted: ClassVar[tuple[str, ...]] = ("test",)

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        none = np.empty(0, np.int64)
        return SplitRows(none, none, _all_rows(examples))


@dataclass(frozen=True)
class Stratified(Split):
    """Parts of the given shares in which every class is as frequent as in the whole."""

    test: float
    validation: float

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        train, rest = _stratified(_all_rows(examples), examples, self.test + self.validation, seed)
        validation, test = _stratified(rest, examples, self.test / (self.test + self.validation), seed)
        return SplitRows(train, validation, test)


@dataclass(frozen=True)
class Official(Split):
    """The publisher's own test part, marked "test" in a column of the frame; validation is taken from the rest."""

    column: str = "part"
    validation: float = 0.1

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        is_test = (examples.frame[self.column] == "test").to_numpy()
        train, validation = _stratified(np.flatnonzero(~is_test), examples, self.validation, seed)
        return SplitRows(train, validation, np.flatnonzero(is_test))


@dataclass(frozen=True)
class ByTime(Split):
    """The latest examples by a column of the frame test, those before them validate; nothing is shuffled."""

    column: str
    test: float
    validation: float

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        times = examples.frame[self.column].to_numpy()
        # A moment that several examples share belongs to one part only: nothing of the test period is known before it.
        begin_validation, begin_test = np.quantile(
            np.arange(len(times)), [1 - self.test - self.validation, 1 - self.test], method="nearest"
        )
        ordered = np.sort(times)
        is_test = times >= ordered[int(begin_test)]
        is_validation = (times >= ordered[int(begin_validation)]) & ~is_test
        return SplitRows(
            np.flatnonzero(~is_test & ~is_validation), np.flatnonzero(is_validation), np.flatnonzero(is_test)
        )


@dataclass(frozen=True)
class Backtest(Split):
    """The latest share `test` of the moments in a column of the frame tests; before it, `origins` folds of a window
    that grows: each trains on all that was known at its origin and is held against what came until the next origin
    (rolling-origin evaluation, Tashman 2000).

    There is no validation part, as with KFold. Between training and held-out rows `gap` moments are left out: a
    forecast of h moments ahead is made h before its moment, when the last h - 1 training targets were not yet known.
    """

    column: str
    origins: int
    test: float
    gap: int = 0

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        moments, moment = np.unique(examples.frame[self.column].to_numpy(), return_inverse=True)
        begin_test = len(moments) - round(len(moments) * self.test)
        # As many moments before the first origin as between two of them.
        ends = np.linspace(0, begin_test, self.origins + 2).astype(int)[1:]
        folds = [
            (np.flatnonzero(moment < origin - self.gap), np.flatnonzero((moment >= origin) & (moment < end)))
            for origin, end in pairwise(ends.tolist())
        ]
        return SplitRows(
            np.flatnonzero(moment < begin_test - self.gap),
            np.empty(0, np.int64),
            np.flatnonzero(moment >= begin_test),
            tuple(fold for fold in folds if all(map(len, fold))),
        )


@dataclass(frozen=True)
class ByGroup(Split):
    """Examples that share a value of a column of the frame are all in the same part."""

    column: str
    test: float
    validation: float

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        values, group = np.unique(examples.frame[self.column].to_numpy().astype(str), return_inverse=True)
        place = np.random.default_rng(seed).permutation(len(values)) / len(values)
        share = place[group]
        is_test, is_validation = share < self.test, (share >= self.test) & (share < self.test + self.validation)
        return SplitRows(
            np.flatnonzero(~is_test & ~is_validation), np.flatnonzero(is_validation), np.flatnonzero(is_test)
        )


@dataclass(frozen=True)
class WithinGroup(Split):
    """The last examples of each group test, and those before them validate, in the order of the examples: whoever is
    tested was also trained on, with what came before. Of fewer than 1 / share examples a part gets none."""

    column: str
    test: float
    validation: float

    def _divide(self, examples: Examples, seed: int) -> SplitRows:
        import numpy as np

        _, group, sizes = np.unique(examples.frame[self.column].to_numpy(), return_inverse=True, return_counts=True)
        order = np.argsort(group, kind="stable")
        from_end = np.empty(len(group), np.int64)
        from_end[order] = (np.cumsum(sizes) - 1)[group[order]] - np.arange(len(group))
        num_test, num_validation = (sizes * self.test).astype(int)[group], (sizes * self.validation).astype(int)[group]
        is_test, is_train = from_end < num_test, from_end >= num_test + num_validation
        return SplitRows(np.flatnonzero(is_train), np.flatnonzero(~is_test & ~is_train), np.flatnonzero(is_test))


def _all_rows(examples: Examples) -> np.ndarray:
    import numpy as np

    return np.arange(len(examples))


def _stratified(rows: np.ndarray, examples: Examples, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide `rows` in parts of the shares (1 - share, share), with the classes of the target as frequent in both."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    if share <= 0 or math.ceil(len(rows) * share) >= len(rows):
        return rows, np.empty(0, np.int64)
    labels = examples.target[rows]
    _, counts = np.unique(labels, return_counts=True)
    # scikit-learn refuses a class with a single member; such a rare class is left to chance then.
    stratify = labels if counts.min() >= 2 and round(len(rows) * share) >= len(counts) else None
    first, second = train_test_split(rows, test_size=share, random_state=seed, stratify=stratify)
    return np.sort(first), np.sort(second)
