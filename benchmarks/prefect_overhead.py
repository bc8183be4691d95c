"""What Prefect costs a local run: the server's start, and a flow of eight trivial tasks with and without it.

    python -m benchmarks.prefect_overhead [--repeats 3] [--json PATH]

CPU seconds are user and system time of the process and of every server that was started for it; wall seconds are
what the user waits for. Each figure is the median of the repeats, in turns, with a PREFECT_HOME that is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

EIGHT_TASKS = """
@task
def add(number): return number + 1

@flow
def eight():
    number = 0
    for _ in range(8): number = add(number)
    return number
"""

IMPORT_ONLY = "from prefect import flow, task"
STOCK = f"{IMPORT_ONLY}\n{EIGHT_TASKS}\nassert eight() == 8"
OURS = f"""
from flows.run_tags import local_run_tags
from flows.server import begin_server, local_run_settings, use_server
starting = begin_server()
from prefect import flow, tags, task
{EIGHT_TASKS}
use_server(starting.wait())
with tags(*local_run_tags()), local_run_settings():
    assert eight() == 8
"""


@dataclass(frozen=True)
class Cost:
    wall_seconds: float
    cpu_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        medians = measure(Path(folder), options.repeats)
    print(f"{'median of ' + str(options.repeats):<58}{'wall s':>8}{'CPU s':>8}")
    for name, cost in medians.items():
        print(f"{name:<58}{cost.wall_seconds:>8.2f}{cost.cpu_seconds:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps({name: vars(cost) for name, cost in medians.items()}, indent=1) + "\n")


def measure(folder: Path, repeats: int) -> dict[str, Cost]:
    """Every case once, then every case again: a machine that slows down slows down all of them."""
    prepared = folder / "prepared"
    start_server(prepared)
    stop_server(prepared)
    cases: dict[str, Callable[[Path], Cost]] = {
        "import prefect": lambda home: run_program(IMPORT_ONLY, home),
        "server start, new database": lambda home: start_and_stop(home / "new"),
        "server start, prepared database": start_and_stop,
        "8 tasks, our server running": run_with_server(OURS),
        "8 tasks, our server running, Prefect's own settings": run_with_server(STOCK),
        "8 tasks, our server started by the run": run_and_stop,
        "8 tasks, Prefect's ephemeral server, prepared database": lambda home: run_program(STOCK, home),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for repeat in range(repeats):
        for number, (name, case) in enumerate(cases.items()):
            home = Path(shutil.copytree(prepared, folder / f"{repeat}-{number}"))
            costs[name].append(case(home))
            print(f"  {repeat + 1}/{repeats} {name}: {costs[name][-1]}", file=sys.stderr)
    return {name: median(found) for name, found in costs.items()}


def median(costs: list[Cost]) -> Cost:
    return Cost(
        round(statistics.median(cost.wall_seconds for cost in costs), 3),
        round(statistics.median(cost.cpu_seconds for cost in costs), 3),
    )


def start_and_stop(home: Path) -> Cost:
    cost = start_server(home)
    stop_server(home)
    return cost


def start_server(home: Path) -> Cost:
    cost = run_program("from flows.server import ensure_server; ensure_server()", home)
    return Cost(cost.wall_seconds, cost.cpu_seconds + server_cpu_seconds(home))


def stop_server(home: Path) -> None:
    run_program("from flows.server import stop_server; assert stop_server()", home)


def run_with_server(program: str) -> Callable[[Path], Cost]:
    """The second run on a server that has already served one, with the CPU that the server spent on it."""

    def run(home: Path) -> Cost:
        start_server(home)
        address = json.loads((home / "modelkeep-server" / "server.json").read_text())["api_url"]
        variables = {"PREFECT_API_URL": address} if program == STOCK else {}
        try:
            run_program(program, home, **variables)
            before = server_cpu_seconds(home)
            cost = run_program(program, home, **variables)
            return Cost(cost.wall_seconds, cost.cpu_seconds + server_cpu_seconds(home) - before)
        finally:
            stop_server(home)

    return run


def run_and_stop(home: Path) -> Cost:
    cost = run_program(OURS, home)
    served = server_cpu_seconds(home)
    stop_server(home)
    return Cost(cost.wall_seconds, cost.cpu_seconds + served)


def run_program(program: str, home: Path, **variables: str) -> Cost:
    """A new Python: its own CPU seconds and those of the children that it waited for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = (
        kept
        | variables
        | {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_API_PORT": "0",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
            "PYTHONPATH": str(ROOT),
            "DO_NOT_TRACK": "1",
        }
    )
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=home.parent)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a measured program failed with {process.returncode}")
    return Cost(time.perf_counter() - started, used.ru_utime + used.ru_stime)


def server_cpu_seconds(home: Path) -> float:
    pid = json.loads((home / "modelkeep-server" / "server.json").read_text())["pid"]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


if __name__ == "__main__":
    main()
