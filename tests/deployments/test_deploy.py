from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from deployments.deploy import PREFECT_YAML, DeploymentFailed, declare, deploy
from deployments.pull import NoFolder, work_in
from deployments.up import POOLS
from flows.run_tags import OURS, note_process
from flows.server import ServerAddress
from problems.outline.catalogue import load_problem, problem_names
from tests.prefect_server import wait_for

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture
def client(prefect_server: ServerAddress) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as opened:
        yield opened


def deployed(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(f"tiny/{name}")


# What is declared


def of_flow(declared: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [entry for entry in declared["deployments"] if entry["entrypoint"] == f"flows.{name}.{name}"]


def test_every_problem_is_deployed_once_by_each_flow_that_it_can_do() -> None:
    declared = declare(problem_names())
    tables = [name for name in problem_names() if load_problem(name).rows]
    on_gpu = [name for name in problem_names() if load_problem(name).mixed_precision]
    expected = {"train": problem_names(), "predict": tables, "monitor": tables, "retrain": problem_names()}
    assert 0 < len(tables) < len(problem_names())
    for flow, names in expected.items():
        entries = [entry for entry in of_flow(declared, flow) if entry["work_pool"]["name"] == "cpu"]
        assert [entry["name"] for entry in entries] == names
        assert [entry["parameters"]["problem"] for entry in entries] == names
    assert len(declared["deployments"]) == sum(map(len, expected.values())) + len(on_gpu)


def test_a_problem_that_gains_from_a_gpu_has_a_training_there_that_runs_only_when_it_is_asked_to() -> None:
    entries = [entry for entry in declare(problem_names())["deployments"] if entry["work_pool"]["name"] == "gpu"]
    names = [name for name in problem_names() if load_problem(name).mixed_precision]
    assert {"digits", "cifar10", "scenes", "movie_reviews"} <= set(names)
    assert [entry["name"] for entry in entries] == [f"{name}-gpu" for name in names]
    for entry, name in zip(entries, names, strict=True):
        assert entry["entrypoint"] == "flows.train.train"
        assert entry["parameters"] == {"problem": name, "gpu": "require"}
        assert not any(schedule.get("active", True) for schedule in entry["schedules"])
        assert entry["work_pool"]["job_variables"]["env"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_every_flow_is_deployed_or_says_why_not() -> None:
    """Those that are deployed note the process of each run, so that a run whose process was killed is found."""
    deployed = {entry["entrypoint"].rpartition(".")[0] for entry in declare(["housing"])["deployments"]}
    flows = {f"flows.{path.stem}" for path in (ROOT / "flows").glob("*.py") if "\n@flow(" in path.read_text()}
    assert deployed <= flows and len(flows) > len(deployed)
    reasons = PREFECT_YAML.read_text().partition("\nname:")[0]
    for module in flows - deployed:
        assert module in reasons
    for module in deployed:
        assert note_process in getattr(importlib.import_module(module), module.rpartition(".")[2]).on_running_hooks


def test_every_deployment_has_what_is_needed_to_run_it_and_to_find_it_again() -> None:
    for entry in declare(["housing", "digits"])["deployments"]:
        assert {OURS, entry["parameters"]["problem"]} <= set(entry["tags"])
        assert entry["description"] and entry["work_pool"]["name"] in POOLS
        assert entry["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")
        assert all({"slug", "cron", "timezone"} <= schedule.keys() for schedule in entry.get("schedules", []))


def test_no_placeholder_is_left_in_what_is_declared() -> None:
    assert "{problem}" not in str(declare(["housing"]))


def test_prefect_knows_every_key_of_the_file() -> None:
    """Prefect ignores a misspelt key in silence."""
    from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
    from prefect.events import DeploymentEventTrigger

    declared = declare(["housing"])
    assert declared.keys() <= {field.alias or name for name, field in PrefectYamlModel.model_fields.items()}
    for entry in declared["deployments"]:
        assert entry.keys() <= DeploymentConfig.model_fields.keys()
        for trigger in entry.get("triggers", []):
            assert trigger.keys() <= DeploymentEventTrigger.model_fields.keys()


def test_a_worker_that_was_told_no_folder_refuses_instead_of_losing_what_is_written(tmp_path: Path) -> None:
    for directory in ("", str(tmp_path / "missing")):
        with pytest.raises(NoFolder, match="which folder") as error:
            work_in(directory)
        assert "MODELKEEP_FOLDER" in str(error.value)


# What the server makes of it


@pytest.mark.server
def test_a_deployment_with_a_schedule_gets_its_runs_from_the_scheduler(client: SyncPrefectClient) -> None:
    """With SQLAlchemy 2.1 the server runs, takes the schedule and silently creates nothing."""
    from prefect.client.schemas.filters import DeploymentFilter

    assert deploy(declare(["scheduled"], TINY)) == ["tiny/scheduled"]
    deployment = deployed(client, "scheduled")
    this_one = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
    runs = wait_for(lambda: client.read_flow_runs(deployment_filter=this_one))
    assert runs, "the scheduler created no run in time"
    for run in runs:
        assert run.auto_scheduled and run.parameters == {"number": 41}
        assert run.expected_start_time is not None and run.expected_start_time > datetime.now(UTC)
        local = run.expected_start_time.astimezone(ZoneInfo("Europe/Berlin"))
        assert (local.isoweekday(), local.hour, local.minute) == (1, 3, 0)


@pytest.mark.server
def test_deploying_again_takes_off_what_is_no_longer_declared(client: SyncPrefectClient) -> None:
    declared = declare(["kept", "dropped"], TINY)
    declared["deployments"][0]["schedules"].append({"slug": "daily", "cron": "0 4 * * *", "timezone": "UTC"})
    assert deploy(declared) == ["tiny/dropped", "tiny/kept"]
    assert {schedule.slug for schedule in deployed(client, "kept").schedules} == {"weekly", "daily"}

    by_hand = client.create_deployment(flow_id=deployed(client, "kept").flow_id, name="by-hand", tags=["mine"])
    assert deploy(declare(["kept"], TINY)) == ["tiny/kept"]
    kept = deployed(client, "kept")
    assert [schedule.slug for schedule in kept.schedules] == ["weekly"]
    assert kept.concurrency_options is not None and kept.concurrency_options.collision_strategy == "ENQUEUE"
    assert client.read_deployment(by_hand).name == "by-hand"


@pytest.mark.server
def test_a_deployment_of_a_flow_that_is_not_there_is_refused_with_prefects_reason(
    prefect_server: ServerAddress,
) -> None:
    declared = declare(["tiny"], TINY)
    declared["deployments"][0]["entrypoint"] = "tests.flows.tiny_flow.no_such_flow"
    with pytest.raises(DeploymentFailed, match="refused") as error:
        deploy(declared)
    assert "no_such_flow" in str(error.value)


@pytest.fixture
def worker(prefect_server: ServerAddress, client: SyncPrefectClient, tmp_path: Path) -> Iterator[Any]:
    """A worker of the pool `cpu`, stopped at the end and waited for."""
    deploy(declare(["worked"], TINY))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MODELKEEP_FOLDER": str(tmp_path)}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu", "--type", "process"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    yield process
    # Its runs are over. A worker below a shell's background job would ignore SIGINT, so it is not asked.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.mark.server
def test_a_worker_takes_a_run_and_finishes_it_in_the_folder_that_it_was_told(
    client: SyncPrefectClient, worker: Any, tmp_path: Path
) -> None:
    result = tmp_path / "result.txt"
    run = client.create_flow_run_from_deployment(
        deployed(client, "worked").id, parameters={"number": 2, "to": str(result)}
    )

    def final_state() -> Any:
        state = client.read_flow_run(run.id).state
        return state if state and state.is_final() else None

    state = wait_for(final_state)
    assert state is not None and state.is_completed(), state
    assert result.read_text().splitlines() == ["3", str(tmp_path)]
