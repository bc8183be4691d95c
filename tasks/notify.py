"""Tell somebody what they should know: drift, data that is bad, a promotion, a run that failed.

A webhook's address is in MODELKEEP_WEBHOOK. It may hold a token, so it is in no log line, event or file. Chats and mail
are reached by a block that Prefect's server keeps, whose name is in MODELKEEP_NOTIFY: one for notifications, such as
`slack-webhook/ops`, or a `secret/ops` that holds an address as Apprise writes it, such as mailto://user:password@host
(https://appriseit.com/services).
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from modelkeep.errors import GateFailed, ModelkeepError
from tasks.manifest import utc_now
from tasks.settings import load_settings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

logger = logging.getLogger("modelkeep")

PROMOTED = "modelkeep.model.promoted"
RUN_REFUSED = "modelkeep.run.refused"
RUN_FAILED = "modelkeep.run.failed"
_TIMEOUT_SECONDS = 10.0


def notify(event: str, problem: str, sentence: str, **facts: Any) -> None:
    """Send {event, problem, text, when} and the facts to who is set: as JSON, and in words. Who cannot be reached costs
    a warning. `text` is what chats show of a message."""
    settings = load_settings()
    told = {"event": event, "problem": problem, "text": f"{problem}: {sentence}", "when": utc_now(), **facts}
    if address := settings.webhook.get_secret_value():
        _tell_webhook(address, told, sentence)
    if settings.notify:
        _tell_block(settings.notify, told, sentence)


def _tell_block(name: str, told: Mapping[str, Any], sentence: str) -> None:
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import AppriseNotificationBlock
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    facts = [f"{key}: {value}" for key, value in told.items() if key not in ("text", "problem") and value]
    try:
        block: Any = Block.load(name)
        if isinstance(block, Secret):
            block = AppriseNotificationBlock(url=SecretStr(str(block.get())))
        with block.raise_on_failure():
            block.notify(
                "\n".join([told["text"], "", *facts]), subject=f"modelkeep: {told['problem']}, {told['event']}"
            )
    except Exception as fault:  # blocks are many, and each fails in its own way
        logger.warning("notify    the block %s cannot be used (%s); it was to tell: %s", name, _kind(fault), sentence)


def _tell_webhook(address: str, told: Mapping[str, Any], sentence: str) -> None:
    try:
        _post(address, json.dumps(told, ensure_ascii=False, default=str).encode())
    except HTTPError as answer:
        logger.warning("notify    the webhook answered %d; it was to be told: %s", answer.code, sentence)
    except (OSError, HTTPException, ValueError) as fault:
        logger.warning("notify    the webhook cannot be reached (%s); it was to be told: %s", _kind(fault), sentence)


def _post(address: str, data: bytes) -> None:
    if not address.lower().startswith(("http://", "https://")):
        raise ValueError("not an address of the web")
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
        pass


def _kind(fault: Exception) -> str:
    """What went wrong without the address, which the fault's own words may hold."""
    return type(getattr(fault, "reason", None) or fault).__name__


def tell_of_failure(flow: object, flow_run: FlowRun, state: State[Any]) -> None:
    """For `on_failure` and `on_crashed` of a flow: which run of which problem ended so, and what it said."""
    fault = state.result(raise_on_failure=False) if state.is_failed() else None
    event = RUN_REFUSED if isinstance(fault, GateFailed) else RUN_FAILED
    said = str(fault) if isinstance(fault, ModelkeepError) else type(fault).__name__ if fault else "it crashed"
    problem = str((flow_run.parameters or {}).get("problem", ""))
    notify(event, problem, f"The run {flow_run.name} ended with: {said}", flow_run=str(flow_run.id))
