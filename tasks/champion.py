"""The champion of a problem, loaded as it was registered and asked for outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError
from problems.outline.problem import Problem
from store.artifacts import ArtifactRef, Store
from store.registry import Registry, Version
from tasks.examples import read_classes

if TYPE_CHECKING:
    import keras
    import numpy as np

    from problems.outline.objectives import Objective


class NoChampion(ModelkeepError):
    """There is no champion to ask."""


@dataclass(frozen=True)
class LoadedChampion:
    """A version with its model; the objective knows the names of the classes that the model was trained with."""

    version: Version
    objective: Objective
    model: keras.Model

    def ask(self, examples: Sequence[np.ndarray], size: int) -> np.ndarray:
        """Outputs (n, …) for n examples of the model's only input; n is at most `size`.

        Fewer are filled up to `size`, since each number of examples would be traced anew.
        """
        import numpy as np

        stacked = np.stack(examples)
        full = np.concatenate([stacked, np.repeat(stacked[-1:], size - len(stacked), axis=0)])
        (name,) = self.model.input
        outputs: np.ndarray = self.model.predict_on_batch({name: full})
        return outputs[: len(stacked)]


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


def load_champion(problem: Problem, store: Store) -> LoadedChampion:
    """Raises NoChampion, ArtifactCorrupt where its files are not what was registered, ModelCannotBeKept."""
    from tasks.fit import load_model

    version = find_champion(store, problem.name)
    artifacts = json.loads(store.read_bytes(version.manifest))["artifacts"]
    refs = {name: ArtifactRef.from_dict(entry) for name, entry in artifacts.items()}
    objective = problem.objective.named(read_classes(store, refs.get("fit/classes.json")))
    return LoadedChampion(version, objective, load_model(store.local_path(refs["fit/model.keras"])))
