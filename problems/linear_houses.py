"""House prices by a straight line: what does each attribute of a census tract add to the price?  (regression, tabular)

Source    the Boston house prices of `housing`: 506 rows, 12 attributes (B is left out), target in k$
Book      none; least squares has a closed form, and training must end within 1 % of its coefficients (a test proves it)
Measured  MAE 3.44 k$ (95 % interval 2.8 to 4.1) on the test rows, the same for 3 seeds, since nothing here is random;
          3.10 to 3.72 over the 4 folds. 2.3 s of training (1.5 to 2.8), 0.94 GB, 2 CPU cores in use by others too,
          2026-11-21, `modelkeep train linear_houses --seed 0` (1, 2). The network of `housing` does better
Caution   the attributes go together (tax and highways, rooms and status): a coefficient is not the effect of a change;
          B encodes race and is never a feature, as in `housing`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from problems.housing import FEATURES, ROWS, expectations, read
from problems.housing import problem as housing
from problems.outline import BeatsBaseline, Below, Examples, Hyperparameters, KFold, Problem, Regression, search

if TYPE_CHECKING:
    import keras


class LinearHousesHyperparameters(Hyperparameters):
    """All training rows make one step of gradient descent: the loss is convex, its minimum is reached without noise.

    The attributes' correlations have eigenvalues from 0.06 to 6. So a rate above 1 / 6 diverges, and at a rate of 0.1
    each step leaves 98.8 % of the slowest error: 0.02 % of it after 700 steps.
    """

    epochs: int = search(700, low=200, high=2000)
    batch_size: int = 1_000_000
    optimizer: str = "sgd"
    learning_rate: float | None = search(0.1, low=0.01, high=0.15)


def build(hyperparameters: LinearHousesHyperparameters, train: Examples) -> keras.Model:
    """One unit without activation over attributes that are standardised as on the training rows."""
    import keras

    normalise = keras.layers.Normalization(name="design")
    normalise.adapt(train.features["attributes"])
    inputs = keras.Input((len(FEATURES),), name="attributes")
    unit = keras.layers.Dense(1, kernel_initializer="zeros", name="unit")
    return keras.Model({"attributes": inputs}, unit(normalise(inputs)))


problem = Problem(
    name="linear_houses",
    objective=Regression(unit="k$"),
    sources=housing.sources,
    read=read,
    rows=ROWS,
    expectations=expectations,
    split=KFold(4, test=0.2),
    build=build,
    hyperparameters=LinearHousesHyperparameters,
    slices=housing.slices,
    acceptance=(Below("mae", 4.2), BeatsBaseline()),
    behaviours=housing.behaviours,
    columns=housing.columns,
)
