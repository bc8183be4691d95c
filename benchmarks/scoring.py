"""Rows per second of `modelkeep predict` beside the model alone: the same rows, the same untrained model, one process.

    python benchmarks/scoring.py [--rows 500000] [--pictures 10000] [--repeats 3] [--json FILE]

predict    `model.predict` with the features in memory
function   the model as one compiled function, called for the same batches, with the features in memory
onnx       the same in ONNX Runtime, which is what the whole asks
read, check, write   what else the whole does, each alone: the file read; the rows made features and held against the
           rules; what was checked written as one Parquet file. A dense model may be faster than any of these
whole      `modelkeep predict` from the file to Parquet: read, check, score, keep in the store; what is loaded once
           (TensorFlow, Great Expectations) is loaded before

Medians, in turn; `share` is the whole's speed as a share of the function's. Peak memory is that of the process after
the wholes, in which the features of the others are still held.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS = ("predict", "function", "onnx", "read", "check", "write", "whole")
CASES = (("housing", ".parquet"), ("housing", ".csv"), ("perceptron", ".parquet"), ("digits", ".npz"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    results: dict[str, dict[str, float]] = {}
    print(f"{'rows/s':<20}" + "".join(f"{way:>11}" for way in WAYS) + f"{'share':>8}{'peak MB':>9}")
    for name, ending in CASES:
        num_rows = arguments.pictures if ending == ".npz" else arguments.rows
        with tempfile.TemporaryDirectory() as folder:
            found = results[f"{name}{ending}"] = measure(name, ending, num_rows, arguments.repeats, Path(folder))
        speeds = "".join(f"{found[column]:>11,.0f}" for column in WAYS)
        print(f"{name + ending:<20}{speeds}{found['whole'] / found['function']:>8.2f}{found['peak_mb']:>9,.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def measure(name: str, ending: str, num_rows: int, repeats: int, folder: Path) -> dict[str, float]:
    import keras
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.champion import load_champion
    from tasks.inference import compiled, predict_in_batches
    from tasks.ingest import read_sources
    from tasks.score_rows import batch_size, chunk_rows
    from tasks.tables import read_chunks
    from tests.training_store import crown
    from validation.rows import find_offending_rows, rules_of_one_row

    problem, store = load_problem(name), open_store(str(folder / "store"))
    examples = read_sources(problem, store, "", "", str(folder))
    keras.utils.set_random_seed(0)
    model = problem.build(problem.complete("", {}), examples)
    crown(store, name, model, with_onnx=True)
    rows = np.arange(num_rows) % len(examples)
    features = {key: examples.features[key][rows] for key in model.input}
    window = write_window(problem, examples, rows, folder / f"window{ending}")
    function, onnx, size = compiled(model), load_champion(problem, store).engine, batch_size(features)
    form = problem.rows
    assert form is not None
    chunks = list(read_chunks(window, form, chunk_rows(form)))
    rules = rules_of_one_row(problem.expectations(), list(form.inputs(chunks[0].content).frame))
    checked = pa.Table.from_pandas(pd.concat([form.inputs(chunk.content).frame for chunk in chunks]))
    ways: dict[str, Callable[[], Any]] = {
        "predict": lambda: model.predict(features, batch_size=size, verbose=0),
        "function": lambda: predict_in_batches(function, features, size),
        "onnx": lambda: predict_in_batches(onnx, features, size),
        "read": lambda: sum(len(chunk.rows) for chunk in read_chunks(window, form, chunk_rows(form))),
        "check": lambda: [find_offending_rows(form.inputs(chunk.content).frame, rules) for chunk in chunks],
        "write": lambda: pq.write_table(checked, folder / "checked.parquet", use_dictionary=False),
        "whole": lambda: score_whole(problem, window, folder),
    }
    for way in ways.values():
        way()
    seconds = {key: [timed(way) for _ in range(repeats)] for key, way in ways.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {key: num_rows / statistics.median(times) for key, times in seconds.items()} | {"peak_mb": peak}


def write_window(problem: Any, examples: Any, rows: Any, path: Path) -> Path:
    import numpy as np

    if path.suffix == ".npz":
        np.savez(path, image=examples.features["image"][rows][..., 0])
        return path
    table = examples.frame[list(problem.rows.columns)].iloc[rows]
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def score_whole(problem: Any, window: Path, folder: Path) -> None:
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


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
