"""What the model answers when test rows are changed: whether it behaves as it must, and which columns it uses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification
from problems.outline.problem import Examples, Problem
from tasks.fit import input_names, predict_with

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective

MOST_BEHAVING = 1000
MOST_PERMUTED = 2000
NUM_REPEATS = 5


def probe_behaviours(
    problem: Problem, model: keras.Model, examples: Examples, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Each behaviour that the problem declares, on at most 1,000 of these rows, evenly over all:

    [{name, kind, rows, share, passed, reason}], where `share` of the rows behaves as wanted. Raises ModelkeepError for
    a change that does not keep to the rows.
    """
    if not problem.behaviours:
        return []
    import numpy as np

    asked = _in_memory(model, examples, rows[_evenly(len(rows), MOST_BEHAVING)])
    before = _predict(problem.objective, model, asked)
    found = []
    for behaviour in problem.behaviours:
        after = _predict(problem.objective, model, replace(asked, features=behaviour.change(asked.features)))
        share = float(np.mean(behaviour.met(before, after)))
        verdict = behaviour.judge(share, len(asked))
        found.append(
            {
                "name": behaviour.name,
                "kind": type(behaviour).__name__.lower(),
                "rows": len(asked),
                "share": share,
                "passed": verdict.passed,
                "reason": verdict.reason,
            }
        )
    return found


def measure_importance(
    problem: Problem, model: keras.Model, examples: Examples, rows: np.ndarray, seed: int
) -> dict[str, Any] | None:
    """Permutation importance (Breiman 2001) of the columns that the problem names; None where it names none.

        metric, value      the main metric, on the rows that are used
        rows, repeats, seed  at most 2,000 of `rows`; where there are more, drawn so that each class is there as often
        columns            {name: {mean, sd, values}}, the largest first: by how much the metric gets worse when the
                           values of the column are dealt out anew among the rows, in each repeat

    Raises ModelkeepError for names that do not fit the feature.
    """
    inputs = set(input_names(model, examples))
    columns = [
        (feature, place, name)
        for feature, names in problem.columns.items()
        if feature in inputs
        for place, name in enumerate(_checked(names, feature, examples))
    ]
    if not columns:
        return None
    import numpy as np

    objective, random = problem.objective, np.random.default_rng(seed)
    asked = _in_memory(model, examples, rows[_draw(objective, examples.target[rows], random)])
    metric = objective.metric(objective.main_metric)
    sign = 1 if metric.greater_is_better else -1

    def value(predictions: pd.DataFrame) -> float:
        return float(metric.compute(asked.target, predictions, None)[0])

    whole = value(_predict(objective, model, asked))
    losses: dict[str, list[float]] = {}
    for feature, place, name in columns:
        dealt = _predict(objective, model, _deal(asked, feature, place, random))
        parts = [dealt.iloc[start : start + len(asked)] for start in range(0, len(dealt), len(asked))]
        losses[name] = [sign * (whole - value(part)) for part in parts]
    ordered = sorted(losses.items(), key=lambda item: -np.mean(item[1]))
    return {
        "metric": metric.name,
        "value": whole,
        "rows": len(asked),
        "repeats": NUM_REPEATS,
        "seed": seed,
        "columns": {
            name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "values": values}
            for name, values in ordered
        },
    }


def _checked(names: tuple[str, ...], feature: str, examples: Examples) -> tuple[str, ...]:
    shape = examples.features[feature].shape
    if len(shape) != 2 or shape[1] != len(names):
        raise ModelkeepError(
            f"The names of the columns do not fit the feature {feature!r}.",
            expected=f"shape (n, {len(names)}), one column for each name",
            received=f"shape {shape}",
            next_step="correct the problem's `columns`, or what its read() makes of the feature",
        )
    return names


def _draw(objective: Objective, target: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """At most 2,000 places: all, or as many of each class, else evenly over all."""
    import numpy as np

    if len(target) <= MOST_PERMUTED or not isinstance(objective, Classification):
        return _evenly(len(target), MOST_PERMUTED)
    labels = objective.numbers(target)
    classes = np.unique(labels)
    members = [random.permutation(np.flatnonzero(labels == label)) for label in classes]
    return np.sort(np.concatenate([rows[: MOST_PERMUTED // len(classes)] for rows in members]))


def _evenly(count: int, most: int) -> np.ndarray:
    import numpy as np

    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _deal(examples: Examples, feature: str, place: int, random: np.random.Generator) -> Examples:
    """The examples several times over, one after another, each time with one column dealt out anew."""
    import numpy as np

    repeated = examples.take(np.tile(np.arange(len(examples)), NUM_REPEATS))
    features: dict[str, np.ndarray] = dict(repeated.features)
    values = examples.features[feature][:, place]
    features[feature][:, place] = np.concatenate([random.permutation(values) for _ in range(NUM_REPEATS)])
    return replace(repeated, features=features)


def _in_memory(model: keras.Model, examples: Examples, rows: np.ndarray) -> Examples:
    """Some examples with the features that the model takes, as dense arrays."""
    some = examples.only(input_names(model, examples)).take(rows)
    features = {name: array[:] for name, array in some.features.items()}
    return replace(some, features=features, target=some.target.reshape(len(rows)))


def _predict(objective: Objective, model: keras.Model, examples: Examples) -> pd.DataFrame:
    import numpy as np

    return objective.predictions(predict_with(model, examples, np.arange(len(examples))))
