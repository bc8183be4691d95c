from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deployments.command_line import main
from deployments.deploy import declare, deploy, deployments_of
from deployments.up import bring_up, describe, take_down
from flows import server
from flows.background import prefect_home
from flows.workers import WorkerUnavailable, ensure_worker, find_workers
from tests.prefect_server import HomeMaker, live_in, refresh_settings, wait_for

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = pytest.mark.server

TINY = Path(__file__).with_name("tiny.yaml")
Up = Callable[..., list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_home: HomeMaker) -> Iterator[Path]:
    """Where the workers run. PREFECT_HOME is this module's own, with nothing running before and after."""
    with live_in(make_home("up")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
        yield tmp_path_factory.mktemp("workers")
        down()


@pytest.fixture
def up(folder: Path) -> Up:
    """Brings up the tiny flow's deployments and returns what is said; it is cheap where all is up."""

    def bring(*names: str, **changes: Any) -> list[str]:
        said: list[str] = []
        declared = declare(names or ["one"], TINY)
        declared["deployments"] = [{**entry, **changes} for entry in declared["deployments"]]
        bring_up(declared, folder, 2, said.append)
        return said

    return bring


@pytest.fixture
def client(up: Up) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client

    up()
    with get_client(sync_client=True) as opened:
        yield opened


def down() -> list[str]:
    said: list[str] = []
    take_down(said.append)
    return said


def start_run(client: SyncPrefectClient, **parameters: Any) -> FlowRun:
    deployment = client.read_deployment_by_name("tiny/one")
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def state_of(client: SyncPrefectClient, run: FlowRun) -> str | None:
    return client.read_flow_run(run.id).state_name


def process_of(client: SyncPrefectClient, run: FlowRun) -> int:
    """The pid of the process in which a run goes on; 0 before it has noted that."""
    tags = [tag for tag in client.read_flow_run(run.id).tags if tag.startswith("process:")]
    return int(tags[0].removeprefix("process:").split(".")[0]) if tags else 0


def test_up_starts_all_that_is_needed_once_and_down_stops_it(up: Up) -> None:
    down()
    assert any("starting a local Prefect server" in line for line in up())
    there = describe()
    assert there["ui"] and there["deployments"] == {"tiny": 1} and len(there["automations"]) == 3
    [worker] = there["workers"]
    assert worker["pool"] == "cpu"
    assert up() == []
    assert {**describe(), "runs": {}, "next": ""} == {**there, "runs": {}, "next": ""}

    running = server.find_server()
    assert running is not None
    assert [line.split(" (")[0] for line in down()] == [
        "stopped the worker of the pool cpu",
        f"stopped the Prefect server at {running.ui_url}",
    ]
    assert not any(Path(f"/proc/{pid}").exists() for pid in (running.pid, worker["pid"]))
    assert down() == ["nothing was running"]


def test_after_a_power_cut_the_worker_is_started_again_its_run_is_closed_and_the_rest_stays(
    up: Up, client: SyncPrefectClient, tmp_path: Path
) -> None:
    up()
    before, [worker] = server.find_server(), find_workers()
    run = start_run(client, until=str(tmp_path / "never"))
    assert wait_for(lambda: process_of(client, run))
    for pid in (worker.pid, process_of(client, run)):
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not find_workers())
    said = up()
    assert said[-1] == "started a worker for the pool cpu" and "closed the run" in said[0]
    assert state_of(client, run) == "Crashed"
    client.delete_flow_run(run.id)
    assert server.find_server() == before
    assert [found.pid for found in find_workers()] != [worker.pid]


def test_a_run_whose_worker_is_stopped_goes_on_at_the_next_up(
    up: Up, client: SyncPrefectClient, folder: Path, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client

    run = start_run(client, number=2, until=str(tmp_path / "go"), to=str(tmp_path / "result"))
    assert wait_for(lambda: process_of(client, run))
    server_before = server.find_server()
    assert any("goes on when a worker is there again" in line for line in down())
    (tmp_path / "go").touch()
    up()
    assert server.find_server() != server_before
    with get_client(sync_client=True) as client:
        assert wait_for(lambda: state_of(client, run) == "Completed")
        assert client.read_flow_run(run.id).run_count == 2
    assert (tmp_path / "result").read_text().splitlines() == ["3", str(folder)]


def test_runs_that_were_missed_are_left_out_but_for_the_last(up: Up, client: SyncPrefectClient) -> None:
    from prefect.client.schemas.filters import FlowRunFilter

    for worker in find_workers():
        os.kill(worker.pid, signal.SIGKILL)
    often = declare(["often"], TINY)
    often["deployments"][0]["schedules"] = [{"slug": "often", "interval": 1, "anchor_date": "2026-01-01T00:00:00Z"}]
    deploy(often)
    deployment = client.read_deployment_by_name("tiny/often")
    ours = {"deployment_id": {"any_": [deployment.id]}}

    def runs(state: str, **conditions: Any) -> list[FlowRun]:
        wanted = FlowRunFilter.model_validate({**ours, "state": {"type": {"any_": [state]}}, **conditions})
        return client.read_flow_runs(flow_run_filter=wanted)

    def due() -> list[FlowRun]:
        return runs("SCHEDULED", expected_start_time={"before_": datetime.now(UTC)})

    assert wait_for(lambda: len(due()) > 3)
    missed = sorted(due(), key=lambda run: run.expected_start_time or datetime.max)[:-1]
    assert any("left out the run" in line for line in up("often", schedules=[]))
    assert {run.id for run in missed} <= {run.id for run in runs("CANCELLED")}
    assert wait_for(lambda: runs("COMPLETED"))


LATE = """
    select flow_run.id from flow_run join deployment on deployment.id = flow_run.deployment_id
    where deployment.name = 'one' and auto_scheduled and flow_run.state_type = 'SCHEDULED'
"""
AS_AFTER_A_JUMP = (
    f"update flow_run_state set state_details = json_set(state_details, '$.scheduled_time', :then) "
    f"where flow_run_id in ({LATE})",
    f"update flow_run set expected_start_time = :then, next_scheduled_start_time = :then where id in ({LATE})",
)


def test_after_a_jump_of_the_clock_a_worker_takes_only_the_last_of_the_runs_that_are_late(
    up: Up, client: SyncPrefectClient
) -> None:
    from prefect.client.schemas.filters import FlowRunFilter

    deployment = client.read_deployment_by_name("tiny/one")

    def runs(*states: str) -> list[FlowRun]:
        wanted = {"deployment_id": {"any_": [deployment.id]}, "state": {"type": {"any_": states}}}
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
        return [run for run in found if run.auto_scheduled]

    assert wait_for(lambda: len(runs("SCHEDULED")) >= 3)
    with closing(sqlite3.connect(prefect_home() / "prefect.db", timeout=30)) as database, database:
        for change in AS_AFTER_A_JUMP:
            num_late = database.execute(change, {"then": "2026-01-05 03:00:00.000000"}).rowcount
    assert wait_for(lambda: runs("COMPLETED"))
    assert len(runs("COMPLETED")) == 1 and len(runs("CANCELLED")) == num_late - 1 >= 2
    assert not runs("RUNNING", "PENDING")


def test_with_a_server_of_ones_own_none_is_started_and_none_is_stopped(
    up: Up, client: SyncPrefectClient, tmp_path: Path
) -> None:
    running = server.find_server()
    assert running is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path / "home"))
        patch.setenv("PREFECT_API_URL", running.api_url)
        patch.setattr(server, "_in_use", None)
        refresh_settings()
        said = up()
        assert "started a worker for the pool cpu" in said and not any("Prefect server" in line for line in said)
        assert describe()["ui"] == running.ui_url
        assert [line.split(" (")[0] for line in down()] == ["stopped the worker of the pool cpu"]
    refresh_settings()
    assert server.find_server() == running


def test_a_server_that_wants_a_password_says_which_variable_has_it(make_home: HomeMaker) -> None:
    with live_in(make_home("guarded")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", "keeper:secret")
        refresh_settings()
        server.use_server(server.ensure_server())
        with pytest.raises(server.ServerUnavailable, match="let you in") as error:
            describe()
        assert "PREFECT_API_AUTH_STRING" in str(error.value) and "secret" not in str(error.value)
        patch.setenv("PREFECT_API_AUTH_STRING", "keeper:secret")
        refresh_settings()
        assert describe()["deployments"] == {}


def test_a_worker_of_another_server_is_not_taken_for_ours(up: Up, folder: Path) -> None:
    up()
    with pytest.raises(WorkerUnavailable, match="another server") as error:
        ensure_worker("cpu", "http://127.0.0.1:9/api", folder)
    assert "modelkeep down" in str(error.value)


def test_a_worker_that_cannot_start_is_reported_with_the_end_of_its_log(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "often")
        with pytest.raises(WorkerUnavailable, match="pool other") as error:
            ensure_worker("other", "http://127.0.0.1:9/api", folder)
    assert "worker-other.log" in str(error.value) and "query_seconds" in str(error.value).lower()


def test_up_says_what_a_running_worker_does_differently(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    up()
    monkeypatch.setenv("MODELKEEP_STORE", "s3://elsewhere/models")
    [line] = up()
    assert "MODELKEEP_STORE=" in line and "modelkeep down" in line


def test_the_status_is_told_as_text_and_as_json(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    up()
    assert main(["up", "--status"]) == 0
    text = capsys.readouterr().out
    assert main(["up", "--status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ui"] in text and str(told["workers"][0]["pid"]) in text and "1 of tiny" in text


def test_deployments_of_older_code_fail_in_plain_words_and_go_with_the_next_up(
    up: Up, client: SyncPrefectClient
) -> None:
    """One asks for a problem, the other for a flow that this code no longer has."""
    newer = client.read_deployment_by_name("tiny/one")
    asked = {"flows.train.train": {"problem": "gone"}, "flows.gone.gone": {}}
    runs = []
    for entrypoint, parameters in asked.items():
        older = client.create_deployment(
            newer.flow_id,
            name=f"older {entrypoint}",
            entrypoint=entrypoint,
            parameters=parameters,
            enforce_parameter_schema=False,
            work_pool_name="cpu",
            pull_steps=newer.pull_steps,
            tags=newer.tags,
        )
        runs.append(client.create_flow_run_from_deployment(older))
    assert all(wait_for(lambda run=run: state_of(client, run) in ("Failed", "Crashed")) for run in runs)  # type: ignore[misc]
    problem_gone, flow_gone = (client.read_flow_run(run.id) for run in runs)
    assert problem_gone.state_name == "Failed" and "problem: Input should be" in str(problem_gone.state)
    assert flow_gone.state_name == "Crashed" and flow_gone.run_count == 0  # so it is not taken up again
    up()
    assert [found.name for found in deployments_of(client)] == ["one"]


def test_a_problem_that_cannot_be_imported_is_named_and_the_others_are_deployed(
    up: Up, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    up()
    (tmp_path / "one.py").write_text("problem = None\n")
    (tmp_path / "unfinished.py").write_text("def read(files:\n")
    (tmp_path / "unnamed.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.setattr("problems.outline.catalogue._FOLDER", tmp_path)
    monkeypatch.setattr("problems.__path__", [str(tmp_path)])
    monkeypatch.setattr("deployments.deploy.declare", partial(declare, template=TINY))
    assert main(["up", "--folder", str(folder), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["deployments"] == {"tiny": 1} and list(told["broken"]) == ["unfinished", "unnamed"]
    assert main(["up", "--folder", str(folder)]) == 2
    shown = capsys.readouterr()
    assert "1 of tiny" in shown.out
    assert "unfinished: SyntaxError" in shown.err and "unnamed: ModuleNotFoundError" in shown.err
    assert str(tmp_path / "unfinished.py") in shown.err
    (tmp_path / "one.py").write_text("problem =\n")
    monkeypatch.delitem(sys.modules, "problems.one")
    assert main(["up", "--folder", str(folder), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["deployments"] == {"tiny": 1} and "one" in told["broken"]  # it stays as it was, schedules and all
