"""The training loop: an order of examples that is a function of seed and epoch, early stopping, and a position that a
checkpoint can hold, so that a killed training goes on in the middle of an epoch and ends with the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelkeep.errors import GateFailed
from tasks.engines import Engine

if TYPE_CHECKING:
    import numpy as np

    from problems.outline.hyperparameters import Hyperparameters
    from problems.outline.objectives import Objective
    from problems.outline.problem import Examples

_BLOCK_STEPS = 64
_BLOCK_BYTES = 32 << 20
_TEST_BATCH = 512
_TEST_BYTES = 6 << 20


class TrainingDiverged(GateFailed):
    """Loss or metrics became infinite or not a number; there is no model to keep."""


@dataclass
class Position:
    """How far a training has come: the next step to make, the curves so far and, for early stopping, the best epoch."""

    epoch: int = 0
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = math.inf
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        # A copy: a lease writes a checkpoint's position again at each renewal, while the curves grow.
        history = {name: list(values) for name, values in self.history.items()}
        # JSON has no infinity.
        best_loss = None if math.isinf(self.best_loss) else self.best_loss
        return {**self.__dict__, "history": history, "best_loss": best_loss}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Position:
        loss = values["best_loss"]
        return cls(**{**values, "best_loss": math.inf if loss is None else loss})


@dataclass
class Training:
    """One model's training on some rows of the examples.

    `state` and `best_state` are what the engine's `state()` returns; `best_state` is kept only with early stopping.
    `weights` (float32, one for each of all examples) say how much a training row counts in the loss.
    After `frozen_epochs`, if there are such, `thaw` is called, which may give the engine a state of another form.
    """

    engine: Engine
    objective: Objective
    examples: Examples
    train_rows: np.ndarray
    validation_rows: np.ndarray
    hyperparameters: Hyperparameters
    seed: int
    weights: np.ndarray | None = None
    position: Position = field(default_factory=Position)
    best_state: list[np.ndarray] | None = None
    frozen_epochs: int = 0
    thaw: Callable[[], None] = lambda: None
    device: str = "cpu"
    precision: str = "float32"

    def go_to(self, position: Position) -> None:
        """Stand at a position; the engine can take the state that belongs to it then."""
        self.position = position
        if position.epoch >= self.frozen_epochs > 0:
            self.thaw()

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train_rows) // self.hyperparameters.batch_size)

    def run(self, on_block: Callable[[], None]) -> None:
        """Train to the end from where `position` stands. `on_block` is called between blocks of steps, where the
        engine's state and the position belong together."""
        if not self.engine.model.trainable_variables:
            self.position.finished = True  # it has learnt elsewhere
        while not self.position.finished:
            if self.position.step == 0:
                self.engine.reset_metrics()
            order = epoch_order(self.train_rows, self.seed, self.position.epoch)
            for rows in self._blocks(order):
                self.engine.train(*self._gather(rows))
                self.position.step += len(rows)
                if self.position.step < self.steps_per_epoch:
                    on_block()
            self._close_epoch()
            on_block()
        if self.best_state is not None:
            self.engine.load_state(self.best_state)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The model's outputs for these rows, shape (len(rows), outputs), float32."""
        return predict(self.engine, self.examples, rows)

    def _blocks(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of the steps still to make in this epoch, as arrays (steps, batch); the last, smaller batch is alone."""
        size = self.hyperparameters.batch_size
        whole = len(order) // size
        block = self._steps_per_block()
        for first in range(self.position.step, whole, block):
            last = min(first + block, whole)
            yield order[first * size : last * size].reshape(last - first, size)
        if len(order) % size and self.position.step <= whole:
            yield order[whole * size :].reshape(1, -1)

    def _steps_per_block(self) -> int:
        bytes_per_batch = _bytes_per_example(self.examples) * self.hyperparameters.batch_size
        return max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // bytes_per_batch))

    def _gather(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
        flat = rows.ravel()
        features = {
            name: array[flat].reshape(*rows.shape, *array.shape[1:]) for name, array in self.examples.features.items()
        }
        target = self.objective.training_target(self.examples.target[flat])
        weights = None if self.weights is None else self.weights[rows]
        return features, target.reshape(*rows.shape, *target.shape[1:]), weights

    def _close_epoch(self) -> None:
        metrics = self.engine.metrics()
        if len(self.validation_rows):
            metrics |= {f"val_{name}": value for name, value in self._validate().items()}
        wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingDiverged(
                f"The training diverged: {', '.join(wrong)} is not a number after epoch {self.position.epoch + 1}.",
                expected="finite numbers",
                next_step="take a smaller learning_rate, or look for extreme values in the data",
            )
        position = self.position
        for name, value in metrics.items():
            position.history.setdefault(name, []).append(value)
        position.epoch, position.step = position.epoch + 1, 0
        position.finished = position.epoch >= self.hyperparameters.epochs
        patience = self.hyperparameters.patience
        if patience and "val_loss" in metrics and position.epoch > self.frozen_epochs:
            self._watch(metrics["val_loss"], patience)
        if position.epoch == self.frozen_epochs and not position.finished:
            self.thaw()

    def _watch(self, loss: float, patience: int) -> None:
        """Early stopping: keep the best weights, and finish after `patience` epochs without better ones."""
        position = self.position
        if loss < position.best_loss:
            position.best_loss, position.best_epoch = loss, position.epoch
            self.best_state = self.engine.state()
        elif position.epoch - position.best_epoch >= patience:
            position.finished = True

    def _validate(self) -> dict[str, float]:
        self.engine.reset_metrics()
        batch = rows_at_once(self.examples)
        for start in range(0, len(self.validation_rows), batch):
            rows = self.validation_rows[start : start + batch]
            features = {name: array[rows] for name, array in self.examples.features.items()}
            self.engine.test(features, self.objective.training_target(self.examples.target[rows]))
        return self.engine.metrics()


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch: another one each epoch, the same for the same seed on any machine.

    Keras' own shuffle on TensorFlow replays one order every epoch once `keras.utils.set_random_seed` was called.
    """
    import numpy as np

    return np.random.default_rng([seed, epoch]).permutation(rows)


def predict(engine: Engine, examples: Examples, rows: np.ndarray) -> np.ndarray:
    """The model's outputs for these rows, shape (len(rows), outputs), float32."""
    import numpy as np

    batch = rows_at_once(examples)
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return np.concatenate(
        [engine.predict({name: array[part] for name, array in examples.features.items()}) for part in parts]
    )


def rows_at_once(examples: Examples, most_bytes: int = _TEST_BYTES) -> int:
    """How many rows a model is asked about in one call: fewer of large ones, `most_bytes` of features at most."""
    return max(1, min(_TEST_BATCH, most_bytes // _bytes_per_example(examples)))


def _bytes_per_example(examples: Examples) -> int:
    return sum(array[:1].nbytes for array in examples.features.values()) or 1


class Pace:
    """Says yes at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
