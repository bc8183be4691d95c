"""What `monitor` has found of the windows of a problem, kept in one small document, oldest window first."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from store.artifacts import Store, canonical_json, fill, parse_document
from store.errors import WriteConflict

MOST_KEPT = 200
MOST_REASONS = 5
JUDGED = ("none", "warn", "alert")
_ATTEMPTS = 100


@dataclass(frozen=True)
class Verdict:
    """Of one window, by the last time that it was looked at.

    `level` is what the window by itself shows: none, warn or alert; `few rows` where it was not judged, or `bad data`.
    `is_alarm` follows from it and from the windows before. `retrain` is "" or why the version should be replaced.
    Of the `reasons` the first five are kept here.
    `strength` and `value` are drawn: the strongest difference in units of its limit (with its `column`), and the main
    metric where labels have come. `folder` is where drift.json and drift.html are, below the store; "" for none.
    """

    window: str
    when: str  # when the window was scored: ISO 8601, UTC
    version: int
    level: str
    is_alarm: bool
    retrain: str
    sentence: str
    num_rows: int
    reasons: Sequence[str] = field(default_factory=tuple)
    folder: str = ""
    strength: float | None = None
    column: str = ""
    value: float | None = None


def read_verdicts(store: Store, problem: str) -> list[Verdict]:
    """Oldest window first. Raises ArtifactCorrupt."""
    return _read(store, problem)[0]


def record_verdict(store: Store, problem: str, verdict: Verdict) -> None:
    """In place of what was found of the same window before; of more than 200 windows the oldest are forgotten."""
    verdict = replace(verdict, reasons=list(verdict.reasons[:MOST_REASONS]))
    for _ in range(_ATTEMPTS):
        verdicts, expected = _read(store, problem)
        kept = sorted([*(one for one in verdicts if one.window != verdict.window), verdict], key=_order)[-MOST_KEPT:]
        page = {"verdicts": [asdict(one) for one in kept]}
        try:
            store.write_document(_key(problem), canonical_json(page), expected=expected)
        except WriteConflict:
            time.sleep(random.uniform(0, 0.05))
        else:
            return
    raise WriteConflict(
        f"The verdicts of {problem} kept changing.",
        where=f"{store.uri}/{_key(problem)}",
        received=f"{_ATTEMPTS} refused attempts",
        next_step="find out what keeps monitoring it, then repeat",
    )


def before(verdicts: Sequence[Verdict], window: str, when: str) -> list[Verdict]:
    """Those of windows that are older than this one."""
    return [one for one in verdicts if one.window != window and (one.when, one.window) < (when, window)]


def is_persistent(level: str, earlier: Sequence[Verdict], version: int, persistence: tuple[int, int]) -> bool:
    """Whether a window at this level is an alarm, with the windows that the same version scored before it.

    An alert is one at once. A warning is one when it is at least the k-th among the last m windows that were judged.
    """
    least, among = persistence
    judged = [one.level for one in earlier if one.version == version and one.level in JUDGED]
    last = [*judged, level][-among:]
    return level == "alert" or (level == "warn" and sum(one != "none" for one in last) >= least)


def _order(verdict: Verdict) -> tuple[str, str]:
    return verdict.when, verdict.window


def _read(store: Store, problem: str) -> tuple[list[Verdict], str | None]:
    document = store.read_document(_key(problem))
    if document is None:
        return [], None
    where = f"{store.uri}/{_key(problem)}"
    page: Mapping[str, Any] = parse_document(document, where)
    return [fill(Verdict, one, where) for one in page["verdicts"]], document.version


def _key(problem: str) -> str:
    return f"windows/{problem}/verdicts.json"
