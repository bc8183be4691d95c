"""How far a training is: a bar in the terminal, and a progress artifact in the Prefect UI."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from tasks.training import Pace, Training

logger = logging.getLogger("modelkeep")

_ARTIFACT_SECONDS = 2.0
_LINE_SECONDS = 10.0


class Progress:
    """Shows epoch, step and the last metrics."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar = _TerminalBar(title) if sys.stderr.isatty() else None
        self._artifact = _ProgressArtifact(title)
        self._line = Pace(_LINE_SECONDS)

    def update(self, training: Training) -> None:
        share = _share(training)
        text = describe(training)
        if self._bar:
            self._bar.update(share, text)
        elif self._line.is_due():
            logger.info("%s: %3.0f %%, %s", self.title, share * 100, text)
        self._artifact.update(share, text)

    def close(self) -> None:
        if self._bar:
            self._bar.close()
        self._artifact.close()


@contextmanager
def open_progress(title: str) -> Iterator[Progress]:
    progress = Progress(title)
    try:
        yield progress
    finally:
        progress.close()


def _share(training: Training) -> float:
    position, epochs = training.position, training.hyperparameters.epochs
    return 1.0 if position.finished else (position.epoch + position.step / training.steps_per_epoch) / epochs


def describe(training: Training) -> str:
    """The epoch that training is in, and the last value of each curve."""
    position = training.position
    if position.finished and not position.epoch:
        return "nothing to fit"
    last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in position.history.items())
    return f"epoch {min(position.epoch + 1, training.hyperparameters.epochs)}" + (f", {last}" if last else "")


class _TerminalBar:
    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(title, total=1.0, text="")
        self._progress.start()

    def update(self, share: float, text: str) -> None:
        self._progress.update(self._task, completed=share, text=text)

    def close(self) -> None:
        self._progress.stop()


class _ProgressArtifact:
    """Nothing outside a Prefect task run; made at the first update that is due, so that short trainings make none."""

    def __init__(self, title: str) -> None:
        from prefect.context import TaskRunContext

        self._title = title
        self._pace = Pace(_ARTIFACT_SECONDS)
        self._in_task = TaskRunContext.get() is not None
        self._id: UUID | None = None

    def update(self, share: float, text: str) -> None:
        if self._in_task and self._pace.is_due():
            self._write(share, text)

    def close(self) -> None:
        if self._id:
            self._write(1.0, "finished")

    def _write(self, share: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._id is None:
            created = create_progress_artifact(share * 100, description=f"{self._title}: {text}")
            self._id = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._id, share * 100, description=f"{self._title}: {text}")
