"""A worker and its training are killed with -9; the run is found, taken up by another worker and ends as if nothing
had happened."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deployments.automations import declare_automations, deploy_automations
from deployments.deploy import declare
from deployments.up import bring_up, take_down
from flows.server import find_address
from flows.workers import ensure_worker, find_workers
from store import open_store
from store.processes import ProcessMark
from store.registry import Registry
from store.steps import find_step
from tests.prefect_server import HomeMaker, live_in, wait_for

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def client(make_home: HomeMaker, tmp_path: Path) -> Iterator[SyncPrefectClient]:
    """A server and a worker with the training of housing, and a store in the folder of the worker."""
    with live_in(make_home("killed")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
        patch.setenv("MODELKEEP_CHECKPOINT_SECONDS", "0")
        declared = declare(["housing"])
        declared["deployments"] = [entry for entry in declared["deployments"] if ".train." in entry["entrypoint"]]
        bring_up(declared, tmp_path, 1, lambda line: None)
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as opened:
            deploy_automations(opened, hurried())
            yield opened
        take_down(lambda line: None)


def hurried() -> list[dict[str, Any]]:
    """Our automations with less patience; a sign of life comes every 30 s, and cannot be made to come more often."""
    declared = declare_automations()
    for entry in declared:
        entry["trigger"] = {**entry["trigger"], "within": 40 if entry["trigger"]["within"] > 40 else 10}
    return declared


def process_of(run: FlowRun) -> ProcessMark | None:
    marks = [ProcessMark.parse(tag.removeprefix("process:")) for tag in run.tags if tag.startswith("process:")]
    return marks[0] if marks else None


def has_checkpoint(store: Path) -> bool:
    return any("checkpoint-" in path.name for path in store.rglob("*.npz"))


def resumed_steps(store: Path) -> list[int]:
    """Of each fit of the champion's run, how many training steps were not made again."""
    kept = open_store(store)
    champion = Registry(kept).champion("housing")
    assert champion is not None
    steps = json.loads((store / "runs" / "housing" / champion.run / "manifest.json").read_text())["steps"]
    fits = [(name, step["key"]) for name, step in steps.items() if name.startswith("f")]
    records = [find_step(kept, "housing", name, key) for name, key in fits]
    return [int(str(record.facts["resumed_steps"])) for record in records if record]


def test_a_training_whose_worker_is_killed_is_found_taken_up_and_finished(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    store = tmp_path / "modelkeep-store"
    deployment = client.read_deployment_by_name("train/housing")
    asked = {"hyperparameters": {"epochs": 100}}
    run = client.create_flow_run_from_deployment(deployment.id, parameters=asked)
    assert wait_for(lambda: has_checkpoint(store), limit_seconds=300)

    flow_process = process_of(client.read_flow_run(run.id))
    [worker] = find_workers()
    assert flow_process is not None
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(flow_process.pid, signal.SIGKILL)
    assert wait_for(lambda: find_workers() == [])  # it takes a moment to die
    assert client.read_flow_run(run.id).state_name == "Running"
    address = find_address()
    assert address is not None
    ensure_worker("cpu", address.api_url, tmp_path)

    assert wait_for(lambda: client.read_flow_run(run.id).state_name == "Completed", limit_seconds=600)
    ended = client.read_flow_run(run.id)
    assert ended.run_count == 2 and process_of(ended) != flow_process
    names = [state.name for state in client.read_flow_run_states(run.id)]
    assert names.count("Crashed") == 1 and names.count("AwaitingRetry") >= 1
    assert max(resumed_steps(store)) > 0
    unfinished = {"RUNNING", "PENDING", "CANCELLING"}
    assert not [other for other in client.read_flow_runs() if other.state and other.state.type.value in unfinished]
