"""Windows over an evenly spaced series: what was known some moments before each of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from problems.outline.hyperparameters import Hyperparameters, search

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.problem import Examples, Inputs


def look_back(series: np.ndarray, *, length: int, horizon: int) -> np.ndarray:
    """For each of the m moments of a series (m,), evenly spaced, the `length` values up to `horizon` moments before it:
    float32 (m, length), oldest first; NaN where there was none yet, or nothing was measured."""
    import numpy as np

    before = np.concatenate([np.full(length + horizon - 1, np.nan, np.float32), np.asarray(series, np.float32)])
    return np.lib.stride_tricks.sliding_window_view(before, length)[: len(series)]


def look_back_by_month(months: pd.Series, values: pd.Series, *, length: int, horizon: int) -> np.ndarray:
    """The same for rows (n) in any order: float32 (n, length). Of a month that is there twice the last value counts."""
    import numpy as np
    import pandas as pd

    known = pd.Series(values.to_numpy(), pd.DatetimeIndex(months)).groupby(level=0).last().asfreq("MS")
    places = known.index.get_indexer(pd.Index(months))
    before = np.full((len(places), length), np.nan, np.float32)
    before[places >= 0] = look_back(known.to_numpy(), length=length, horizon=horizon)[places[places >= 0]]
    return before


def read_by_month(months: pd.DataFrame, value: str, *, length: int, horizon: int) -> Examples:
    """Of a row for each month without gaps (`month`, and the column `value`, NaN where unknown): the feature `window`,
    what was known, float32 (n, length), of each month that has a value and a whole window; target float32 (n,)."""
    import numpy as np

    known = look_back(months[value].to_numpy(), length=length, horizon=horizon)
    rows = np.flatnonzero(np.isfinite(known).all(axis=1) & months[value].notna().to_numpy())
    inputs = _describe_months(months.iloc[rows].reset_index(drop=True), known[rows])
    return inputs.with_target(inputs.frame[value].to_numpy(np.float32))


def inputs_by_month(table: pd.DataFrame, value: str, *, length: int, horizon: int) -> Inputs:
    """The same of rows in any order, in which months to come stand too, with an empty value."""
    months = table["month"].dt.to_period("M").dt.to_timestamp()
    known = look_back_by_month(months, table[value], length=length, horizon=horizon)
    return _describe_months(months.to_frame(), known)


def _describe_months(months: pd.DataFrame, known: np.ndarray) -> Inputs:
    import numpy as np

    from problems.outline.problem import Inputs

    frame = months.assign(
        num_known=np.isfinite(known).sum(axis=1),
        last_year=known[:, -1],
        lowest=known.min(axis=1),
        highest=known.max(axis=1),
        decade=(months["month"].dt.year // 10 * 10).astype(str) + "s",
    )
    return Inputs({"window": known}, frame)


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
