"""Runs in the store, read back: their manifests, by name or as the latest of a problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelkeep.errors import ModelkeepError
from store.artifacts import ArtifactRef, Store
from store.errors import ArtifactCorrupt, ArtifactMissing
from store.registry import Registry, Version


class UnknownRun(ModelkeepError):
    """The store has no such run, or none yet."""


def problem_of(run: str) -> str:
    """The problem that a run's name begins with."""
    return run.rsplit("-", 2)[0]


def read_manifest(store: Store, run: str) -> dict[str, Any]:
    """The manifest of a run. Raises UnknownRun."""
    ref = store.find(f"runs/{problem_of(run)}/{run}/manifest.json", kind="json")
    if ref is None:
        raise UnknownRun(
            f"There is no run {run!r}.",
            where=store.uri,
            expected="the name of a finished run",
            next_step="`modelkeep models PROBLEM` lists the runs behind the versions",
        )
    manifest: dict[str, Any] = json.loads(store.read_bytes(ref))
    return manifest


def own_file(store: Store, manifest: Mapping[str, Any]) -> str:
    """The user's own file that a run was trained on, as the store has it: theirs may have changed since, or be gone. ""
    where it was trained on the source."""
    if not manifest["data"]:
        return ""
    return str(store.local_path(ArtifactRef.from_dict(manifest["sources"][0]["ref"])))


def chosen_examples(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`windows` and `until` of a run, as a Run has them; a manifest of older times says nothing of them."""
    return {
        "windows": tuple((window, labels) for window, labels in manifest.get("windows", ())),
        "until": manifest.get("until", ""),
    }


def is_whole_version(store: Store, version: Version) -> bool:
    """Whether a version's manifest and model are there and whole."""
    try:
        artifacts = json.loads(store.read_bytes(version.manifest))["artifacts"]
        return store.is_whole(ArtifactRef.from_dict(artifacts["fit/model.keras"]))
    except (ArtifactCorrupt, ArtifactMissing, ValueError, KeyError):
        return False


def latest_run(store: Store, problem: str) -> str:
    """The champion's run, else the newest run of the problem that was finished. Raises UnknownRun."""
    champion = Registry(store).champion(problem)
    if champion:
        return champion.run
    runs = sorted(
        info.key.split("/")[2] for info in store.list(f"runs/{problem}") if info.key.endswith("/manifest.json")
    )
    if not runs:
        raise UnknownRun(
            f"{problem} has not been trained yet.",
            where=store.uri,
            next_step=f"`modelkeep train {problem}`, or set MODELKEEP_STORE to the store that has it",
        )
    return runs[-1]
