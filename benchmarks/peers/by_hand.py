"""What the trainings that are written in numpy have in common: Keras 3's RMSprop, and what they are asked."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

RATE, RHO, EPSILON = 1e-3, 0.9, 1e-7


class Rmsprop:
    """Changes `weights`, float32, in place."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        self._weights = weights
        self._velocities = [np.zeros_like(weight) for weight in weights]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        for weight, velocity, gradient in zip(self._weights, self._velocities, gradients, strict=True):
            velocity *= RHO
            velocity += (1 - RHO) * gradient**2
            weight -= RATE * gradient / np.sqrt(velocity + EPSILON)


def glorot(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Kernels (…, inputs, outputs), float32, as Keras begins (Glorot & Bengio 2010)."""
    limit = (6 / (shape[-2] + shape[-1])) ** 0.5
    return random.uniform(-limit, limit, shape).astype("float32")


def answer(described: str, train_and_test: Callable[[Path], float], check: Callable[[Path], float]) -> None:
    """Print the result of a training on a raw file; or how far it is from Keras'."""
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        print(f"largest difference of a weight {check(arguments.file):.1e}")
    else:
        print(f"result {train_and_test(arguments.file):.4f}")
