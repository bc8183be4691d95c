"""Micro-batches: questions that wait at the same time are answered together, by one thread and in their order.

What a model costs is mostly the call, hardly the rows; so many callers are answered at the price of few.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from modelkeep.errors import ModelkeepError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Overloaded(ModelkeepError):
    """More is waiting than can be answered soon."""


class Stopping(ModelkeepError):
    """Nothing new is taken on any more."""


@dataclass(frozen=True)
class _Waiting(Generic[Question, Answer]):
    question: Question
    num_rows: int
    future: Future[Answer] = field(default_factory=Future)


class MicroBatches(Generic[Question, Answer]):
    """A queue with a thread behind it, which asks `answer` for all questions of a batch: as many answers, in order.

    A batch is what came while the one before was answered, up to the question that brings it to `batch_rows`; where
    `answer` fails, each question of the batch is asked alone, so that one cannot spoil the answers to the others.
    Of more than `most_waiting` rows the latest are refused.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer]],
        *,
        name: str,
        batch_rows: int = 256,
        most_waiting: int = 4096,
    ) -> None:
        self._answer = answer
        self._batch_rows, self._most_waiting = batch_rows, most_waiting
        self._queue: deque[_Waiting[Question, Answer]] = deque()
        self._changed = threading.Condition()
        self._rows_waiting = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"answers of {name}", daemon=True)
        self._thread.start()

    @property
    def rows_waiting(self) -> int:
        return self._rows_waiting

    def ask(self, question: Question, num_rows: int) -> Future[Answer]:
        """The answer, when it is there; a future that is cancelled before its turn is left out.

        Raises Overloaded, Stopping.
        """
        waiting: _Waiting[Question, Answer] = _Waiting(question, num_rows)
        with self._changed:
            if self._stopping:
                raise Stopping("The server is stopping.", next_step="ask again in a few seconds")
            if self._queue and self._rows_waiting + num_rows > self._most_waiting:
                raise Overloaded(
                    "More is waiting than can be answered soon.",
                    expected=f"at most {self._most_waiting:,} rows in the queue",
                    received=f"{self._rows_waiting:,} rows in the queue, and {num_rows:,} more",
                    next_step="ask again later",
                )
            self._queue.append(waiting)
            self._rows_waiting += num_rows
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Take nothing more on, and return when all that was taken on is answered."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            asked = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
            if asked:
                self._settle(asked)

    def _next_batch(self) -> list[_Waiting[Question, Answer]]:
        """The next questions; none when the work is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            batch: list[_Waiting[Question, Answer]] = []
            num_rows = 0
            while self._queue and num_rows < self._batch_rows:
                batch.append(self._queue.popleft())
                num_rows += batch[-1].num_rows
            self._rows_waiting -= num_rows
            return batch

    def _settle(self, batch: Sequence[_Waiting[Question, Answer]]) -> None:
        try:
            answers = self._answer([waiting.question for waiting in batch])
        except Exception as fault:  # the thread must live on, whatever the model raises
            if len(batch) == 1:
                batch[0].future.set_exception(fault)
                return
            for waiting in batch:
                self._settle([waiting])
            return
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.future.set_result(answer)
