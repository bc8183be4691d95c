"""Our training loop beside Keras' `Model.fit`: the same model, batches, epochs and validation rows.

    python benchmarks/training_loop.py [--repeats 3] [--json FILE]

Seconds of training one model, tracing included, in one process and in turn; medians and ratios. “again” is the second
model of an architecture, as the folds of a cross-validation are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    for name, settings, sample in (("housing", {}, None), ("digits", {"network": "mlp"}, None), ("digits", {}, 2000)):
        title = f"{name} {settings.get('network', '')}".strip() + (f", {sample} examples" if sample else "")
        results[title] = compare(name, settings, sample, arguments.repeats)
    print(f"{'seconds':<26}{'Model.fit':>10}{'our loop':>10}{'again':>8}{'fit / loop':>12}{'fit / again':>12}")
    for title, rows in results.items():
        fit, loop, again = (statistics.median(rows[name]) for name in ("fit", "loop", "again"))
        print(f"{title:<26}{fit:>10.2f}{loop:>10.2f}{again:>8.2f}{fit / loop:>12.1f}{fit / again:>12.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def compare(name: str, settings: dict[str, Any], sample: int | None, repeats: int) -> dict[str, list[float]]:
    import tempfile

    import numpy as np

    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks import engines
    from tasks.ingest import read_sources

    problem = load_problem(name)
    with tempfile.TemporaryDirectory() as folder:
        examples = read_sources(problem, open_store(f"{folder}/store"), "", "", folder)
    if sample:
        examples = examples.take(np.sort(np.random.default_rng(0).choice(len(examples), sample, replace=False)))
    rows = problem.split.divide(examples, 0)
    parts = rows.folds[0] if rows.folds else (rows.train, rows.validation)
    times: dict[str, list[float]] = {"fit": [], "loop": [], "again": []}
    for _ in range(repeats):
        times["fit"].append(timed(lambda: with_fit(problem, settings, examples, *parts)))
        engines._idle.clear()
        times["loop"].append(timed(lambda: with_our_loop(problem, settings, examples, *parts)))
        times["again"].append(timed(lambda: with_our_loop(problem, settings, examples, *parts)))
    return times


def timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def build(problem: Any, settings: dict[str, Any], examples: Any, train_rows: Any) -> tuple[Any, Any]:
    import keras

    keras.utils.set_random_seed(0)
    hyperparameters = problem.complete("", settings)
    model = problem.build(hyperparameters, examples.take(train_rows))
    problem.objective.compile(model, hyperparameters)
    return model, hyperparameters


def with_fit(problem: Any, settings: dict[str, Any], examples: Any, train_rows: Any, held_out: Any) -> None:
    model, hyperparameters = build(problem, settings, examples, train_rows)
    target = problem.objective.training_target(examples.target)
    features = dict(examples.features)
    model.fit(
        {name: array[train_rows] for name, array in features.items()},
        target[train_rows],
        epochs=hyperparameters.epochs,
        batch_size=hyperparameters.batch_size,
        validation_data=({name: array[held_out] for name, array in features.items()}, target[held_out]),
        verbose=0,
    )


def with_our_loop(problem: Any, settings: dict[str, Any], examples: Any, train_rows: Any, held_out: Any) -> None:
    from tasks.engines import open_engine
    from tasks.training import Training

    model, hyperparameters = build(problem, settings, examples, train_rows)
    first = {name: array[:1] for name, array in examples.features.items()}
    with open_engine(model, first, problem.objective.training_target(examples.target[:1])) as engine:
        Training(engine, problem.objective, examples, train_rows, held_out, hyperparameters, seed=0).run(lambda: None)


if __name__ == "__main__":
    main()
