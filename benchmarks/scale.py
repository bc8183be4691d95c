"""A search of hyperparameters and a cross-validation in one process and on the processes of a Dask cluster here.

    python benchmarks/scale.py [--trials 8] [--epochs 1040] [--repeats 3] [--json FILE]

Wall and CPU seconds of `modelkeep tune housing` and of `modelkeep train housing` (4 folds, each as long as the epochs
say) with a server running, an empty store and a new study, in turn; medians. Ideal is to be as many times as fast as
there are processes, of which there is one a core. Each process imports TensorFlow. It needs the extra `dask`.
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
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.peers.bench import MODELKEEP, Bench, Measured, leave_out

RUNNERS = ("threads", "dask")
Results = dict[str, dict[str, list[Measured]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1040)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("prefect_dask") is None:
        leave_out("prefect-dask is not installed: pip install 'modelkeep[dask]'")
    jobs = name_jobs(arguments.trials, arguments.epochs)
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        results = measure(Bench(Path(folder)), jobs, arguments.repeats)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, default=asdict))


def name_jobs(trials: int, epochs: int) -> dict[str, list[str]]:
    return {
        f"tune, {trials} trials": ["tune", "housing", "--trials", str(trials), "--seeds", "1"],
        f"4 folds of {epochs} epochs": ["train", "housing", "--set", f"epochs={epochs}"],
    }


def measure(bench: Bench, jobs: dict[str, list[str]], repeats: int) -> Results:
    results: Results = {name: {runner: [] for runner in RUNNERS} for name in jobs}
    try:
        bench.command("-m", "flows.server", "start")
        for number in range(repeats):
            for name, job in jobs.items():
                for runner in RUNNERS:
                    shutil.rmtree(bench.store, ignore_errors=True)
                    studies = f"sqlite:///{bench.folder}/studies-{runner}-{number}.db"
                    environment = {**bench.environment, "MODELKEEP_RUNNER": runner, "MODELKEEP_STUDIES": studies}
                    # A model that is trained for so long may be refused, which is exit code 1.
                    measured = bench.measure([*MODELKEEP, *job], environment=environment, exit_codes=(0, 1))
                    results[name][runner].append(measured)
                    print(f"  {name}, {runner}: {measured}", file=sys.stderr)
    finally:
        bench.command("-m", "flows.server", "stop")
    return results


def show(results: Results) -> None:
    num_processes = len(os.sched_getaffinity(0))
    print(f"{'':<26}{'':<10}{'wall s':>8}{'CPU s':>8}{'MB':>7}{'speed-up':>10}{'of ideal':>10}")
    for name, row in results.items():
        alone = statistics.median(one.wall for one in row["threads"])
        for runner, measured in row.items():
            wall, cpu, peak = (statistics.median(getattr(one, key) for one in measured) for key in
                               ("wall", "cpu", "peak_mb"))  # fmt: skip
            gained = alone / wall
            told = f"{gained:>10.2f}{gained / num_processes:>10.0%}" if runner != "threads" else ""
            print(f"{name:<26}{runner:<10}{wall:>8.1f}{cpu:>8.1f}{peak:>7.0f}{told}")


if __name__ == "__main__":
    main()
