"""What HTTP adds to a model: rows asked over `modelkeep serve` beside the same model called in this process.

    python benchmarks/serving.py [--problems housing,digits] [--seconds 5] [--json FILE]

bare      the model alone, compiled by TensorFlow, one row at a time, its features in memory
onnx      the same in ONNX Runtime, which is what is served
inside    the served model without HTTP: rows as JSON has them, rules, batch, predictions
http      one client that asks for one row after the other, and clients side by side
bulk      four clients that ask for 256 rows at a time, beside the bare model on 256 rows at a time

Server and clients are processes of their own, so that they do not share an interpreter; on few cores they share those.
The models are untrained; what they weigh is what trained ones weigh.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BULK_ROWS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default="housing,digits")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    for name in arguments.problems.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, arguments.seconds, Path(folder))
        print(f"{name}\n" + "\n".join(f"  {key:<34}{value:>12,.2f}" for key, value in results[name].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def measure(name: str, seconds: float, folder: Path) -> dict[str, float]:
    store = f"{folder}/store"
    rows = prepare(name, folder, store)
    found = measure_inside(name, store, rows, seconds)
    with served(name, store, folder) as address:
        url, one, many = f"{address}/{name}/predict", body_of(rows[:1]), body_of(rows)
        ask_for(url, one, seconds / 2)
        for num_clients in (1, 8, 32):
            times = ask_side_by_side(url, one, seconds, num_clients)
            told = f"http, {num_clients} client{'s' if num_clients > 1 else ''}"
            found |= quantiles(f"{told}, one row", times) | {f"{told}, rows/s": len(times) / seconds}
        times = ask_side_by_side(url, many, seconds, 4)
        found["http, bulk, rows/s"] = BULK_ROWS * len(times) / seconds
    return found


def prepare(name: str, folder: Path, store_uri: str) -> list[dict[str, Any]]:
    """A store with a champion, and 256 rows."""
    import keras
    import numpy as np

    from problems.outline.catalogue import load_problem
    from problems.outline.problem import Stack
    from store import open_store
    from tasks.ingest import read_sources
    from tasks.settings import load_settings
    from tests.training_store import crown

    problem, store = load_problem(name), open_store(store_uri)
    examples = read_sources(problem, store, load_settings().mirror, "", str(folder))
    keras.utils.set_random_seed(0)
    crown(store, name, problem.build(problem.complete("", {}), examples), with_onnx=True)
    few = examples.take(np.arange(BULK_ROWS))
    if isinstance(problem.rows, Stack):
        name, shape = problem.rows.name, problem.rows.shape
        return [{name: image.reshape(shape).tolist()} for image in few.features[name]]
    assert problem.rows is not None
    table = few.frame[list(problem.rows.columns)].astype(object)
    rows: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")
    return rows


def measure_inside(name: str, store_uri: str, rows: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.champion import load_champion
    from tasks.inference import compiled
    from tasks.online import OnlineModel, RowsAsked
    from tasks.row_fields import to_content

    problem = load_problem(name)
    champion = load_champion(problem, open_store(store_uri))
    model, engines = OnlineModel(problem, champion), {"bare": compiled(champion.model), "onnx": champion.engine}
    assert problem.rows is not None
    inputs = problem.rows.inputs(to_content(problem.rows, rows))
    many = {key: inputs.features[key][:] for key in champion.engine.inputs}
    one = {key: array[:1] for key, array in many.items()}
    found: dict[str, float] = {}
    for told, engine in engines.items():
        found |= quantiles(f"{told}, one row", repeat(partial(engine.call, one), seconds))
        found[f"{told}, bulk, rows/s"] = BULK_ROWS / statistics.median(repeat(partial(engine.call, many), seconds))
    return found | quantiles("inside, one row", repeat(lambda: model.answer([RowsAsked(rows[:1])]), seconds))


def repeat(call: Callable[[], object], seconds: float) -> list[float]:
    call()
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def quantiles(name: str, times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {f"{name}, p50 ms": 1000 * cuts[49], f"{name}, p99 ms": 1000 * cuts[98]}


def body_of(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"rows": rows}).encode()


@contextmanager
def served(name: str, store: str, folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "flows.command_line", "serve", name, "--port", "0", "--store", store]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log, cwd=Path(__file__).parents[1])
        try:
            while not (found := re.search(r"at (http://\S+?)/", (folder / "log").read_text())):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            time.sleep(1)
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def ask_side_by_side(url: str, body: bytes, seconds: float, num_clients: int) -> list[float]:
    """The seconds of each request, by as many clients in at most four processes."""
    num_processes = min(4, num_clients)
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        asked = [(url, body, seconds, num_clients // num_processes)] * num_processes
        return [time for times in pool.starmap(ask_with_threads, asked) for time in times]


def ask_with_threads(url: str, body: bytes, seconds: float, num_threads: int) -> list[float]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(num_threads) as pool:
        asked = [pool.submit(ask_for, url, body, seconds) for _ in range(num_threads)]
        return [time for future in asked for time in future.result()]


def ask_for(url: str, body: bytes, seconds: float) -> list[float]:
    """With Python's own client, which costs less than others."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        begin = time.perf_counter()
        connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        times.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
