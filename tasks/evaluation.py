"""How good a model is on the test rows, how sure that is, and what follows from it.

Everything is measured with one set of bootstrap resamples of the test rows (Efron & Tibshirani 1993, ch. 13:
percentile intervals), so that model, baseline and champion are compared on the same draws (paired), which leaves
only the difference between them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from modelkeep.errors import ModelkeepError
from problems.outline.acceptance import Verdict
from problems.outline.objectives import PredictionsInvalid
from tasks.resampling import LEVEL, Key, Statistic, describe_method, holm, middle, p_value
from tasks.suspects import suspect_labels
from tasks.trust import HeldOut, Resampling, judge_intervals, judge_probabilities

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.acceptance import Criterion
    from problems.outline.metrics import Metric
    from problems.outline.objectives import Objective
    from problems.outline.problem import Problem

SMALL_SLICE = 30
MOST_SLICE_VALUES = 12
NUM_WORST = 10

_Slices: TypeAlias = "dict[tuple[str, str], np.ndarray]"


@dataclass(frozen=True)
class Decision:
    """Whether a challenger becomes champion, and the sentence that says why."""

    promote: bool
    reason: str


def evaluate(
    problem: Problem,
    *,
    target: np.ndarray,
    predictions: pd.DataFrame,
    baseline: pd.DataFrame,
    frame: pd.DataFrame,
    champion: pd.DataFrame | None = None,
    folds: Sequence[tuple[np.ndarray, pd.DataFrame]] | None = None,
    validation: tuple[np.ndarray, pd.DataFrame] | None = None,
    rows: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Measure predictions of n test rows, next to the baseline's and the champion's of the same rows.

    `target` (n,), the others one row each; `folds` are (held-out target, predictions) of cross-validation, and
    `validation` of the validation rows where there are no folds; `rows` are the numbers (n,) that the examples have in
    the data, default 0 … n-1. The result can be written as JSON:

        problem, objective, main_metric, num_test_rows
        baseline_name      what the baseline goes by, in words
        interval           {method, block, source, level, resamples, seed}; `block` is null where rows are drawn alone
        metrics            {name: {title, explanation, unit, is_share, greater_is_better, value, baseline, champion,
                            interval}}
        against_baseline   {metric, gain, interval, text}; a gain above 0 is better, in units of the main metric
        against_champion   the same with {margin, identical, harmed_slices: [{column, value, gain}]}, or null
        slices             {column: {value: {n, share, small, metric, value, interval, gap, gap_interval, gap_p,
                            gap_significant, against_champion: {gain, interval, harmed} | null}}}
        cross_validation   {metric, values, mean, sd} or null
        worst              [{row, target, prediction, error, frame: {column: value}}], the worst first
        error              what the `error` of the worst examples measures, in words
        calibration, intervals   as tasks.trust describes them, or null
        label_errors       as tasks.suspects does, each example with `row` and `frame` as among the worst, or null
        overlap, behaviours, importance, occlusion   null, empty, null and null: tasks.evaluate, which has the model,
                           puts them in

    Beside a number `x` stands `x_text`, as a reader wants it. An interval is two numbers, or null where the metric
    is undefined in most resamples. `gap` is by how much the slice is better than the other rows; gaps and harms are
    significant after Holm's correction (1979) over all slices, which is in `gap_p`; slices of fewer than 30 rows are
    `small` and never called harmed.

    Raises PredictionsInvalid for predictions that do not fit the rows or are not finite, ModelkeepError for a slice
    that is not in the frame or a main metric that these rows leave undefined.
    """
    import numpy as np

    objective = problem.objective
    main = objective.metric(objective.main_metric)
    target = np.asarray(target).reshape(len(target))
    contenders = {"model": predictions, "baseline": baseline} | ({} if champion is None else {"champion": champion})
    _require_rows(frame, len(target), "rows of the frame")
    for name, contender in contenders.items():
        _require_usable(contender, len(target), f"predictions of the {name}", columns=predictions.columns.tolist())
    slices, blocks = _slice_rows(frame, problem.slices), objective.blocks(frame)
    rows = np.arange(len(target)) if rows is None else rows
    held_out = _held_out(folds, validation)
    resampling = Resampling(resamples, seed, blocks)

    measured = _measure(objective, target, contenders, slices, resampling)
    by_slice = _describe_slices(objective, main, measured, slices, len(target))
    return {
        "problem": problem.name,
        "objective": objective.kind,
        "main_metric": main.name,
        "num_test_rows": len(target),
        "baseline_name": objective.baseline_name,
        "interval": {**describe_method(blocks), "level": LEVEL, "resamples": resamples, "seed": seed},
        "metrics": {metric.name: _describe_metric(objective, metric, measured) for metric in objective.metrics()},
        "against_baseline": _compare(objective, main, measured, "baseline"),
        "against_champion": None
        if champion is None
        else _compare_with_champion(objective, main, measured, by_slice)
        | {"identical": np.array_equal(_numbers(predictions), _numbers(champion))},
        "slices": by_slice,
        "cross_validation": _cross_validation(objective, main, folds),
        "worst": _worst(objective, target, predictions, frame, rows),
        "error": objective.error_name,
        "calibration": judge_probabilities(objective, target, predictions, held_out, resampling),
        "intervals": judge_intervals(objective, target, predictions, held_out, resampling),
        "label_errors": _suspect(objective, target, predictions, frame, rows),
        "overlap": None,
        "behaviours": [],
        "importance": None,
        "occlusion": None,
    }


def _measure(
    objective: Objective,
    target: np.ndarray,
    contenders: Mapping[str, pd.DataFrame],
    slices: _Slices,
    resampling: Resampling,
) -> _Measured:
    """Raises ModelkeepError where the main metric is undefined on these rows."""
    main = objective.metric(objective.main_metric)
    everything = _whole_statistics(objective.metrics(), target, contenders)
    with_interval = (
        _whole_statistics(objective.metrics(), target, {"model": contenders["model"]})
        | _whole_statistics([main], target, contenders)
        | _slice_statistics(main, target, contenders, slices)
    )
    measured = _Measured(
        values={key: float(statistic(None)[0]) for key, statistic in (everything | with_interval).items()},
        resampled=resampling.of(with_interval, len(target)),
    )
    _require_defined(measured, main, contenders, len(target))
    return measured


def _held_out(
    folds: Sequence[tuple[np.ndarray, pd.DataFrame]] | None, validation: tuple[np.ndarray, pd.DataFrame] | None
) -> HeldOut:
    if folds:
        return HeldOut(folds, f"rows held out in {len(folds)} folds")
    return HeldOut([validation] if validation else [], "validation rows")


def judge_challenger(evaluation: Mapping[str, Any]) -> Decision:
    """Promote unless the challenger is shown to be worse, may be worse by more than the margin, or harms a slice.

    Shown to be worse: the 95 % interval of its gain over the champion lies below 0. May be worse by more than the
    margin: the interval's lower end is below minus the margin, which the objective states or which is half the
    width of the interval of the champion's own score (non-inferiority; Piaggio et al. 2012 on stating a margin).
    The first version of a problem has nobody to beat and is promoted.
    """
    comparison = evaluation["against_champion"]
    if comparison is None:
        return Decision(True, "There was no champion before it.")
    if comparison["identical"]:
        return Decision(True, "It predicts exactly what the champion predicts, so it is as good as the champion.")
    if comparison["interval"] is None:
        return Decision(False, "It cannot be compared with the champion: the metric is undefined on these test rows.")
    low, high = comparison["interval"]
    if high < 0:
        return Decision(False, f"It is worse than the champion: {comparison['text']}.")
    if low < -comparison["margin"]:
        return Decision(
            False,
            f"It may be worse than the champion by more than the margin of {comparison['margin_text']}: "
            f"{comparison['text']}.",
        )
    if comparison["harmed_slices"]:
        harmed = ", ".join(f"{harm['column']} = {harm['value']}" for harm in comparison["harmed_slices"])
        return Decision(False, f"It is not worse than the champion over all, but it is worse for {harmed}.")
    verdict = "better than" if low > 0 else "as good as"
    return Decision(True, f"It is {verdict} the champion: {comparison['text']}, and no slice is harmed.")


def judge_acceptance(problem: Problem, evaluation: Mapping[str, Any]) -> list[tuple[str, Verdict]]:
    """Each criterion as it is written in the problem's file, with its verdict; then the behaviours with theirs.

    Raises ModelkeepError for a criterion on a metric that the objective does not have.
    """
    criteria = [(_written(criterion), _judge(problem, criterion, evaluation)) for criterion in problem.acceptance]
    behaviours = [
        (f"{found['kind'].capitalize()}({found['name']!r})", Verdict(found["passed"], found["reason"]))
        for found in evaluation["behaviours"]
    ]
    return criteria + behaviours


def _judge(problem: Problem, criterion: Criterion, evaluation: Mapping[str, Any]) -> Verdict:
    name = getattr(criterion, "metric", None)
    if name is not None:
        problem.objective.metric(name)
        if evaluation["metrics"][name]["value"] is None:
            return Verdict(False, f"{name} is undefined on the {evaluation['num_test_rows']} test rows")
    return criterion.judge(evaluation)


def _written(criterion: Criterion) -> str:
    values = [repr(getattr(criterion, field.name)) for field in fields(criterion)]  # type: ignore[arg-type]
    return f"{type(criterion).__name__}({', '.join(values)})"


@dataclass(frozen=True)
class _Measured:
    """Statistics by key: their plain values, and their values in each resample, (resamples,)."""

    values: Mapping[Key, float]
    resampled: Mapping[Key, np.ndarray]

    def interval(self, key: Key) -> list[float] | None:
        return middle(self.resampled[key])

    def gain(self, metric: Metric, better: Key, worse: Key) -> tuple[float, np.ndarray]:
        """By how much the first is better than the second: the plain value, and (resamples,)."""
        sign = 1 if metric.greater_is_better else -1
        return (
            sign * (self.values[better] - self.values[worse]),
            sign * (self.resampled[better] - self.resampled[worse]),
        )


def _whole_statistics(
    metrics: Iterable[Metric], target: np.ndarray, contenders: Mapping[str, pd.DataFrame]
) -> dict[Key, Statistic]:
    """The metrics of the contenders on all rows, by (metric, contender)."""
    return {
        (metric.name, name): _statistic(metric, target, contender)
        for metric in metrics
        for name, contender in contenders.items()
    }


def _slice_statistics(
    main: Metric, target: np.ndarray, contenders: Mapping[str, pd.DataFrame], slices: _Slices
) -> dict[Key, Statistic]:
    """The main metric in each slice, and of the model in all other rows too, by (column, value, contender | "rest")."""
    import numpy as np

    statistics: dict[Key, Statistic] = {}
    for key, inside in slices.items():
        for name in contenders.keys() - {"baseline"}:
            statistics[*key, name] = _statistic(main, target, contenders[name], inside)
        outside = np.setdiff1d(np.arange(len(target)), inside)
        if len(outside):
            statistics[*key, "rest"] = _statistic(main, target, contenders["model"], outside)
    return statistics


def _statistic(
    metric: Metric, target: np.ndarray, predictions: pd.DataFrame, rows: np.ndarray | None = None
) -> Statistic:
    """The metric over `rows` (all when None), as a function of the weights (B, n) of all rows."""
    if rows is None:
        return lambda weights: metric.compute(target, predictions, weights)
    target, predictions = target[rows], predictions.iloc[rows]
    return lambda weights: metric.compute(target, predictions, None if weights is None else weights.take(rows, axis=1))


def _describe_metric(objective: Objective, metric: Metric, measured: _Measured) -> dict[str, Any]:
    described: dict[str, Any] = {
        "title": metric.title,
        "explanation": metric.explanation,
        "unit": metric.unit,
        "is_share": metric.is_share,
        "greater_is_better": metric.greater_is_better,
    }
    for name, label in (("model", "value"), ("baseline", "baseline"), ("champion", "champion")):
        described[label] = _plain(measured.values.get((metric.name, name)))
        described[f"{label}_text"] = objective.describe(described[label], metric)
    interval = measured.interval((metric.name, "model"))
    return described | {"interval": interval, "interval_text": objective.describe_range(interval, metric)}


def _compare(objective: Objective, main: Metric, measured: _Measured, other: str) -> dict[str, Any]:
    gain, samples = measured.gain(main, (main.name, "model"), (main.name, other))
    interval = middle(samples)
    title = main.title[0].lower() + main.title[1:]
    text = (
        f"its {title} is {'better' if gain >= 0 else 'worse'} by {objective.describe_difference(abs(gain), main)} "
        f"(95 % interval of the gain {objective.describe_difference_range(interval, main)})"
    )
    return {"metric": main.name, "gain": gain, "interval": interval, "text": text}


def _compare_with_champion(
    objective: Objective, main: Metric, measured: _Measured, by_slice: Mapping[str, Any]
) -> dict[str, Any]:
    low, high = measured.interval((main.name, "champion")) or (0.0, 0.0)
    margin = (high - low) / 2 if objective.margin is None else objective.margin
    harmed = [
        {"column": column, "value": value, "gain": part["against_champion"]["gain"]}
        for column, parts in by_slice.items()
        for value, part in parts.items()
        if part["against_champion"]["harmed"]
    ]
    return _compare(objective, main, measured, "champion") | {
        "margin": margin,
        "margin_text": objective.describe_difference(margin, main),
        "harmed_slices": harmed,
    }


def _slice_rows(frame: pd.DataFrame, columns: Sequence[str]) -> _Slices:
    """The rows of each slice by (column, value). Raises ModelkeepError for a column that is not in the frame."""
    import numpy as np

    missing = [column for column in columns if column not in frame]
    if missing:
        raise ModelkeepError(
            f"There is no column {missing[0]!r} to slice by.",
            expected="one of " + ", ".join(map(str, frame.columns)),
            next_step="correct the problem's slices, or let its read() put the column into the frame",
        )
    slices: _Slices = {}
    for column in columns:
        labels = _slice_labels(frame[column])
        for label in labels.cat.categories:
            slices[column, str(label)] = np.flatnonzero(labels == label)
    return {key: rows for key, rows in slices.items() if len(rows)}


def _slice_labels(column: pd.Series) -> pd.Series:
    """A label per row, in an order for reading, as a categorical of strings.

    Values as they are up to 12 of them; beyond, quarters of the rows for numbers, and the 11 most frequent and
    "other" for the rest. What is not there is "missing".
    """
    import pandas as pd

    if column.nunique() > MOST_SLICE_VALUES:
        if pd.api.types.is_numeric_dtype(column):
            column = _quarters(column)
        else:
            frequent = column.value_counts().index[: MOST_SLICE_VALUES - 1]
            column = column.astype(object).where(column.isin(frequent) | column.isna(), "other")
    labels = column.astype("category").cat.remove_unused_categories()
    labels = labels.cat.rename_categories([_label(value) for value in labels.cat.categories])
    return labels.cat.add_categories("missing").fillna("missing") if labels.isna().any() else labels


def _quarters(column: pd.Series) -> pd.Series:
    """The quarter of the rows that each number is in, told by its lowest and highest value."""
    import pandas as pd

    quarters = pd.qcut(column, 4, labels=False, duplicates="drop")
    ends = column.groupby(quarters).agg(["min", "max"])
    digits = _digits_that_differ([*ends["min"], *ends["max"]])
    labels = {
        number: f"{_rounded(low, digits)} to {_rounded(high, digits)}" if low < high else _rounded(low, digits)
        for number, low, high in ends.itertuples()
    }
    return quarters.map(labels).astype(pd.CategoricalDtype(list(dict.fromkeys(labels.values())), ordered=True))


def _digits_that_differ(values: Sequence[float]) -> int:
    """The fewest significant digits, from 3 to 15, that tell all of these numbers apart."""
    different = len(set(values))
    return next(
        (digits for digits in range(3, 15) if len({_rounded(value, digits) for value in values}) == different), 15
    )


def _rounded(value: float, digits: int) -> str:
    """Whole numbers whole up to a million: 1,409 is no 1.41e+03."""
    whole = abs(value) < 1e6 and float(value).is_integer()
    return f"{value:.0f}" if whole else f"{value:.{digits}g}"


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {"True": "yes", "False": "no"}.get(str(value), str(value))


def _describe_slices(
    objective: Objective, main: Metric, measured: _Measured, slices: _Slices, num_rows: int
) -> dict[str, dict[str, Any]]:
    gaps = _adjusted_gains(main, measured, {key: ((*key, "model"), (*key, "rest")) for key in slices})
    harms = _adjusted_gains(main, measured, {key: ((*key, "model"), (*key, "champion")) for key in slices})
    described: dict[str, dict[str, Any]] = {}
    for key, rows in slices.items():
        column, label = key
        value, gap, harm = _plain(measured.values[*key, "model"]), gaps.get(key), harms.get(key)
        interval, small = measured.interval((*key, "model")), len(rows) < SMALL_SLICE
        described.setdefault(column, {})[label] = {
            "n": len(rows),
            "share": len(rows) / num_rows,
            "small": small,
            "metric": main.name,
            "value": value,
            "value_text": objective.describe(value, main),
            "interval": interval,
            "interval_text": objective.describe_range(interval, main),
            "gap": gap and _plain(gap.value),
            "gap_interval": gap and gap.interval,
            "gap_p": gap and gap.chance,
            "gap_p_text": gap and ("p < 0.001" if gap.chance < 0.001 else f"p = {gap.chance:.3f}"),
            "gap_significant": bool(gap and gap.significant and not small),
            "against_champion": harm
            and {
                "gain": _plain(harm.value),
                "interval": harm.interval,
                "harmed": harm.significant and harm.value < 0 and not small,
            },
        }
    return described


@dataclass(frozen=True)
class _Gain:
    """A difference in the good direction, and its p-value after Holm's correction."""

    value: float
    interval: list[float] | None
    chance: float

    @property
    def significant(self) -> bool:
        return self.chance < 1 - LEVEL


def _adjusted_gains(
    main: Metric, measured: _Measured, pairs: Mapping[tuple[str, str], tuple[Key, Key]]
) -> dict[tuple[str, str], _Gain]:
    """The gains of the pairs whose both members were measured, judged together."""
    measurable = {key: pair for key, pair in pairs.items() if all(member in measured.values for member in pair)}
    gains = {key: measured.gain(main, *pair) for key, pair in measurable.items()}
    adjusted = holm([p_value(value, samples) for value, samples in gains.values()])
    return {
        key: _Gain(value, middle(samples), chance)
        for (key, (value, samples)), chance in zip(gains.items(), adjusted, strict=True)
    }


def _cross_validation(
    objective: Objective, main: Metric, folds: Sequence[tuple[np.ndarray, pd.DataFrame]] | None
) -> dict[str, Any] | None:
    """The main metric on the held-out rows of each fold; `sd` is between the folds, null for a single one."""
    if not folds:
        return None
    import numpy as np

    for number, (target, predictions) in enumerate(folds, start=1):
        _require_usable(predictions, len(target), f"predictions of fold {number}", columns=predictions.columns.tolist())
    values = [float(main.compute(np.ravel(target), predictions, None)[0]) for target, predictions in folds]
    mean = float(np.mean(values))
    return {
        "metric": main.name,
        "values": [_plain(value) for value in values],
        "value_texts": [objective.describe(value, main) for value in values],
        "mean": _plain(mean),
        "mean_text": objective.describe(mean, main),
        "sd": _plain(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _worst(
    objective: Objective, target: np.ndarray, predictions: pd.DataFrame, frame: pd.DataFrame, rows: np.ndarray
) -> list[dict[str, Any]]:
    errors = objective.row_errors(target, predictions)
    worst = (-errors).argsort(kind="stable")[:NUM_WORST]
    truths = objective.target_labels(target[worst])
    guesses = objective.prediction_labels(predictions.iloc[worst])
    return [
        {
            "row": int(rows[place]),
            "target": _plain(truth),
            "prediction": _plain(guess),
            "error": float(errors[place]),
            "frame": _frame_row(frame, place),
        }
        for place, truth, guess in zip(worst, truths, guesses, strict=True)
    ]


def _suspect(
    objective: Objective, target: np.ndarray, predictions: pd.DataFrame, frame: pd.DataFrame, rows: np.ndarray
) -> dict[str, Any] | None:
    found = suspect_labels(objective, target, predictions)
    if found is None:
        return None
    examples = [
        {"row": int(rows[one["place"]]), **one, "frame": _frame_row(frame, one["place"])} for one in found["examples"]
    ]
    return found | {"examples": examples}


def _frame_row(frame: pd.DataFrame, place: int) -> dict[str, Any]:
    return {str(column): _plain(value) for column, value in frame.iloc[place].items()}


def _plain(value: Any) -> Any:
    """A value as JSON has it: numpy scalars as Python's, NaN and infinities as None, times and the rest as text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _numbers(predictions: pd.DataFrame) -> np.ndarray:
    return predictions.select_dtypes("number").to_numpy(float)


def _require_rows(frame: pd.DataFrame, num_rows: int, name: str) -> None:
    if len(frame) != num_rows:
        raise PredictionsInvalid(
            f"The {name} are not one for each target.",
            expected=f"{num_rows} rows",
            received=f"{len(frame)} rows",
            next_step="predict exactly the rows that are evaluated",
        )


def _require_usable(predictions: pd.DataFrame, num_rows: int, name: str, *, columns: list[str]) -> None:
    import numpy as np

    _require_rows(predictions, num_rows, name)
    if predictions.columns.tolist() != columns:
        raise PredictionsInvalid(
            f"The {name} have other columns than the model's.",
            expected=", ".join(columns),
            received=", ".join(predictions.columns),
            next_step="compare models of the same classes: a version that knew others cannot be measured on these rows",
        )
    wrong = np.flatnonzero(~np.isfinite(_numbers(predictions)).all(axis=1))
    if len(wrong):
        raise PredictionsInvalid(
            f"{len(wrong)} of {num_rows} {name} are not finite numbers.",
            where="rows " + ", ".join(map(str, wrong[:5])) + (", …" if len(wrong) > 5 else ""),
            expected="finite numbers",
            received="NaN or infinity",
            next_step="look for NaN in the features of these rows",
        )


def _require_defined(measured: _Measured, main: Metric, contenders: Collection[str], num_rows: int) -> None:
    for contender in contenders:
        if math.isnan(measured.values[main.name, contender]):
            raise ModelkeepError(
                f"The main metric {main.name!r} of the {contender} is undefined on the test rows.",
                expected="test rows that differ in their target (for a classification: of more than one class)",
                received=f"{num_rows} test rows",
                next_step="test on more rows, or choose another main metric",
            )
