"""The first weights follow from the seed alone."""

from __future__ import annotations

import random
import threading
import time

import keras
import pytest

from tasks.engines import weights_digest
from tasks.seeds import seeded


def build() -> keras.Model:
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(3)(inputs))
    time.sleep(0.02)  # another thread has its turn
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


@pytest.fixture
def drawing_thread() -> object:
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            random.random()
            time.sleep(0.001)

    thread = threading.Thread(target=draw)
    thread.start()
    yield thread
    stop.set()
    thread.join()


def test_another_thread_that_draws_random_numbers_changes_no_weights(drawing_thread: threading.Thread) -> None:
    digests = set()
    for _ in range(3):
        with seeded(7):
            digests.add(weights_digest(build()))
    assert len(digests) == 1 and drawing_thread.is_alive()


def test_the_weights_are_those_that_keras_own_seeding_gives() -> None:
    keras.utils.set_random_seed(7)
    expected = weights_digest(build())
    with seeded(7):
        assert weights_digest(build()) == expected
    with seeded(8):
        assert weights_digest(build()) != expected


def test_afterwards_keras_draws_as_before() -> None:
    from keras.src.random import seed_generator

    with pytest.raises(ZeroDivisionError), seeded(1):
        1 / 0  # noqa: B018
    assert seed_generator.python_random is random
