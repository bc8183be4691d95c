"""Training in two stages: first with frozen layers, then with them thawed, and going on exactly at any place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from problems.outline import Examples, Regression
from problems.outline.hyperparameters import FineTuned, HyperparameterInvalid
from tasks import engines
from tasks.engines import open_engine, weights_digest
from tasks.training import Position, Training

TRAIN_ROWS, VALIDATION_ROWS = np.arange(50), np.arange(50, 60)
FEATURES = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
TARGET = (FEATURES @ [1.0, -2.0, 0.5, 0.0]).astype("float32")
EXAMPLES = Examples({"x": FEATURES}, TARGET, pd.DataFrame({"row": range(60)}))

OpenTraining = Callable[..., AbstractContextManager[Training]]


class Killed(BaseException):
    """Stands for the end of a process between two blocks of steps."""


@pytest.fixture(autouse=True)
def blocks_of_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training._BLOCK_STEPS", 2)


@pytest.fixture
def open_training() -> OpenTraining:
    """7 steps an epoch, 2 of 4 epochs frozen; dropout is at work."""

    @contextmanager
    def open_(**settings: Any) -> Iterator[Training]:
        told = FineTuned(
            **{"epochs": 4, "frozen_epochs": 2, "batch_size": 8, "optimizer": "adam", "learning_rate": 0.01, **settings}
        )
        keras.utils.set_random_seed(3)
        inputs = keras.Input((4,), name="x")
        base = keras.layers.Dense(8, activation="relu", name="base", trainable=told.frozen_epochs == 0)
        hidden = keras.layers.Dropout(0.5)(base(inputs))
        model = keras.Model({"x": inputs}, keras.layers.Dense(1)(hidden))
        Regression().compile(model, told)

        def thaw() -> None:
            training.engine.model.get_layer("base").trainable = True
            Regression().compile(training.engine.model, told.thawed())
            training.engine.begin_stage()

        with open_engine(model, {"x": FEATURES[:1]}, np.zeros((1, 1), "float32")) as engine:
            training = Training(engine, Regression(), EXAMPLES, TRAIN_ROWS, VALIDATION_ROWS, told, seed=3)
            training.frozen_epochs, training.thaw = told.frozen_epochs, thaw
            yield training

    return open_


def base_weights(training: Training) -> np.ndarray:
    kernel: np.ndarray = training.engine.model.get_layer("base").get_weights()[0]
    return kernel.copy()


def test_frozen_layers_stay_as_they_are_until_they_are_thawed(open_training: OpenTraining) -> None:
    seen: dict[int, np.ndarray] = {}
    with open_training() as training:
        first = base_weights(training)
        training.run(lambda: seen.update({training.position.epoch: base_weights(training)}))
    np.testing.assert_array_equal(seen[1], first)
    assert not np.array_equal(seen[3], first)


def test_thawed_layers_learn_at_their_own_rate(open_training: OpenTraining) -> None:
    with open_training(thawed_learning_rate=0.002) as training:
        assert float(training.engine.model.optimizer.learning_rate) == pytest.approx(0.01)
        training.run(lambda: None)
        assert float(training.engine.model.optimizer.learning_rate) == pytest.approx(0.002)


@pytest.mark.parametrize("blocks_before_the_end", [7, 8, 13])
def test_a_training_that_was_killed_in_either_stage_goes_on_to_the_same_weights_and_curves(
    open_training: OpenTraining, blocks_before_the_end: int
) -> None:
    """Four blocks an epoch: the eighth ends with the thaw."""
    with open_training() as training:
        training.run(lambda: None)
        expected = weights_digest(training.engine.model), training.position.history
    kept: dict[str, Any] = {"blocks": 0}
    with open_training() as training:

        def count() -> None:
            kept["blocks"] += 1
            if kept["blocks"] == blocks_before_the_end:
                kept.update(state=training.engine.state(), position=training.position.to_dict())
                raise Killed

        with pytest.raises(Killed):
            training.run(count)
    with open_training() as training:
        training.go_to(Position.from_dict(kept["position"]))
        training.engine.load_state(kept["state"])
        training.run(lambda: None)
        assert (weights_digest(training.engine.model), training.position.history) == expected


@pytest.mark.parametrize("wrong", [{"frozen_epochs": -1}, {"thawed_learning_rate": 0.0}])
def test_settings_that_cannot_be_are_refused_also_where_a_problem_has_its_own_defaults(wrong: dict[str, float]) -> None:
    class Own(FineTuned):
        frozen_epochs: int = 3
        thawed_learning_rate: float = 1e-3

    with pytest.raises(HyperparameterInvalid, match=next(iter(wrong))):
        Own.from_settings(wrong)


def test_patience_counts_from_the_thaw(open_training: OpenTraining) -> None:
    with open_training(epochs=6, frozen_epochs=4, patience=1, learning_rate=1e-12) as training:
        training.run(lambda: None)
        assert len(training.position.history["loss"]) > 4
        assert training.position.best_epoch > 4


def test_nothing_is_thawed_where_all_epochs_are_frozen_or_none(open_training: OpenTraining) -> None:
    for frozen in (0, 4, 9):
        with open_training(frozen_epochs=frozen) as training:
            first = base_weights(training)
            training.run(lambda: None)
            assert training.engine.is_as_built
            assert np.array_equal(base_weights(training), first) == bool(frozen)


def test_an_engine_that_was_thawed_is_not_handed_on_to_a_new_model(open_training: OpenTraining) -> None:
    engines._idle.clear()
    with open_training() as training:
        training.run(lambda: None)
    assert not engines._idle


def test_augmentation_begins_with_the_same_seed_in_an_engine_that_takes_over() -> None:
    """Keras' random layers draw from their seeds unless they are told that this is no training."""

    def train() -> str:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4, 4, 1), name="x")
        moved = keras.layers.RandomTranslation(0.5, 0.5)(keras.layers.RandomFlip()(inputs))
        model = keras.Model({"x": inputs}, keras.layers.Dense(1)(keras.layers.Flatten()(moved)))
        Regression().compile(model, FineTuned())
        images = np.random.default_rng(0).normal(size=(3, 8, 4, 4, 1)).astype("float32")
        with open_engine(model, {"x": images[0]}, np.zeros((1, 1), "float32")) as engine:
            engine.train({"x": images}, np.ones((3, 8, 1), "float32"))
            return weights_digest(engine.model)

    engines._idle.clear()
    assert train() == train()
