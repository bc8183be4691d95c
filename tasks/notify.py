"""Tell a webhook what somebody should know: drift, data that is bad, a promotion, a run that failed.

The address is in MODELKEEP_WEBHOOK. It may hold a token, so it is in no log line, event or file.
"""

from __future__ import annotations

import json
import logging
import urllib.request
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
    """Send {event, problem, text, when} and the facts as JSON, if an address is set; a webhook that does not answer
    costs a warning. `text` is what chats show of a message."""
    address = load_settings().webhook.get_secret_value()
    if not address:
        return
    told = {"event": event, "problem": problem, "text": f"{problem}: {sentence}", "when": utc_now(), **facts}
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
