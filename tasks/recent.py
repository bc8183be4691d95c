"""Data that has come since: windows whose truth is known behind the examples of the source; and examples up to a date.

The source's examples are divided as they would be without windows, so that the test rows of a champion stay test rows.
Of the recent rows the last fifth test too: what is appended later moves that end on, and never back, so no row that a
champion was trained on becomes a test row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError
from problems.outline.problem import Examples, Inputs, Problem, Rows, Stack
from problems.outline.ragged import concatenate
from problems.outline.splits import Split, SplitRows
from store.artifacts import Store
from store.errors import ArtifactMissing
from tasks.forms import form_of_run
from tasks.kept_windows import KeptWindow, find_window, labels_key
from tasks.parts import take_rows, unpack_rows
from tasks.runs import read_manifest
from tasks.tables import ROW

if TYPE_CHECKING:
    import numpy as np

RECENT = "recent"  # the column of the frame that says which examples come from windows
TEST_SHARE = 0.2


def can_learn_from_windows(problem: Problem) -> bool:
    return problem.rows is not None and problem.rows.truth is not None


def has_rows(problem: Problem, kept: KeptWindow) -> bool:
    """Whether a window has what features are made of: of an array its rows, which were not always kept."""
    return isinstance(problem.rows, Rows) or "array" in kept.artifacts


def append_windows(problem: Problem, store: Store, examples: Examples, windows: Sequence[tuple[str, str]]) -> Examples:
    """The examples, and behind them the labelled rows of the windows; the frame's column `recent` tells them apart.

    `windows` are ids, each with the SHA-256 of its labels. Raises ArtifactMissing, ArtifactCorrupt.
    """
    import numpy as np
    import pandas as pd

    parts = [_read_window(problem, store, examples, *window) for window in windows]
    frames = [examples.frame.assign(**{RECENT: False})]
    frames += [part.frame.reindex(columns=examples.frame.columns).assign(**{RECENT: True}) for part in parts]
    return replace(
        examples,
        features={
            name: concatenate([array, *(part.features[name] for part in parts)])
            for name, array in examples.features.items()
        },
        target=np.concatenate([examples.target, *(part.target for part in parts)]),
        frame=pd.concat(frames, ignore_index=True),
    )


def _read_window(problem: Problem, store: Store, examples: Examples, window: str, labels_sha256: str) -> Examples:
    import pandas as pd

    kept = find_window(store, problem.name, window)
    key = labels_key(problem.name, window, labels_sha256)
    labels = store.find(key, kind="parquet")
    if kept is None or labels is None or labels.sha256 != labels_sha256:
        raise ArtifactMissing(
            f"The window {window} of {problem.name} cannot be trained on.",
            where=f"{store.uri}/{key}",
            expected=f"its rows, and labels with SHA-256 {labels_sha256}",
            received="something else" if kept and labels else "nothing, or not the whole of it",
            next_step="monitor the window again with its labels",
        )
    truth = pd.read_parquet(store.local_path(labels))
    frame = pd.read_parquet(store.local_path(kept.artifacts["frame"]))
    places = pd.Index(frame[ROW]).get_indexer(pd.Index(truth[ROW]))
    frame = frame.drop(columns=ROW).iloc[places].reset_index(drop=True)
    form = form_of_run(problem, store, read_manifest(store, kept.run))
    assert form and form.truth  # `can_learn_from_windows`
    content = _read_array(form, store, kept, places) if isinstance(form, Stack) else frame
    target = truth["target"].to_numpy()
    known = {form.truth.column: form.truth.write(target)}
    inputs = Inputs(form.inputs(content).features, frame)
    return inputs.with_target(target.astype(examples.target.dtype), **known)


def _read_array(form: Stack, store: Store, kept: KeptWindow, places: np.ndarray) -> np.ndarray:
    import numpy as np

    chosen = np.unique(places)
    table = take_rows(store.local_path(kept.artifacts["array"]), lambda num_rows: chosen)
    return unpack_rows(table, form.dtype, form.shape)[np.searchsorted(chosen, places)]


def divide(split: Split, examples: Examples, seed: int) -> SplitRows:
    """The rows of each part; of recent examples the last fifth tests, and the others are spread over the parts and
    folds as those of the source are. Raises ModelkeepError where there are too few examples."""
    import numpy as np

    if RECENT not in examples.frame:
        return split.divide(examples, seed)
    is_recent = examples.frame[RECENT].to_numpy(bool)
    known, recent = np.flatnonzero(~is_recent), np.flatnonzero(is_recent)
    rows = split.divide(examples.take(known), seed)  # the source's come first, so their numbers stay
    learnt, test = np.split(recent, [len(recent) - round(len(recent) * TEST_SHARE)])
    share = len(rows.validation) / (len(rows.validation) + len(rows.train))
    is_validation = np.diff(np.floor(np.arange(len(learnt) + 1) * share + 1e-9)) > 0
    train = learnt[~is_validation]
    fold = np.arange(len(train)) % max(1, len(rows.folds))
    folds = [
        (np.concatenate([fitted, train[fold != number]]), np.concatenate([held_out, train[fold == number]]))
        for number, (fitted, held_out) in enumerate(rows.folds)
    ]
    return SplitRows(
        np.concatenate([rows.train, train]),
        np.concatenate([rows.validation, learnt[is_validation]]),
        np.concatenate([rows.test, test]),
        tuple(folds),
    )


def leave_out_later(problem: Problem, examples: Examples, until: str) -> Examples:
    """The examples whose moment is not later than `until`. Raises ModelkeepError where the problem has no moments."""
    import numpy as np
    import pandas as pd

    column = time_column(problem)
    kept = examples.take(np.flatnonzero(examples.frame[column] <= pd.Timestamp(until)))
    return replace(kept, features=dict(kept.features))


def time_column(problem: Problem) -> str:
    """The column of the frame that says of which moment an example is: a forecast's. Raises ModelkeepError."""
    column: str | None = getattr(problem.objective, "time", None)
    if column is None:
        raise ModelkeepError(
            f"The examples of {problem.name} have no moments, so none of them is later than another.",
            expected="a forecast, whose objective names the column of time",
            next_step="choose such a problem",
        )
    return column


def check_simulation(problem: Problem, start: str) -> None:
    """Raises ModelkeepError for a problem that has neither moments nor a way to wear, or no calendar to start in."""
    if not problem.wear:
        time_column(problem)
    elif start:
        raise ModelkeepError(
            f"The examples of {problem.name} have no dates.", received=f"--start {start}", next_step="leave it out"
        )
