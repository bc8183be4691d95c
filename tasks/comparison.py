"""Which variant of a problem is best, and how sure that is: over seeds and over test rows.

A difference between variants has two sources of chance: the seed of the training, and the rows that happen to be the
test rows (Bouthillier et al. 2021, arXiv 2103.03098). Both are resampled together: the rows with the same draws for
all variants, the seeds of each variant on their own. A handful of seeds resampled vary less than seeds do; what they
add is stretched by √(k/(k-1)) · t/z for k seeds, as in Hesterberg 2015 (arXiv 1411.5279, §4.3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from tasks.resampling import LEVEL, Key, Statistic, bootstrap, describe_method, holm, middle, p_value

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.hyperparameters import Hyperparameters
    from problems.outline.metrics import Metric
    from problems.outline.objectives import Objective
    from problems.outline.problem import Problem


class VariantsInvalid(ModelkeepError):
    """The variants cannot be compared: too few, unknown, or two that are the same."""


def choose_variants(problem: Problem, names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Hyperparameters]:
    """The complete hyperparameters of each variant, all of the problem's where no names are given.

    Raises VariantsInvalid; ModelkeepError for an unknown variant, HyperparameterInvalid.
    """
    chosen = {name: problem.complete(name, settings) for name in names or problem.variants}
    if len(chosen) < 2:
        raise VariantsInvalid(
            f"There is nothing to compare {next(iter(chosen), problem.name)} with.",
            expected="two variants or more" + (f" of {', '.join(problem.variants)}" if problem.variants else ""),
            received=", ".join(names) or f"{problem.name} has {len(problem.variants) or 'no'} variants",
            next_step="name them with --variants, or add them to `variants` in the problem's file",
        )
    for (one, first), (other, second) in itertools.combinations(chosen.items(), 2):
        if first == second:
            raise VariantsInvalid(
                f"The variants {one} and {other} are the same with these settings.",
                received=", ".join(f"{name}={value}" for name, value in settings.items()),
                next_step="do not set what the variants differ in",
            )
    return chosen


def rank(
    objective: Objective,
    *,
    target: np.ndarray,
    frame: pd.DataFrame,
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    baseline: pd.DataFrame,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Rank variants by the main metric, each trained with the same number of seeds, on the same n test rows.

    `target` (n,), `frame` and `baseline` n rows; `predictions` by variant hold a frame of n rows for each seed. The
    result can be written as JSON:

        metric          {name, title, explanation, unit, is_share, greater_is_better} of the main metric
        num_test_rows, num_seeds, baseline, baseline_name
        interval        {method, block, source, level, resamples, seed}
        best, is_clear  the variant with the best mean, and whether all others are shown to be worse
        sentence        says both
        variants        the best first: {name: {values of each seed, mean, sd, interval, metrics: {name: {title, mean}},
                        behind: {value, interval, p_value, is_shown} | null for the best}}

    `behind` is by how much a variant is worse than the best, in units of the metric; it `is_shown` where chance hardly
    explains it, after Holm's correction (1979) over all pairs, since the best one is known only from the same data.
    Of one seed `sd` is null, intervals tell of the test rows only, and nothing is shown. Beside a number `x`
    stands `x_text`.

    Raises ModelkeepError where the main metric is undefined on these rows.
    """
    import numpy as np

    target, metric = np.ravel(target), objective.metric(objective.main_metric)
    measured = _measure(objective, metric, target, frame, predictions, seed, resamples)
    order = sorted(measured, key=lambda name: measured[name].mean, reverse=metric.greater_is_better)
    gaps = _compare_pairs(metric, {name: measured[name] for name in order})
    told = {
        name: _describe(objective, metric, measured[name])
        | {"metrics": _other_metrics(objective, target, predictions[name])}
        | {"behind": _describe_gap(objective, metric, gaps[order[0], name]) if name != order[0] else None}
        for name in order
    }
    of_baseline = float(metric.compute(target, baseline, None)[0])
    return {
        "metric": {
            name: getattr(metric, name)
            for name in ("name", "title", "explanation", "unit", "is_share", "greater_is_better")
        },
        "num_test_rows": len(target),
        "num_seeds": len(measured[order[0]].values),
        "baseline": _defined(of_baseline),
        "baseline_text": objective.describe(of_baseline, metric),
        "baseline_name": objective.baseline_name,
        "interval": {
            **describe_method(objective.blocks(frame)),
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
        },
        "best": order[0],
        "is_clear": all(gaps[order[0], name].is_shown for name in order[1:]),
        "sentence": _say(metric, told),
        "variants": told,
    }


@dataclass(frozen=True)
class _Measured:
    """The main metric of one variant.

    `values` of each seed (k,); `level` their mean in each resample of the rows, and `shift` by how much the mean of
    resampled seeds lies from it, both (resamples,).
    """

    values: np.ndarray
    level: np.ndarray
    shift: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def variance(self) -> float:
        """Between seeds; 0 for a single one, of which it is not known."""
        return float(self.values.var(ddof=1)) if len(self.values) > 1 else 0.0


def _measure(
    objective: Objective,
    metric: Metric,
    target: np.ndarray,
    frame: pd.DataFrame,
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    seed: int,
    resamples: int,
) -> dict[str, _Measured]:
    import numpy as np

    statistics: dict[Key, Statistic] = {
        (name, str(number)): partial(metric.compute, target, one)
        for name, several in predictions.items()
        for number, one in enumerate(several)
    }
    plain = {key: float(statistic(None)[0]) for key, statistic in statistics.items()}
    _require_defined(metric, plain, len(target))
    resampled = bootstrap(statistics, len(target), resamples, seed, objective.blocks(frame))
    random = np.random.default_rng([seed, 1])
    measured = {}
    for name in sorted(predictions):  # the same draws in whichever order the variants are named
        keys = [(name, str(number)) for number in range(len(predictions[name]))]
        values = np.stack([resampled[key] for key in keys], axis=1)
        shares = random.multinomial(len(keys), np.full(len(keys), 1 / len(keys)), resamples) / len(keys)
        level = values.mean(axis=1)
        measured[name] = _Measured(np.array([plain[key] for key in keys]), level, (values * shares).sum(axis=1) - level)
    return measured


@dataclass(frozen=True)
class _Gap:
    """By how much one variant is better than another, and whether that is shown after correction."""

    value: float
    samples: np.ndarray
    p_value: float = 1.0

    @property
    def is_shown(self) -> bool:
        return self.p_value < 1 - LEVEL


def _compare_pairs(metric: Metric, measured: Mapping[str, _Measured]) -> dict[tuple[str, str], _Gap]:
    """Each pair in the order given, judged together."""
    sign = 1 if metric.greater_is_better else -1
    gaps = {}
    for better, worse in itertools.combinations(measured, 2):
        one, other = measured[better], measured[worse]
        stretch = _stretch(len(one.values), _degrees_of_freedom(one, other))
        samples = one.level - other.level + stretch * (one.shift - other.shift)
        gaps[better, worse] = _Gap(sign * (one.mean - other.mean), sign * samples)
    adjusted = holm([p_value(gap.value, gap.samples) for gap in gaps.values()])
    if any(len(one.values) == 1 for one in measured.values()):
        # The rows alone can tell two trained models apart, but not what another seed would have made of them.
        return gaps
    return {
        key: _Gap(gap.value, gap.samples, chance) for (key, gap), chance in zip(gaps.items(), adjusted, strict=True)
    }


def _degrees_of_freedom(one: _Measured, other: _Measured) -> float:
    """Welch 1947, for two samples of equal size: k-1 where one varies much more than the other, up to 2 (k-1)."""
    fewest = len(one.values) - 1
    squares = one.variance**2 + other.variance**2
    return fewest * (one.variance + other.variance) ** 2 / squares if squares else fewest


def _stretch(num_seeds: int, degrees_of_freedom: float) -> float:
    from scipy import stats

    if num_seeds == 1:
        return 0.0
    upper = (1 + LEVEL) / 2
    widening = stats.t.ppf(upper, degrees_of_freedom) / stats.norm.ppf(upper)
    return math.sqrt(num_seeds / (num_seeds - 1)) * float(widening)


def _describe(objective: Objective, metric: Metric, measured: _Measured) -> dict[str, Any]:
    num_seeds = len(measured.values)
    interval = _within_bounds(metric, middle(measured.level + _stretch(num_seeds, num_seeds - 1) * measured.shift))
    sd = math.sqrt(measured.variance) if num_seeds > 1 else None
    return {
        "values": measured.values.tolist(),
        "value_texts": [objective.describe(value, metric) for value in measured.values],
        "mean": measured.mean,
        "mean_text": objective.describe(measured.mean, metric),
        "sd": sd,
        "sd_text": "unknown" if sd is None else _two_digits(sd, metric),
        "interval": interval,
        "interval_text": objective.describe_range(interval, metric),
    }


def _within_bounds(metric: Metric, interval: list[float] | None) -> list[float] | None:
    """A stretched interval may reach too far: an error is not below 0, and a share of what is right in 0 … 1."""
    if interval is None or (metric.greater_is_better and not metric.is_share):
        return interval
    most = 1.0 if metric.greater_is_better else math.inf
    return [min(max(end, 0.0), most) for end in interval]


def _describe_gap(objective: Objective, metric: Metric, gap: _Gap) -> dict[str, Any]:
    interval = middle(gap.samples)
    return {
        "value": gap.value,
        "value_text": objective.describe_difference(gap.value, metric),
        "interval": interval,
        "interval_text": objective.describe_difference_range(interval, metric),
        "p_value": gap.p_value,
        "is_shown": gap.is_shown,
    }


def _other_metrics(
    objective: Objective, target: np.ndarray, predictions: Sequence[pd.DataFrame]
) -> dict[str, dict[str, Any]]:
    """The mean over seeds of each metric, the main one included."""
    import numpy as np

    told = {}
    for metric in objective.metrics():
        mean = float(np.mean([metric.compute(target, one, None)[0] for one in predictions]))
        text = objective.describe(mean, metric)
        told[metric.name] = {"title": metric.title, "mean": _defined(mean), "mean_text": text}
    return told


def _say(metric: Metric, variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Who is best, or that nobody is, and by how much each of the others is behind."""
    (best, ahead), *others = variants.items()
    behind = {name: other["behind"] for name, other in others}
    reach = {name: f"95 % interval {gap['interval_text']}" for name, gap in behind.items()}
    worse = [name for name, gap in behind.items() if gap["is_shown"]]
    level = [name for name in behind if name not in worse]
    title = metric.title[0].lower() + metric.title[1:]
    lead = f"{best} is ahead" if worse else "No variant is shown to be best"
    said = [f"{lead if level else f'{best} is best'}: the {title} of {best} is {ahead['mean_text']}"]
    if level:
        size = f" (worse by {behind[level[0]]['value_text']}, {reach[level[0]]})" if len(level) == 1 else ""
        said.append(f"{_listed(level)} cannot be told apart from it{size}")
    said += [f"{name} is worse by {behind[name]['value_text']} ({reach[name]})" for name in worse]
    caution = (
        " With one seed the spread over seeds is unknown: intervals tell of the test rows only, and nothing is shown."
    )
    return "; ".join(said) + "." + caution * (ahead["sd"] is None)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _two_digits(value: float, metric: Metric) -> str:
    return f"{value * 100:.2g} points" if metric.is_share else f"{value:.2g} {metric.unit}".rstrip()


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _require_defined(metric: Metric, values: Mapping[Key, float], num_rows: int) -> None:
    undefined = [f"{variant}, seed {seed}" for (variant, seed), value in values.items() if not math.isfinite(value)]
    if undefined:
        raise ModelkeepError(
            f"The main metric {metric.name!r} is undefined on the test rows.",
            where=", ".join(undefined),
            expected="test rows that differ in their target (for a classification: of more than one class)",
            received=f"{num_rows} test rows",
            next_step="test on more rows, or choose another main metric",
        )
