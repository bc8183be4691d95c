"""Objectives: what differs between regression, binary and multiclass problems, said once.

An objective knows the loss and the curves of training, the form of predictions, the common-sense baseline
(DLWP 2nd ed. §6.2.4: a model must beat it), the metrics, and the pictures of the errors. Targets are arrays of
shape (n,) or (n, 1); predictions are data frames with one row per example, so that they can be kept as Parquet.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.hyperparameters import Hyperparameters
    from problems.outline.metrics import Metric
    from problems.outline.plots import Plot
    from problems.outline.problem import Examples


class PredictionsInvalid(ModelkeepError):
    """What the model puts out cannot be a prediction for this objective."""


class TargetInvalid(ModelkeepError):
    """The target does not have the form that the objective learns."""


@dataclass(frozen=True)
class Blocks:
    """The moment of each row, int64 (n,) of 0 … m-1, and how many moments in a row are drawn together; `of` says what
    the rows are drawn by, where it is not moments."""

    moments: np.ndarray
    length: int
    of: str = "moments"


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model is asked: rows (int64) of the examples, and the rows that were known to who made the model.

    `outputs_of` gives the model's outputs for any values of its inputs, arrays (n, …) by name.
    """

    examples: Examples
    rows: np.ndarray
    known: np.ndarray
    outputs_of: Callable[[Mapping[str, np.ndarray]], np.ndarray]


class Objective(ABC):
    """How a kind of problem is trained, predicted, measured and shown.

    `error_name`   what `row_errors` measures, in words
    `baseline_name`  what the common-sense baseline goes by, in words
    `main_metric`  the metric that decides: against the baseline, against the champion, and in slices
    `margin`       the most, in units of the main metric, by which a challenger may be worse than the champion;
                   None means half the width of the interval of the champion's own score
    """

    kind: ClassVar[str]
    error_name: ClassVar[str]
    baseline_name: ClassVar[str] = "the same answer for every example"
    main_metric: str
    margin: float | None

    def compile(self, model: keras.Model, hyperparameters: Hyperparameters) -> None:
        """Give the model its optimizer, loss and training curves. Raises ModelkeepError for an unknown optimizer."""
        model.compile(_optimizer(hyperparameters), loss=self.loss(), metrics=self.training_metrics())

    def named(self, classes: Sequence[str]) -> Objective:
        """This objective with the names of the classes that the raw files told; () for none. Raises TargetInvalid."""
        return self

    def calibrated(
        self,
        train_target: np.ndarray,
        train_frame: pd.DataFrame,
        held_out: Sequence[tuple[np.ndarray, pd.DataFrame]],
    ) -> Objective:
        """This objective with what it must know of rows that are not tested: the training rows, and targets and
        predictions of rows that were held out of training. Itself, where it needs nothing."""
        return self

    def blocks(self, frame: pd.DataFrame) -> Blocks | None:
        """Which rows a bootstrap must draw together because they depend on each other; None where they do not."""
        return None

    def metric(self, name: str) -> Metric:
        """The metric of that name. Raises ModelkeepError."""
        metrics = {metric.name: metric for metric in self.metrics()}
        if name not in metrics:
            raise ModelkeepError(
                f"A {self.kind} problem has no metric {name!r}.",
                expected="one of " + ", ".join(metrics),
                next_step="correct the name in the problem's objective or acceptance",
            )
        return metrics[name]

    def describe(self, value: float | None, metric: Metric) -> str:
        """The value with its unit, rounded for reading: "2.41 k$", "97.3 %", "0.981"."""
        if value is None or math.isnan(value):
            return "undefined"
        if metric.is_share:
            return _with_minus(f"{value * 100:.1f} %")
        digits = 2 if metric.unit else 3
        text = f"{value:.{digits}f}" if 0.1 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
        return f"{_with_minus(text)} {metric.unit}".rstrip()

    def describe_range(self, ends: Sequence[float] | None, metric: Metric) -> str:
        """Both ends to two digits of the distance between them: "1.76 to 2.45 k$", "95.5 to 97.8 %"."""
        if ends is None:
            return "undefined"
        low, high = (end * (100 if metric.is_share else 1) for end in ends)
        digits = 1 - math.floor(math.log10(high - low)) if high > low else 1 if metric.is_share else 3
        texts = [_with_minus(f"{end:.{min(max(digits, 0), 9)}f}") for end in (low, high)]
        return f"{texts[0]} to {texts[1]} {'%' if metric.is_share else metric.unit}".rstrip()

    def describe_difference(self, value: float, metric: Metric) -> str:
        """As `describe`, but a difference of shares is in percentage points: "1.2 points"."""
        return _in_points(self.describe(value, metric), metric)

    def describe_difference_range(self, ends: Sequence[float] | None, metric: Metric) -> str:
        return _in_points(self.describe_range(ends, metric), metric)

    @abstractmethod
    def loss(self) -> keras.losses.Loss: ...

    @abstractmethod
    def training_metrics(self) -> list[keras.metrics.Metric]:
        """What Keras measures each epoch, for the learning curves."""

    @abstractmethod
    def training_target(self, target: np.ndarray) -> np.ndarray:
        """The target in the shape and dtype that the loss wants. Raises TargetInvalid."""

    @abstractmethod
    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        """The model's outputs (n, 1) or (n, classes) as columns. Raises PredictionsInvalid: shape, NaN, range."""

    def complete(self, predictions: pd.DataFrame, asked: Asked) -> pd.DataFrame:
        """The predictions of the rows asked for, with columns for which the model must be asked about more than these
        rows; as they are, where there are none."""
        return predictions

    def keepsakes(self, asked: Asked) -> dict[str, pd.DataFrame]:
        """Tables by name that are kept beside the model, for questions that shall be answered without loading it."""
        return {}

    @abstractmethod
    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """What common sense predicts for the n rows of `frame`, having learnt from nothing but the training target."""

    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]: ...

    @abstractmethod
    def row_errors(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        """How wrong each prediction is, float64 (n,), 0 for a perfect one: orders the worst examples."""

    @abstractmethod
    def figures(
        self, target: np.ndarray, predictions: pd.DataFrame, frame: pd.DataFrame, baseline: pd.DataFrame
    ) -> dict[str, Plot]:
        """Pictures of the errors on the test rows; `frame` holds these rows, for objectives that draw over time or
        groups."""

    def target_labels(self, target: np.ndarray) -> list[Any]:
        """The targets as a reader knows them: numbers, or the names of the classes."""
        return flat_target(target).tolist()

    def prediction_labels(self, predictions: pd.DataFrame) -> list[Any]:
        """The predictions as a reader knows them: numbers, or the names of the classes."""
        column = "predicted" if "predicted" in predictions else "prediction"
        return predictions[column].tolist()


class Classification(Objective):
    """One of several classes per example, each with a probability.

    `classes`  names in the order of the target's numbers
    """

    classes: tuple[str, ...]

    def numbers(self, target: np.ndarray) -> np.ndarray:
        """The targets as int64 (n,) of 0 … k-1. Raises TargetInvalid."""
        return _class_numbers(target, self.classes)

    def target_labels(self, target: np.ndarray) -> list[Any]:
        return [self.classes[number] for number in self.numbers(target)]

    @abstractmethod
    def probabilities(self, predictions: pd.DataFrame) -> np.ndarray:
        """Of every class, float64 (n, k)."""

    def from_probabilities(self, probabilities: np.ndarray) -> pd.DataFrame:
        """The predictions that say so; the other way round."""
        return self.predictions(self.outputs_of(probabilities))

    @abstractmethod
    def judge(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `predictions`, which take longer than a model does for a row: the probability of every class, float64
        (n, k), and the number of the class that is predicted (n,). Raises PredictionsInvalid."""

    @abstractmethod
    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        """What a model puts out that gives every class this probability, (n, k)."""

    @abstractmethod
    def claims(self, target: np.ndarray, predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
        """The probability (n,) that is judged by what happened (n,), 1 or 0; and what it is the probability of."""


@dataclass(frozen=True, kw_only=True)
class Regression(Objective):
    """One number per example, in `unit`. Column: prediction (float32)."""

    kind: ClassVar[str] = "regression"
    error_name: ClassVar[str] = "absolute error"
    unit: str = ""
    main_metric: str = "mae"
    margin: float | None = None

    def loss(self) -> keras.losses.Loss:
        import keras

        return keras.losses.MeanSquaredError()

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name="mae")]

    def training_target(self, target: np.ndarray) -> np.ndarray:
        """float32 (n, 1)."""
        import numpy as np

        numbers = flat_target(target).astype(np.float32)
        if not np.isfinite(numbers).all():
            raise _bad_target("finite numbers", target, ~np.isfinite(numbers))
        return numbers[:, None]

    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"prediction": checked_outputs(outputs, width=1)[:, 0]})

    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """The mean for squared metrics and the median for the others: the constants that minimise them."""
        import numpy as np

        constant = np.mean if self.main_metric in ("rmse", "r2") else np.median
        return self.predictions(np.full((len(frame), 1), constant(flat_target(train_target)), np.float32))

    def metrics(self) -> tuple[Metric, ...]:
        from problems.outline.metrics import regression_metrics

        return regression_metrics(self.unit)

    def row_errors(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        import numpy as np

        return np.abs(predictions["prediction"].to_numpy(np.float64) - flat_target(target))

    def misses(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        """How far each truth lies from its prediction, float64 (n,), in what the reach of an interval is measured in:
        `unit`."""
        return self.row_errors(target, predictions)

    def half_widths(self, predictions: pd.DataFrame, reach: float) -> np.ndarray:
        """How far an interval of that reach goes to either side of each prediction, float64 (n,), in `unit`."""
        import numpy as np

        return np.full(len(predictions), reach)

    def figures(
        self,
        target: np.ndarray,
        predictions: pd.DataFrame,
        frame: pd.DataFrame,
        baseline: pd.DataFrame,
    ) -> dict[str, Plot]:
        from problems.outline import plots

        truth, guess = flat_target(target), predictions["prediction"].to_numpy(float)
        return {
            "predicted_against_true": plots.predicted_against_true(truth, guess, self.unit),
            "residuals": plots.residuals(truth, guess, self.unit),
            "error_sizes": plots.error_sizes(
                self.row_errors(target, predictions), self.row_errors(target, baseline), self.unit
            ),
            "error_quantiles": plots.error_quantiles(truth, guess, self.unit),
        }


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a wrong answer costs, in `unit`: a positive that was missed, and a false alarm."""

    missed: float
    false_alarm: float
    unit: str

    @property
    def threshold(self) -> float:
        """The probability from which an alarm is cheaper than silence, where probabilities can be believed (Elkan 2001,
        "The foundations of cost-sensitive learning")."""
        return self.false_alarm / (self.false_alarm + self.missed)


@dataclass(frozen=True, kw_only=True)
class Binary(Classification):
    """Yes or no; the target is 1 for `positive`. Columns: probability (float32) and predicted (its name).

    With `costs` the mean cost of a row is among the metrics, and with `least_precision` (0 … 1) the share of the
    positives that is found where that many of the alarms are right.
    """

    kind: ClassVar[str] = "binary"
    error_name: ClassVar[str] = "one minus the probability that was given to the truth"
    positive: str = "yes"
    negative: str = "no"
    threshold: float = 0.5
    costs: Costs | None = None
    least_precision: float | None = None
    main_metric: str = "roc_auc"
    margin: float | None = None

    @property
    def classes(self) -> tuple[str, str]:  # type: ignore[override]
        return (self.negative, self.positive)

    def loss(self) -> keras.losses.Loss:
        import keras

        return keras.losses.BinaryCrossentropy()

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=self.threshold),
            keras.metrics.AUC(name="roc_auc"),
        ]

    def training_target(self, target: np.ndarray) -> np.ndarray:
        """float32 (n, 1) of 0 and 1."""
        import numpy as np

        return _class_numbers(target, self.classes).astype(np.float32)[:, None]

    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        probability, numbers = self._judge(outputs)
        return pd.DataFrame({"probability": probability, "predicted": _named(numbers, self.classes)})

    def judge(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        probability, numbers = self._judge(outputs)
        return _of_both(probability.astype(np.float64)), numbers

    def _judge(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probability of the positive class, float32 (n,), and the class that is predicted, int8 (n,)."""
        import numpy as np

        probability = _checked_probabilities(outputs, width=1, last_layer="one unit with a sigmoid")[:, 0]
        return probability, (probability >= self.threshold).astype(np.int8)

    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities[:, 1:]

    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """The share of positives among the training rows, for everybody."""
        import numpy as np

        share = _class_numbers(train_target, self.classes).mean()
        return self.predictions(np.full((len(frame), 1), share, np.float32))

    def metrics(self) -> tuple[Metric, ...]:
        from problems.outline.metrics import binary_metrics

        return binary_metrics(self.positive, self.threshold, self.costs, self.least_precision)

    def row_errors(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        """One minus the probability that was given to the truth."""
        import numpy as np

        truth = _class_numbers(target, self.classes)
        return np.abs(truth - predictions["probability"].to_numpy(np.float64))

    def figures(
        self,
        target: np.ndarray,
        predictions: pd.DataFrame,
        frame: pd.DataFrame,
        baseline: pd.DataFrame,
    ) -> dict[str, Plot]:
        from problems.outline import plots

        truth, probability = (_class_numbers(target, self.classes), predictions["probability"].to_numpy(float))
        predicted = (probability >= self.threshold).astype(int)
        return {
            "confusion": plots.confusion(truth, predicted, self.classes),
            "roc": plots.roc_curve(truth, probability, self.positive),
            "precision_recall": plots.precision_recall_curve(truth, probability, self.positive),
            "reliability": plots.reliability(*self.claims(target, predictions)),
        }

    def probabilities(self, predictions: pd.DataFrame) -> np.ndarray:
        import numpy as np

        return _of_both(predictions["probability"].to_numpy(np.float64))

    def claims(self, target: np.ndarray, predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
        return self.probabilities(predictions)[:, 1], self.numbers(target), f"probability of {self.positive}"


@dataclass(frozen=True, kw_only=True)
class Multiclass(Classification):
    """One of several classes; the target holds their numbers 0 … k-1 in the order of `classes`.

    Columns: probability_0 … probability_<k-1> (float32) and predicted (the name of the likeliest class).
    """

    kind: ClassVar[str] = "multiclass"
    error_name: ClassVar[str] = "one minus the probability that was given to the truth"
    classes: tuple[str, ...]
    main_metric: str = "accuracy"
    margin: float | None = None

    def named(self, classes: Sequence[str]) -> Multiclass:
        if not classes:
            return self
        if not len(classes) == len(set(classes)) == len(self.classes):
            raise TargetInvalid(
                "The names of the classes do not fit.",
                expected=f"{len(self.classes)} different names",
                received=f"{len(classes)} names, {len(set(classes))} of them different",
                next_step="correct what the problem's read() makes of the names, or the file it read",
            )
        return replace(self, classes=tuple(classes))

    def loss(self) -> keras.losses.Loss:
        import keras

        return keras.losses.SparseCategoricalCrossentropy()

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def training_target(self, target: np.ndarray) -> np.ndarray:
        """int32 (n,) of 0 … k-1."""
        import numpy as np

        return _class_numbers(target, self.classes).astype(np.int32)

    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        probabilities, numbers = self._judge(outputs)
        names = [f"probability_{number}" for number in range(len(self.classes))]
        return pd.DataFrame(probabilities, columns=names).assign(predicted=_named(numbers, self.classes))

    def judge(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        probabilities, numbers = self._judge(outputs)
        return probabilities.astype(np.float64), numbers

    def _judge(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities, float32 (n, k), and the class that is predicted, int64 (n,)."""
        width = len(self.classes)
        probabilities = _checked_probabilities(outputs, width=width, last_layer=f"{width} units with a softmax")
        return probabilities, probabilities.argmax(axis=1)

    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities

    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """The shares of the classes among the training rows, for everybody; so the most frequent class is predicted.
        Without training rows all classes are alike."""
        import numpy as np

        numbers = _class_numbers(train_target, self.classes) if len(train_target) else np.arange(len(self.classes))
        shares = np.bincount(numbers, minlength=len(self.classes)) / len(numbers)
        return self.predictions(np.tile(shares.astype(np.float32), (len(frame), 1)))

    def metrics(self) -> tuple[Metric, ...]:
        from problems.outline.metrics import multiclass_metrics

        return multiclass_metrics(len(self.classes))

    def row_errors(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        """One minus the probability that was given to the truth."""
        import numpy as np

        truth = _class_numbers(target, self.classes)
        return 1 - _probabilities(predictions)[np.arange(len(truth)), truth]

    def figures(
        self,
        target: np.ndarray,
        predictions: pd.DataFrame,
        frame: pd.DataFrame,
        baseline: pd.DataFrame,
    ) -> dict[str, Plot]:
        import numpy as np

        from problems.outline import plots

        truth, probabilities = (_class_numbers(target, self.classes), _probabilities(predictions))
        predicted = probabilities.argmax(axis=1)
        # Only the classes that occur: most of a thousand have no test row.
        seen, numbers = np.unique(np.stack([truth, predicted]), return_inverse=True)
        (true_places, places), names = numbers.reshape(2, -1), [self.classes[number] for number in seen]
        return {
            "confusion": plots.confusion(true_places, places, names),
            "classes": plots.class_scores(true_places, places, names),
            "reliability": plots.reliability(*self.claims(target, predictions)),
        }

    def probabilities(self, predictions: pd.DataFrame) -> np.ndarray:
        return _probabilities(predictions)

    def claims(self, target: np.ndarray, predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
        probabilities = self.probabilities(predictions)
        hits = probabilities.argmax(axis=1) == self.numbers(target)
        return probabilities.max(axis=1), hits.astype(int), "probability of the predicted class"


def _with_minus(text: str) -> str:
    return text.replace("-", "−")


def _in_points(text: str, metric: Metric) -> str:
    return text.removesuffix("%") + "points" if metric.is_share and text.endswith("%") else text


def _optimizer(hyperparameters: Hyperparameters) -> keras.optimizers.Optimizer:
    import keras

    try:
        optimizer = keras.optimizers.get(hyperparameters.optimizer)
    except ValueError:
        raise ModelkeepError(
            f"Keras has no optimizer {hyperparameters.optimizer!r}.",
            expected="a name such as rmsprop, adam, adamw, sgd",
            next_step="set the hyperparameter `optimizer`",
        ) from None
    if hyperparameters.learning_rate is not None:
        optimizer.learning_rate = hyperparameters.learning_rate
    return optimizer


def flat_target(target: np.ndarray) -> np.ndarray:
    """The target as (n,), float64 unless it is of another number type. Raises TargetInvalid for several outputs."""
    import numpy as np

    target = np.asarray(target)
    if target.ndim > 1 and target.size != len(target):
        raise TargetInvalid(
            "The target has several numbers per example.",
            expected="shape (n,) or (n, 1)",
            received=f"shape {target.shape}",
            next_step="give the problem an objective for several outputs",
        )
    target = target.reshape(len(target))
    return target.astype(np.float64) if target.dtype.kind in "fb" else target


def _class_numbers(target: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """int64 (n,) of 0 … k-1. Raises TargetInvalid for anything else."""
    import numpy as np

    flat = flat_target(target)
    wrong = ~np.isin(flat, np.arange(len(classes)))
    if wrong.any():
        raise _bad_target(f"class numbers 0 … {len(classes) - 1} for {', '.join(classes[:6])}", flat, wrong)
    return flat.astype(np.int64)


def _of_both(positive: np.ndarray) -> np.ndarray:
    """The probabilities of the negative and the positive class, (n, 2)."""
    import numpy as np

    return np.column_stack([1 - positive, positive])


def _named(numbers: np.ndarray, classes: Sequence[str]) -> pd.Categorical[str]:
    import pandas as pd

    return pd.Categorical.from_codes(numbers, categories=pd.Index(classes))


def _bad_target(expected: str, target: np.ndarray, wrong: np.ndarray) -> TargetInvalid:
    import numpy as np

    rows = np.flatnonzero(wrong)
    return TargetInvalid(
        f"{len(rows)} of {len(target)} targets cannot be learnt.",
        where="rows " + _first(rows),
        expected=expected,
        received=_first(np.asarray(target).reshape(len(target), -1)[rows, 0]),
        next_step="correct what the problem's read() makes of the target, and let its expectations check it",
    )


def _probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """float64 (n, k) from the columns probability_<i>."""
    return predictions.drop(columns="predicted").to_numpy(float)


def checked_outputs(outputs: np.ndarray, *, width: int) -> np.ndarray:
    """float32 (n, width), all finite. Raises PredictionsInvalid."""
    import numpy as np

    outputs = np.asarray(outputs)
    if outputs.size != len(outputs) * width:
        raise PredictionsInvalid(
            "The model's output has the wrong shape.",
            expected=f"shape (n, {width})",
            received=f"shape {outputs.shape}",
            next_step="correct the last layer in the problem's build()",
        )
    outputs = outputs.reshape(len(outputs), width).astype(np.float32)
    rows = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if len(rows):
        raise PredictionsInvalid(
            f"{len(rows)} of {len(outputs)} predictions are not finite numbers.",
            where="rows " + _first(rows),
            expected="finite numbers",
            received=_first(outputs[rows].ravel()),
            next_step="look for NaN in the features, or lower the learning rate: training may have diverged",
        )
    return outputs


def _checked_probabilities(outputs: np.ndarray, *, width: int, last_layer: str) -> np.ndarray:
    """float32 (n, width) in 0 … 1, rows that sum to 1 where there are several. Raises PredictionsInvalid."""
    import numpy as np

    outputs = checked_outputs(outputs, width=width)
    wrong = ((outputs < 0) | (outputs > 1)).any(axis=1)
    if width > 1:  # bfloat16 keeps 8 bits: its rows may miss 1 by a percent
        wrong |= np.abs(outputs.sum(axis=1) - 1) > 0.02
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise PredictionsInvalid(
            f"{len(rows)} of {len(outputs)} model outputs are not probabilities.",
            where="rows " + _first(rows),
            expected=f"numbers from 0 to 1{', each row summing to 1' if width > 1 else ''}",
            received=_first(outputs[rows[0]]),
            next_step=f"end the model in the problem's build() with {last_layer}",
        )
    return outputs


def _first(values: np.ndarray, count: int = 5) -> str:
    text = ", ".join(f"{value:g}" for value in values[:count].tolist())
    return text + (", …" if len(values) > count else "")
