"""Prepare: decide which examples train, validate and test. Nothing is learnt from the data here."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem
from problems.outline.problem import Problem
from problems.outline.splits import SplitRows
from store.artifacts import ArtifactRef, Store
from store.steps import Lease, StepRecord
from tasks.examples import load_examples
from tasks.recent import divide
from tasks.steps import Products, Run, digests, do_once

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("modelkeep")

# The same for every run: a champion must not be compared on rows that it was trained on, whatever the seeds.
SPLIT_SEED = 0


@task(name="prepare", cache_policy=NO_CACHE, task_run_name="prepare {run.problem}")
def prepare(run: Run, examples: StepRecord) -> StepRecord:
    """Examples → row numbers of each part and fold."""
    problem = load_problem(run.problem)
    return do_once(
        run,
        "prepare",
        lambda lease: _divide(problem, run, examples, lease),
        module=__name__,
        inputs=digests(examples),
    )


def _divide(problem: Problem, run: Run, ingested: StepRecord, lease: Lease) -> Products:
    rows = divide(problem.split, load_examples(run.open_store(), ingested), SPLIT_SEED)
    sizes = {part: len(getattr(rows, part)) for part in ("train", "validation", "test")}
    logger.info("prepare   %s", ", ".join(f"{size:,} {part}" for part, size in sizes.items() if size))
    return Products({"rows": _save_rows(rows, lease)}, {**sizes, "folds": len(rows.folds)})


def _save_rows(rows: SplitRows, lease: Lease) -> ArtifactRef:
    import numpy as np

    arrays = {"train": rows.train, "validation": rows.validation, "test": rows.test}
    for number, (train, held_out) in enumerate(rows.folds, start=1):
        arrays |= {f"fold-{number}.train": train, f"fold-{number}.held_out": held_out}
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = Path(folder, "rows.npz")
        np.savez_compressed(path, allow_pickle=False, **arrays)
        return lease.put_file(path.name, path, kind="npz")


def load_rows(store: Store, record: StepRecord) -> SplitRows:
    """The parts and folds that `prepare` wrote."""
    import numpy as np

    with np.load(store.local_path(record.products["rows"]), allow_pickle=False) as arrays:
        num_folds = sum(name.endswith(".held_out") for name in arrays.files)
        folds: list[tuple[np.ndarray, np.ndarray]] = [
            (arrays[f"fold-{number}.train"], arrays[f"fold-{number}.held_out"]) for number in range(1, num_folds + 1)
        ]
        return SplitRows(arrays["train"], arrays["validation"], arrays["test"], tuple(folds))
