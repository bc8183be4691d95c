"""The house-price job through modelkeep beside a plain script that trains the same and writes the same files.

    python benchmarks/main_job.py [--repeats 3] [--json FILE]

Wall and CPU seconds and peak memory of the process, medians over the repeats; CPU seconds of the Prefect server are
given apart. Cold means an empty store. The rows are run in turn, so that a change of the machine's speed meets all.
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
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
MODELKEEP = [sys.executable, "-m", "flows.command_line"]


@dataclass(frozen=True)
class Measured:
    wall: float
    cpu: float
    server_cpu: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        results = Bench(Path(folder)).run(arguments.repeats)
    show(results)
    if arguments.json:
        plain = {name: [vars(one) for one in measured] for name, measured in results.items()}
        arguments.json.write_text(json.dumps(plain, indent=1))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MODELKEEP_"))},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": "0",
            "PYTHONPATH": str(ROOT),
            "MODELKEEP_STORE": str(self.store),
        }

    def run(self, repeats: int) -> dict[str, list[Measured]]:
        rows: dict[str, Callable[[], Measured]] = {
            "plain script, Model.fit": lambda: self.plain("keras"),
            "plain script, our loop": lambda: self.plain("modelkeep"),
            "modelkeep, no server running": lambda: self.modelkeep(cold=True, server=False),
            "modelkeep, server running": lambda: self.modelkeep(cold=True, server=True),
            "one hyperparameter changed": lambda: self.modelkeep("--set", "units=48", server=True),
            "nothing changed": lambda: self.modelkeep("--set", "units=48", server=True),
        }
        self.command("-m", "flows.server", "prepare")
        self.plain("modelkeep")  # the file cache is warm for everybody
        results: dict[str, list[Measured]] = {name: [] for name in rows}
        try:
            for _ in range(repeats):
                for name, row in rows.items():
                    results[name].append(row())
        finally:
            self.command("-m", "flows.server", "stop")
        return results

    def plain(self, loop: str) -> Measured:
        script = str(ROOT / "benchmarks" / "plain_housing.py")
        return self.measure([sys.executable, script, str(self.folder / "plain"), "--loop", loop])

    def modelkeep(self, *options: str, cold: bool = False, server: bool) -> Measured:
        if cold:
            shutil.rmtree(self.store, ignore_errors=True)
        self.command("-m", "flows.server", "start" if server else "stop")
        return self.measure([*MODELKEEP, "train", "housing", *options])

    def command(self, *arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], env=self.environment, cwd=ROOT, check=True, capture_output=True)

    def measure(self, command: list[str], said: IO[str] | int = subprocess.DEVNULL) -> Measured:
        """What a command uses; what it prints goes to `said`."""
        server_before, begin = self.server_cpu(), time.perf_counter()
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=said, stderr=quiet)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        server_now = self.server_cpu()
        server = server_now - server_before if server_now >= server_before else server_now
        return Measured(wall, used.ru_utime + used.ru_stime, server, used.ru_maxrss / 1024)

    def server_cpu(self) -> float:
        """CPU seconds of the local server so far; 0 where none runs."""
        try:
            note = json.loads((self.folder / "prefect" / "modelkeep-server" / "server.json").read_text())
            fields = Path(f"/proc/{note['pid']}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError, KeyError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(results: dict[str, list[Measured]]) -> None:
    def median(name: str, field: str) -> float:
        return statistics.median(getattr(one, field) for one in results[name])

    floor = "plain script, our loop"
    print(f"{'':<30}{'wall s':>8}{'CPU s':>8}{'server':>8}{'MB':>7}{'wall ×':>8}{'CPU ×':>8}")
    for name in results:
        wall, cpu, server = median(name, "wall"), median(name, "cpu"), median(name, "server_cpu")
        ratios = wall / median(floor, "wall"), (cpu + server) / median(floor, "cpu")
        print(
            f"{name:<30}{wall:>8.2f}{cpu:>8.2f}{server:>8.2f}{median(name, 'peak_mb'):>7.0f}"
            f"{ratios[0]:>8.2f}{ratios[1]:>8.2f}"
        )
    print(f"× is over “{floor}”; CPU × counts the server's CPU seconds too. Medians.")


if __name__ == "__main__":
    main()
