"""One real Prefect server for all tests that need it, on a free loopback port, with a home of its own."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import pytest

from flows import server

HomeMaker = Callable[[str], Path]
Found = TypeVar("Found")


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> HomeMaker:
    """Makes a PREFECT_HOME with a migrated database: copies of one, as migrating takes 8 s."""
    prepared = tmp_path_factory.mktemp("prefect") / "prepared"
    with live_in(prepared):
        server.prepare_database()

    def make(name: str) -> Path:
        return shutil.copytree(prepared, tmp_path_factory.mktemp(name) / "prefect-home")

    return make


@pytest.fixture(scope="session")
def prefect_server(make_home: HomeMaker) -> Iterator[server.ServerAddress]:
    """The address of a running server, which Prefect in this process and in its children reports to."""
    with live_in(make_home("session")):
        address = server.ensure_server()
        server.use_server(address)
        yield address
        running = server.find_server()
        assert server.stop_server()
        assert running is not None and not Path(f"/proc/{running.pid}").exists()


@contextmanager
def live_in(home: Path) -> Iterator[None]:
    """PREFECT_HOME is `home`, no server of the surroundings is used or disturbed, and ours is stopped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_API_PORT", "0")
        patch.setenv("PREFECT_LOGGING_LEVEL", "WARNING")
        patch.setenv("PREFECT_API_URL", "")  # set, so that it is put back however the code in between changes it
        patch.delenv("PREFECT_API_URL")
        patch.setattr(server, "_in_use", None)
        refresh_settings()
        try:
            yield
        finally:
            server.stop_server()
    refresh_settings()


def refresh_settings() -> None:
    """Let Prefect, if it is imported, look at the environment again."""
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


class Shown(NamedTuple):
    """What Prefect shows of a flow run: the names of its task runs, and its artifacts by key."""

    task_runs: set[str]
    artifacts: dict[str, Any]


def shown_by_prefect(flow_run: UUID | str) -> Shown:
    """Of this flow run, or of the first whose name has this in it. By filters: Prefect returns 200 of anything."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, TaskRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        if isinstance(flow_run, str):
            named = FlowRunFilter.model_validate({"name": {"like_": flow_run}})
            flow_run = client.read_flow_runs(flow_run_filter=named, sort=FlowRunSort.START_TIME_ASC, limit=1)[0].id
        of_run = {"flow_run_id": {"any_": [flow_run]}}
        task_runs = client.read_task_runs(task_run_filter=TaskRunFilter.model_validate(of_run))
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter.model_validate(of_run))
    return Shown({run.name for run in task_runs}, {str(artifact.key): artifact for artifact in artifacts})


def wait_for(look: Callable[[], Found], limit_seconds: float = 180, pause_seconds: float = 0.2) -> Found:
    """What `look` returns as soon as it is true, or at the end of the time."""
    deadline = time.monotonic() + limit_seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(pause_seconds)
    return found
