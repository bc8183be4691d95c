from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from deployments.automations import automations_of, declare_automations, deploy_automations
from deployments.deploy import declare, deploy
from flows.server import ServerAddress
from tests.prefect_server import wait_for

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture
def client(prefect_server: ServerAddress) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as opened:
        yield opened
        deploy_automations(opened, [])


def test_prefect_knows_every_key_of_the_file() -> None:
    """Prefect ignores a misspelt key in silence."""
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

    declared = declare_automations()
    assert declared
    for entry in declared:
        assert entry.keys() <= AutomationCore.model_fields.keys()
        assert entry["trigger"].keys() <= EventTrigger.model_fields.keys()
        for action in entry["actions"]:
            assert action.keys() <= ChangeFlowRunState.model_fields.keys()


def test_a_sign_of_life_comes_more_than_twice_in_the_time_that_a_run_may_be_silent() -> None:
    """With less than two, runs that were well were called crashed."""
    [silence] = [entry["trigger"]["within"] for entry in declare_automations() if "silent" in entry["name"]]
    for entry in declare(["housing"])["deployments"]:
        environment = entry["work_pool"]["job_variables"]["env"]
        assert silence > 2 * int(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])


@pytest.mark.server
def test_the_server_is_made_to_have_the_automations_that_are_declared_and_keeps_others(
    client: SyncPrefectClient,
) -> None:
    from prefect.events.schemas.automations import AutomationCore

    by_hand = {**declare_automations()[0], "name": "by hand", "tags": ["mine"], "enabled": False}
    kept = client.create_automation(AutomationCore.model_validate(by_hand))
    declared = declare_automations()
    assert deploy_automations(client, declared) == sorted(entry["name"] for entry in declared)
    first = {automation.name: automation.id for automation in automations_of(client)}

    assert deploy_automations(client, declared) == []
    assert {automation.name: automation.id for automation in automations_of(client)} == first

    changed = copy.deepcopy(declared[:2])
    changed[1]["trigger"]["within"] += 1
    assert deploy_automations(client, changed) == sorted(entry["name"] for entry in declared[1:])
    now = {automation.name: automation.id for automation in automations_of(client)}
    assert now.keys() == {entry["name"] for entry in changed}
    assert now[changed[0]["name"]] == first[changed[0]["name"]] and now[changed[1]["name"]] not in first.values()
    assert client.read_automation(kept) is not None
    client.delete_automation(kept)


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """A deployment whose runs nobody works at, watched by our automations with shorter times."""
    declared = declare_automations()
    for entry in declared:
        entry["trigger"] = {**entry["trigger"], "within": min(entry["trigger"]["within"], 10)}
    deploy_automations(client, declared)
    deploy(declare(["watched"], TINY))
    return client.read_deployment_by_name("tiny/watched").id


def begin(client: SyncPrefectClient, deployment: UUID, *, again: UUID | None = None) -> UUID:
    from prefect.states import Running

    run = again or client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, Running(), force=True)
    return run


def state_of(client: SyncPrefectClient, run: UUID) -> str | None:
    return client.read_flow_run(run).state_name


@pytest.mark.server
def test_a_silent_run_is_called_crashed_and_scheduled_again_and_runs_that_ended_or_live_are_not(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    from prefect.states import Completed

    silent, living, ended = (begin(client, deployment) for _ in range(3))
    beat = heartbeats_of(deployment)
    for run in (silent, living, ended):
        beat(run)
    client.set_flow_run_state(ended, Completed(), force=True)

    def is_scheduled_again() -> bool:
        beat(living)
        return state_of(client, silent) == "AwaitingRetry"

    assert wait_for(is_scheduled_again, pause_seconds=2)
    assert state_of(client, living) == "Running" and state_of(client, ended) == "Completed"
    assert "Crashed" in [state.name for state in client.read_flow_run_states(silent)]
    for run in (silent, living):
        client.delete_flow_run(run)


@pytest.mark.server
def test_a_run_that_crashes_is_scheduled_again_three_times_and_one_that_never_began_is_not(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    from prefect.states import Crashed, Failed, Pending

    runs = {0: client.create_flow_run_from_deployment(deployment).id}
    client.set_flow_run_state(runs[0], Pending(), force=True)
    for count in (1, 3, 4):
        runs[count] = begin(client, deployment)
        for _ in range(count - 1):
            client.set_flow_run_state(runs[count], Failed(), force=True)
            begin(client, deployment, again=runs[count])
    for run in runs.values():
        client.set_flow_run_state(run, Crashed(), force=True)
    assert {count: client.read_flow_run(run).run_count for count, run in runs.items()} == {0: 0, 1: 1, 3: 3, 4: 4}

    assert wait_for(lambda: all(state_of(client, runs[count]) == "AwaitingRetry" for count in (1, 3)))
    assert [state_of(client, runs[count]) for count in (0, 4)] == ["Crashed", "Crashed"]


def heartbeats_of(deployment: UUID) -> Callable[[UUID], None]:
    """Sends what the process of a deployment's run sends every 30 s."""
    from prefect.events import emit_event

    def beat(run: UUID) -> None:
        emit_event(
            event="prefect.flow-run.heartbeat",
            resource={"prefect.resource.id": f"prefect.flow-run.{run}"},
            related=[
                {"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.role": "deployment"},
                {"prefect.resource.id": "prefect.tag.modelkeep", "prefect.resource.role": "tag"},
            ],
        )

    return beat


@pytest.mark.server
def test_an_event_of_a_problem_starts_its_deployment_once_in_the_time_that_is_declared(
    client: SyncPrefectClient,
) -> None:
    from prefect.events import emit_event

    deploy(declare(["bread", "cake"], TINY))
    deployments = {name: client.read_deployment_by_name(f"tiny/{name}").id for name in ("bread", "cake")}

    def started(name: str) -> list[Any]:
        from prefect.client.schemas.filters import FlowRunFilter

        wanted = {"deployment_id": {"any_": [deployments[name]]}}
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
        return [run.parameters["until"] for run in runs if not run.auto_scheduled]

    def tell(problem: str, window: str) -> None:
        resource = {"prefect.resource.id": f"modelkeep.{problem}"}
        emit_event("modelkeep.drift.detected", resource=resource, payload={"window": window})

    tell("bread", "window-7")
    assert wait_for(lambda: started("bread") == ["window-7"])
    tell("bread", "window-8")
    tell("cake", "window-9")
    assert wait_for(lambda: started("cake") == ["window-9"])
    assert started("bread") == ["window-7"]

    deploy(declare(["cake"], TINY))
    owned = client.read_resource_related_automations(f"prefect.deployment.{deployments['bread']}")
    assert owned == []
