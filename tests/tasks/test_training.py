"""The training loop: order, early stopping, and going on exactly where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from problems.outline import Examples, Hyperparameters, Regression
from tasks.engines import Engine, open_engine, weights_digest
from tasks.training import Position, Training, TrainingDiverged, epoch_order, rows_at_once

NUM_EXAMPLES = 70
TRAIN_ROWS = np.arange(50)
VALIDATION_ROWS = np.arange(50, 60)


class Killed(BaseException):
    """Stands for the end of a process between two blocks of steps."""


@pytest.fixture(scope="module")
def examples() -> Examples:
    random = np.random.default_rng(0)
    features = random.normal(size=(NUM_EXAMPLES, 4)).astype("float32")
    target = (features @ [1.0, -2.0, 0.5, 0.0]).astype("float32")
    return Examples({"x": features}, target, pd.DataFrame({"row": range(NUM_EXAMPLES)}))


@pytest.fixture(autouse=True)
def blocks_of_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training._BLOCK_STEPS", 2)


def build(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8, activation="relu")(inputs))
    return keras.Model({"x": inputs}, keras.layers.Dense(1)(hidden))


def begin(engine: Engine, examples: Examples, **settings: Any) -> Training:
    told = Hyperparameters(**{"epochs": 3, "batch_size": 8, **settings})
    return Training(engine, Regression(), examples, TRAIN_ROWS, VALIDATION_ROWS, told, seed=3)


@pytest.fixture
def open_training(examples: Examples) -> Callable[..., Any]:
    from contextlib import contextmanager

    @contextmanager
    def open_(**settings: Any) -> Iterator[Training]:
        model = build(seed=3)
        Regression().compile(model, Hyperparameters(optimizer="adam", learning_rate=settings.get("learning_rate")))
        with open_engine(model, {"x": examples.features["x"][:1]}, np.zeros((1, 1), "float32")) as engine:
            yield begin(engine, examples, **settings)

    return open_


def train(training: Training) -> tuple[str, dict[str, list[float]]]:
    training.run(lambda: None)
    return weights_digest(training.engine.model), training.position.history


def test_the_order_of_examples_changes_each_epoch_and_is_the_same_for_the_same_seed() -> None:
    first, second = epoch_order(TRAIN_ROWS, seed=1, epoch=0), epoch_order(TRAIN_ROWS, seed=1, epoch=1)
    assert sorted(first) == sorted(second) == TRAIN_ROWS.tolist()
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(TRAIN_ROWS, seed=1, epoch=0))
    assert not np.array_equal(first, epoch_order(TRAIN_ROWS, seed=2, epoch=0))


def test_the_same_seed_gives_the_same_weights_to_the_bit(open_training: Callable[..., Any]) -> None:
    with open_training() as training:
        first = train(training)
    with open_training() as training:
        assert train(training) == first


@pytest.mark.parametrize("blocks_before_the_end", range(1, 12))
def test_a_training_that_was_killed_goes_on_to_the_same_weights_and_curves(
    open_training: Callable[..., Any], blocks_before_the_end: int
) -> None:
    """7 steps an epoch in blocks of 2: the ends fall into the middle of epochs and between them; dropout is at work."""
    with open_training() as training:
        expected = train(training)

    kept: dict[str, Any] = {}
    with open_training() as training:

        def count() -> None:
            kept["blocks"] = kept.get("blocks", 0) + 1
            if kept["blocks"] == blocks_before_the_end:
                kept.update(state=training.engine.state(), position=training.position.to_dict())
                raise Killed

        with pytest.raises(Killed):
            training.run(count)
    with open_training() as training:
        training.engine.load_state(kept["state"])
        training.position = Position.from_dict(kept["position"])
        assert train(training) == expected


def test_training_stops_when_the_validation_loss_no_longer_falls_and_takes_the_best_weights_back(
    open_training: Callable[..., Any],
) -> None:
    with open_training(epochs=60, patience=2, learning_rate=0.1) as training:
        _, history = train(training)
        losses = history["val_loss"]
        best = training.position.best_epoch
        assert len(losses) < 60
        assert best == int(np.argmin(losses)) + 1 == len(losses) - 2
        training.engine.reset_metrics()
        assert training._validate()["loss"] == pytest.approx(min(losses))


def test_curves_equal_those_of_keras_own_fit(examples: Examples) -> None:
    """One epoch in the given order, without dropout: loss, metric and weights as `Model.fit` computes them."""

    def plain() -> keras.Model:
        keras.utils.set_random_seed(5)
        inputs = keras.Input((4,), name="x")
        model = keras.Model({"x": inputs}, keras.layers.Dense(1)(inputs))
        Regression().compile(model, Hyperparameters())
        return model

    ours = plain()
    with open_engine(ours, {"x": examples.features["x"][:1]}, np.zeros((1, 1), "float32")) as engine:
        training = begin(engine, examples, epochs=1)
        training.run(lambda: None)
        ours_weights = [variable.numpy() for variable in engine.model.weights]
    theirs = plain()
    order = epoch_order(TRAIN_ROWS, seed=3, epoch=0)
    history = theirs.fit(
        {"x": examples.features["x"][order]}, examples.target[order][:, None], batch_size=8, shuffle=False, verbose=0
    ).history
    assert training.position.history["loss"] == pytest.approx(history["loss"], rel=1e-6)
    for mine, other in zip(ours_weights, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_weights_of_examples_count_in_the_loss_as_in_keras_own_fit(examples: Examples) -> None:
    def plain() -> keras.Model:
        keras.utils.set_random_seed(5)
        inputs = keras.Input((4,), name="x")
        model = keras.Model({"x": inputs}, keras.layers.Dense(1)(inputs))
        Regression().compile(model, Hyperparameters())
        return model

    weights = np.random.default_rng(1).uniform(0, 3, NUM_EXAMPLES).astype("float32")
    with open_engine(plain(), {"x": examples.features["x"][:1]}, np.zeros((1, 1), "float32")) as engine:
        training = begin(engine, examples, epochs=1)
        training.weights = weights
        training.run(lambda: None)
        ours, loss = engine.model.get_weights(), training.position.history["loss"]
    theirs, order = plain(), epoch_order(TRAIN_ROWS, seed=3, epoch=0)
    features, target = {"x": examples.features["x"][order]}, examples.target[order][:, None]
    kept = theirs.fit(features, target, sample_weight=weights[order], batch_size=8, shuffle=False, verbose=0)
    assert loss == pytest.approx(kept.history["loss"], rel=1e-6)
    for mine, other in zip(ours, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_an_engine_that_takes_over_a_new_model_trains_as_a_new_engine_would(open_training: Callable[..., Any]) -> None:
    from tasks import engines

    engines._idle.clear()
    with open_training() as training:
        new = train(training)
        first_engine = training.engine
    with open_training() as training:
        assert training.engine is first_engine
        assert train(training) == new


def test_an_engine_that_takes_over_a_model_normalises_by_the_rows_of_that_model() -> None:
    """Keras keeps what was adapted in constants too, which a trace would carry from one fold to the next."""
    from tasks import engines

    def normalised(rows: np.ndarray, axis: int | None = -1) -> keras.Model:
        normalise = keras.layers.Normalization(axis)
        normalise.adapt(rows)
        inputs = keras.Input(rows.shape[1:], name="x")
        model = keras.Model({"x": inputs}, keras.layers.Dense(1)(normalise(inputs)))
        Regression().compile(model, Hyperparameters())
        return model

    random = np.random.default_rng(0)
    for shape, axis in (((50, 4), -1), ((50, 4), None), ((50, 3, 4), 1)):
        engines._idle.clear()
        for centre in (0, 7):
            rows = random.normal(centre, size=shape).astype("float32")
            model = normalised(rows, axis)
            expected = model.predict({"x": rows}, verbose=0)
            with open_engine(model, {"x": rows[:1]}, np.zeros((1, 1), "float32")) as engine:
                np.testing.assert_allclose(engine.predict({"x": rows}), expected, atol=1e-5)


def test_a_position_that_was_handed_over_does_not_change_while_training_goes_on(
    open_training: Callable[..., Any],
) -> None:
    """A lease writes the position of a checkpoint again at each renewal."""
    handed_over: list[dict[str, Any]] = []
    with open_training() as training:
        training.run(lambda: handed_over.append(training.position.to_dict()))
    for position in handed_over:
        assert {len(values) for values in position["history"].values()} <= {position["epoch"]}


def test_a_training_that_diverges_is_stopped_with_what_to_do(open_training: Callable[..., Any]) -> None:
    with open_training(learning_rate=1e30) as training, pytest.raises(TrainingDiverged) as diverged:
        training.run(lambda: None)
    assert "smaller learning_rate" in str(diverged.value)


def test_a_model_without_trainable_weights_is_not_fitted(examples: Examples) -> None:
    model = build(seed=3)
    model.trainable = False
    Regression().compile(model, Hyperparameters())
    before = weights_digest(model)
    with open_engine(model, {"x": examples.features["x"][:1]}, np.zeros((1, 1), "float32")) as engine:
        training = Training(engine, Regression(), examples, np.empty(0, int), np.empty(0, int), Hyperparameters(), 0)
        assert train(training) == (before, {})
        assert training.predict(VALIDATION_ROWS).shape == (10, 1)


def test_a_model_is_asked_about_fewer_large_examples_at_once() -> None:
    def of_shape(*shape: int) -> Examples:
        return Examples({"x": np.zeros((9, *shape), "uint8")}, np.zeros(9), pd.DataFrame(index=range(9)))

    assert rows_at_once(of_shape(28, 28, 1)) == 512
    assert rows_at_once(of_shape(224, 224, 3)) == 41
    assert rows_at_once(of_shape(224, 224, 3), 1 << 20) == 6
    assert rows_at_once(of_shape(4000, 4000, 3)) == 1
