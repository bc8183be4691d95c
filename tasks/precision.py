"""Mixed precision: on a device that reckons in bfloat16, a training may; what is kept is a model in float32.

What reckons in bfloat16 keeps two or three digits, and not the same ones on another device or in another trace: a model
that is kept so could be neither checked nor exported. Its weights are float32 all along (Micikevicius et al. 2018,
arXiv 1710.03740); bfloat16 has float32's range, so that the loss needs no scaling (Kalamkar et al. 2019,
arXiv 1905.12322).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.devices import Gpu, num_gpus, usable_gpus
from tasks.seeds import seeded
from tasks.settings import load_settings

if TYPE_CHECKING:
    import keras

    from problems.outline.hyperparameters import Hyperparameters
    from problems.outline.problem import Examples, Problem
    from tasks.training import Training

FLOAT32 = "float32"
MIXED = "mixed_bfloat16"


def precision_of(problem: Problem, gpu: Gpu) -> str:
    """The name of Keras' dtype policy for a training of a problem that allows a mixed one: as MODELKEEP_PRECISION says,
    else mixed where every GPU that may be given to it can do it.

    A CPU is not asked: two machines without GPUs would train two models with the same seed.
    """
    wanted = load_settings().precision
    if not problem.mixed_precision or wanted == FLOAT32:
        return FLOAT32
    if wanted == MIXED:
        return MIXED
    if gpu == "never" or not num_gpus():
        return FLOAT32
    found = usable_gpus()
    return MIXED if found and all(device.has_bfloat16 for device in found) else FLOAT32


def built_in(precision: str, problem: Problem, hyperparameters: Hyperparameters, examples: Examples) -> keras.Model:
    """The problem's model, its layers reckoning in `precision`, and its outputs float32 whatever that is."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)  # of this thread
    try:
        model = problem.build(hyperparameters, examples)
    finally:
        keras.config.set_dtype_policy(before)
    if precision != FLOAT32:
        # Probabilities of bfloat16 have two digits.
        model.layers[-1].dtype_policy = FLOAT32
    return model


def keep_in_float32(training: Training, problem: Problem, examples: Examples) -> None:
    """After a training in mixed precision: its weights in a model that is float32 throughout, which predicts from now
    on."""
    if training.precision == FLOAT32:
        return
    with seeded(training.seed):
        model = built_in(FLOAT32, problem, training.hyperparameters, examples.take(training.train_rows))
    model.set_weights(training.engine.model.get_weights())
    problem.objective.compile(model, training.hyperparameters)
    training.engine = training.engine.like(model)
