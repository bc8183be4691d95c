"""Worker processes of this machine: they take runs from a Prefect server and execute them in a folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.background import (
    end_process,
    is_running,
    last_lines,
    only_one,
    start_process,
    state_folder,
    write_private,
)
from flows.server import answers
from modelkeep.addresses import without_secrets
from modelkeep.errors import ModelkeepError

START_LIMIT_SECONDS = 120.0
STOP_LIMIT_SECONDS = 60.0  # a run that is told to end may be in the middle of a block of steps


class WorkerUnavailable(ModelkeepError):
    """A worker ended while it was starting, or cannot be started."""


@dataclass(frozen=True)
class LocalWorker:
    """A worker of this machine. `folder` is where relative paths of its runs start, `settings` are the MODELKEEP_*
    variables that it was started with, `started` is ISO 8601 in UTC, `process` a ProcessMark's text."""

    pool: str
    name: str
    api_url: str
    pid: int
    process: str
    started: str
    folder: str
    settings: Mapping[str, str]
    log: str


def ensure_worker(pool: str, api_url: str, folder: Path) -> tuple[LocalWorker, bool]:
    """The running worker of a pool, or one that is started now; and whether it was. It waits for runs on return.

    A worker whose server is gone is replaced. Raises WorkerUnavailable.
    """
    state = state_folder(create=True)
    with only_one(state, "worker.lock"):
        found = _recorded_worker(pool)
        if found and found.api_url == without_secrets(api_url):
            return found, False
        if found:
            _require_no_other_server(found)
            end_process(found.process, STOP_LIMIT_SECONDS)
        worker = _start(pool, api_url, folder, state)
        _wait_for_start(worker)
        return worker, True


def _require_no_other_server(worker: LocalWorker) -> None:
    if answers(worker.api_url, timeout_seconds=2.0):
        raise WorkerUnavailable(
            f"The worker of the pool {worker.pool} on this machine works for another server.",
            where=f"process {worker.pid}",
            expected="one server for the workers that `modelkeep up` starts",
            received=worker.api_url,
            next_step="`modelkeep down` stops it; or set PREFECT_API_URL to that server",
        )


def find_workers() -> list[LocalWorker]:
    """The workers of this machine that run."""
    notes = sorted(state_folder().glob("worker-*.json"))
    found = (_recorded_worker(note.stem.removeprefix("worker-")) for note in notes)
    return [worker for worker in found if worker]


def stop_worker(worker: LocalWorker) -> bool:
    """End a worker and the runs in its hands. False where it had to be killed."""
    with only_one(state_folder(create=True), "worker.lock"):
        was_gentle = end_process(worker.process, STOP_LIMIT_SECONDS)
        _note(worker.pool).unlink(missing_ok=True)
    return was_gentle


def worker_settings() -> dict[str, str]:
    """The MODELKEEP_* variables that runs of a worker started now would have, without passwords."""
    return {name: without_secrets(value) for name, value in sorted(os.environ.items()) if name.startswith("MODELKEEP_")}


def _start(pool: str, api_url: str, folder: Path, state: Path) -> LocalWorker:
    name = f"modelkeep-{os.uname().nodename}-{pool}"
    log = state / f"worker-{pool}.log"
    mark = start_process(
        ["-m", "flows.worker_process", pool, name],
        folder=folder,
        log=log,
        environment={**os.environ, "PREFECT_API_URL": api_url, "MODELKEEP_FOLDER": str(folder)},
    )
    if mark is None:
        raise _start_failed(pool, log, "it ended at once")
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    worker = LocalWorker(
        pool=pool,
        name=name,
        api_url=without_secrets(api_url),
        pid=mark.pid,
        process=mark.text,
        started=started,
        folder=str(folder),
        settings=worker_settings(),
        log=str(log),
    )
    write_private(_note(pool), json.dumps(asdict(worker), indent=1))
    return worker


def _wait_for_start(worker: LocalWorker) -> None:
    """Its own word that it has begun stands in its log; Prefect's server may still show the worker before it."""
    deadline = time.monotonic() + START_LIMIT_SECONDS
    log = Path(worker.log)
    while not any(line.rstrip().endswith("started!") for line in last_lines(log)):
        if not is_running(worker.process):
            raise _start_failed(worker.pool, log, "it ended")
        if time.monotonic() > deadline:
            raise _start_failed(worker.pool, log, f"no sign of it in {START_LIMIT_SECONDS:.0f} s")
        time.sleep(0.1)


def _start_failed(pool: str, log: Path, received: str) -> WorkerUnavailable:
    lines = last_lines(log)
    return WorkerUnavailable(
        f"The worker of the pool {pool} did not start.",
        where=str(log),
        expected="a worker that waits for runs",
        received="\n            ".join([received + (", and its log ends with" if lines else ""), *lines]),
        next_step="mend what the log says, then `modelkeep up` again",
    )


def _recorded_worker(pool: str) -> LocalWorker | None:
    try:
        worker = LocalWorker(**json.loads(_note(pool).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return worker if is_running(worker.process) else None


def _note(pool: str) -> Path:
    return state_folder() / f"worker-{pool}.json"
