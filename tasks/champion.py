"""The champion of a problem, loaded as it was registered and asked for outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification, Regression
from problems.outline.problem import Problem
from store.artifacts import ArtifactRef, Store
from store.registry import Registry, Version
from tasks.examples import read_classes
from tasks.trust import kept_temperature

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective


class NoChampion(ModelkeepError):
    """There is no champion to ask."""


@dataclass(frozen=True)
class LoadedChampion:
    """A version with its model; the objective knows the names of the classes that the model was trained with.

    `temperature`  by which the model's logits are divided; None where its evaluation found that it does not help
    `interval`     {level, reach, is_relative, rows, source} of the intervals around its numbers, or None; as
                   tasks.trust describes them
    """

    version: Version
    objective: Objective
    model: keras.Model
    temperature: float | None = None
    interval: Mapping[str, Any] | None = None

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


def compiled(model: keras.Model) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """The model as a compiled function of its inputs by name, arrays (n, …), of which each n is compiled anew.

    On TensorFlow without Keras' `predict` around it, which costs 50 ms a call.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return lambda features: model.predict_on_batch(dict(features))
    import tensorflow as tf

    function = tf.function(partial(model, training=False))
    known: dict[Any, Callable[..., Any]] = {}  # by shape and type: asking TensorFlow which it is takes as long as a row

    def call(features: Mapping[str, Any]) -> np.ndarray:
        tensors = {name: tf.constant(array) for name, array in features.items()}
        key = tuple((name, tensor.dtype, *tensor.shape) for name, tensor in tensors.items())
        if key not in known:
            known[key] = function.get_concrete_function(tensors)
        outputs: np.ndarray = known[key](tensors).numpy()
        return outputs

    return call


def predict_in_batches(
    call: Callable[[Mapping[str, Any]], np.ndarray], features: Mapping[str, Any], size: int
) -> np.ndarray:
    """Outputs (n, …) of a compiled model for n examples, `size` at a time; the last are filled up, to compile once."""
    import numpy as np

    num_examples = len(next(iter(features.values())))
    outputs: list[np.ndarray] = []
    for start in range(0, num_examples, size):
        rows = np.minimum(np.arange(start, start + size), num_examples - 1)
        outputs.append(call({name: array[rows] for name, array in features.items()}))
    return np.concatenate(outputs)[:num_examples]


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


def load_champion(problem: Problem, store: Store) -> LoadedChampion:
    """Raises NoChampion, ArtifactCorrupt where its files are not what was registered, ModelCannotBeKept."""
    return load_version(problem, store, find_champion(store, problem.name))


def load_version(problem: Problem, store: Store, version: Version) -> LoadedChampion:
    """Raises ArtifactCorrupt where its files are not what was registered, ModelCannotBeKept."""
    from tasks.fit import load_model

    artifacts = json.loads(store.read_bytes(version.manifest))["artifacts"]
    refs = {name: ArtifactRef.from_dict(entry) for name, entry in artifacts.items()}
    objective = problem.objective.named(read_classes(store, refs.get("fit/classes.json")))
    evaluation = refs.get("evaluate/evaluation.json")
    judged = json.loads(store.read_bytes(evaluation))["evaluation"] if evaluation else {}
    return LoadedChampion(
        version,
        objective,
        load_model(store.local_path(refs["fit/model.keras"])),
        temperature=kept_temperature(judged),
        interval=judged.get("intervals"),
    )
