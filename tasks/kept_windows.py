"""Scored windows in the store, where `monitor` finds them: windows/<problem>/<window>/, the manifest written last.

Where the truth has come, labels.json beside the manifest names the newest labels, and says when the first ones came.
windows/<problem>/last.json names the window whose scores were asked for last.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from store.artifacts import ArtifactRef, Store, canonical_json, fill, parse_document, sha256_of_file
from store.errors import ArtifactExists, WriteConflict

if TYPE_CHECKING:
    import pandas as pd

_LABELS = "labels.json"
_LAST = "last.json"


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


@dataclass(frozen=True)
class LabelledWindow:
    """A window whose truth has come: how many rows have it, the SHA-256 of the newest labels, and when (ISO 8601, UTC)
    the first ones came."""

    window: str
    since: str
    labels: str
    num_rows: int


def keep_window(store: Store, files: Mapping[str, Path], **told: Any) -> KeptWindow:
    """Put the files of a window into the store, and its manifest when they are there; `told` are KeptWindow's fields.

    A window that somebody else has kept meanwhile stays as it is.
    """
    prefix = _prefix(told["problem"], told["window"])
    artifacts = {
        name: store.put_file(f"{prefix}/{name}{path.suffix}", path, kind=path.suffix[1:])
        for name, path in files.items()
    }
    kept = KeptWindow(**told, scored=_now(), artifacts=artifacts)
    page = {**asdict(kept), "artifacts": {name: ref.to_dict() for name, ref in artifacts.items()}}
    data = json.dumps(page, indent=1, sort_keys=True, ensure_ascii=False).encode()
    try:
        store.put_bytes(f"{prefix}/manifest.json", data, kind="json")
    except ArtifactExists:
        kept = find_window(store, kept.problem, kept.window) or kept
    note_last(store, kept)
    return kept


def note_last(store: Store, kept: KeptWindow) -> None:
    """So that `choose_window` chooses it."""
    _change(store, f"windows/{kept.problem}/{_LAST}", lambda before: {"window": kept.window})


def find_window(store: Store, problem: str, window: str) -> KeptWindow | None:
    """The window, if it was kept and is whole."""
    ref = store.find(f"{_prefix(problem, window)}/manifest.json", kind="json")
    if ref is None:
        return None
    page = json.loads(store.read_bytes(ref))
    artifacts = {name: ArtifactRef.from_dict(entry) for name, entry in page["artifacts"].items()}
    kept = fill(KeptWindow, {**page, "artifacts": artifacts}, store.address(ref))
    return kept if all(map(store.is_whole, artifacts.values())) else None


def keep_labels(store: Store, problem: str, window: str, labels: pd.Series) -> None:
    """Put the targets of a window's rows, by row number, beside it; they stand in for those that were kept before."""
    table = labels.rename("target").rename_axis("row").reset_index()
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = Path(folder, "labels.parquet")
        table.to_parquet(path, index=False)
        digest = sha256_of_file(path)
        store.put_file(labels_key(problem, window, digest), path, kind="parquet")
    told = {"labels": digest, "num_rows": len(table)}
    key = f"{_prefix(problem, window)}/{_LABELS}"
    _change(store, key, lambda before: {"since": before.get("since") or _now(), **told})


def _change(store: Store, key: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Put what `change` makes of a document, {} where there is none, into its place, also when others do so too."""
    while True:
        document = store.read_document(key)
        before = parse_document(document, f"{store.uri}/{key}") if document else {}
        try:
            store.write_document(key, canonical_json(change(before)), expected=document.version if document else None)
        except WriteConflict:
            continue
        return


def labels_key(problem: str, window: str, digest: str) -> str:
    return f"{_prefix(problem, window)}/labels-{digest[:12]}.parquet"


def labelled_windows(store: Store, problem: str) -> list[LabelledWindow]:
    """In the order in which their truth has come, so that a new one is always the last."""
    found = []
    for info in store.list(f"windows/{problem}"):
        if info.key.endswith(f"/{_LABELS}") and (document := store.read_document(info.key)):
            page = parse_document(document, f"{store.uri}/{info.key}")
            found.append(LabelledWindow(info.key.split("/")[2], **page))
    return sorted(found, key=lambda one: (one.since, one.window))


def choose_window(store: Store, problem: str, window: str = "") -> KeptWindow:
    """The window of that id, or the one whose scores were asked for last. Raises NoWindow."""
    found = find_window(store, problem, window) if window else _last(store, problem)
    if found is None:
        raise NoWindow(
            f"There is no scored window {window!r} of {problem}." if window else f"No window of {problem} was scored.",
            where=f"{store.uri}/windows/{problem}",
            expected="a window that `modelkeep predict` has scored and kept, whole",
            next_step=f"`modelkeep monitor {problem} --input FILE` scores and monitors one",
        )
    return found


def _last(store: Store, problem: str) -> KeptWindow | None:
    document = store.read_document(key := f"windows/{problem}/{_LAST}")
    return find_window(store, problem, parse_document(document, f"{store.uri}/{key}")["window"]) if document else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _prefix(problem: str, window: str) -> str:
    return f"windows/{problem}/{window}"
