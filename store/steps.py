"""Steps: who is at work on one, how far it is, and what it made.

Each step has one document, changed by compare-and-swap, that is lease, checkpoint pointer and result at once. Every
acquisition has a higher number than the one before. A process that was taken for dead and lives on holds an old
version of the document, so whatever it tries to record is refused (fencing, as in Kleppmann,
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and its files lie under its own number.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelkeep.errors import ModelkeepError
from store.artifacts import JSON, ArtifactRef, Document, Progress, Store, canonical_json, parse_document
from store.errors import LeaseLost, StepHeld, WriteConflict
from store.holders import describe, is_gone, this_process

_KEPT_CHECKPOINTS = 2  # the one before serves when the newest is damaged
_LONGEST_PAUSE_SECONDS = 2.0

Products = Mapping[str, ArtifactRef]


@dataclass(frozen=True)
class StepRecord:
    key: str
    number: int
    products: dict[str, ArtifactRef]
    facts: dict[str, Any]  # what JSON can hold


@dataclass(frozen=True)
class Checkpoint:
    products: dict[str, ArtifactRef]
    position: dict[str, JSON]


def document_key(problem: str, step: str, key: str) -> str:
    return f"steps/{problem}/{step}/{key}.json"


def find_step(store: Store, problem: str, step: str, key: str) -> StepRecord | None:
    """What the step made, if it is done and every product is whole."""
    path = document_key(problem, step, key)
    document = store.read_document(path)
    return None if document is None else _find_record(store, key, parse_document(document, f"{store.uri}/{path}"))


def claim_step(
    store: Store,
    problem: str,
    step: str,
    key: str,
    *,
    holder: dict[str, str] | None = None,
    on_wait: Callable[[str], None] | None = None,
    lease_seconds: float = 60,
    wait_seconds: float | None = None,
) -> StepRecord | Lease:
    """The finished step, or the right to do it, once nobody else is at work on it.

    `holder` says more about this process to whoever waits for it, such as its run. `on_wait` is told who is waited
    for. Raises StepHeld after `wait_seconds` (None: never).
    """
    path = document_key(problem, step, key)
    started, watch, told = time.monotonic(), _Watch(), ""
    pause = 0.05
    while True:
        asked = time.monotonic()
        document = store.read_document(path)
        state = {} if document is None else parse_document(document, f"{store.uri}/{path}")
        if not is_held(state) or is_gone(state["holder"]) or watch.has_expired(document, state, asked):
            record = _find_record(store, key, state)
            with suppress(WriteConflict):  # somebody else was faster
                return record or _take(store, path, key, document, state, holder or {}, lease_seconds)
            continue
        if on_wait is not None and (text := describe(state["holder"])) != told:
            on_wait(told := text)
        left = float("inf") if wait_seconds is None else started + wait_seconds - time.monotonic()
        if left <= 0:
            raise _still_held(f"{store.uri}/{path}", state, wait_seconds or 0)
        time.sleep(min(pause * random.uniform(0.5, 1), left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS, max(0.05, state["lease_seconds"] / 4))


def retire_step(store: Store, path: str, document: Document) -> None:
    """Forgets what a step made, but not its number, so that no later holder gets a number that was used.

    Raises WriteConflict if somebody claimed the step since `document` was read.
    """
    number = parse_document(document, f"{store.uri}/{path}")["number"]
    store.write_document(path, canonical_json({"number": number, "state": "removed"}), expected=document.version)


def is_held(state: Mapping[str, Any]) -> bool:
    return state.get("state") == "held"


def keys_of(store: Store, state: Mapping[str, Any]) -> set[str]:
    """Keys of everything in this store that a step's document refers to."""
    entries = [state, *state.get("checkpoints", [])]
    refs = [ArtifactRef.from_dict(value) for entry in entries for value in entry.get("products", {}).values()]
    return {store.key_of(ref) for ref in refs}


class Lease:
    """The right to do a step, renewed by a thread until the `with` block ends or the step is published."""

    def __init__(self, store: Store, path: str, key: str, document: Document, state: dict[str, Any]) -> None:
        self.number: int = state["number"]
        self.checkpoint = next((_checkpoint(entry) for entry in state["checkpoints"]), None)
        self._store, self._path, self._key = store, path, key
        self._folder = path.removesuffix(".json")
        self._version, self._state = document.version, state
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._successor: str | None = None
        threading.Thread(target=self._keep_renewing, name=f"lease {path}", daemon=True).start()

    def put_file(self, name: str, path: Path, *, kind: str, progress: Progress | None = None) -> ArtifactRef:
        """Keeps a file under a name that no other holder can use. Raises LeaseLost."""
        self.ensure_held()
        return self._store.put_file(f"{self._folder}/{self.number}/{name}", path, kind=kind, progress=progress)

    def put_bytes(self, name: str, data: bytes, *, kind: str) -> ArtifactRef:
        """As put_file."""
        self.ensure_held()
        return self._store.put_bytes(f"{self._folder}/{self.number}/{name}", data, kind=kind)

    def save_checkpoint(self, products: Products, position: Mapping[str, JSON]) -> None:
        """Records how far the step is, for whoever goes on with it; the newest two are kept, older files removed.

        Files of different checkpoints need different names. Raises LeaseLost.
        """
        with self._lock:
            newest = {"products": _to_dicts(products), "position": dict(position)}
            kept, dropped = _split([newest, *self._state["checkpoints"]])
            self._swap(checkpoints=kept)
        self._remove_files({"checkpoints": dropped}, {"checkpoints": kept})

    def publish(self, products: Products, facts: Mapping[str, JSON]) -> StepRecord:
        """Ends the step with its result. Raises LeaseLost, and then nothing is published."""
        with self._lock:
            dropped = self._state["checkpoints"]
            self._swap(state="done", products=_to_dicts(products), facts=dict(facts), checkpoints=[])
            self._ended.set()
        self._remove_files({"checkpoints": dropped}, {"products": _to_dicts(products)})
        return StepRecord(self._key, self.number, dict(products), dict(facts))

    def ensure_held(self) -> None:
        """Raises LeaseLost as soon as a renewal was refused; asks nobody, so it may be called often."""
        if self._successor is not None:
            raise LeaseLost(
                "Another process has taken this step over, because this one did not renew its lease in time.",
                where=f"{self._store.uri}/{self._path}",
                expected=f"to hold number {self.number}",
                received=self._successor,
                next_step="nothing is lost: let the other process finish; its result serves both",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if not self._ended.is_set():
                released = canonical_json({**self._state, "state": "released"})
                with suppress(ModelkeepError):  # else it is lost, or runs out by itself
                    self._store.write_document(self._path, released, expected=self._version)
                self._ended.set()

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self._state["lease_seconds"] / 4):
            with self._lock, suppress(ModelkeepError):  # passing trouble: it is tried again until somebody takes over
                if not self._ended.is_set():
                    self._swap(beat=self._state["beat"] + 1)
            if self._successor is not None:
                return

    def _swap(self, **changes: object) -> None:
        """Changes the document, as long as the last one to change it was this lease."""
        with self._lock:
            self.ensure_held()
            state = {**self._state, **changes}
            data = canonical_json(state)
            while True:
                try:
                    self._version = self._store.write_document(self._path, data, expected=self._version).version
                except WriteConflict:
                    self._version = self._own_version()
                else:
                    self._state = state
                    return

    def _own_version(self) -> str:
        """The version that is there, if this lease wrote it and the answer was lost; else LeaseLost."""
        document = self._store.read_document(self._path)
        state = {} if document is None else parse_document(document, f"{self._store.uri}/{self._path}")
        if document is not None and state.get("claim") == self._state["claim"]:
            return document.version
        self._successor = (
            f"number {state['number']}, {describe(state['holder'])}" if "holder" in state else "the step was removed"
        )
        self.ensure_held()
        raise AssertionError("unreachable")

    def _remove_files(self, dropped: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        with suppress(ModelkeepError):  # what stays is found by gc
            for key in keys_of(self._store, dropped) - keys_of(self._store, kept):
                if key.startswith(f"{self._folder}/"):
                    self._store.delete(key)


class _Watch:
    """Tells a dead holder by a document that does not change, on this process's own clock only."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._seen = 0.0

    def has_expired(self, document: Document | None, state: Mapping[str, Any], asked: float) -> bool:
        """`asked`: monotonic seconds just before `document` was read, so that no slow answer counts as silence."""
        version = None if document is None else document.version
        if version != self._version:
            self._version, self._seen = version, time.monotonic()
        return asked - self._seen >= float(state["lease_seconds"])


def _take(
    store: Store,
    path: str,
    key: str,
    document: Document | None,
    before: Mapping[str, Any],
    holder: Mapping[str, str],
    lease_seconds: float,
) -> Lease:
    """Raises WriteConflict if somebody else was faster."""
    state: dict[str, Any] = {
        "number": before.get("number", 0) + 1,
        "state": "held",
        "claim": uuid.uuid4().hex,
        "holder": {**holder, **this_process()},
        "lease_seconds": lease_seconds,
        "beat": 0,
        "checkpoints": list(dropwhile(lambda entry: not _is_whole(store, entry), before.get("checkpoints", []))),
    }
    expected = None if document is None else document.version
    return Lease(store, path, key, store.write_document(path, canonical_json(state), expected=expected), state)


def _find_record(store: Store, key: str, state: Mapping[str, Any]) -> StepRecord | None:
    if state.get("state") != "done" or not _is_whole(store, state):
        return None
    return StepRecord(key, state["number"], _from_dicts(state["products"]), state["facts"])


def _is_whole(store: Store, entry: Mapping[str, Any]) -> bool:
    return all(store.is_whole(ref) for ref in _from_dicts(entry["products"]).values())


def _split(checkpoints: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
    return checkpoints[:_KEPT_CHECKPOINTS], checkpoints[_KEPT_CHECKPOINTS:]


def _checkpoint(entry: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(_from_dicts(entry["products"]), entry["position"])


def _to_dicts(products: Products) -> dict[str, JSON]:
    return {name: ref.to_dict() for name, ref in products.items()}


def _from_dicts(products: Mapping[str, Mapping[str, Any]]) -> dict[str, ArtifactRef]:
    return {name: ArtifactRef.from_dict(value) for name, value in products.items()}


def _still_held(where: str, state: Mapping[str, Any], wait_seconds: float) -> StepHeld:
    return StepHeld(
        "Another process is still at work on this step.",
        where=where,
        expected=f"the step to be free within {wait_seconds:g} s",
        received=describe(state["holder"]),
        next_step="wait for it, or stop it and run this again",
    )
