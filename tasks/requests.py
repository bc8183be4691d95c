"""What was asked for, and the run that answered it: decides from the store alone whether there is anything to do.

Imported before Prefect, pandas or TensorFlow, and kept light for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from store import open_store
from store.artifacts import ArtifactRef, Store, digest_of, sha256_of_file
from store.errors import ArtifactCorrupt, ArtifactMissing, WriteConflict
from store.registry import Registry, Version
from tasks.code_digest import code_digest


@dataclass(frozen=True)
class Request:
    """What `train` is asked for. `settings` are hyperparameters that differ from the problem's own; `windows` and
    `until` are as a Run has them."""

    problem: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    seed: int = 0
    sample: int | None = None
    data: str = ""
    full: bool = False
    store: str = ""
    mirror: str = ""
    windows: tuple[tuple[str, str], ...] = ()
    until: str = ""

    def key(self) -> str:
        """A digest of all that decides what the run makes, the project's own code and the user's file included."""
        asked = asdict(self) | {"store": "", "data": _data_digest(self.data), "backend": backend_name()}
        # Who asks for neither gets the answer of a time when there was neither.
        asked = {name: value for name, value in asked.items() if value or name not in ("windows", "until")}
        return digest_of({"asked": asked, "code": code_digest("flows.train", f"problems.{self.problem}")})


def request_document(problem: str, key: str) -> str:
    """Where the store remembers which run answered a request."""
    return f"requests/{problem}/{key}.json"


@dataclass(frozen=True)
class Answer:
    """The run that answered a request before, whole and with nothing left to do."""

    manifest: dict[str, Any]
    version: int | None
    champion: int | None


def backend_name() -> str:
    """The Keras backend that will train, without importing Keras."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def find_answer(request: Request) -> Answer | None:
    """The earlier answer to a request; see `recall`."""
    return recall(open_store(request.store), request.problem, request.key(), request.data)


def recall(store: Store, problem: str, key: str, data: str) -> Answer | None:
    """The earlier answer, if every artifact of it is there and whole and its decision was carried out.

    None where the data is an address: what lies there now is known only when it is fetched.
    """
    if "://" in data:
        return None
    manifest = _read_manifest(store, request_document(problem, key))
    if manifest is None or not _is_whole(store, manifest):
        return None
    return _settled(Registry(store), manifest)


def record_answer(request_document: str, manifest: ArtifactRef, store: Store) -> None:
    """Remember that this run answers the request; the last one to say so stands."""
    data = json.dumps({"manifest": manifest.to_dict()}).encode()
    for _ in range(10):
        current = store.read_document(request_document)
        with suppress(WriteConflict):
            store.write_document(request_document, data, expected=current.version if current else None)
            return


def _read_manifest(store: Store, document: str) -> dict[str, Any] | None:
    found = store.read_document(document)
    if found is None:
        return None
    reference = ArtifactRef.from_dict(json.loads(found.data)["manifest"])
    try:
        manifest: dict[str, Any] = json.loads(store.read_bytes(reference))
    except (ArtifactMissing, ArtifactCorrupt):
        return None
    return manifest


def _is_whole(store: Store, manifest: Mapping[str, Any]) -> bool:
    return all(store.is_whole(ArtifactRef.from_dict(entry)) for entry in manifest["artifacts"].values())


def _settled(registry: Registry, manifest: dict[str, Any]) -> Answer | None:
    """None while a version that was to be registered or promoted has not been: the process died before it could. And
    None where training began from another problem's champion, and that is another one now."""
    problem = manifest["problem"]
    if any(_is_outdated(registry, source["version"]) for source in manifest["sources"] if source.get("version")):
        return None
    champion = registry.champion(problem)
    champion_number = champion.number if champion else None
    if not manifest["decision"]["register"]:
        return Answer(manifest, None, champion_number)
    digest = manifest["weights_digest"]
    versions = [version for version in registry.versions(problem) if version.weights == digest]
    if not versions:
        return None
    if manifest["decision"]["promote"] and not _was_promoted(registry, problem, versions[-1]):
        return None
    return Answer(manifest, versions[-1].number, champion_number)


def _was_promoted(registry: Registry, problem: str, version: Version) -> bool:
    """Whether its promotion is in the audit trail, and was not undone by the run that made the version."""
    promoted = False
    for entry in registry.audit(problem):
        if entry.action != "register" and entry.version == version.number:
            promoted = True
        elif entry.action == "promote" and (entry.previous, entry.run) == (version.number, version.run):
            promoted = False
    return promoted


def _is_outdated(registry: Registry, base: Mapping[str, Any]) -> bool:
    champion = registry.champion(base["problem"])
    return champion is None or champion.weights != base["weights"]


def _data_digest(data: str) -> str:
    """The user's own file by its content; an address by its text."""
    path = Path(data).expanduser() if data else None
    return sha256_of_file(path) if path and path.is_file() else data
