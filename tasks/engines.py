"""Many training steps per call, on any Keras backend, through Keras' own `train_step` and `test_step`.

`Model.fit` spends most of a small model's time between its steps: 130 epochs of the house prices take 8-12 s with it
and 1.3 s with the loop below (`benchmarks/training_loop.py`). The state (weights, optimizer, metrics and the seeds of
dropout) can be taken out and put back between any two steps, which is what makes an exact resume possible.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

Features = Mapping[str, "np.ndarray"]


@contextmanager
def open_engine(model: keras.Model, features: Features, target: np.ndarray) -> Iterator[Engine]:
    """An engine for a freshly built and compiled model; `features` and `target` are a few examples that tell shapes
    and dtypes.

    Tracing costs a small model more than its training. So an engine that is no longer in use takes over a new model
    of the same architecture by its initial values, which is what the folds of a cross-validation are.
    """
    import keras

    engines: dict[str, type[Engine]] = {"tensorflow": TensorFlowEngine, "jax": JaxEngine, "torch": TorchEngine}
    kind = MirroredEngine if _is_mirrored() else engines[keras.backend.backend()]
    architecture = f"{kind.__name__} {_architecture(model)}"
    with _idle_lock:
        engine = _idle.pop(architecture, None)
    if engine is None:
        engine = kind(model, features, target)
    else:
        engine.restart(model)
    yield engine
    with _idle_lock:
        _idle.clear()  # one is enough: what comes next is another fold, or another problem
        if engine.is_as_built:
            _idle[architecture] = engine


def _is_mirrored() -> bool:
    """Whether what is made now is made on several devices of TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.distribute.has_strategy())


_idle: dict[str, Engine] = {}
_idle_lock = threading.Lock()


def _architecture(model: keras.Model) -> str:
    """Layers, their settings, loss, optimizer and device, without the numbers that Keras appends to names."""
    variables = [
        (str(variable.dtype), tuple(variable.shape), str(variable.value.device)) for variable in model.variables
    ]
    described = json.dumps([json.loads(model.to_json()), model.get_compile_config(), variables], default=str)
    # A layer that was adapted holds constants beside its variables: an engine of its own keeps them apart.
    own = id(model) if any(not _reads_its_variables(layer) for layer in _adapted_layers(model)) else ""
    return re.sub(r'_\d+"', '"', described) + str(own)


def _adapted_layers(model: keras.Model) -> list[Any]:
    return [layer for layer in model._flatten_layers() if hasattr(layer, "finalize_state")]


def _reads_its_variables(layer: Any) -> bool:
    """Make a normalisation of the last axes read its variables. False for every other layer that was adapted.

    Keras gives the layer constant copies of what was adapted. A trace keeps them, so a model that takes an engine over
    would be normalised by the rows of the model before it.
    """
    import keras

    if not isinstance(layer, keras.layers.Normalization):
        return False
    if layer.input_mean is None:
        shape, kept = tuple(layer.mean.shape), tuple(layer.adapt_mean.shape)
        if shape[len(shape) - len(kept) :] != kept:
            return False
        layer.mean, layer.variance = layer.adapt_mean, layer.adapt_variance
    return True


class Engine(ABC):
    """Runs blocks of steps: arrays of shape (steps, batch, …), one step after the other."""

    def __init__(self, model: keras.Model, features: Features, target: np.ndarray) -> None:
        self.model = model
        self.is_as_built = True
        self._example = {name: array[:1] for name, array in features.items()}, target[:1]
        self._begin()
        self._first_state = self.state()

    def _begin(self) -> None:
        model, (features, target) = self.model, self._example
        # Loss, metrics and optimizer make their variables at first use; that must not happen while a step is traced.
        # Layers of augmentation train by default, and would draw from their seeds.
        outputs = model(features, training=False)
        model.compute_loss(y=target, y_pred=outputs)
        model.compute_metrics(None, target, outputs)
        model.optimizer.build(model.trainable_variables)
        model.reset_metrics()
        self._prepare(features, target)

    def begin_stage(self) -> None:
        """Go on with the weights there are, after other layers were made trainable and the model compiled anew."""
        self.is_as_built = False
        self._begin()

    def restart(self, model: keras.Model) -> None:
        """Begin anew with the initial values of another model of the same architecture."""
        fresh = [value_of(variable) for variable in _unique(model.variables)]
        self.load_state([*fresh, *self._first_state[len(fresh) :]])

    def like(self, model: keras.Model) -> Engine:
        """Another engine, for a compiled model with the same inputs and target."""
        return type(self)(model, *self._example)

    @abstractmethod
    def _prepare(self, features: Features, target: np.ndarray) -> None: ...

    @abstractmethod
    def train(self, features: Features, target: np.ndarray, weights: np.ndarray | None = None) -> None:
        """One step of the optimizer for each entry of the first axis. `weights`: float32 (steps, batch), how much each
        example counts in the loss."""

    @abstractmethod
    def test(self, features: Features, target: np.ndarray) -> None:
        """Loss and metrics over one batch, added to what they hold."""

    @abstractmethod
    def predict(self, features: Features) -> np.ndarray:
        """The model's outputs, as float32."""

    def reset_metrics(self) -> None:
        self.model.reset_metrics()

    def metrics(self) -> dict[str, float]:
        """Loss and metrics since the last reset."""
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def state(self) -> list[np.ndarray]:
        """Copies of all variables: weights, seeds, optimizer and metrics, always in the same order."""
        import numpy as np

        return [np.array(value_of(variable)) for variable in self._variables()]

    def load_state(self, state: list[np.ndarray]) -> None:
        """Put back what `state` returned."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        model = self.model
        return _unique([*model.variables, *model.optimizer.variables, *model.metrics_variables])


def _unique(variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())


class TensorFlowEngine(Engine):
    """One traced loop a model, whatever the number of steps and the size of the batch."""

    def _prepare(self, features: Features, target: np.ndarray) -> None:
        import tensorflow as tf

        model = self.model

        def signature(dimensions: int) -> list[Any]:
            def spec(array: np.ndarray) -> tf.TensorSpec:
                return tf.TensorSpec([None] * dimensions + list(array.shape[1:]), array.dtype)

            return [{name: spec(array) for name, array in features.items()}, spec(target)]

        def train(features: Any, target: Any, *weights: Any) -> None:
            for step in tf.range(tf.shape(target)[0]):
                batch = {name: array[step] for name, array in features.items()}, target[step]
                self._train_step((*batch, *[array[step] for array in weights]))

        def test(features: Any, target: Any) -> None:
            self._test_step((features, target))

        weight = tf.TensorSpec([None, None], "float32")
        self._train = tf.function(train, input_signature=signature(2))
        self._train_weighted = tf.function(train, input_signature=[*signature(2), weight])
        self._test = tf.function(test, input_signature=signature(1))
        self._predict = tf.function(lambda features: model(features, training=False), input_signature=signature(1)[:1])

    def _train_step(self, batch: tuple[Any, ...]) -> None:
        self.model.train_step(batch)

    def _test_step(self, batch: tuple[Any, ...]) -> None:
        self.model.test_step(batch)

    def train(self, features: Features, target: np.ndarray, weights: np.ndarray | None = None) -> None:
        if weights is None:
            self._train(dict(features), target)
        else:
            self._train_weighted(dict(features), target, weights)

    def test(self, features: Features, target: np.ndarray) -> None:
        self._test(dict(features), target)

    def predict(self, features: Features) -> np.ndarray:
        outputs: np.ndarray = self._predict(dict(features)).numpy()
        return outputs.astype("float32", copy=False)


class MirroredEngine(TensorFlowEngine):
    """Several devices with the same weights; each takes its share of a batch, and the gradients are added up.

    A batch that cannot be shared evenly, which is the last of an epoch, is gone through on every device: that changes
    no gradient, and counts it in the training curves once for each. Layers that look at a whole batch see a share, and
    dropout draws the same numbers on every device.
    """

    def _train_step(self, batch: tuple[Any, ...]) -> None:
        import tensorflow as tf

        def train_on_share(batch: tuple[Any, ...]) -> None:
            first, last, size = _share(batch)
            is_even = tf.equal(size % tf.distribute.get_strategy().num_replicas_in_sync, 0)
            first, last = tf.where(is_even, first, 0), tf.where(is_even, last, size)
            self.model.train_step(tf.nest.map_structure(lambda array: array[first:last], batch))

        tf.distribute.get_strategy().run(train_on_share, (batch,))

    def _test_step(self, batch: tuple[Any, ...]) -> None:
        import tensorflow as tf

        def test_share(batch: tuple[Any, ...]) -> None:
            first, last, _ = _share(batch)
            share = tf.nest.map_structure(lambda array: array[first:last], batch)

            def test() -> bool:
                self.model.test_step(share)
                return True

            tf.cond(last > first, test, lambda: False)

        tf.distribute.get_strategy().run(test_share, (batch,))


def _share(batch: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Where a device's part of a batch begins and ends, and the size of the batch."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    size = tf.shape(batch[1])[0]
    number, num = context.replica_id_in_sync_group, context.num_replicas_in_sync
    return number * size // num, (number + 1) * size // num, size


class JaxEngine(Engine):
    """Steps scanned on the device; the state travels through them and is put back into the model after each block."""

    def _prepare(self, features: Features, target: np.ndarray) -> None:
        import jax

        model = self.model

        def one_step(state: Any, batch: Any) -> Any:
            _, state = model.train_step(state, batch)
            return tuple(state), None

        def test(state: Any, batch: Any) -> Any:
            _, state = model.test_step(state, batch)
            return tuple(state)

        self._train = jax.jit(lambda state, blocks: jax.lax.scan(one_step, state, blocks)[0])
        self._test = jax.jit(test)
        self._predict = jax.jit(lambda weights, others, features: model.stateless_call(weights, others, features)[0])

    def train(self, features: Features, target: np.ndarray, weights: np.ndarray | None = None) -> None:
        parts, blocks = self._parts(), (dict(features), target)
        self._put(parts, self._train(self._values(parts), blocks if weights is None else (*blocks, weights)))

    def test(self, features: Features, target: np.ndarray) -> None:
        trainable, others, _, metrics = self._parts()
        parts = (trainable, others, metrics)
        self._put(parts, self._test(self._values(parts), (dict(features), target)))

    def predict(self, features: Features) -> np.ndarray:
        import numpy as np

        trainable, others, _, _ = self._values(self._parts())
        return np.asarray(self._predict(trainable, others, dict(features)), "float32")

    def _parts(self) -> tuple[list[keras.Variable], ...]:
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def _values(self, parts: tuple[list[keras.Variable], ...]) -> tuple[list[Any], ...]:
        return tuple([variable.value for variable in part] for part in parts)

    def _put(self, parts: tuple[list[keras.Variable], ...], values: tuple[list[Any], ...]) -> None:
        for part, new_values in zip(parts, values, strict=True):
            for variable, value in zip(part, new_values, strict=True):
                variable.assign(value)


class TorchEngine(Engine):
    """Steps one by one, as PyTorch runs them."""

    def _prepare(self, features: Features, target: np.ndarray) -> None:
        pass

    def train(self, features: Features, target: np.ndarray, weights: np.ndarray | None = None) -> None:
        for step in range(len(target)):
            batch = {name: array[step] for name, array in features.items()}, target[step]
            self.model.train_step(batch if weights is None else (*batch, weights[step]))

    def test(self, features: Features, target: np.ndarray) -> None:
        self.model.test_step((dict(features), target))

    def predict(self, features: Features) -> np.ndarray:
        import torch
        from keras import ops

        with torch.no_grad():
            outputs: np.ndarray = ops.convert_to_numpy(self.model(dict(features), training=False))
        return outputs.astype("float32", copy=False)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all weights: two saves of one model differ in their files'
    bytes, never in this."""
    import numpy as np

    digest = hashlib.sha256()
    for number, weight in enumerate(model.weights):
        value = np.ascontiguousarray(value_of(weight))
        digest.update(f"{number} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def value_of(variable: keras.Variable) -> np.ndarray:
    """What a variable holds, on the first device where it is on several."""
    from keras import ops

    # One that is on several devices cannot be made an array of at once.
    values: np.ndarray = ops.convert_to_numpy(ops.convert_to_tensor(variable))
    return values
