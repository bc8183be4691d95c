"""`modelkeep up` and `modelkeep down`: server, pools, limits, automations, deployments and workers of this machine.

The server keeps what is declared; the workers and the local server are processes, started and stopped by pid.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.automations import automations_of, declare_automations, deploy_automations
from deployments.deploy import deploy, deployments_of, is_deployed, require_pool
from flows.background import state_folder, write_private
from flows.missed_runs import leave_out_missed_runs, scheduled_runs
from flows.run_tags import OURS
from flows.server import (
    answers,
    begin_server,
    close_run,
    close_stale_runs,
    find_address,
    find_server,
    find_stale_runs,
    require_access,
    stop_server,
    use_server,
)
from flows.workers import LocalWorker, ensure_worker, find_workers, stop_worker, worker_settings
from tasks.devices import num_gpus

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State
    from prefect.client.schemas.responses import DeploymentResponse

POOLS = ("cpu", "gpu")
BUSY_SECONDS = 30.0  # a server that deploys or is locked for a while is there all the same

Say = Callable[[str], None]


def bring_up(
    declared: dict[str, Any], folder: Path, num_at_once: int | None, say: Say, spared: Collection[str] = ()
) -> None:
    """Make everything be there that is not; what is there stays as it is. Says what it does.

    `declared` is what `deployments.deploy.declare` returns, but for problems that are `spared`; the workers run in
    `folder`. `num_at_once` is the limit of
    the pool `cpu`; None leaves it as it is, and gives a new pool a quarter of this machine's cores.

    Raises ServerUnavailable, DeploymentFailed, WorkerUnavailable.
    """
    starting = begin_server(on_progress=say)
    address = starting.wait()
    if starting.was_started:
        _note_server()
    use_server(address)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        require_access(client)
        _make_pools(client, num_at_once)
        _put_on_server(client, declared, spared, say)
        for run in close_stale_runs(settled_seconds=60 if find_workers() else 0):
            say(f"closed the run {run.name}, whose process was gone")
        for run in leave_out_missed_runs(client):
            say(f"left out the run {run.name}: it was missed, and a later one is due too")
    for pool in POOLS if num_gpus() else ("cpu",):
        worker, was_started = ensure_worker(pool, address.api_url, folder)
        if was_started:
            say(f"started a worker for the pool {pool}")
        else:
            _say_what_differs(worker, folder, say)


def take_down(say: Say) -> None:
    """Stop the workers of this machine, then the server if `bring_up` has started it. Says what was stopped."""
    workers, server = find_workers(), find_server()
    for worker in workers:
        end = "" if stop_worker(worker) else ", which had to be killed"
        say(f"stopped the worker of the pool {worker.pool} (process {worker.pid}){end}")
    if workers:
        _hand_back_runs(say)
    if server and server.process == _noted_server():
        stop_server()
        say(f"stopped the Prefect server at {server.ui_url} (process {server.pid})")
    elif server:
        say(f"the Prefect server at {server.ui_url} was there before; `modelkeep server stop` stops it")
    elif not workers:
        say("nothing was running")


def describe() -> dict[str, Any]:
    """What is there now: the server's address, the workers of this machine, deployments, automations and runs."""
    address = find_address()
    told: dict[str, Any] = {"ui": None, "workers": [asdict(worker) for worker in find_workers()]}
    if address is None or not answers(address.api_url, timeout_seconds=BUSY_SECONDS):
        return told
    use_server(address)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        require_access(client)
        deployed = list(deployments_of(client))
        return {
            **told,
            "ui": address.ui_url,
            "deployments": dict(Counter(_flow_of(found) for found in deployed)),
            "automations": [automation.name for automation in automations_of(client)],
            "runs": _count_runs(client),
            "next": _next_run(client, {found.id: f"{_flow_of(found)} {found.name}" for found in deployed}),
        }


def as_text(told: dict[str, Any]) -> str:
    lines = [f"Prefect      {told['ui'] or 'no server is running'}"]
    for worker in told["workers"]:
        lines.append(f"worker       {worker['pool']}: process {worker['pid']} since {worker['started']}")
        lines.append(f"             in {worker['folder']}, log {worker['log']}")
    if not told["workers"]:
        lines.append("worker       none on this machine")
    if told["ui"]:
        deployed = ", ".join(f"{count} of {flow}" for flow, count in told["deployments"].items())
        lines.append(f"deployments  {deployed or 'none'}; {len(told['automations'])} automations")
        lines.append("runs         " + (", ".join(f"{count} {name}" for name, count in told["runs"].items()) or "none"))
        lines.append(f"next         {told['next'] or 'nothing is scheduled'}")
    return "\n".join(lines)


# What is declared --------------------------------------------------------------------------------------------------


def _make_pools(client: SyncPrefectClient, num_at_once: int | None) -> None:
    from prefect.client.schemas.actions import WorkPoolUpdate

    # A training fills all cores, and takes 1 GB.
    limits = {"cpu": num_at_once or max(1, (os.cpu_count() or 1) // 4), "gpu": num_gpus() or None}
    for pool in POOLS:
        require_pool(client, pool, limits[pool])
    if num_at_once:
        client.update_work_pool("cpu", WorkPoolUpdate(concurrency_limit=num_at_once))


def _put_on_server(client: SyncPrefectClient, declared: dict[str, Any], spared: Collection[str], say: Say) -> None:
    for name in deploy_automations(client, declare_automations()):
        say(f"automation set up: {name.removeprefix('modelkeep: ')}")
    if not is_deployed(client, declared, spared):
        say(f"deploying {len(declared['deployments'])} flows; this takes half a minute")
        deploy(declared, spared)


def _say_what_differs(worker: LocalWorker, folder: Path, say: Say) -> None:
    asked = worker_settings()
    names = [name for name in sorted(asked | dict(worker.settings)) if asked.get(name) != worker.settings.get(name)]
    differing = [f"{name}={worker.settings.get(name, '')}" for name in names]
    differing += [f"the folder {worker.folder}"] if worker.folder != str(folder) else []
    if differing:
        say(f"the worker of the pool {worker.pool} keeps {', '.join(differing)}; `modelkeep down` first to change that")


# Runs --------------------------------------------------------------------------------------------------------------


def _hand_back_runs(say: Say) -> None:
    """Schedule the runs that ended with their worker again: nothing crashed, so it does not count as that."""
    address = find_address()
    if address is None or not answers(address.api_url, timeout_seconds=BUSY_SECONDS):
        return
    use_server(address)
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import AwaitingRetry

    with get_client(sync_client=True) as client:
        for run in find_stale_runs(client):
            if run.deployment_id and run.state_type == StateType.RUNNING:
                state: State = AwaitingRetry(message="Its worker was stopped. It goes on at its last checkpoint.")
                client.set_flow_run_state(run.id, state, force=True)
                say(f"the run {run.name} goes on when a worker is there again")
            else:
                close_run(client, run)


# What is there -----------------------------------------------------------------------------------------------------


def _flow_of(deployment: DeploymentResponse) -> str:
    return (deployment.entrypoint or "").rpartition(".")[2]


def _count_runs(client: SyncPrefectClient) -> dict[str, int]:
    from prefect.client.schemas.filters import FlowRunFilter

    states = ["RUNNING", "PENDING", "CANCELLING", "PAUSED"]
    active = FlowRunFilter.model_validate({"tags": {"all_": [OURS]}, "state": {"type": {"any_": states}}})
    runs = [*client.read_flow_runs(flow_run_filter=active), *scheduled_runs(client, before=datetime.now(UTC))]
    return dict(Counter((run.state_name or "unknown").lower() for run in runs))


def _next_run(client: SyncPrefectClient, names: dict[UUID, str]) -> str:
    """When what is due next; `names` are those of the deployments."""
    for run in scheduled_runs(client, limit=20):
        if run.deployment_id in names and run.expected_start_time:
            return f"{names[run.deployment_id]} at {run.expected_start_time:%Y-%m-%d %H:%M %Z}"
    return ""


def _note_server() -> None:
    """Remember that it was `up` that started the server, which is `down`'s to stop then."""
    server = find_server()
    if server:
        write_private(state_folder(create=True) / "up.json", json.dumps({"server": server.process}))


def _noted_server() -> str | None:
    try:
        return str(json.loads((state_folder() / "up.json").read_text())["server"])
    except (OSError, ValueError, KeyError):
        return None
