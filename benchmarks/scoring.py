"""Rows per second of `modelkeep predict` beside the model alone: the same rows, the same untrained model, one process.

    python benchmarks/scoring.py [--rows 500000] [--pictures 10000] [--repeats 3] [--only digits] [--cpu]

predict    `model.predict` as it is called where nothing more is said, in batches of 32; a tenth of the rows, in memory
batched    `model.predict` in the batches of the whole
function   the model as one compiled function, called for the same batches, with the features in memory
onnx       the same in ONNX Runtime, which is what the whole asks
files      the file read and written again, with the readers and writers of the whole and nothing between: no scoring
           of a file that keeps what it scored can be faster
check      the rows, in memory, made features and held against the rules
whole      `modelkeep predict` from the file to Parquet: read, check, score, keep in the store; what is loaded once
           (TensorFlow, Great Expectations) is loaded before

Medians, in turn, by the clock or, with `--cpu`, by the CPU seconds of the process, which other work on the machine
disturbs less; those of the threads that read ahead and write behind count there. The whole's speed is told as a share
of the function's and of the files', and × predict. `fixed` are the seconds that it takes for no rows, and `rows only`
is the share of the function's speed without them, both by the times for all rows and for a tenth of them. Peak memory
is that of the process after the wholes, in which the features of the others are still held.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from problems.outline.problem import Examples, Problem

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS = ("predict", "batched", "function", "onnx", "files", "check", "whole")
CASES = (("housing", ".parquet"), ("housing", ".csv"), ("perceptron", ".parquet"), ("digits", ".npz"))
TENTH = 10
SHARES = ("of function", "of files", "× predict", "rows only")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="cases with this in their names")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    results: dict[str, dict[str, float]] = {}
    titles = (*WAYS, *SHARES, "fixed s", "peak MB")
    print(f"{'rows/s':<20}" + "".join(f"{title:>12}" for title in titles))
    for name, ending in (case for case in CASES if arguments.only in "".join(case)):
        num_rows = arguments.pictures if ending == ".npz" else arguments.rows
        with tempfile.TemporaryDirectory() as folder:
            ways = prepare(name, ending, num_rows, Path(folder))
            clock = time.process_time if arguments.cpu else time.perf_counter
            found = results[f"{name}{ending}"] = describe(num_rows, time_in_turn(ways, arguments.repeats, clock))
        told = [f"{found[title]:,.0f}" for title in WAYS] + [f"{found[title]:.2f}" for title in (*SHARES, "fixed s")]
        print(f"{name + ending:<20}" + "".join(f"{text:>12}" for text in (*told, f"{found['peak MB']:,.0f}")))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def prepare(name: str, ending: str, num_rows: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """What is timed, by its name."""
    import keras
    import numpy as np

    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.champion import load_champion
    from tasks.inference import compiled, predict_in_batches
    from tasks.ingest import read_sources
    from tasks.score_rows import batch_size, chunk_rows
    from tasks.settings import load_settings
    from tasks.tables import read_chunks
    from tests.training_store import crown
    from validation.rows import find_offending_rows, rules_of_one_row

    problem, store = load_problem(name), open_store(str(folder / "store"))
    examples = read_sources(problem, store, load_settings().mirror, "", str(folder))
    keras.utils.set_random_seed(0)
    model = problem.build(problem.complete("", {}), examples)
    crown(store, name, model, with_onnx=True)
    rows = np.arange(num_rows) % len(examples)
    features = {key: examples.features[key][rows] for key in model.input}
    few = {key: array[: num_rows // TENTH] for key, array in features.items()}
    window = write_window(problem, examples, rows, folder / f"window{ending}")
    tenth = write_window(problem, examples, rows[: num_rows // TENTH], folder / f"tenth{ending}")
    function, onnx, size = compiled(model), load_champion(problem, store).engine, batch_size(features)
    form = problem.rows
    assert form is not None
    chunks = list(read_chunks(window, form, chunk_rows(form)))
    rules = rules_of_one_row(problem.expectations(), list(map(str, form.inputs(chunks[0].content).frame)))
    return {
        "predict": lambda: model.predict(few, verbose=0),
        "batched": lambda: model.predict(features, batch_size=size, verbose=0),
        "function": lambda: predict_in_batches(function, features, size),
        "onnx": lambda: predict_in_batches(onnx, features, size),
        "files": lambda: read_and_write(problem, window, folder),
        "check": lambda: [find_offending_rows(form.inputs(chunk.content).frame, rules) for chunk in chunks],
        "whole": lambda: score_whole(problem, window, folder),
        "tenth": lambda: score_whole(problem, tenth, folder),
    }


def time_in_turn(ways: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Medians, after each was done once."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begin = clock()
            way()
            if turn:
                seconds[name].append(clock() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def describe(num_rows: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Rows per second, shares, and what does not grow with the rows."""
    num_few = num_rows // TENTH
    speeds = {way: (num_few if way == "predict" else num_rows) / seconds[way] for way in WAYS}
    grown = (seconds["whole"] - seconds["tenth"]) / (num_rows - num_few)
    return speeds | {
        "of function": speeds["whole"] / speeds["function"],
        "of files": speeds["whole"] / speeds["files"],
        "× predict": speeds["whole"] / speeds["predict"],
        "rows only": 1 / grown / speeds["function"],
        "fixed s": seconds["whole"] - num_rows * grown,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def write_window(problem: Problem, examples: Examples, rows: np.ndarray, path: Path) -> Path:
    import numpy as np

    from problems.outline.problem import Rows

    if path.suffix == ".npz":
        np.savez(path, image=examples.features["image"][rows][..., 0])
        return path
    assert isinstance(problem.rows, Rows)
    table = examples.frame[list(problem.rows.columns)].iloc[rows]
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def read_and_write(problem: Problem, window: Path, folder: Path) -> None:
    """What the whole keeps of the rows, in parts first; without numbers of rows, scores and the store."""
    from tasks.beside import ahead, behind
    from tasks.parts import open_parts, pack_rows, to_table
    from tasks.score_rows import chunk_rows
    from tasks.tables import read_chunks

    form, to_rows = problem.rows, to_table if window.suffix != ".npz" else pack_rows
    assert form is not None
    with open_parts(folder / "files.parquet", "files") as parts:
        with ahead(read_chunks(window, form, chunk_rows(form))) as chunks, behind() as put_down:
            for chunk in chunks:
                put_down(partial(parts.add, {"frame": to_rows(chunk.content)}, {}))
        parts.join("frame", folder / "files.parquet", {})
        parts.discard()


def score_whole(problem: Problem, window: Path, folder: Path) -> None:
    """Into a store that does not have the window's scores yet."""
    import shutil

    from store import open_store
    from tasks.score_rows import score_rows
    from tasks.windows import choose_table_outputs

    shutil.rmtree(folder / "store" / "windows", ignore_errors=True)
    kept = score_rows(
        problem, str(window), choose_table_outputs(str(folder), str(window)), open_store(f"{folder}/store")
    )
    assert kept.num_set_aside == 0, kept


if __name__ == "__main__":
    main()
