"""Weights that a model has before it is fitted: fetched and verified as raw files are, or those of another problem's
champion, and put into the model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from problems.outline.problem import Champion, Problem, Source
from store.artifacts import ArtifactRef, Store
from store.registry import Registry, Version
from tasks.champion import NoChampion
from tasks.ingest import RawFile, SourceUnavailable, Wanted, fetch, local_files
from tasks.steps import Run

if TYPE_CHECKING:
    import keras


def fetch_pretrained(problem: Problem, run: Run) -> RawFile | None:
    """The verified file in the store; None for a model that begins without.

    Raises SourceUnavailable, NoChampion.
    """
    source = _source(problem, run.hyperparameters)
    if source is None:
        return None
    if isinstance(source, Champion):
        return _find_champion(problem, source.problem, run)
    try:
        return fetch(source, run.open_store(), Wanted(run.problem, run.mirror, data="", full=run.full))
    except SourceUnavailable as missing:
        mirror = f"put {source.file_name} into a directory and set MODELKEEP_MIRROR to it"
        missing.next_step = mirror + _other_variants(problem, source)
        raise


def _find_champion(problem: Problem, base: str, run: Run) -> RawFile:
    """The model of the champion of `base`, or of the version that the run names in its place."""
    store = run.open_store()
    version = _version(Registry(store), base, run.versions.get(base))
    if version is None:
        raise NoChampion(
            f"{problem.name} begins from the champion of {base}, and there is none yet.",
            where=run.store,
            expected=f"a champion of {base}",
            next_step=f"train it first: modelkeep train {base}" + _other_variants(problem, Champion(problem=base)),
        )
    model = ArtifactRef.from_dict(json.loads(store.read_bytes(version.manifest))["artifacts"]["fit/model.keras"])
    told = {"problem": base, "number": version.number, "weights": version.weights}
    origin = f"version {version.number} of {base}"
    return RawFile(f"{base}.keras", model, origin, "", "that of what it was trained on", version=told)


def _version(registry: Registry, problem: str, number: int | None) -> Version | None:
    if number is None:
        return registry.champion(problem)
    return next((version for version in registry.versions(problem) if version.number == number), None)


def _other_variants(problem: Problem, source: Source | Champion) -> str:
    others = [name for name, settings in problem.variants.items() if _source(problem, settings) != source]
    return f", or take another variant: --variant {' or '.join(others)}" if others else ""


def load_pretrained(problem: Problem, model: keras.Model, file: RawFile | None, store: Store) -> None:
    """Put the weights of the file into the model, if there is one. Raises BadInput."""
    if problem.pretrained is None or file is None:
        return
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        problem.pretrained.load(model, local_files([file], store, folder)[file.source])


def _source(problem: Problem, settings: Mapping[str, Any]) -> Source | Champion | None:
    if problem.pretrained is None:
        return None
    return problem.pretrained.source(problem.hyperparameters.from_settings(settings))
