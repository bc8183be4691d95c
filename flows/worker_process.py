"""A worker's own process: Prefect's worker for the pool POOL, begun again when it ends by a fault.

Started as `python -P -m flows.worker_process POOL NAME`. Prefect's worker ends by itself when the server cannot be
reached for some minutes, and with `--limit` when a run that crashed is scheduled again at once ("already holding one of
this CapacityLimiter's tokens"). How many runs there are at once is therefore the pool's own limit, on the server.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.responses import WorkerFlowRunResponse
    from prefect.workers.process import ProcessWorker

PAUSE_SECONDS = 10.0


def main() -> None:
    pool, name = sys.argv[1:]
    worker = make_worker_class()

    def say(line: str) -> None:
        print(line, flush=True)

    asyncio.run(keep_working(lambda: worker(work_pool_name=pool, name=name).start(printer=say), say))


def make_worker_class() -> type[ProcessWorker]:
    """Prefect takes all runs that are late, one after the other; this worker only the last of each deployment."""
    from prefect.client.orchestration import get_client
    from prefect.workers.process import ProcessWorker

    from flows.missed_runs import leave_out_missed_runs

    def leave_out() -> set[UUID]:
        with get_client(sync_client=True) as client:
            return {run.id for run in leave_out_missed_runs(client)}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Prefect knows workers by their type, which is that of the pool

        class PunctualWorker(ProcessWorker):
            async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
                # What is due when they are fetched is still due when the missed ones are looked for.
                fetched = await super()._get_scheduled_flow_runs()
                missed = await asyncio.to_thread(leave_out) if fetched else set()
                return [one for one in fetched if one.flow_run.id not in missed]

    return PunctualWorker


async def keep_working(
    work: Callable[[], Awaitable[None]], say: Callable[[str], None], pause_seconds: float = PAUSE_SECONDS
) -> None:
    """Work until SIGTERM or SIGINT, or until it ends without a fault; begin again after a pause where there was one."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for sent in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sent, lambda: task and task.cancel())
    try:
        while await _fails(work):
            say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} the worker failed; it begins again in {pause_seconds:.0f} s")
            await asyncio.sleep(pause_seconds)
    except asyncio.CancelledError:
        say("the worker was told to stop")


async def _fails(work: Callable[[], Awaitable[None]]) -> bool:
    try:
        await work()
    except Exception:
        traceback.print_exc()
        return True
    return False


if __name__ == "__main__":
    main()
