"""Perceptron and network from scratch: is a tumour of the breast malignant?  (binary, tabular)

Source    Wolberg, Street & Mangasarian 1995; 569 tumours, 30 measurements of cell nuclei; scikit-learn carries it
Book      none; what Keras trains is here also in numpy, and must end with the same weights (a test proves it)
Measured  on 171 test rows: accuracy of the mlp 0.963 (0.959-0.965 over seeds 0-2), of the variant perceptron 0.963
          (0.953-0.977); 1.2 to 2.1 s of training, 0.96 GB in all, 2 CPU cores in use by others too, 2026-11-21,
          `modelkeep train perceptron --seed 0` (1, 2; `--variant perceptron`). The network in numpy, with beginnings
          of its own, 0.953 (0.947-0.965), in 0.04 s; Rosenblatt's perceptron 0.949 (0.947-0.953), without a mistake
          on the training rows
Caution   a lesson, not a diagnosis: one clinic, one person drew the outlines of the nuclei, and 37 % of the tumours
          are malignant; radius, perimeter and area say nearly the same, so single weights mean little
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from problems.outline import (
    Above,
    BeatsBaseline,
    Binary,
    Examples,
    Files,
    Hyperparameters,
    Inputs,
    PackageCopy,
    Problem,
    Rows,
    Source,
    Stratified,
    Truth,
    search,
)

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

    Layers = list[tuple[np.ndarray, np.ndarray]]

FILE = "breast_cancer.csv"
SHA256 = "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"
MEASURES = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points", "symmetry",
    "fractal_dimension",
)  # fmt: skip
# Of the nuclei of a tumour: the mean, its standard error, and the mean of the three largest.
FEATURES = tuple(f"{measure}_{statistic}" for statistic in ("mean", "error", "worst") for measure in MEASURES)
CLASSES = ("benign", "malignant")


class PerceptronHyperparameters(Hyperparameters):
    """Without hidden layers the network is a perceptron whose step is smoothed to a sigmoid."""

    hidden_layers: int = search(1, low=0, high=3)
    units: int = search(16, low=2, high=64)
    epochs: int = search(40, low=10, high=200)
    batch_size: int = search(16, choices=(8, 16, 32))
    optimizer: str = "sgd"
    learning_rate: float | None = search(0.05, low=0.005, high=0.5, log=True)


def read(files: Files) -> Examples:
    """569 rows, 30 features as float32 (lengths in pixels), the target uint8, 1 for malignant."""
    import numpy as np
    import pandas as pd

    table = _read_table(files)
    thirds = pd.qcut(table["radius_mean"].rank(method="first"), 3, labels=["small", "middle", "large"])
    target = (table["diagnosis"] == "malignant").to_numpy(np.uint8)
    return inputs(table).with_target(target, radius_third=thirds.astype(str))


def inputs(table: pd.DataFrame) -> Inputs:
    """`measurements`, float32 (n, 30)."""
    import numpy as np

    return Inputs({"measurements": table[list(FEATURES)].to_numpy(np.float32)}, table)


def _read_table(files: Files) -> pd.DataFrame:
    """Features (float64) and `diagnosis` from scikit-learn's CSV, or from a user's CSV with these names."""
    import pandas as pd

    from problems.outline.raw import read_csv

    if FILE not in files.verified:
        return read_csv(files[FILE], {**dict.fromkeys(FEATURES, "float64"), "diagnosis": "str"})
    # Its first line holds the numbers of rows and columns, and the names of the classes 0 and 1.
    table = pd.read_csv(files[FILE], header=None, skiprows=1, names=[*FEATURES, "diagnosis"])
    return table.assign(diagnosis=table["diagnosis"].map({0: "malignant", 1: "benign"}))


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    from validation.expectations import ExpectClassShareToBeBetween

    # Above the published largest values with room for half as much again; nothing measured here is negative.
    largest = {
        "radius": 60, "texture": 80, "perimeter": 400, "area": 7000, "smoothness": 0.4, "compactness": 2,
        "concavity": 2, "concave_points": 0.6, "symmetry": 1, "fractal_dimension": 0.4,
    }  # fmt: skip
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=100, max_value=100_000),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in (*FEATURES, "diagnosis")),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=largest[name.rsplit("_", 1)[0]])
            for name in FEATURES
        ),
        *(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=f"{measure}_worst", column_B=f"{measure}_mean", or_equal=True
            )
            for measure in MEASURES
        ),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(FEATURES)),
        ExpectClassShareToBeBetween(column="diagnosis", classes=list(CLASSES), min_value=0.1, max_value=0.9),
    ]


def build(hyperparameters: PerceptronHyperparameters, train: Examples) -> keras.Model:
    """Hidden layers with ReLU and one unit with a sigmoid, over measurements standardised as on the training rows."""
    import keras
    from keras import layers

    normalise = layers.Normalization(name="standardise")
    normalise.adapt(train.features["measurements"])
    inputs = keras.Input((len(FEATURES),), name="measurements")
    hidden = normalise(inputs)
    for _ in range(hyperparameters.hidden_layers):
        hidden = layers.Dense(hyperparameters.units, activation="relu")(hidden)
    return keras.Model({"measurements": inputs}, layers.Dense(1, activation="sigmoid")(hidden))


# --- from scratch: a perceptron, and what build() and Keras' training do, in numpy alone ---------------------------
#
# `inputs` are standardised measurements, float (n, d), and `target` is 0 or 1, (n,). `layers` are a kernel (d, units)
# and a bias (units,) each, as in Keras; there is a ReLU after all but the last one, which has one unit.


def learn_perceptron(inputs: np.ndarray, target: np.ndarray, *, epochs: int, seed: int) -> tuple[np.ndarray, int]:
    """Rosenblatt's rule (1958): a mistake adds the example to the weights, or takes it away.

    Weights float64 (d + 1,), the last of which is the bias, and the number of mistakes that were made. Where a plane
    parts the classes with a margin γ and no example is longer than R these are (R / γ)² at most (Novikoff 1962), and
    learning ends with an epoch without any; elsewhere it ends after `epochs`.
    """
    import numpy as np

    signed = np.column_stack([inputs, np.ones(len(inputs))]) * np.where(target == 1, 1, -1)[:, None]
    weights, num_mistakes = np.zeros(signed.shape[1]), 0
    for epoch in range(epochs):
        before = num_mistakes
        for row in np.random.default_rng([seed, epoch]).permutation(len(signed)):
            if signed[row] @ weights <= 0:
                weights += signed[row]
                num_mistakes += 1
        if num_mistakes == before:
            break
    return weights, num_mistakes


def train_network(
    layers: Layers, inputs: np.ndarray, target: np.ndarray, hyperparameters: PerceptronHyperparameters, seed: int
) -> Layers:
    """Stochastic gradient descent from these layers; the same batches in the same order as `modelkeep train` makes
    with that seed."""
    import numpy as np

    rate, size = hyperparameters.learning_rate or 0.01, hyperparameters.batch_size
    for epoch in range(hyperparameters.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(inputs))
        for rows in np.split(order, range(size, len(order), size)):
            slopes = gradients(layers, inputs[rows], target[rows])
            layers = [(k - rate * dk, b - rate * db) for (k, b), (dk, db) in zip(layers, slopes, strict=True)]
    return layers


def initial_layers(widths: Sequence[int], seed: int) -> Layers:
    """Kernels as Keras draws them, uniform within ±√(6 / (inputs + units)) (Glorot & Bengio 2010), and zero biases.

    `widths`: the number of inputs, of each hidden layer's units, and 1.
    """
    import numpy as np

    random = np.random.default_rng(seed)

    def draw(rows: int, units: int) -> tuple[np.ndarray, np.ndarray]:
        limit = np.sqrt(6 / (rows + units))
        return random.uniform(-limit, limit, (rows, units)), np.zeros(units)

    return [draw(rows, units) for rows, units in pairwise(widths)]


def probabilities(layers: Layers, inputs: np.ndarray) -> np.ndarray:
    """That each tumour is malignant, (n,)."""
    return _sigmoid(_forward(layers, inputs)[-1][:, 0])


def cross_entropy(layers: Layers, inputs: np.ndarray, target: np.ndarray) -> float:
    """The mean of -log(probability that was given to the truth)."""
    import numpy as np

    logits = _forward(layers, inputs)[-1][:, 0]
    return float(np.mean(np.logaddexp(0, logits) - target * logits))


def gradients(layers: Layers, inputs: np.ndarray, target: np.ndarray) -> Layers:
    """Derivatives of the cross-entropy by every kernel and bias: backpropagation (Rumelhart, Hinton & Williams 1986).

    `slope` is the derivative by what a layer puts out before its activation; for a sigmoid with cross-entropy it is
    the probability less the truth.
    """
    *received, logits = _forward(layers, inputs)
    slope = (_sigmoid(logits) - target[:, None]) / len(target)
    slopes: Layers = []
    for (kernel, _), values in zip(reversed(layers), reversed(received), strict=True):
        slopes.append((values.T @ slope, slope.sum(axis=0)))
        slope = (slope @ kernel.T) * (values > 0)  # the ReLU before this layer lets through what is above 0
    return slopes[::-1]


def _forward(layers: Layers, inputs: np.ndarray) -> list[np.ndarray]:
    """What each layer receives, and last the logits (n, 1)."""
    import numpy as np

    *hidden, (kernel, bias) = layers
    values = [inputs]
    for hidden_kernel, hidden_bias in hidden:
        values.append(np.maximum(values[-1] @ hidden_kernel + hidden_bias, 0))
    return [*values, values[-1] @ kernel + bias]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    import numpy as np

    halves: np.ndarray = np.tanh(logits / 2)  # 1 / (1 + exp(-x)) without overflow
    return (1 + halves) / 2


problem = Problem(
    name="perceptron",
    objective=Binary(positive="malignant", negative="benign", main_metric="accuracy"),
    sources=(
        Source(
            name=FILE,
            url=f"https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.9.1/sklearn/datasets/data/{FILE}",
            sha256=SHA256,
            size=119_913,
            licence="CC BY 4.0",
            package=PackageCopy(package="sklearn", path=f"datasets/data/{FILE}", sha256=SHA256),
        ),
    ),
    read=read,
    rows=Rows(
        columns=dict.fromkeys(FEATURES, "float64"),
        inputs=inputs,
        truth=Truth(column="diagnosis", words={name: number for number, name in enumerate(CLASSES)}),
    ),
    expectations=expectations,
    split=Stratified(test=0.3, validation=0.1),
    build=build,
    hyperparameters=PerceptronHyperparameters,
    slices=("radius_third",),
    acceptance=(Above("accuracy", 0.93), BeatsBaseline()),
    columns={"measurements": FEATURES},
    variants={"mlp": {}, "perceptron": {"hidden_layers": 0}},
)
