"""What folds as one batch would give: the book's cross-validation of house prices by hand, in numpy.

    python -m benchmarks.peers.batched_folds FILE [--check]

The same trainings as in DLWP 2nd ed. §4.3, 4 folds of 500 epochs and 130 epochs on all rows, but the four networks of
the folds are arrays with one axis more, trained in the same steps. `--check` trains 20 batches beside Keras, from the
same weights, and prints by how much the weights differ. It is no part of modelkeep, where each fold can be resumed,
stopped early and taken from the store by itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.book_scripts import load
from benchmarks.peers.by_hand import Rmsprop, answer, glorot

UNITS, BATCH, NUM_FOLDS, NUM_TRAIN = 64, 16, 4, 404
EPOCHS_OF_FOLDS, EPOCHS = 500, 130


class Networks:
    """n networks 13 → 64 → 64 → 1 side by side: kernels (n, inputs, outputs) and biases (n, 1, outputs) in turn."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        self.weights = weights
        self._optimizer = Rmsprop(weights)

    @classmethod
    def random(cls, num: int, num_inputs: int, seed: int) -> Networks:
        random, weights = np.random.default_rng(seed), []
        for shape in ((num_inputs, UNITS), (UNITS, UNITS), (UNITS, 1)):
            weights += [glorot(random, num, *shape), np.zeros((num, 1, shape[1]), "float32")]
        return cls(weights)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Rows (n, rows, 13) → prices (n, rows)."""
        return self._forward(x)[-1][..., 0]

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, first_bias, second, second_bias, last, last_bias = self.weights
        one = np.maximum(x @ first + first_bias, 0)
        two = np.maximum(one @ second + second_bias, 0)
        return one, two, two @ last + last_bias

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step on rows (n, batch, 13) and prices (n, batch)."""
        one, two, said = self._forward(x)
        _, _, second, _, last, _ = self.weights
        at_end = 2 * (said - y[..., None]) / y.shape[1]
        at_two = (at_end @ last.swapaxes(1, 2)) * (two > 0)
        at_one = (at_two @ second.swapaxes(1, 2)) * (one > 0)
        layers = ((x, at_one), (one, at_two), (two, at_end))
        sides = [(seen.swapaxes(1, 2) @ at, at.sum(1, keepdims=True)) for seen, at in layers]
        self._optimizer.step([gradient for side in sides for gradient in side])

    def fit(self, x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> None:
        """Rows (n, rows, 13) in an order of its own for each network."""
        random, network = np.random.default_rng(seed), np.arange(len(x))[:, None]
        for _ in range(epochs):
            order = random.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
            for start in range(0, x.shape[1], BATCH):
                rows = order[:, start : start + BATCH]
                self.train(x[network, rows], y[network, rows])


def read(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and prices for training and for the test, float32, standardised by the training rows."""
    arrays = load(file)
    order = np.arange(len(arrays["x"]))
    np.random.RandomState(113).shuffle(order)  # as keras.datasets.boston_housing does
    x, y = arrays["x"][order], arrays["y"][order].astype("float32")
    x = ((x - x[:NUM_TRAIN].mean(axis=0)) / x[:NUM_TRAIN].std(axis=0)).astype("float32")
    return x[:NUM_TRAIN], y[:NUM_TRAIN], x[NUM_TRAIN:], y[NUM_TRAIN:]


def train_and_test(file: Path, seed: int = 0) -> float:
    """The mean absolute error for the test rows, after what the script does."""
    x_train, y_train, x_test, y_test = read(file)
    held = np.arange(NUM_TRAIN).reshape(NUM_FOLDS, -1)
    kept = np.stack([np.delete(np.arange(NUM_TRAIN), rows) for rows in held])
    folds = Networks.random(NUM_FOLDS, x_train.shape[1], seed)
    for epoch in range(EPOCHS_OF_FOLDS):
        folds.fit(x_train[kept], y_train[kept], 1, seed + epoch)
        folds.predict(x_train[held])
    network = Networks.random(1, x_train.shape[1], seed)
    network.fit(x_train[None], y_train[None], EPOCHS, seed)
    return float(np.abs(network.predict(x_test[None])[0] - y_test).mean())


def check(file: Path) -> float:
    """The largest difference of a weight of any fold to Keras' after 20 batches from the same weights."""
    import keras
    from keras import layers

    x_train, y_train, _, _ = read(file)
    models = []
    for _ in range(NUM_FOLDS):
        hidden = [layers.Dense(UNITS, activation="relu") for _ in range(2)]
        model = keras.Sequential([keras.Input((x_train.shape[1],)), *hidden, layers.Dense(1)])
        model.compile(optimizer="rmsprop", loss="mse")
        models.append(model)
    begun = [np.stack(weights) for weights in zip(*(model.get_weights() for model in models), strict=True)]
    folds = Networks([weight[:, None] if weight.ndim == 2 else weight for weight in begun])
    order = np.random.default_rng(0).permuted(np.tile(np.arange(NUM_TRAIN), (NUM_FOLDS, 1)), axis=1)
    for start in range(0, 20 * BATCH, BATCH):
        rows = order[:, start : start + BATCH]
        folds.train(x_train[rows], y_train[rows])
        for model, own in zip(models, rows, strict=True):
            model.train_on_batch(x_train[own], y_train[own, None])
    ended = [np.stack(weights) for weights in zip(*(model.get_weights() for model in models), strict=True)]
    pairs = zip(ended, folds.weights, strict=True)
    return max(float(np.abs(theirs - ours.reshape(theirs.shape)).max()) for theirs, ours in pairs)


if __name__ == "__main__":
    answer(str(__doc__), train_and_test, check)
