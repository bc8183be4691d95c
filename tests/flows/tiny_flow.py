"""A flow of two tasks, for tests of the server, of workers and of what a killed process leaves behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from prefect import flow, task

from flows.run_tags import note_process


@task
def add(left: int, right: int) -> int:
    return left + right


@task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow(name="tiny", on_running=[note_process])
def tiny(number: int = 1, *, to: str = "", dies: bool = False, until: str = "") -> int:
    """`until`: a file that is waited for; what is written `to` a file is the result and the folder."""
    if dies:
        die()
    while until and not Path(until).exists():
        time.sleep(0.1)
    total = add(number, 1)
    if to:
        Path(to).write_text(f"{total}\n{Path.cwd()}\n")
    return total
