"""A search of hyperparameters in one process and on the processes of a Dask cluster on this machine.

    python benchmarks/scale.py [--trials 8] [--repeats 3] [--json FILE]

Wall seconds of `modelkeep tune housing` with a server running, an empty store and a new study, in turn; medians. The
speed-up is to be read against the number of processes, which is that of the cores. Each process imports TensorFlow, and
one training alone uses more than one core. Needs `pip install 'modelkeep[dask]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from main_job import MODELKEEP, Bench

RUNNERS = ("threads", "dask")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("prefect_dask") is None:
        sys.exit("prefect-dask is not installed: pip install 'modelkeep[dask]'")
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        results = measure(Bench(Path(folder)), arguments.trials, arguments.repeats)
    alone = statistics.median(results["threads"])
    print(f"{arguments.trials} trials, {os.cpu_count()} cores{'wall s':>16}{'speed-up':>10}")
    for name, seconds in results.items():
        print(f"{name:<28}{statistics.median(seconds):>8.1f}{alone / statistics.median(seconds):>10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def measure(bench: Bench, num_trials: int, repeats: int) -> dict[str, list[float]]:
    results: dict[str, list[float]] = {name: [] for name in RUNNERS}
    command = [*MODELKEEP, "tune", "housing", "--trials", str(num_trials), "--seeds", "1"]
    try:
        bench.command("-m", "flows.server", "start")
        for number in range(repeats):
            for name in RUNNERS:
                shutil.rmtree(bench.store, ignore_errors=True)
                studies = f"sqlite:///{bench.folder}/studies-{name}-{number}.db"
                bench.environment |= {"MODELKEEP_RUNNER": name, "MODELKEEP_STUDIES": studies}
                results[name].append(bench.measure(command).wall)
    finally:
        bench.command("-m", "flows.server", "stop")
    return results


if __name__ == "__main__":
    main()
