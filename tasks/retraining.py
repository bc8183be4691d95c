"""Whether there is anything to train again with, and what came of it: decides from the store alone, without Prefect."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from problems.outline.catalogue import load_problem
from store.artifacts import Store, canonical_json, digest_of, fill, parse_document
from store.errors import StepHeld, WriteConflict
from store.steps import Lease, claim_step
from tasks.champion import find_champion
from tasks.kept_windows import find_window, labelled_windows
from tasks.recent import can_learn_from_windows, has_rows
from tasks.verdicts import read_verdicts

logger = logging.getLogger("modelkeep")

COOLDOWN_HOURS = 24.0
MOST_KEPT = 200
_LEASE_SECONDS = 30.0
_WAIT_SECONDS = 40.0  # longer than a lease: whoever has died without a word is known by then


@dataclass(frozen=True)
class Retraining:
    """One that has trained: why, on which windows and own file, and what came of it: promoted, kept, or refused by the
    problem's acceptance. `run` and `version` are "" and None where it was refused."""

    when: str  # ISO 8601, UTC
    cause: str
    outcome: str
    sentence: str
    windows: list[str]
    data: str
    run: str = ""
    version: int | None = None


@dataclass(frozen=True)
class Retrained:
    """What `retrain` ends with: `outcome` is promoted, kept, or nothing where nothing was trained; `run` is "" and
    `version` None then. `windows` are the ids of those that were trained on."""

    problem: str
    outcome: str
    sentence: str
    cause: str
    run: str
    version: int | None
    windows: list[str]


@dataclass(frozen=True)
class Plan:
    """What there is to train again with, or in `stay` why nothing is to be done now; `champion` is the version that is
    challenged, and `manifest` that of its run, whose settings are kept."""

    problem: str
    stay: str
    cause: str
    windows: tuple[tuple[str, str], ...]
    champion: int
    manifest: Mapping[str, Any]


def stay(problem: str, sentence: str, cause: str) -> Retrained:
    logger.info("retrain   %s", sentence)
    return Retrained(problem, "nothing", sentence, cause, "", None, [])


def plan_retraining(store: Store, problem: str, data: str, reason: str, cooldown_hours: float) -> Plan:
    """`data` is a newer file in place of the source, "" for none. Raises NoChampion, ArtifactCorrupt."""
    champion = find_champion(store, problem)
    manifest = json.loads(store.read_bytes(champion.manifest))
    known = {window for window, _ in manifest.get("windows", ())}
    windows = usable_windows(store, problem)
    news = [window for window, _ in windows if window not in known]
    stay = _still_cooling(store, problem, cooldown_hours)
    if not news and not data:
        stay = f"Nothing new has come since version {champion.number} was trained. {_how_to_bring_news(problem)}"
    cause = reason or _find_cause(store, problem, champion.number) or _describe_news(news, data)
    return Plan(problem, stay, cause, windows, champion.number, manifest)


def usable_windows(store: Store, problem: str) -> tuple[tuple[str, str], ...]:
    """The labelled windows by id, each with the SHA-256 of its labels, in the order in which these came.

    Without those of bad data, and of the same file that several versions have scored the first one.
    """
    if not can_learn_from_windows(load_problem(problem)):
        return ()
    bad = {verdict.window for verdict in read_verdicts(store, problem) if verdict.level == "bad data"}
    found: dict[str, tuple[str, str]] = {}
    for labelled in labelled_windows(store, problem):
        kept = None if labelled.window in bad else find_window(store, problem, labelled.window)
        if kept and has_rows(load_problem(problem), kept):
            found.setdefault(kept.input["sha256"], (labelled.window, labelled.labels))
    return tuple(found.values())


def _how_to_bring_news(problem: str) -> str:
    if can_learn_from_windows(load_problem(problem)):
        return f"`modelkeep monitor {problem} --labels FILE` brings the truth about a window, --data FILE newer data."
    return f"Windows of {problem} do not tell all that its training needs: give newer data with --data FILE."


def _find_cause(store: Store, problem: str, version: int) -> str:
    """The newest verdict on the champion that asked for it; "" where none did."""
    asked = [one for one in read_verdicts(store, problem) if one.retrain and one.version == version]
    return f"{asked[-1].retrain} (window {asked[-1].window})" if asked else ""


def _describe_news(news: list[str], data: str) -> str:
    windows = f"{len(news)} new labelled window{'s' if len(news) > 1 else ''}"
    return "a newer file" if data else windows


def _still_cooling(store: Store, problem: str, cooldown_hours: float) -> str:
    done = read_retrainings(store, problem)
    if not done:
        return ""
    hours = (datetime.now(UTC) - datetime.fromisoformat(done[-1].when)).total_seconds() / 3600
    if max(hours, 0.0) >= cooldown_hours:
        return ""
    return (
        f"The last retraining was {max(hours, 0.0):.1f} h ago, and {cooldown_hours:g} h lie between two; "
        "--cooldown-hours 0 does it now."
    )


# --- never two at once ---------------------------------------------------------------------------------------------


def claim_retraining(store: Store, problem: str) -> Lease | str:
    """The right to retrain a problem, or who has it; whoever died with it has lost it."""
    try:
        claimed = claim_step(
            store,
            problem,
            "retrain",
            digest_of({"retrain": problem}),
            lease_seconds=_LEASE_SECONDS,
            wait_seconds=_WAIT_SECONDS,
        )
    except StepHeld as held:
        return held.received
    assert isinstance(claimed, Lease)  # nothing is ever published under this key
    return claimed


# --- what came of it -----------------------------------------------------------------------------------------------


def read_retrainings(store: Store, problem: str) -> list[Retraining]:
    """Oldest first. Raises ArtifactCorrupt."""
    return _read(store, problem)[0]


def record_retraining(store: Store, problem: str, done: Retraining) -> None:
    """Behind those before; of more than 200 the oldest are forgotten."""
    while True:
        before, expected = _read(store, problem)
        page = {"retrainings": [asdict(one) for one in [*before, done][-MOST_KEPT:]]}
        with suppress(WriteConflict):  # somebody else has recorded one meanwhile
            store.write_document(_key(problem), canonical_json(page), expected=expected)
            return


def _read(store: Store, problem: str) -> tuple[list[Retraining], str | None]:
    document = store.read_document(_key(problem))
    if document is None:
        return [], None
    where = f"{store.uri}/{_key(problem)}"
    page = parse_document(document, where)
    return [fill(Retraining, one, where) for one in page["retrainings"]], document.version


def _key(problem: str) -> str:
    return f"retrainings/{problem}.json"
