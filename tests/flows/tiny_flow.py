"""A flow of two tasks, for tests of the server, of workers and of what a killed process leaves behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from prefect import flow, task


@task
def add(left: int, right: int) -> int:
    return left + right


@task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow(name="tiny")
def tiny(number: int = 1, *, to: str = "", dies: bool = False) -> int:
    if dies:
        die()
    total = add(number, 1)
    if to:
        Path(to).write_text(f"{total}\n{Path.cwd()}\n")
    return total
