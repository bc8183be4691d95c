"""Scheduled runs that are late together: of each deployment only the last is made up for.

They are when nothing ran for a while, a machine slept, or its clock was set forward.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.run_tags import OURS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


def leave_out_missed_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Cancel runs of schedules that are due, but for the last of each deployment. Returns those."""
    from prefect.states import Cancelled

    due = [run for run in scheduled_runs(client, before=datetime.now(UTC)) if run.auto_scheduled]
    last = {run.deployment_id: run for run in due}
    missed = [run for run in due if last[run.deployment_id] is not run]
    for run in missed:
        client.set_flow_run_state(run.id, Cancelled(message="It was missed, and a later one is due too."))
    return missed


def scheduled_runs(client: SyncPrefectClient, *, before: datetime | None = None, limit: int = 200) -> list[FlowRun]:
    """In the order of their time."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    wanted: dict[str, Any] = {"tags": {"all_": [OURS]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    if before:
        wanted["expected_start_time"] = {"before_": before}
    scheduled = FlowRunFilter.model_validate(wanted)
    return client.read_flow_runs(flow_run_filter=scheduled, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=limit)
