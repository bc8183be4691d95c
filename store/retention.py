"""What may go from a store, and making it go.

Kept are registered runs, the newest runs of each problem, whatever their manifests refer to, and steps that somebody
is at work on or that were done of late. Sources are never removed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.artifacts import ArtifactRef, Document, ObjectInfo, Store, is_reference, parse_document
from store.errors import WriteConflict
from store.registry import Registry
from store.steps import is_held, keys_of, retire_step

_DAY_SECONDS = 86_400  # more than any two clocks may differ, and longer than a writer is silent


@dataclass(frozen=True)
class Removal:
    key: str
    size: int  # bytes
    reason: str
    step: str = ""  # the step's document, which is retired first


@dataclass(frozen=True)
class RemovalPlan:
    files: tuple[Removal, ...]
    unfinished: tuple[Removal, ...]  # what killed writers left
    steps: Mapping[str, Document]  # documents of steps to retire, as they were when this was planned

    @property
    def size(self) -> int:
        """Bytes; what is freed is less where hard links share them."""
        return sum(removal.size for removal in (*self.files, *self.unfinished))


def plan_removal(store: Store, *, keep_runs: int = 5, keep_steps_days: float = 30) -> RemovalPlan:
    """What `remove` would take away. Changes nothing.

    Raises ArtifactCorrupt or ArtifactMissing when the manifest of a run that is kept cannot be read, because then
    nobody knows what it needs.
    """
    now = time.time()
    runs = _grouped(store.list("runs"))
    registered = _registered(store)
    kept = _newest(runs, keep_runs) | {_group(store.key_of(ref)) for ref in registered}
    manifests = [store.read_bytes(ref) for ref in registered] + [
        data for run in kept if (data := _manifest(store, runs.get(run, ()))) is not None
    ]
    needed = {key for data in manifests for key in _references(store, data)}
    files = [removal for run, infos in runs.items() if run not in kept for removal in _run_removals(infos, now)]
    steps: dict[str, Document] = {}
    for step, infos in _grouped(store.list("steps")).items():
        files += _step_removals(store, step, infos, needed, now, keep_steps_days * _DAY_SECONDS, steps)
    return RemovalPlan(
        files=tuple(removal for removal in files if removal.key not in needed),
        unfinished=tuple(
            Removal(info.key, info.size, "left by a writer that was killed")
            for info in store.list_unfinished()
            if _is_old(info, now)
        ),
        steps=steps,
    )


def remove(store: Store, plan: RemovalPlan) -> int:
    """Bytes freed. A step that somebody claimed since it was planned is left alone."""
    claimed = {step for step, document in plan.steps.items() if not _retired(store, step, document)}
    freed = sum(store.delete(removal.key) for removal in plan.files if removal.step not in claimed)
    for removal in plan.unfinished:
        store.delete_unfinished(removal.key)
    return freed + sum(removal.size for removal in plan.unfinished)


def _run_removals(infos: Sequence[ObjectInfo], now: float) -> Iterator[Removal]:
    has_manifest = any(_is_manifest(info) for info in infos)
    if has_manifest or all(_is_old(info, now) for info in infos):
        reason = "an older run" if has_manifest else "a run that did not finish"
        # The manifest goes first, because a run without one does not exist.
        for info in sorted(infos, key=lambda info: not _is_manifest(info)):
            yield Removal(info.key, info.size, reason)


def _step_removals(
    store: Store,
    step: str,
    infos: Sequence[ObjectInfo],
    needed: set[str],
    now: float,
    keep_seconds: float,
    retiring: dict[str, Document],
) -> Iterator[Removal]:
    path = f"{step}.json"
    files = [info for info in infos if info.key != path]
    document = store.read_document(path)
    state = {} if document is None else parse_document(document, f"{store.uri}/{path}")
    changed = max((info.modified for info in infos if info.key == path), default=0.0)
    own = keys_of(store, state)
    in_use = is_held(state) and now - changed < _DAY_SECONDS
    if in_use or own & needed:
        return
    if document is not None and state["state"] != "removed" and now - changed > keep_seconds:
        retiring[path] = document
        yield from (Removal(info.key, info.size, "a step done long ago", path) for info in files)
    elif not is_held(state):
        for info in files:
            if info.key not in own and _is_old(info, now):
                yield Removal(info.key, info.size, "left by a process that did not finish its step")


def _retired(store: Store, step: str, document: Document) -> bool:
    try:
        retire_step(store, step, document)
    except WriteConflict:
        return False
    return True


def _registered(store: Store) -> list[ArtifactRef]:
    registry = Registry(store)
    return [version.manifest for problem in registry.problems() for version in registry.versions(problem)]


def _newest(runs: Mapping[str, Sequence[ObjectInfo]], number: int) -> set[str]:
    finished: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for run, infos in runs.items():
        for info in filter(_is_manifest, infos):
            finished[run.rpartition("/")[0]].append((info.modified, run))
    return {run for entries in finished.values() for _, run in sorted(entries, reverse=True)[:number]}


def _manifest(store: Store, infos: Iterable[ObjectInfo]) -> bytes | None:
    for info in filter(_is_manifest, infos):
        if ref := store.find(info.key, kind="json"):
            return store.read_bytes(ref)
    return None


def _references(store: Store, manifest: bytes) -> Iterator[str]:
    """Keys of everything in this store that a manifest speaks of, wherever it does so."""
    pending: list[Any] = [parse_document(Document(manifest, ""), "a run's manifest.json")]
    while pending:
        value = pending.pop()
        if is_reference(value):
            yield store.key_of(ArtifactRef.from_dict(value))
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _grouped(infos: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    groups: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in infos:
        groups[_group(info.key)].append(info)
    return groups


def _group(key: str) -> str:
    """`runs/<problem>/<run>` or `steps/<problem>/<step>/<key>`, of which a file or document is part."""
    parts = key.split("/")
    depth = 4 if parts[0] == "steps" else 3
    return "/".join(parts[:depth]).removesuffix(".json")


def _is_manifest(info: ObjectInfo) -> bool:
    return info.key.count("/") == 3 and info.key.endswith("/manifest.json")


def _is_old(info: ObjectInfo, now: float) -> bool:
    return now - info.modified > _DAY_SECONDS
