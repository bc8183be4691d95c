"""What a sparse first layer would give: the book's training of movie reviews by hand, in numpy and scipy.

    python -m benchmarks.peers.sparse_reviews FILE [--check]

The same network, loss and optimizer as in DLWP 2nd ed. §4.1, but a review is the list of its words, and the first
layer adds up their rows of weights. `--check` trains 20 batches beside Keras, from the same weights, and prints by how
much the weights differ. It is no part of modelkeep: Keras has no such layer for all of its backends.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.book_scripts import load
from benchmarks.peers.by_hand import Rmsprop, answer, glorot

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUM_WORDS, UNITS, BATCH = 10_000, 16, 512


class Network:
    """10,000 → 16 → 16 → 1, relu and sigmoid. `weights`: kernels and biases in turn."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        self.weights = weights
        self._optimizer = Rmsprop(weights)

    @classmethod
    def random(cls, seed: int) -> Network:
        random, sizes, weights = np.random.default_rng(seed), (NUM_WORDS, UNITS, UNITS, 1), []
        for inputs, outputs in pairwise(sizes):
            weights += [glorot(random, inputs, outputs), np.zeros(outputs, "float32")]
        return cls(weights)

    def predict(self, texts: csr_matrix) -> np.ndarray:
        """Probabilities (n,)."""
        return self._forward(texts)[-1].ravel()

    def _forward(self, texts: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, first_bias, second, second_bias, last, last_bias = self.weights
        one = np.maximum(texts @ first + first_bias, 0)
        two = np.maximum(one @ second + second_bias, 0)
        return one, two, 1 / (1 + np.exp(-(two @ last + last_bias)))

    def train(self, texts: csr_matrix, labels: np.ndarray) -> None:
        """One step."""
        one, two, said = self._forward(texts)
        _, _, second, _, last, _ = self.weights
        at_end = (said - labels[:, None]) / len(labels)
        at_two = (at_end @ last.T) * (two > 0)
        at_one = (at_two @ second.T) * (one > 0)
        layers = ((texts, at_one), (one, at_two), (two, at_end))
        self._optimizer.step([gradient for seen, at in layers for gradient in (seen.T @ at, at.sum(0))])

    def fit(self, texts: csr_matrix, labels: np.ndarray, epochs: int, seed: int) -> None:
        for epoch in range(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(labels))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                self.train(texts[rows], labels[rows])


def read(file: Path) -> tuple[csr_matrix, np.ndarray, csr_matrix, np.ndarray]:
    """Training and test reviews, float32 (25000, 10000), and their labels."""
    arrays = load(file)
    order = np.arange(25_000)
    np.random.RandomState(113).shuffle(order)  # as keras.datasets.imdb does
    train, test = sparse(arrays["x_train"][order]), sparse(arrays["x_test"])
    return train, arrays["y_train"][order].astype("float32"), test, arrays["y_test"].astype("float32")


def sparse(sequences: Any) -> csr_matrix:
    """float32 (n, 10000), 1 for every word that is in the text."""
    from scipy.sparse import csr_matrix

    ids = np.concatenate([np.asarray(sequence, "int32") for sequence in sequences]) + 3
    ids[ids >= NUM_WORDS] = 2
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    matrix = csr_matrix((np.ones(len(ids), "float32"), ids, offsets), (len(sequences), NUM_WORDS))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def train_and_test(file: Path, seed: int = 0) -> float:
    """As the script does: 20 epochs with a part watched, 4 epochs anew; the accuracy for the test reviews."""
    x_train, y_train, x_test, y_test = read(file)
    watched, kept = slice(0, 10_000), slice(10_000, None)
    network = Network.random(seed)
    for epoch in range(20):
        network.fit(x_train[kept], y_train[kept], 1, seed + epoch)
        network.predict(x_train[watched])
    network = Network.random(seed + 1)
    network.fit(x_train, y_train, 4, seed + 1)
    return float(((network.predict(x_test) > 0.5) == y_test).mean())


def check(file: Path) -> float:
    """The largest difference of a weight to Keras' after 20 batches from the same weights."""
    import keras
    from keras import layers

    x_train, y_train, _, _ = read(file)
    hidden = [layers.Dense(UNITS, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((NUM_WORDS,)), *hidden, layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="rmsprop", loss="binary_crossentropy")
    network = Network([weight.copy() for weight in model.get_weights()])
    for start in range(0, 20 * BATCH, BATCH):
        batch = slice(start, start + BATCH)
        model.train_on_batch(x_train[batch].toarray(), y_train[batch, None])
        network.train(x_train[batch], y_train[batch])
    pairs = zip(model.get_weights(), network.weights, strict=True)
    return max(float(np.abs(theirs - ours).max()) for theirs, ours in pairs)


if __name__ == "__main__":
    answer(str(__doc__), train_and_test, check)
