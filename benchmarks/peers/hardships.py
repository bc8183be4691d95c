"""What becomes of the job when its model is deleted or cut short, and when it is killed in the middle of a training."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.bench import end, marked
from benchmarks.peers.contestants import Contestant
from benchmarks.peers.job import EPOCHS

LONG_EPOCHS = 8 * EPOCHS
"""Of the training that is killed: some seconds."""
_PATIENCE_SECONDS = 300.0
_FITTING_SECONDS = 1.5
_ORPHAN_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """What the next run did: its exit code, the steps that it did not find done, and whether the model is whole after
    it. `orphans` are processes that lived on after the kill, `running` the runs that are running by the contestant's
    own books after the next one (None where it keeps none)."""

    exit_code: int
    steps: list[str]
    is_whole: bool
    orphans: int = 0
    running: int | None = None


def lose_model(contestant: Contestant, units: int) -> Outcome:
    return damage(contestant, units, Path.unlink)


def cut_model(contestant: Contestant, units: int) -> Outcome:
    def cut(path: Path) -> None:
        path.chmod(0o600)  # DVC protects what it keeps
        os.truncate(path, path.stat().st_size // 2)

    return damage(contestant, units, cut)


def damage(contestant: Contestant, units: int, harm: Callable[[Path], None]) -> Outcome:
    """Harm the model under all its names and run again. A model that is not made again is put back."""
    kept = {path: path.read_bytes() for path in contestant.products(units, EPOCHS)}
    for path in kept:
        harm(path)
    outcome = run_again(contestant, units, EPOCHS)
    if not outcome.is_whole:
        for path, content in kept.items():
            path.write_bytes(content)
    return outcome


def kill(contestant: Contestant, units: int) -> Outcome:
    """Kill the command itself, as the machine does where memory runs out, when the last training has begun."""
    bench = contestant.bench
    contestant.prepare_run()
    command = contestant.command(units, LONG_EPOCHS)
    process, mark = bench.start(command, environment=contestant.environment, where=contestant.where)
    patience = time.monotonic() + _PATIENCE_SECONDS
    while not contestant.is_fitting():
        if process.poll() is not None or time.monotonic() > patience:
            raise SystemExit(f"{' '.join(command)} did not come to its training:\n{bench.errors.read_text()}")
        time.sleep(0.1)
    time.sleep(_FITTING_SECONDS)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(_ORPHAN_SECONDS)
    orphans = marked(mark)
    end(orphans)
    return run_again(contestant, units, LONG_EPOCHS, orphans=len(orphans))


def run_again(contestant: Contestant, units: int, epochs: int, orphans: int | None = None) -> Outcome:
    contestant.prepare_run()
    process, mark = contestant.bench.start(
        contestant.command(units, epochs, after_kill=orphans is not None),
        environment=contestant.environment,
        where=contestant.where,
    )
    exit_code = process.wait()
    end(marked(mark))
    is_whole = all(path.exists() and zipfile.is_zipfile(path) for path in contestant.products(units, epochs))
    return Outcome(exit_code, contestant.steps_done(), is_whole, orphans or 0, contestant.num_running())
