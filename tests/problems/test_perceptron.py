"""Perceptron and network from scratch: right gradients, and the same weights and accuracy as Keras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems.outline import Examples, Files
from problems.perceptron import (
    CLASSES,
    FEATURES,
    FILE,
    PerceptronHyperparameters,
    cross_entropy,
    gradients,
    initial_layers,
    learn_perceptron,
    probabilities,
    problem,
    train_network,
)
from tasks.examples import load_examples
from tasks.fit import fit, load_model, predict_with
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker
from validation.gate import ValidationFailed, require, validate


@pytest.fixture(scope="module")
def packaged() -> Examples:
    import sklearn

    path = Path(sklearn.__file__).parent / "datasets" / "data" / FILE
    return problem.read(Files({FILE: path}, verified=frozenset({FILE})))


@dataclass
class Parts:
    """Standardised inputs and targets of training and test rows."""

    inputs: np.ndarray
    target: np.ndarray
    test_inputs: np.ndarray
    test_target: np.ndarray


def divide(examples: Examples) -> Parts:
    rows = problem.split.divide(examples, 0)
    measured = np.asarray(examples.features["measurements"], np.float64)
    mean, deviation = measured[rows.train].mean(axis=0), measured[rows.train].std(axis=0)
    inputs, target = (measured - mean) / deviation, np.asarray(examples.target)
    return Parts(inputs[rows.train], target[rows.train], inputs[rows.test], target[rows.test])


def accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    return float(((outputs >= 0.5) == target).mean())


# --- the data ------------------------------------------------------------------------------------------------------


def test_the_packages_tumours_are_read_as_scikit_learn_reads_them(packaged: Examples) -> None:
    from sklearn.datasets import load_breast_cancer

    published = load_breast_cancer()
    np.testing.assert_array_equal(packaged.features["measurements"], published.data.astype(np.float32))
    assert packaged.frame["diagnosis"].tolist() == published.target_names[published.target].tolist()
    assert [CLASSES[number] for number in packaged.target] == packaged.frame["diagnosis"].tolist()
    words = [set(name.split()) for name in published.feature_names]
    assert [set(name.split("_")) for name in FEATURES] == words


def test_a_users_table_is_read_by_the_names_of_its_columns(packaged: Examples, tmp_path: Path) -> None:
    table = packaged.frame[["diagnosis", *reversed(FEATURES)]].head(150)
    table.to_csv(tmp_path / "own.csv", index=False)
    own = problem.read(Files({FILE: tmp_path / "own.csv"}))
    np.testing.assert_array_equal(own.features["measurements"], packaged.features["measurements"][:150])
    np.testing.assert_array_equal(own.target, packaged.target[:150])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"area_mean": lambda frame: -frame["area_mean"]}, "area_mean"),
        ({"texture_error": lambda frame: frame["texture_error"].mask(frame["texture_error"] > 2)}, "texture_error"),
        ({"radius_worst": lambda frame: frame["radius_mean"] - 1}, "radius_worst"),
        ({"diagnosis": lambda frame: frame["diagnosis"].str[0]}, "diagnosis"),
        ({name: lambda frame, name=name: frame[name].iloc[0] for name in FEATURES}, "combination"),
    ],
)
def test_measurements_that_cannot_be_are_refused(packaged: Examples, spoil: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        require(validate(packaged.frame.assign(**spoil), problem.expectations(), name="perceptron"))
    assert said in str(refused.value)


# --- from scratch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(30, 1), (30, 16, 1), (30, 8, 5, 1)])
def test_backpropagation_gives_the_slopes_that_are_measured(packaged: Examples, widths: tuple[int, ...]) -> None:
    """Central differences: (loss(w + h) - loss(w - h)) / 2h, for every single weight."""
    parts, layers, step = divide(packaged), initial_layers(widths, seed=0), 1e-6
    inputs, target = parts.inputs[:20], parts.target[:20]
    for layer, slopes in zip(layers, gradients(layers, inputs, target), strict=True):
        for weights, computed in zip(layer, slopes, strict=True):
            for place in np.ndindex(weights.shape):
                there = weights[place]
                weights[place] = there + step
                above = cross_entropy(layers, inputs, target)
                weights[place] = there - step
                below = cross_entropy(layers, inputs, target)
                weights[place] = there
                assert computed[place] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("variant", ["mlp", "perceptron"])
def test_from_the_same_beginning_numpy_and_keras_end_with_the_same_weights_and_accuracy(
    make_run: RunMaker, variant: str
) -> None:
    import keras

    run = make_run("perceptron", dict(problem.variants[variant]))
    store = run.open_store()
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    trained = load_model(store.local_path(fit.fn(run, ingested, prepared).products["model"]))
    examples, rows = load_examples(store, ingested), load_rows(store, prepared)

    hyperparameters = PerceptronHyperparameters.from_settings(run.hyperparameters)
    keras.utils.set_random_seed(run.seed)
    beginning = dense_layers(problem.build(hyperparameters, examples.take(rows.train)))
    parts = divide(examples)
    ours = train_network(beginning, parts.inputs, parts.target, hyperparameters, run.seed)

    assert np.abs(beginning[0][0] - ours[0][0]).max() > 0.05
    for layer, layer_of_keras in zip(ours, dense_layers(trained), strict=True):
        for weights, weights_of_keras in zip(layer, layer_of_keras, strict=True):
            np.testing.assert_allclose(weights, weights_of_keras, atol=1e-4)
    of_keras = accuracy(predict_with(trained, examples, rows.test)[:, 0], parts.test_target)
    assert accuracy(probabilities(ours, parts.test_inputs), parts.test_target) == of_keras > 0.93


def dense_layers(model: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [layer.get_weights() for layer in model.layers if hasattr(layer, "kernel")]
    return [(kernel.astype(np.float64), bias.astype(np.float64)) for kernel, bias in found]


def test_from_its_own_beginning_the_network_of_numpy_is_as_good(packaged: Examples) -> None:
    parts, hyperparameters = divide(packaged), PerceptronHyperparameters()
    layers = initial_layers((len(FEATURES), hyperparameters.units, 1), seed=1)
    before = cross_entropy(layers, parts.inputs, parts.target)
    layers = train_network(layers, parts.inputs, parts.target, hyperparameters, seed=1)
    assert cross_entropy(layers, parts.inputs, parts.target) < before / 4
    assert accuracy(probabilities(layers, parts.test_inputs), parts.test_target) > 0.93


def test_a_perceptron_parts_what_a_plane_can_part_within_novikoffs_bound() -> None:
    random = np.random.default_rng(0)
    plane = np.array([0.6, -0.64, 0.48])
    points = random.uniform(-1, 1, (400, 2))
    distance = np.column_stack([points, np.ones(400)]) @ plane
    points, distance = points[np.abs(distance) > 0.1], distance[np.abs(distance) > 0.1]
    weights, num_mistakes = learn_perceptron(points, distance > 0, epochs=1000, seed=0)
    extended = np.column_stack([points, np.ones(len(points))])
    assert ((extended @ weights > 0) == (distance > 0)).all()
    longest, margin = np.linalg.norm(extended, axis=1).max(), np.abs(distance).min()
    assert 0 < num_mistakes <= (longest / margin) ** 2


def test_a_perceptron_cannot_learn_exclusive_or_and_a_network_can() -> None:
    """Minsky & Papert 1969."""
    inputs, target = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]), np.array([0, 1, 1, 0])
    weights, _ = learn_perceptron(inputs, target, epochs=100, seed=0)
    assert ((np.column_stack([inputs, np.ones(4)]) @ weights > 0) == target).mean() < 1
    settings = PerceptronHyperparameters(epochs=500, batch_size=4, learning_rate=0.5)
    layers = train_network(initial_layers((2, 8, 1), seed=0), inputs, target, settings, seed=0)
    assert accuracy(probabilities(layers, inputs), target) == 1


def test_a_perceptron_tells_tumours_apart(packaged: Examples) -> None:
    parts = divide(packaged)
    weights, _ = learn_perceptron(parts.inputs, parts.target, epochs=50, seed=0)
    scores = np.column_stack([parts.test_inputs, np.ones(len(parts.test_inputs))]) @ weights
    assert ((scores > 0) == parts.test_target).mean() > 0.93
