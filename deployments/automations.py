"""Puts what automations.yaml declares on the Prefect server, and takes off what is no longer declared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.run_tags import OURS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

AUTOMATIONS_YAML = Path(__file__).with_name("automations.yaml")


def declare_automations(file: Path = AUTOMATIONS_YAML) -> list[dict[str, Any]]:
    """The automations as data, each with the tag of everything that is ours."""
    import yaml

    declared = yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]
    return [{**entry, "tags": [OURS]} for entry in declared]


def deploy_automations(client: SyncPrefectClient, declared: list[dict[str, Any]]) -> list[str]:
    """Make the server's automations match the declaration. Returns the names of those that had to be changed.

    One that is there already is left as it is, so that it goes on counting, and may have been paused by hand. The
    automations that belong to a deployment are Prefect's own to keep: see `triggers` in prefect.yaml.
    """
    from prefect.events.schemas.automations import AutomationCore

    wanted = {entry["name"]: AutomationCore.model_validate(entry) for entry in declared}
    changed = []
    for found in automations_of(client):
        if found.name in wanted and _is_same(found, wanted[found.name]):
            del wanted[found.name]
        else:
            client.delete_automation(found.id)
            changed.append(found.name)
    for automation in wanted.values():
        client.create_automation(automation)
        changed.append(automation.name)
    return sorted(set(changed))


def automations_of(client: SyncPrefectClient) -> list[Automation]:
    from prefect.events.filters import AutomationFilter

    tagged = AutomationFilter.model_validate({"tags": {"all_": [OURS]}})
    return [found for found in client.read_automations(automations=tagged) if not found.owner_resource]


def _is_same(found: Automation, wanted: AutomationCore) -> bool:
    return found.model_dump(exclude={"id", "enabled"}) == wanted.model_dump(exclude={"enabled"})
