"""The model registry: versions, the champion, and who changed what, when and why.

Each problem has one document, so that a change and its line in the audit trail land together.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from store.artifacts import ArtifactRef, Store, canonical_json, fill, parse_document
from store.errors import PromotionConflict, UnknownVersion, WriteConflict

_ATTEMPTS = 100


@dataclass(frozen=True)
class Version:
    number: int
    run: str
    manifest: ArtifactRef
    created: str  # ISO 8601, UTC
    metrics: dict[str, float]
    note: str
    weights: str = ""  # digest of the model's weights: the same weights make one version


@dataclass(frozen=True)
class AuditEntry:
    when: str  # ISO 8601, UTC
    actor: str
    action: str  # register, promote or rollback
    version: int
    previous: int | None  # the champion before
    reason: str
    run: str
    id: str


@dataclass(frozen=True)
class _Book:
    """A problem's document. The last of `champions` is the champion, those before it are what a rollback returns to."""

    versions: list[dict[str, Any]]
    champions: list[int]
    audit: list[dict[str, Any]]


class Registry:
    def __init__(self, store: Store) -> None:
        self._store = store

    def problems(self) -> list[str]:
        names = (info.key.removeprefix("models/") for info in self._store.list("models"))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and "/" not in name)

    def versions(self, problem: str) -> list[Version]:
        """Oldest first."""
        return [self._version(problem, entry) for entry in self._read(problem)[0]["versions"]]

    def version(self, problem: str, number: int) -> Version:
        """Raises UnknownVersion."""
        return self._version(problem, self._get(problem, self._read(problem)[0], number))

    def champion(self, problem: str) -> Version | None:
        return self._champion(problem, -1)

    def previous_champion(self, problem: str) -> Version | None:
        """The one that a rollback returns to."""
        return self._champion(problem, -2)

    def audit(self, problem: str) -> list[AuditEntry]:
        """Oldest first."""
        return [fill(AuditEntry, entry, self._where(problem)) for entry in self._read(problem)[0]["audit"]]

    def register(
        self,
        problem: str,
        *,
        run: str,
        manifest: ArtifactRef,
        metrics: Mapping[str, float],
        actor: str,
        reason: str,
        weights: str = "",
        renew: bool = False,
    ) -> Version:
        """A new version, or the one that this run or, unless it is to be renewed, these weights have already."""

        def add(state: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
            for entry in state["versions"]:
                if entry["run"] == run or (weights and not renew and entry.get("weights") == weights):
                    return entry["number"], None
            number = len(state["versions"]) + 1
            version = Version(number, run, manifest, _now(), dict(metrics), reason, weights)
            state["versions"].append(asdict(version))
            return number, _line("register", number, _last(state), actor, reason, run)

        return self._change(problem, add)

    def promote(self, problem: str, number: int, *, expected: int | None, actor: str, reason: str, run: str) -> Version:
        """Makes a version the champion, unless it is that already.

        Raises PromotionConflict if the champion is no longer version `expected`, and UnknownVersion.
        """

        def crown(state: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
            self._get(problem, state, number)
            champion = _last(state)
            if champion == number:
                return number, None
            if champion != expected:
                raise self._promotion_conflict(problem, number, expected, champion)
            state["champions"].append(number)
            return number, _line("promote", number, champion, actor, reason, run)

        return self._change(problem, crown)

    def rollback(self, problem: str, *, actor: str, reason: str) -> Version:
        """Returns to the champion before. Raises UnknownVersion when there is none."""

        def uncrown(state: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
            if len(state["champions"]) < 2:
                raise UnknownVersion(
                    f"There is no champion of {problem} to go back to.",
                    where=self._where(problem),
                    expected="a champion before this one",
                    received=f"version {_last(state)} is the first" if state["champions"] else "no champion yet",
                    next_step=f"promote another version: `modelkeep models {problem}` lists them",
                )
            champion = state["champions"].pop()
            number = state["champions"][-1]
            return number, _line("rollback", number, champion, actor, reason, self._get(problem, state, number)["run"])

        return self._change(problem, uncrown)

    def _change(self, problem: str, change: Callable[[dict[str, Any]], tuple[int, dict[str, Any] | None]]) -> Version:
        """Applies `change` to the newest state until nobody else comes between; it returns a version and a line."""
        attempted: dict[str, int] = {}
        for _ in range(_ATTEMPTS):
            state, expected = self._read(problem)
            for entry in state["audit"]:
                if entry["id"] in attempted:  # the write that was reported as refused had arrived all the same
                    return self._version(problem, self._get(problem, state, attempted[entry["id"]]))
            number, line = change(state)
            if line is None:
                return self._version(problem, self._get(problem, state, number))
            attempted[line["id"]] = number
            state["audit"].append(line)
            try:
                self._store.write_document(_key(problem), canonical_json(state), expected=expected)
            except WriteConflict:
                time.sleep(random.uniform(0, 0.05))
            else:
                return self._version(problem, self._get(problem, state, number))
        raise WriteConflict(
            f"The registry of {problem} kept changing.",
            where=self._where(problem),
            received=f"{_ATTEMPTS} refused attempts",
            next_step="find out what keeps changing it (`modelkeep models` shows the audit trail), then repeat",
        )

    def _read(self, problem: str) -> tuple[dict[str, Any], str | None]:
        """Raises UnknownFormat before anything can be changed that this code does not understand."""
        document = self._store.read_document(_key(problem))
        if document is None:
            return {"versions": [], "champions": [], "audit": []}, None
        book = fill(_Book, parse_document(document, self._where(problem)), self._where(problem))
        for entry in book.versions:
            self._version(problem, entry)
        return dict(vars(book)), document.version

    def _champion(self, problem: str, place: int) -> Version | None:
        state = self._read(problem)[0]
        if len(state["champions"]) < -place:
            return None
        return self._version(problem, self._get(problem, state, state["champions"][place]))

    def _get(self, problem: str, state: Mapping[str, Any], number: int) -> dict[str, Any]:
        for entry in state["versions"]:
            if entry["number"] == number:
                return dict(entry)
        raise UnknownVersion(
            f"{problem} has no version {number}.",
            where=self._where(problem),
            expected=f"one of 1 to {len(state['versions'])}" if state["versions"] else "a registered version",
            received=str(number),
            next_step=f"`modelkeep models {problem}` lists the versions; `modelkeep train {problem}` makes one",
        )

    def _promotion_conflict(
        self, problem: str, number: int, expected: int | None, champion: int | None
    ) -> PromotionConflict:
        return PromotionConflict(
            f"Version {number} of {problem} was not promoted: the champion has changed meanwhile.",
            where=self._where(problem),
            expected="no champion" if expected is None else f"version {expected}",
            received="no champion" if champion is None else f"version {champion}",
            next_step="compare it with the champion of now, then promote again",
        )

    def _version(self, problem: str, entry: Mapping[str, Any]) -> Version:
        manifest = ArtifactRef.from_dict(entry.get("manifest", {}))
        return fill(Version, {**entry, "manifest": manifest}, self._where(problem))

    def _where(self, problem: str) -> str:
        return f"{self._store.uri}/{_key(problem)}"


def _key(problem: str) -> str:
    return f"models/{problem}.json"


def _last(state: Mapping[str, Any]) -> int | None:
    champions: list[int] = state["champions"]
    return champions[-1] if champions else None


def _line(action: str, version: int, previous: int | None, actor: str, reason: str, run: str) -> dict[str, Any]:
    return asdict(AuditEntry(_now(), actor, action, version, previous, reason, run, uuid.uuid4().hex))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
