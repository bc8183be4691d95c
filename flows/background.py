"""Processes that outlive the command that starts them: who they are, what they say, and how they are ended.

They are noted in one folder of PREFECT_HOME, by marks that stay true when a pid is used again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from modelkeep.errors import ModelkeepError
from store.processes import ProcessMark, is_alive, mark_process

PROJECT = Path(__file__).resolve().parent.parent


class FolderUnavailable(ModelkeepError):
    """The folder of the background processes cannot be written."""


def prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def state_folder(*, create: bool = False) -> Path:
    """Lock, notes and logs of the local server and the workers. Raises FolderUnavailable."""
    folder = prefect_home() / "modelkeep-server"
    if not create:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "lock").touch(mode=0o600)
    except OSError as error:
        raise FolderUnavailable(
            "The folder of the local Prefect server and the workers cannot be written.",
            where=str(folder),
            expected="a folder that this user may write",
            received=str(error),
            next_step="set PREFECT_HOME to such a folder",
        ) from error
    return folder


@contextmanager
def only_one(folder: Path, name: str = "lock") -> Iterator[None]:
    """One process at a time decides what is started and stopped. The kernel frees the lock of one that is killed."""
    with (folder / name).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_process(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> ProcessMark | None:
    """Start one in a session of its own, with our modules on its path. None where it ended at once."""
    path = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    with os.fdopen(_open_log(log), "w") as said:
        process = subprocess.Popen(
            # -P: a folder named `flows` where the user happens to be is not ours.
            [sys.executable, "-P", *command],
            env={**environment, "PYTHONPATH": path},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    process.returncode = 0  # It outlives this process on purpose, of which Popen would warn.
    return mark_process(process.pid)


def is_running(mark_text: str) -> bool:
    mark = ProcessMark.parse(mark_text)
    return mark is not None and is_alive(mark)


def end_process(mark_text: str, limit_seconds: float) -> bool:
    """SIGTERM, then SIGKILL for one that does not end in time. True where SIGTERM was enough."""
    mark = ProcessMark.parse(mark_text)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if mark is None or not is_alive(mark):
            return True
        with suppress(ProcessLookupError):
            os.kill(mark.pid, sent)
        if _has_ended(mark, limit_seconds):
            return sent == signal.SIGTERM
    return False


def last_lines(log: Path, count: int = 12) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and readable by this user alone."""
    draft = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _has_ended(mark: ProcessMark, limit_seconds: float) -> bool:
    deadline = time.monotonic() + limit_seconds
    while is_alive(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    if is_alive(mark):
        return False
    with suppress(ChildProcessError):
        os.waitpid(mark.pid, 0)  # Where this very process started it, it would stay as a zombie.
    return True


def _open_log(log: Path) -> int:
    """This start's log; the one before it is kept beside it."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    return os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
