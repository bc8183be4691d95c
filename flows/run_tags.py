"""Tags that tell later which process ran a flow: a run whose process is gone can be told from one that goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from store.processes import mark_process

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

OURS = "modelkeep"
PROCESS = "process:"


def host_tag() -> str:
    return f"host:{os.uname().nodename}"


def local_run_tags() -> list[str]:
    """The tags of a run in this process: give them to `prefect.tags` around the call of the flow."""
    mark = mark_process()
    return [OURS, host_tag(), f"{PROCESS}{mark.text if mark else 'unknown'}"]


def note_process(flow: object, flow_run: FlowRun, state: object) -> None:
    """For `on_running` of a flow that is deployed: each time its run begins, it gets the tags that local runs have."""
    from prefect.client.orchestration import get_client

    if flow_run.deployment_id is None:
        return
    others = [tag for tag in flow_run.tags if not tag.startswith(("host:", PROCESS))]
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=list(dict.fromkeys([*others, *local_run_tags()])))
