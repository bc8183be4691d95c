"""Commands in an environment of their own, and what they use: the time, and the memory of a whole tree of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parents[2]
MODELKEEP = [sys.executable, "-m", "flows.command_line"]
MARK = "MODELKEEP_BENCH_MARK"
WATCH_SECONDS = 0.2


def leave_out(reason: str) -> NoReturn:
    """End a benchmark that cannot be run here, with the code by which `make bench` knows that."""
    print(reason, file=sys.stderr)
    raise SystemExit(77)


@dataclass(frozen=True)
class Measured:
    """`cpu` of the process and of those that it waited for; `server_cpu` of modelkeep's local Prefect server meanwhile;
    `peak_mb`, the largest sum of resident memory over the process and all that it started, which counts what they share
    as often as they hold it."""

    wall: float
    cpu: float
    server_cpu: float
    peak_mb: float


class Bench:
    """`environment` is what a user has who installed everything, byte code included, and has set nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        ours = ("PREFECT_", "MODELKEEP_", "PYTHONDONTWRITEBYTECODE")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": "0",
            "PYTHONPATH": str(ROOT),
            "MODELKEEP_STORE": str(self.store),
            "DO_NOT_TRACK": "1",
        }

    def command(self, *arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], env=self.environment, cwd=ROOT, check=True, capture_output=True)

    @property
    def errors(self) -> Path:
        """What the last measured command wrote to its standard error."""
        return self.folder / "errors.txt"

    def start(
        self,
        command: Sequence[str],
        said: IO[str] | int = subprocess.DEVNULL,
        *,
        environment: Mapping[str, str] | None = None,
        where: Path = ROOT,
    ) -> tuple[subprocess.Popen[bytes], str]:
        """The process, and the mark that it and all that it starts have."""
        mark = uuid.uuid4().hex
        variables = {**(environment or self.environment), MARK: mark}
        quiet = subprocess.DEVNULL
        with self.errors.open("w") as errors:
            process = subprocess.Popen(command, env=variables, cwd=where, stdin=quiet, stdout=said, stderr=errors)
        return process, mark

    def measure(
        self,
        command: Sequence[str],
        said: IO[str] | int = subprocess.DEVNULL,
        *,
        environment: Mapping[str, str] | None = None,
        where: Path = ROOT,
        exit_codes: Collection[int] = (0,),
    ) -> Measured:
        """What a command uses; what it prints goes to `said`. The benchmark ends where it ends with another code."""
        server_before, begin = self.server_cpu(), time.perf_counter()
        process, mark = self.start(command, said, environment=environment, where=where)
        with watched_memory(mark) as seen:
            _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in exit_codes:
            raise SystemExit(f"{self.errors.read_text()}\n{' '.join(command)} ended with {process.returncode}")
        server_now = self.server_cpu()
        server = server_now - server_before if server_now >= server_before else server_now
        return Measured(wall, used.ru_utime + used.ru_stime, server, max([used.ru_maxrss / 1024, *seen]))

    def server_cpu(self) -> float:
        """CPU seconds of the local server so far; 0 where none runs."""
        try:
            note = json.loads((self.folder / "prefect" / "modelkeep-server" / "server.json").read_text())
            fields = Path(f"/proc/{note['pid']}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError, KeyError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watched_memory(mark: str) -> Iterator[list[float]]:
    """Megabytes that all processes with a mark hold together, looked at a few times a second."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            seen.append(sum(map(resident_mb, marked(mark))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def marked(mark: str) -> list[int]:
    """The living processes whose environment has the mark, which all that a marked process starts inherit."""
    sought = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if place.name.isdigit() and sought in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


def resident_mb(pid: int) -> float:
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def end(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
