"""Windows over an evenly spaced series: examples of what was known, and of what came some moments later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from problems.outline.hyperparameters import Hyperparameters, search

if TYPE_CHECKING:
    import keras
    import numpy as np

    from problems.outline.problem import Examples


@dataclass(frozen=True)
class Windows:
    """`values` (n, length) float32, oldest first; `target` (n,) float32; `last` int64 (n,): the place of each
    window's last value in the series."""

    values: np.ndarray
    target: np.ndarray
    last: np.ndarray


def slide(series: np.ndarray, *, length: int, horizon: int) -> Windows:
    """Every window of `length` values with the value `horizon` moments after its last one.

    `series` is (m,), evenly spaced in time, NaN where nothing was measured: windows with a NaN are left out.
    """
    import numpy as np

    series = np.asarray(series, np.float32)
    count = max(len(series) - length - horizon + 1, 0)
    last = np.arange(count) + length - 1
    values = (
        np.lib.stride_tricks.sliding_window_view(series, length)[:count] if count else np.empty((0, length), np.float32)
    )
    target = series[last + horizon]
    whole = np.isfinite(values).all(axis=1) & np.isfinite(target)
    return Windows(values[whole], target[whole], last[whole])


class WindowHyperparameters(Hyperparameters):
    """`dropout` is the share of units that are dropped before the last layer, 0 for none; linear has no units."""

    network: Literal["linear", "dense", "convolution", "lstm"] = "dense"
    units: int = search(32, low=8, high=64)
    dropout: float = search(0.0, low=0.0, high=0.5)
    epochs: int = search(60, low=20, high=200)
    batch_size: int = search(32, choices=(16, 32, 64))
    optimizer: str = "adam"


def build_window_model(hyperparameters: WindowHyperparameters, train: Examples) -> keras.Model:
    """Windows (the feature "window") → the window's last value plus a change, which the network learns.

    The network sees how the window differs from its last value, so a series that grows beyond all that was trained
    on is no new world to it. The scale of differences and the mean and scale of the change are learnt from the
    training examples; the last layer begins at 0, so training begins with the mean change.
    """
    import keras
    import numpy as np
    from keras import layers

    windows = np.asarray(train.features["window"])
    length, last = windows.shape[1], windows[:, -1:]
    scale, unscale = layers.Normalization(axis=None), layers.Normalization(axis=None, invert=True)
    scale.adapt(windows - last)
    unscale.adapt(train.target[:, None] - last)
    window = keras.Input((length,), name="window")
    now = layers.Flatten()(layers.Cropping1D((length - 1, 0))(layers.Reshape((length, 1))(window)))
    hidden = _network(hyperparameters, scale(layers.Subtract()([window, now])))
    hidden = layers.Dropout(hyperparameters.dropout)(hidden) if hyperparameters.dropout else hidden
    change = unscale(layers.Dense(1, kernel_initializer="zeros")(hidden))
    return keras.Model({"window": window}, layers.Add()([now, change]))


def _network(hyperparameters: WindowHyperparameters, window: Any) -> Any:
    """(batch, length) → (batch, units)."""
    from keras import layers

    units = hyperparameters.units
    if hyperparameters.network == "linear":
        return window
    if hyperparameters.network == "dense":
        return layers.Dense(units, activation="relu")(window)
    steps = layers.Reshape((-1, 1))(window)
    if hyperparameters.network == "lstm":
        return layers.LSTM(units)(steps)
    hidden = layers.Conv1D(units, 6, activation="relu")(steps)
    hidden = layers.Conv1D(units, 6, strides=3, activation="relu")(hidden)
    return layers.Dense(units, activation="relu")(layers.Flatten()(hidden))
