"""The champion of a problem, loaded as it was registered and asked for outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification, Regression
from problems.outline.problem import Problem, Rows, Stack
from store.artifacts import ArtifactRef, Store
from store.registry import Registry, Version
from tasks.examples import read_classes
from tasks.forms import form_of_run
from tasks.inference import Engine, compiled, open_onnx
from tasks.runs import read_manifest
from tasks.trust import kept_temperature

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective


ONNX = "export/model.onnx"


class NoChampion(ModelkeepError):
    """There is no champion to ask."""


@dataclass(frozen=True)
class LoadedChampion:
    """A version with its model; the objective knows the names of the classes that the model was trained with.

    `files`        the model.keras of the version and, where its predictions were found the same, its model.onnx
    `is_onnx_faster_in_bulk`  whether it was for hundreds of rows at a time; for single ones it always is
    `form`         how rows become what the model takes; None where they cannot
    `temperature`  by which the model's logits are divided; None where its evaluation found that it does not help
    `interval`     {level, reach, is_relative, rows, source} of the intervals around its numbers, or None; as
                   tasks.trust describes them
    """

    version: Version
    objective: Objective
    files: Mapping[str, Path]
    is_onnx_faster_in_bulk: bool = True
    temperature: float | None = None
    interval: Mapping[str, Any] | None = None
    form: Rows | Stack | None = None

    @cached_property
    def model(self) -> keras.Model:
        """Raises ModelCannotBeKept."""
        from tasks.fit import load_model

        return load_model(self.files["model.keras"])

    @cached_property
    def engine(self) -> Engine:
        """For single rows. Raises ModelCannotBeKept."""
        return open_onnx(self.files["model.onnx"]) if "model.onnx" in self.files else compiled(self.model)

    @cached_property
    def bulk_engine(self) -> Engine:
        """For hundreds of rows at a time. Raises ModelCannotBeKept."""
        return self.engine if self.is_onnx_faster_in_bulk else compiled(self.model)

    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        """The objective's columns for outputs (n, …) of the model, its probabilities calibrated; and `lower` and
        `upper` (float32) where there are intervals. The class that is predicted stays the one that was evaluated."""
        said = self.objective.predictions(outputs)
        if self.temperature and isinstance(self.objective, Classification):
            from problems.outline.calibration import scale

            probabilities = scale(self.objective.probabilities(said), self.temperature)
            said = self.objective.from_probabilities(probabilities).assign(predicted=said["predicted"])
        if self.interval and isinstance(self.objective, Regression):
            reach = self.objective.half_widths(said, self.interval["reach"]).astype("float32")
            said = said.assign(lower=said["prediction"] - reach, upper=said["prediction"] + reach)
        return said

    def judge(self, outputs: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Of a classification the same as arrays, in a tenth of the time: the probability of every class, float64
        (n, k), and the names of the classes that are predicted."""
        assert isinstance(self.objective, Classification)
        probabilities, numbers = self.objective.judge(outputs)
        if self.temperature:
            from problems.outline.calibration import scale

            scaled = scale(probabilities, self.temperature)
            probabilities, _ = self.objective.judge(self.objective.outputs_of(scaled))
        return probabilities, [self.objective.classes[number] for number in numbers.tolist()]


def find_champion(store: Store, problem: str) -> Version:
    """Raises NoChampion."""
    champion = Registry(store).champion(problem)
    if champion is None:
        raise NoChampion(
            f"{problem} has no champion to ask.",
            where=store.uri,
            next_step=f"`modelkeep train {problem}`, or set MODELKEEP_STORE to the store that has one",
        )
    return champion


def find_version(store: Store, problem: str, number: int | None) -> Version:
    """The version of that number, or the champion. Raises NoChampion, UnknownVersion."""
    return find_champion(store, problem) if number is None else Registry(store).version(problem, number)


def find_objective(problem: Problem, store: Store, run: str) -> Objective:
    """The objective of a run, which knows the names of the classes that its model was trained with."""
    entry = read_manifest(store, run)["artifacts"].get("fit/classes.json")
    return problem.objective.named(read_classes(store, entry and ArtifactRef.from_dict(entry)))


def needs_keras(store: Store, problem: str, *, in_bulk: bool) -> bool:
    """Whether the champion's engine is Keras, whose import takes longer than all else: told by its manifest alone.

    Raises NoChampion, ArtifactCorrupt.
    """
    manifest = json.loads(store.read_bytes(find_champion(store, problem).manifest))
    return ONNX not in manifest["artifacts"] or (in_bulk and not _is_onnx_faster_in_bulk(manifest))


def _is_onnx_faster_in_bulk(manifest: Mapping[str, Any]) -> bool:
    return bool((manifest.get("export") or {}).get("onnx", {}).get("is_faster_in_bulk", True))


def load_champion(problem: Problem, store: Store) -> LoadedChampion:
    """Raises NoChampion, ArtifactCorrupt where its files are not what was registered."""
    return load_version(problem, store, find_champion(store, problem.name))


def load_version(problem: Problem, store: Store, version: Version) -> LoadedChampion:
    """Raises ArtifactCorrupt where its files are not what was registered."""
    manifest = json.loads(store.read_bytes(version.manifest))
    refs = {name: ArtifactRef.from_dict(entry) for name, entry in manifest["artifacts"].items()}
    evaluation = refs.get("evaluate/evaluation.json")
    judged = json.loads(store.read_bytes(evaluation))["evaluation"] if evaluation else {}
    wanted = ("fit/model.keras", ONNX)
    return LoadedChampion(
        version,
        problem.objective.named(read_classes(store, refs.get("fit/classes.json"))),
        {name.partition("/")[2]: store.local_path(refs[name]) for name in wanted if name in refs},
        is_onnx_faster_in_bulk=_is_onnx_faster_in_bulk(manifest),
        temperature=kept_temperature(judged),
        interval=judged.get("intervals"),
        form=form_of_run(problem, store, manifest),
    )
