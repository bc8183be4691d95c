"""Scored windows in the store, where `monitor` finds them: windows/<problem>/<window>/, the manifest written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelkeep.errors import ModelkeepError
from store.artifacts import ArtifactRef, Store
from store.errors import ArtifactExists


class NoWindow(ModelkeepError):
    """There is no such window in the store, or none at all."""


@dataclass(frozen=True)
class KeptWindow:
    """A window by its id: what it was made of (`input`: name, SHA-256, size), who scored it, when, and how many rows.

    `artifacts` are the scores, the rows (`frame`: what was validated, by the same row numbers) and what was set aside.
    """

    window: str
    problem: str
    input: Mapping[str, Any]
    version: int
    run: str
    scored: str  # ISO 8601, UTC
    num_scored: int
    num_set_aside: int
    artifacts: Mapping[str, ArtifactRef]

    @property
    def prefix(self) -> str:
        return _prefix(self.problem, self.window)


def keep_window(store: Store, files: Mapping[str, Path], **told: Any) -> KeptWindow:
    """Put the files of a window into the store, and its manifest when they are there; `told` are KeptWindow's fields.

    A window that somebody else has kept meanwhile stays as it is.
    """
    prefix = _prefix(told["problem"], told["window"])
    artifacts = {
        name: store.put_file(f"{prefix}/{name}{path.suffix}", path, kind=path.suffix[1:])
        for name, path in files.items()
    }
    kept = KeptWindow(**told, scored=datetime.now(UTC).isoformat(timespec="microseconds"), artifacts=artifacts)
    page = {**asdict(kept), "artifacts": {name: ref.to_dict() for name, ref in artifacts.items()}}
    data = json.dumps(page, indent=1, sort_keys=True, ensure_ascii=False).encode()
    try:
        store.put_bytes(f"{prefix}/manifest.json", data, kind="json")
    except ArtifactExists:
        return find_window(store, kept.problem, kept.window) or kept
    return kept


def find_window(store: Store, problem: str, window: str) -> KeptWindow | None:
    """The window, if it was kept and is whole."""
    ref = store.find(f"{_prefix(problem, window)}/manifest.json", kind="json")
    if ref is None:
        return None
    page = json.loads(store.read_bytes(ref))
    artifacts = {name: ArtifactRef.from_dict(entry) for name, entry in page["artifacts"].items()}
    kept = KeptWindow(**{**page, "artifacts": artifacts})
    return kept if all(map(store.is_whole, artifacts.values())) else None


def choose_window(store: Store, problem: str, window: str = "") -> KeptWindow:
    """The window of that id, or the one that was scored last. Raises NoWindow."""
    found = find_window(store, problem, window) if window else _newest(store, problem)
    if found is None:
        raise NoWindow(
            f"There is no scored window {window!r} of {problem}." if window else f"No window of {problem} was scored.",
            where=f"{store.uri}/windows/{problem}",
            expected="a window that `modelkeep predict` has scored and kept, whole",
            next_step=f"`modelkeep monitor {problem} --input FILE` scores and monitors one",
        )
    return found


def _newest(store: Store, problem: str) -> KeptWindow | None:
    manifests = [info for info in store.list(f"windows/{problem}") if info.key.endswith("/manifest.json")]
    if not manifests:
        return None
    # A store may tell times to the second only; the manifests have them to the microsecond.
    last = max(info.modified for info in manifests)
    recent = [info.key.split("/")[2] for info in manifests if info.modified >= last - 2]
    found = [kept for window in recent if (kept := find_window(store, problem, window))]
    return max(found, key=lambda kept: (kept.scored, kept.window), default=None)


def _prefix(problem: str, window: str) -> str:
    return f"windows/{problem}/{window}"
