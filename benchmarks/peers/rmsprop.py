"""Keras 3's RMSprop by hand, for the trainings here that are written in numpy."""

from __future__ import annotations

from collections.abc import Sequence

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
