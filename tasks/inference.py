"""Inference: a registered model as a function of its inputs, in ONNX Runtime or compiled by TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import load_settings

if TYPE_CHECKING:
    import keras
    import numpy as np

OUTPUT = "output_0"  # as Keras names the only output of what it exports
_NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class TensorSpec:
    """One input of a model: numpy's name of its type ("string" for text), and the shape of one example, in which -1
    is a size that is open."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Engine:
    """A model that is called with arrays (n, …) by the names of its inputs, and returns outputs (n, …).

    `name` is "onnxruntime" or "keras"; `inputs` are none where the model does not name them. Where `compiles_sizes`,
    each n that is new takes long.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    call: Callable[[Mapping[str, Any]], np.ndarray]
    compiles_sizes: bool


def compiled(model: keras.Model) -> Engine:
    """On TensorFlow without Keras' `predict` around it, which costs 50 ms a call."""
    import keras

    named = model.input if isinstance(model.input, Mapping) else {}
    inputs = {name: TensorSpec(str(spec.dtype), _shape(spec.shape)) for name, spec in named.items()}
    if keras.backend.backend() != "tensorflow":
        return Engine("keras", inputs, lambda features: model.predict_on_batch(dict(features)), compiles_sizes=True)
    import tensorflow as tf

    function = tf.function(partial(model, training=False))
    known: dict[Any, Callable[..., Any]] = {}  # by shape and type: asking TensorFlow which it is takes as long as a row

    def call(features: Mapping[str, Any]) -> np.ndarray:
        tensors = {name: tf.constant(array) for name, array in features.items()}
        key = tuple((name, tensor.dtype, *tensor.shape) for name, tensor in tensors.items())
        if key not in known:
            known[key] = function.get_concrete_function(tensors)
        outputs: np.ndarray = known[key](tensors).numpy()
        return outputs

    return Engine("keras", inputs, call, compiles_sizes=True)


def open_onnx(path: Path) -> Engine:
    """A model.onnx as `tasks.export` writes it. Raises what ONNX Runtime raises for another file."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # With a number that is given, threads are not bound to cores, of which a container may have others.
    options.intra_op_num_threads = load_settings().model_threads or num_cores()
    options.inter_op_num_threads = 1
    # Threads that wait for work in a loop take the cores from those that read, check and answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {one.name: TensorSpec(_NUMPY_NAMES[one.type], _shape(one.shape)) for one in session.get_inputs()}
    dtypes = {name: np.dtype("object" if spec.dtype == "string" else spec.dtype) for name, spec in inputs.items()}

    def call(features: Mapping[str, Any]) -> np.ndarray:
        outputs: np.ndarray = session.run(
            [OUTPUT], {name: np.asarray(features[name], dtype) for name, dtype in dtypes.items()}
        )[0]
        return outputs

    return Engine("onnxruntime", inputs, call, compiles_sizes=False)


def num_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shape(shape: Sequence[object]) -> tuple[int, ...]:
    """Of one example."""
    return tuple(size if isinstance(size, int) else -1 for size in shape[1:])


def predict_in_batches(engine: Engine, features: Mapping[str, Any], size: int) -> np.ndarray:
    """Outputs (n, …) for n examples, `size` at a time. The last are filled up where another size would be compiled."""
    import numpy as np

    num_examples = len(next(iter(features.values())))
    outputs: list[np.ndarray] = []
    for start in range(0, num_examples, size):
        batch = {name: array[start : start + size] for name, array in features.items()}
        if engine.compiles_sizes and start + size > num_examples:
            rows = np.minimum(np.arange(start, start + size), num_examples - 1)
            batch = {name: array[rows] for name, array in features.items()}
        outputs.append(engine.call(batch))
    return np.concatenate(outputs)[:num_examples] if len(outputs) > 1 else outputs[0][:num_examples]
