"""Seeds that no other thread can disturb."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python, numpy and the backend are seeded, and Keras has a generator of its own for the seeds of new layers.

    Keras draws those from Python's global generator. Other threads draw from it as well, those of Prefect and of a
    Dask worker among them, and the first weights were now these and now those. The seeds are the ones that
    `keras.utils.set_random_seed` alone gives where nobody else draws.
    """
    import keras
    from keras.src.random import seed_generator

    keras.utils.set_random_seed(seed)
    shared = seed_generator.python_random
    seed_generator.python_random = random.Random(seed)
    try:
        yield
    finally:
        seed_generator.python_random = shared
