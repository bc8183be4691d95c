"""Another program holds the database of the Prefect server for a while."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from flows.background import prefect_home
from flows.server import ServerAddress
from tests.flows.tiny_flow import tiny
from tests.prefect_server import wait_for

pytestmark = pytest.mark.server

LOCK = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
database.execute("COMMIT")
"""


@pytest.fixture
def lock(prefect_server: ServerAddress) -> Iterator[Callable[[float], None]]:
    """Locks the database for so many seconds, from another process; it is locked on return."""
    started: list[subprocess.Popen[str]] = []

    def begin(seconds: float) -> None:
        command = [sys.executable, "-c", LOCK, str(prefect_home() / "prefect.db"), str(seconds)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None and started[-1].stdout.readline() == "locked\n"

    yield begin
    for process in started:
        assert process.wait(60) == 0


def test_a_run_waits_for_a_database_that_is_locked_and_ends_well(lock: Callable[[float], None], tmp_path: Path) -> None:
    """It is locked after the run has begun, and still when it has to tell how it ended."""
    from prefect.client.orchestration import get_client

    go, begun = tmp_path / "go", list[UUID]()
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(
            tiny.with_options(on_running=[lambda flow, run, state: begun.append(run.id)]), 1, until=str(go)
        )
        assert wait_for(lambda: begun)
        lock(8)
        go.touch()
        assert ended.result(timeout=120) == 2
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(begun[0]).state_name == "Completed"
