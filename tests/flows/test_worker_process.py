from __future__ import annotations

import asyncio
import os
import signal

import pytest

from flows.worker_process import keep_working


def test_a_worker_that_fails_begins_again_and_one_that_ends_well_does_not() -> None:
    faults: list[Exception | None] = [ConnectionError("the server is away"), ExceptionGroup("two", [OSError()]), None]
    said: list[str] = []

    async def work() -> None:
        if fault := faults.pop(0):
            raise fault

    asyncio.run(keep_working(work, said.append, pause_seconds=0))
    assert faults == [] and len(said) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_that_is_told_to_stop_ends_also_while_it_waits_to_begin_again(fails: bool) -> None:
    said: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if fails:
            raise ConnectionError("the server is away")
        await asyncio.sleep(60)

    asyncio.run(keep_working(work, said.append))
    assert said[-1] == "the worker was told to stop"
