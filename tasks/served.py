"""Problems that are served: their champions, each with a queue before it, changed while they are asked.

A new champion is loaded and warmed beside the one in use, and takes its place between two batches: every batch is
answered by one version, and no question is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from problems.outline.problem import Problem
from store.artifacts import Store
from store.registry import Version
from tasks.champion import find_champion, load_champion
from tasks.micro_batches import MicroBatches
from tasks.online import BATCH_ROWS, Answer, OnlineModel, Question, Scored

logger = logging.getLogger("modelkeep")

RETRY_SECONDS = 60.0


class ServedProblem:
    """A problem's champion, with a queue before it. Raises NoChampion, CannotBeServed, ArtifactCorrupt."""

    def __init__(
        self,
        problem: Problem,
        store: Store,
        *,
        on_scored: Callable[[Scored], None] = lambda scored: None,
        on_batch: Callable[[int], None] = lambda num_rows: None,
        most_waiting: int = 4096,
    ) -> None:
        self.problem, self._store, self._on_scored, self._on_batch = problem, store, on_scored, on_batch
        self._failed: tuple[Version, float] | None = None
        self.model = self._load()
        self.queue: MicroBatches[Question, Answer] = MicroBatches(
            self._answer, name=problem.name, batch_rows=BATCH_ROWS, most_waiting=most_waiting
        )

    @property
    def version(self) -> Version:
        return self.model.champion.version

    @property
    def engine(self) -> str:
        """The name of it."""
        return self.model.engine.name

    def ask(self, question: Question) -> Future[Answer]:
        """Raises Overloaded, Stopping."""
        return self.queue.ask(question, len(question))

    def follow(self) -> bool:
        """Put another champion into the place of this one, if there is one; whether it was.

        Raises what stands in the way of it; what is in use stays, and the same one is tried again after a minute.
        """
        champion = find_champion(self._store, self.problem.name)
        if champion == self.version:
            return False
        if self._failed and self._failed[0] == champion and time.monotonic() < self._failed[1] + RETRY_SECONDS:
            return False
        before = self.version.number
        try:
            self.model = self._load()
        except Exception:
            self._failed = champion, time.monotonic()
            raise
        number = self.version.number
        logger.info("serve     %s version %d by %s in place of %d", self.problem.name, number, self.engine, before)
        return True

    def close(self) -> None:
        """Answer what was asked, and nothing after it."""
        self.queue.close()

    def _load(self) -> OnlineModel:
        return OnlineModel(self.problem, load_champion(self.problem, self._store), self._on_scored)

    def _answer(self, questions: Sequence[Question]) -> list[Answer]:
        self._on_batch(sum(map(len, questions)))
        return self.model.answer(questions)


class ChampionWatch:
    """A thread that lets problems follow their champions; `on_fault` is told where one cannot be followed."""

    def __init__(
        self, served: Sequence[ServedProblem], seconds: float, on_fault: Callable[[str], None] = lambda problem: None
    ) -> None:
        self._served, self._seconds, self._on_fault = served, seconds, on_fault
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            for one in self._served:
                try:
                    one.follow()
                except Exception as fault:  # the champion in use goes on answering
                    logger.warning("serve     the champion of %s cannot be followed: %s", one.problem.name, fault)
                    self._on_fault(one.problem.name)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
