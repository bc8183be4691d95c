"""Reading ahead and writing behind: files in threads of their own, while this one computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """The same items; the next one is made while one is used. At the end nothing is being made any more."""
    end = object()
    with ThreadPoolExecutor(1) as pool:

        def follow() -> Iterator[Item]:
            waiting = pool.submit(next, items, end)
            while (item := waiting.result()) is not end:
                waiting = pool.submit(next, items, end)
                yield item  # type: ignore[misc]

        yield follow()


@contextmanager
def behind() -> Iterator[Callable[[Callable[[], object]], None]]:
    """A function that takes work on, which is done in its order; it waits while the work before is not done, and raises
    what that raised. At the end all is done."""
    with ThreadPoolExecutor(1) as pool:
        last: Future[object] | None = None

        def take_on(work: Callable[[], object]) -> None:
            nonlocal last
            if last:
                last.result()
            last = pool.submit(work)

        yield take_on
        if last:
            last.result()
