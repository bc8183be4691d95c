"""Metrics that take many sets of weights at once, so that a bootstrap is a handful of array operations.

A resample of n rows with replacement is the same as counting how often each row was drawn: integer weights that
sum to n. Every `compute` takes targets (n,), a predictions frame of n rows, and weights (B, n) or None for the
plain value, and returns float64 (B,) or (1,); NaN where a resample leaves the metric undefined. With weights None
the values are those of the scikit-learn function of the same name.

Imported only where metrics are computed: it needs numpy at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from problems.outline.objectives import Costs

_Compute: TypeAlias = "Callable[[np.ndarray, pd.DataFrame, np.ndarray | None], np.ndarray]"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named measure of predictions; `explanation` is one sentence for readers who meet it for the first time.

    `is_share` values lie in 0 … 1 or are relative, and are shown in percent.
    """

    name: str
    title: str
    explanation: str
    compute: _Compute
    greater_is_better: bool = False
    unit: str = ""
    is_share: bool = False

    @property
    def label(self) -> str:
        """Title and unit, as an axis has them."""
        unit = "%" if self.is_share else self.unit
        return f"{self.title}, {unit}" if unit else self.title


def regression_metrics(unit: str) -> tuple[Metric, ...]:
    return (
        Metric(
            name="mae",
            title="Mean absolute error",
            explanation="How far off a prediction is on average, whichever way.",
            compute=_mean_of(_absolute_errors),
            unit=unit,
        ),
        Metric(
            name="rmse",
            title="Root mean squared error",
            explanation="Like the mean absolute error, but a few large errors count for more.",
            compute=_root_mean_squared_error,
            unit=unit,
        ),
        Metric(
            name="median_absolute_error",
            title="Median absolute error",
            explanation="Half of the predictions are closer than this.",
            compute=_median_absolute_error,
            unit=unit,
        ),
        Metric(
            name="mape",
            title="Mean absolute percentage error",
            explanation="The error as a share of the true value, on average over the rows whose true value is above 0.",
            compute=_mean_absolute_percentage_error,
            is_share=True,
        ),
        Metric(
            name="r2",
            title="R²",
            explanation="The share of the target's variance that is explained: 1 is perfect, 0 as good as the mean.",
            compute=_r2,
            greater_is_better=True,
        ),
    )


def forecast_metrics(unit: str, *, is_ratio: bool, scale: float, reach: float, is_relative: bool) -> tuple[Metric, ...]:
    """Those of `problems.outline.forecast.Forecast`, which says what the arguments are."""
    mae, rmse, median, mape, _ = regression_metrics(unit)
    within = f"{reach:.1%} of the prediction" if is_relative else f"{reach:.3g} {unit}".rstrip()
    mase = Metric(
        name="mase",
        title="Mean absolute scaled error",
        explanation=f"The mean absolute error, divided by that of the baseline on the training rows ({scale:.3g}).",
        compute=partial(_scaled_error, scale=scale),
    )
    coverage = Metric(
        name="coverage",
        title="Coverage",
        explanation=f"How often the truth was within ± {within}, which held for 90 % of the rows held out before.",
        compute=_mean_of(partial(_covered, reach=reach, is_relative=is_relative)),
        greater_is_better=True,
        is_share=True,
    )
    return (mae, rmse, median, *((mape,) if is_ratio else ()), mase, coverage)


def binary_metrics(
    positive: str, threshold: float, costs: Costs | None = None, least_precision: float | None = None
) -> tuple[Metric, ...]:
    """Those that every binary problem has, and those that its costs and its least precision add."""
    return (
        *_plain_binary_metrics(positive, threshold),
        *((_recall_metric(positive, least_precision),) if least_precision is not None else ()),
        *((_cost_metric(positive, threshold, costs),) if costs is not None else ()),
    )


def _recall_metric(positive: str, least_precision: float) -> Metric:
    return Metric(
        name="recall_at_precision",
        title=f"Recall at a precision of {least_precision:.0%}",
        explanation=f"The share of “{positive}” that is found at the best cut where {least_precision:.0%} of the "
        "alarms are right.",
        compute=partial(_recall_at_precision, least_precision=least_precision),
        greater_is_better=True,
        is_share=True,
    )


def _cost_metric(positive: str, threshold: float, costs: Costs) -> Metric:
    return Metric(
        name="cost",
        title="Cost of a row",
        explanation=f"A missed “{positive}” costs {costs.missed:g} {costs.unit} and a false alarm "
        f"{costs.false_alarm:g}: the mean over all rows, with alarms from a probability of {threshold:.3g} on.",
        compute=_mean_of(partial(_costs_of_errors, threshold=threshold, costs=costs)),
        unit=costs.unit,
    )


def _plain_binary_metrics(positive: str, threshold: float) -> tuple[Metric, ...]:
    said = f"“{positive}” is predicted from a probability of {threshold:g} on."
    return (
        Metric(
            name="roc_auc",
            title="Area under the ROC curve",
            explanation=f"How often a row that is “{positive}” gets a higher probability than one that is not.",
            compute=_roc_auc,
            greater_is_better=True,
        ),
        Metric(
            name="pr_auc",
            title="Average precision",
            explanation=f"The precision, averaged over the cuts that find more and more of “{positive}”.",
            compute=_average_precision,
            greater_is_better=True,
        ),
        Metric(
            name="accuracy",
            title="Accuracy",
            explanation=f"The share of rows with the right answer; {said}",
            compute=_mean_of(partial(_binary_hits, threshold=threshold)),
            greater_is_better=True,
            is_share=True,
        ),
        Metric(
            name="precision",
            title="Precision",
            explanation=f"Of the rows predicted “{positive}”, the share that is.",
            compute=partial(_precision, threshold=threshold),
            greater_is_better=True,
            is_share=True,
        ),
        Metric(
            name="recall",
            title="Recall",
            explanation=f"Of the rows that are “{positive}”, the share that was found.",
            compute=partial(_recall, threshold=threshold),
            greater_is_better=True,
            is_share=True,
        ),
        Metric(
            name="f1",
            title="F1",
            explanation="The harmonic mean of precision and recall: low when either is.",
            compute=partial(_f1, threshold=threshold),
            greater_is_better=True,
        ),
        Metric(
            name="log_loss",
            title="Log loss",
            explanation="What training minimises: a confident wrong probability costs much, a right one nothing.",
            compute=_mean_of(_binary_log_losses),
        ),
        Metric(
            name="brier",
            title="Brier score",
            explanation="The mean squared distance of the probability from what happened (0 or 1).",
            compute=_mean_of(_squared_probability_errors),
        ),
    )


def multiclass_metrics(num_classes: int) -> tuple[Metric, ...]:
    """The top-5 accuracy is among them where there are more than 10 classes."""
    top = Metric(
        name="top_5_accuracy",
        title="Top-5 accuracy",
        explanation="The share of rows whose true class is among the five likeliest.",
        compute=_mean_of(partial(_top_hits, count=5)),
        greater_is_better=True,
        is_share=True,
    )
    return (
        Metric(
            name="accuracy",
            title="Accuracy",
            explanation="The share of rows whose likeliest class is the true one.",
            compute=_mean_of(partial(_top_hits, count=1)),
            greater_is_better=True,
            is_share=True,
        ),
        *((top,) if num_classes > 10 else ()),
        Metric(
            name="macro_f1",
            title="Macro F1",
            explanation="F1 of each class, averaged so that a rare class counts as much as a frequent one.",
            compute=_macro_f1,
            greater_is_better=True,
        ),
        Metric(
            name="log_loss",
            title="Log loss",
            explanation="What training minimises: a confident wrong probability costs much, a right one nothing.",
            compute=_mean_of(_multiclass_log_losses),
        ),
        Metric(
            name="brier",
            title="Brier score",
            explanation="The squared distance of the probabilities from what happened (0 or 1), summed over classes.",
            compute=_mean_of(_summed_probability_errors),
        ),
    )


def weighted_mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(B,) means of values (n,); NaN for no rows."""
    if weights is None:
        return np.array([values.mean() if len(values) else np.nan])
    return _divide(weights @ values, weights.sum(axis=1))


def _divide(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise, np.float64)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def _mean_of(per_row: Callable[[np.ndarray, pd.DataFrame], np.ndarray]) -> _Compute:
    """A metric that is the mean of a number per row."""

    def compute(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
        return weighted_mean(per_row(target, predictions), weights)

    return compute


def _absolute_errors(target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
    return np.abs(predictions["prediction"].to_numpy(np.float64) - target)


def _scaled_error(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, scale: float
) -> np.ndarray:
    """Hyndman & Koehler 2006, with one scale for all series: a figure of 1 is the baseline's in the training time."""
    return weighted_mean(_absolute_errors(target, predictions), weights) / (scale or np.nan)


def _covered(target: np.ndarray, predictions: pd.DataFrame, reach: float, is_relative: bool) -> np.ndarray:
    """1.0 where the truth is at most `reach` away; NaN everywhere without one."""
    allowed = reach * np.abs(predictions["prediction"].to_numpy(np.float64)) if is_relative else reach
    return np.where(np.isnan(allowed), np.nan, _absolute_errors(target, predictions) <= allowed)


def _root_mean_squared_error(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    return np.sqrt(weighted_mean(_absolute_errors(target, predictions) ** 2, weights))


def _median_absolute_error(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    errors = _absolute_errors(target, predictions)
    if weights is None:
        return np.array([np.median(errors)])
    order = errors.argsort()
    reached, half = (weights.take(order, axis=1).cumsum(axis=1), weights.sum(axis=1, keepdims=True) / 2)
    # Of an even number of rows the median is the mean of the two in the middle.
    lower, upper = (reached >= half).argmax(axis=1), (reached > half).argmax(axis=1)
    return np.where(half[:, 0] > 0, (errors[order][lower] + errors[order][upper]) / 2, np.nan)


def _mean_absolute_percentage_error(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None
) -> np.ndarray:
    above = target > 0
    relative = _absolute_errors(target[above], predictions[above]) / target[above]
    return weighted_mean(relative, None if weights is None else weights.compress(above, axis=1))


def _r2(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    # Centred first: the difference of two large sums of squares would lose its digits.
    centred = target - target.mean()
    variance = weighted_mean(centred**2, weights) - weighted_mean(centred, weights) ** 2
    squared_error = weighted_mean(_absolute_errors(target, predictions) ** 2, weights)
    return 1 - _divide(squared_error, np.where(variance > 1e-12 * np.mean(centred**2), variance, 0))


def _binary_hits(target: np.ndarray, predictions: pd.DataFrame, threshold: float) -> np.ndarray:
    return (_chosen(predictions, threshold) == target).astype(np.float64)


def _chosen(predictions: pd.DataFrame, threshold: float) -> np.ndarray:
    return (predictions["probability"].to_numpy() >= threshold).astype(np.float64)


def _true_positives(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B,) shares of the rows: positive and predicted so, predicted positive, positive."""
    chosen = _chosen(predictions, threshold)
    return (
        weighted_mean(chosen * target, weights),
        weighted_mean(chosen, weights),
        weighted_mean(target.astype(np.float64), weights),
    )


def _precision(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, threshold: float
) -> np.ndarray:
    """0 where nothing is predicted positive, as scikit-learn has it."""
    hits, chosen, _ = _true_positives(target, predictions, weights, threshold)
    return _divide(hits, chosen, otherwise=0.0)


def _recall(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, threshold: float) -> np.ndarray:
    hits, _, positive = _true_positives(target, predictions, weights, threshold)
    return _divide(hits, positive)


def _f1(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, threshold: float) -> np.ndarray:
    hits, chosen, positive = _true_positives(target, predictions, weights, threshold)
    return _divide(2 * hits, chosen + positive)


def _costs_of_errors(target: np.ndarray, predictions: pd.DataFrame, threshold: float, costs: Costs) -> np.ndarray:
    alarm = _chosen(predictions, threshold) == 1
    return np.where(target == 1, np.where(alarm, 0.0, costs.missed), np.where(alarm, costs.false_alarm, 0.0))


def _binary_log_losses(target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
    probability = _clipped(predictions["probability"].to_numpy())
    return -np.log(np.where(target == 1, probability, 1 - probability))


def _multiclass_log_losses(target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
    given = _class_probabilities(predictions)[np.arange(len(target)), target.astype(np.int64)]
    return -np.log(_clipped(given))


def _clipped(probability: np.ndarray) -> np.ndarray:
    """float64, away from 0 and 1 by what the dtype of the predictions can tell, as in sklearn.metrics.log_loss."""
    least = np.finfo(probability.dtype).eps
    return np.clip(probability, least, 1 - least).astype(np.float64)


def _squared_probability_errors(target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
    return (predictions["probability"].to_numpy(np.float64) - target) ** 2


def _summed_probability_errors(target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
    """Brier 1950, 0 … 2."""
    probabilities = _class_probabilities(predictions).astype(np.float64)
    given = probabilities[np.arange(len(target)), target.astype(np.int64)]
    return (probabilities**2).sum(axis=1) - given**2 + (1 - given) ** 2


@dataclass(frozen=True)
class _Ranking:
    """Row numbers of positives and negatives from the highest probability down, and for each positive how many
    positives (`positives_from`) and negatives (`negatives_from`) have its probability or a higher one, and how many
    negatives a higher one (`negatives_above`)."""

    positives: np.ndarray
    negatives: np.ndarray
    positives_from: np.ndarray
    negatives_from: np.ndarray
    negatives_above: np.ndarray


def _rank(target: np.ndarray, predictions: pd.DataFrame) -> _Ranking:
    downwards = -predictions["probability"].to_numpy()
    order = downwards.argsort(kind="stable")
    positives, negatives = order[target[order] == 1], order[target[order] != 1]
    own, other = downwards[positives], downwards[negatives]
    return _Ranking(
        positives,
        negatives,
        positives_from=own.searchsorted(own, "right"),
        negatives_from=other.searchsorted(own, "right"),
        negatives_above=other.searchsorted(own, "left"),
    )


def _counted(weights: np.ndarray) -> np.ndarray:
    """(B, m + 1): the sums of the first 0, 1, … m columns."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _roc_auc(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    """The share of pairs (positive, negative) in the right order, ties half; NaN without one of them (Fawcett 2006)."""
    weights = np.ones((1, len(target))) if weights is None else weights
    ranking = _rank(target, predictions)
    drawn, negatives = weights.take(ranking.positives, axis=1), _counted(weights.take(ranking.negatives, axis=1))
    wrong = negatives.take(ranking.negatives_above, axis=1) + negatives.take(ranking.negatives_from, axis=1)
    return 1 - _divide(np.einsum("bi,bi->b", drawn, wrong) / 2, drawn.sum(axis=1) * negatives[:, -1])


def _average_precision(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    weights = np.ones((1, len(target))) if weights is None else weights
    ranking = _rank(target, predictions)
    drawn, negatives = weights.take(ranking.positives, axis=1), _counted(weights.take(ranking.negatives, axis=1))
    hits = _counted(drawn).take(ranking.positives_from, axis=1)
    precision = _divide(hits, hits + negatives.take(ranking.negatives_from, axis=1), otherwise=0.0)
    return _divide(np.einsum("bi,bi->b", drawn, precision), drawn.sum(axis=1))


def _recall_at_precision(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, least_precision: float
) -> np.ndarray:
    """0 where no cut is as precise; NaN without positives."""
    weights = np.ones((1, len(target))) if weights is None else weights
    ranking = _rank(target, predictions)
    drawn, negatives = weights.take(ranking.positives, axis=1), _counted(weights.take(ranking.negatives, axis=1))
    hits = _counted(drawn).take(ranking.positives_from, axis=1)
    precision = _divide(hits, hits + negatives.take(ranking.negatives_from, axis=1), otherwise=0.0)
    found = np.where(precision >= least_precision, hits, 0.0).max(axis=1, initial=0.0)
    return _divide(found, drawn.sum(axis=1))


def _class_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """(n, k) in the dtype of the columns probability_<i>."""
    return predictions.drop(columns="predicted").to_numpy()


def _top_hits(target: np.ndarray, predictions: pd.DataFrame, count: int) -> np.ndarray:
    """1.0 where the true class is among the `count` likeliest; of equally likely ones the lower number goes first."""
    probabilities = _class_probabilities(predictions)
    truth = target.astype(np.int64)[:, None]
    given = np.take_along_axis(probabilities, truth, axis=1)
    earlier = np.arange(probabilities.shape[1]) < truth
    before = (probabilities > given) | ((probabilities == given) & earlier)
    return (before.sum(axis=1) < count).astype(np.float64)


def _macro_f1(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None) -> np.ndarray:
    """The mean over the classes that are true or predicted for some row of the resample, as scikit-learn has it."""
    probabilities = _class_probabilities(predictions)
    drawn = np.ones((1, len(target))) if weights is None else weights
    classes = np.eye(probabilities.shape[1])
    is_true, is_predicted = (classes[target.astype(np.int64)], classes[probabilities.argmax(axis=1)])
    f1 = _divide(2 * (drawn @ (is_true * is_predicted)), drawn @ (is_true + is_predicted))
    return np.nanmean(f1, axis=1)
