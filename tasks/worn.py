"""Examples that wear: windows of pictures, each a little worse than the one before, for `simulate`.

Seven tenths of the pictures, at most 10,000, are known at the start, and a fifth of these test. The others come in
twelve windows. A challenger learns from all windows so far but the last fifth of their pictures, which joins the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from problems.outline.problem import Problem, Stack
from store.artifacts import Store
from store.steps import StepRecord
from tasks.examples import load_examples
from tasks.recent import TEST_SHARE
from tasks.simulate import Period, World

if TYPE_CHECKING:
    import numpy as np

NUM_WINDOWS = 12
MOST_IN_WINDOW = 500
MOST_KNOWN = 10_000
KNOWN_SHARE = 0.7


@dataclass
class Worn(World):
    """`contents` (n, …) are the pictures of all windows as they came, `source` (m, …) and `source_target` (m,) what was
    known at the start, of which the first `num_tested` test; `folder` is where what was known is written."""

    contents: np.ndarray = field(kw_only=True)
    source: np.ndarray = field(kw_only=True)
    source_target: np.ndarray = field(kw_only=True)
    num_tested: int = field(kw_only=True)
    folder: Path = field(kw_only=True)

    def begin(self, number: int) -> Any:
        assert self.problem.wear
        return self.problem.wear.most * (number + 1) / len(self.periods)

    def known(self, number: int) -> dict[str, str]:
        import numpy as np

        assert self.problem.wear
        come = self.lived(number) if number else np.empty(0, np.int64)
        learnt, tested = np.split(come, [len(come) - round(len(come) * TEST_SHARE)])
        place = self.num_tested
        arrays = {
            "x_train": np.concatenate([self.source[place:], self.contents[learnt]]),
            "y_train": np.concatenate([self.source_target[place:], self.examples.target[learnt]]),
            "x_test": np.concatenate([self.source[:place], self.contents[tested]]),
            "y_test": np.concatenate([self.source_target[:place], self.examples.target[tested]]),
        }
        path = self.folder / f"known-{number:02d}.npz"
        self.problem.wear.write(path, arrays)
        return {"data": str(path)}

    def span(self) -> tuple[str, str]:
        return self.periods[0].name, self.periods[-1].name


def open_worn(problem: Problem, store: Store, ingested: StepRecord, folder: Path) -> Worn:
    import numpy as np

    assert isinstance(problem.rows, Stack) and problem.wear
    examples = load_examples(store, ingested)
    (array,) = examples.features.values()
    order = np.random.default_rng(0).permutation(len(examples))
    known, coming = np.split(order, [min(MOST_KNOWN, int(len(order) * KNOWN_SHARE))])
    size = min(MOST_IN_WINDOW, len(coming) // NUM_WINDOWS)
    coming = coming[: NUM_WINDOWS * size]
    contents = array[coming].reshape(-1, *problem.rows.shape)
    amounts = [problem.wear.most * (number + 1) / NUM_WINDOWS for number in range(NUM_WINDOWS)]
    worn = np.concatenate(
        [
            problem.wear.worsen(part, amount)
            for part, amount in zip(np.split(contents, NUM_WINDOWS), amounts, strict=True)
        ]
    )
    periods = [
        Period(f"{amount:.3g}{problem.wear.unit}", np.arange(number * size, (number + 1) * size))
        for number, amount in enumerate(amounts)
    ]
    return Worn(
        problem,
        problem.rows.inputs(worn).with_target(np.asarray(examples.target[coming])),
        "window",
        periods,
        across=f"worn by, {problem.wear.unit}",
        contents=worn,
        source=array[known].reshape(-1, *problem.rows.shape),
        source_target=np.asarray(examples.target[known]),
        num_tested=round(len(known) * TEST_SHARE),
        folder=folder,
    )
