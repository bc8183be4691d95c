"""How far what a model says can be believed: its probabilities, and intervals around its numbers.

What is fitted here (a temperature, the reach of an interval) is fitted on rows that were held out of training, and
judged on the test rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from problems.outline.objectives import Classification, Objective, Regression
from tasks.resampling import LEVEL, Key, Statistic, bootstrap, describe_method, middle

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Blocks

INTERVAL_LEVEL = 0.9
LEAST_HELD_OUT = 200
_LEAST_ERRORS = 1.645  # one-sided 95 %
_TITLES = {"ece": "Expected calibration error", "log_loss": "Log loss", "brier": "Brier score"}


@dataclass(frozen=True)
class HeldOut:
    """Targets and predictions of rows that were not trained on, part by part, and what these rows are, in words."""

    parts: Sequence[tuple[np.ndarray, pd.DataFrame]]
    source: str

    def __len__(self) -> int:
        return sum(len(target) for target, _ in self.parts)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made."""

    resamples: int
    seed: int
    blocks: Blocks | None = None

    def of(self, statistics: Mapping[Key, Statistic], num_rows: int) -> dict[Key, np.ndarray]:
        return bootstrap(statistics, num_rows, self.resamples, self.seed, self.blocks)


# --- probabilities -------------------------------------------------------------------------------------------------


def judge_probabilities(
    objective: Objective, target: np.ndarray, predictions: pd.DataFrame, held_out: HeldOut, resampling: Resampling
) -> dict[str, Any] | None:
    """Calibration on the test rows, before and after a temperature; None for an objective without probabilities.

        bins, binning      how the calibration error sorts the rows: ten bins of equally many
        claim              what the judged number is the probability of
        by_chance          {mean, at_most, text}: the error that so many rows show where what is said is the truth; in
                           95 % of the cases it is at most `at_most`
        measures           {ece | log_loss | brier: {title, before, after}}; each {value, interval, value_text,
                           interval_text}, `after` null where no temperature is kept
        temperature        {value, rows, source, gain, error, helps, text} or null where too few rows were held out;
                           `gain` is by how much the log loss of held-out rows falls with a temperature of other rows
                           (5 folds), `error` its standard error; it helps, and is kept, where the gain is above 0 by a
                           one-sided test at 5 %
        gain               {value, interval, text}: by how much the log loss of the test rows falls, paired, or null

    Intervals of the calibration error are reflected (basic bootstrap, Davison & Hinkley 1997, ch. 5): drawing rows
    again adds to the error, so that plain percentiles would lie too high. They are widened to hold the value itself,
    which by chance alone is above 0.
    """
    if not isinstance(objective, Classification):
        return None
    from problems.outline.calibration import NUM_BINS, errors_if_calibrated, scale

    temperature = _temperature(objective, held_out, resampling.seed)
    said, _, claim = objective.claims(target, predictions)
    contenders = {"before": predictions}
    if temperature and temperature["helps"]:
        scaled = scale(objective.probabilities(predictions), temperature["value"])
        contenders["after"] = objective.from_probabilities(scaled)
    statistics = _calibration_statistics(objective, target, contenders)
    values = {key: float(statistic(None)[0]) for key, statistic in statistics.items()}
    samples = resampling.of(statistics, len(target))
    chance = errors_if_calibrated(said, resampling.seed)
    mean, at_most = float(chance.mean()), sorted(chance.tolist())[math.ceil(LEVEL * len(chance)) - 1]
    return {
        "bins": NUM_BINS,
        "binning": "equal mass",
        "claim": claim,
        "by_chance": {
            "mean": mean,
            "at_most": at_most,
            "text": f"{_points(mean)} on average and, in 95 % of cases, {_points(at_most)} at most",
        },
        "measures": {
            name: {
                "title": title,
                "before": _describe(name, values[name, "before"], samples[name, "before"]),
                "after": _describe(name, values[name, "after"], samples[name, "after"])
                if "after" in contenders
                else None,
            }
            for name, title in _TITLES.items()
        },
        "temperature": temperature,
        "gain": _gain(values, samples) if "after" in contenders else None,
    }


def kept_temperature(evaluation: Mapping[str, Any]) -> float | None:
    """By which the model's logits are to be divided, of an evaluation; None where that does not help."""
    temperature = (evaluation.get("calibration") or {}).get("temperature")
    return temperature["value"] if temperature and temperature["helps"] else None


def _temperature(objective: Classification, held_out: HeldOut, seed: int) -> dict[str, Any] | None:
    if len(held_out) < LEAST_HELD_OUT:
        return None
    import numpy as np

    from problems.outline.calibration import fit_temperature, temperature_gains

    probabilities = np.concatenate([objective.probabilities(part) for _, part in held_out.parts])
    truth = np.concatenate([objective.numbers(target) for target, _ in held_out.parts])
    gains = temperature_gains(probabilities, truth, seed)
    value = fit_temperature(probabilities, truth)
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))
    helps = gain > _LEAST_ERRORS * error
    text = (
        f"A temperature of {value:.3f}, fitted on {len(truth):,} {held_out.source}, makes probabilities "
        f"{'less' if value > 1 else 'more'} sure. Of rows that it was not fitted on (5 folds) it "
        f"{'lowers' if gain > 0 else 'raises'} the log loss by {abs(gain):.2g} ± {error:.2g} (standard error): "
        + ("it is kept." if helps else "no clear gain, so it is not kept.")
    )
    return {
        "value": value,
        "rows": len(truth),
        "source": held_out.source,
        "gain": gain,
        "error": error,
        "helps": helps,
        "text": text,
    }


def _calibration_statistics(
    objective: Classification, target: np.ndarray, contenders: Mapping[str, pd.DataFrame]
) -> dict[Key, Statistic]:
    """The measures by (measure, contender)."""
    from problems.outline.calibration import calibration_error

    statistics: dict[Key, Statistic] = {}
    for name, predictions in contenders.items():
        said, happened, _ = objective.claims(target, predictions)
        statistics["ece", name] = partial(calibration_error, said, happened)
        for measure in ("log_loss", "brier"):
            statistics[measure, name] = partial(objective.metric(measure).compute, target, predictions)
    return statistics


def _describe(measure: str, value: float, samples: np.ndarray) -> dict[str, Any]:
    interval = middle(samples)
    if interval and measure == "ece":
        low, high = interval
        interval = [max(0.0, 2 * value - high), max(value, 2 * value - low)]
    scale, digits, unit = (100, 2, " points") if measure == "ece" else (1, 4, "")
    return {
        "value": value,
        "interval": interval,
        "value_text": f"{scale * value:.{digits}f}{unit}",
        "interval_text": " to ".join(f"{scale * end:.{digits}f}" for end in interval) + unit
        if interval
        else "undefined",
    }


def _gain(values: Mapping[Key, float], samples: Mapping[Key, np.ndarray]) -> dict[str, Any]:
    value = values["log_loss", "before"] - values["log_loss", "after"]
    interval = middle(samples["log_loss", "before"] - samples["log_loss", "after"])
    told = f"{_signed(interval[0])} to {_signed(interval[1])}" if interval else "undefined"
    way = "falls" if value >= 0 else "rises"
    text = f"On the test rows the log loss {way} by {abs(value):.4f} (95 % interval of the fall {told})."
    return {"value": value, "interval": interval, "text": text}


def _points(share: float) -> str:
    return f"{share * 100:.2f} points"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _signed(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")


# --- intervals -----------------------------------------------------------------------------------------------------


def judge_intervals(
    objective: Objective, target: np.ndarray, predictions: pd.DataFrame, held_out: HeldOut, resampling: Resampling
) -> dict[str, Any] | None:
    """Split conformal intervals on the test rows; None for an objective without numbers, or of too few held-out rows.

    level, reach       the share of new rows that shall be covered, and how far an interval reaches to either side,
                       in the unit or, where `is_relative`, as a share of the prediction
    rows, source       the held-out rows that tell. Those of folds were predicted by models of fewer rows, so that
                       intervals around the last model tend to be wide (as cross-conformal ones, Vovk 2015)
    coverage           {value, interval, method}: the share of the test rows that is covered
    width              the mean of the intervals' widths, in the unit
    text               all of it in a sentence
    """
    if not isinstance(objective, Regression):
        return None
    import numpy as np

    from problems.outline.calibration import conformal_reach

    misses = np.concatenate([np.zeros(0), *(objective.misses(*part) for part in held_out.parts)])
    reach = conformal_reach(misses, INTERVAL_LEVEL)
    if math.isnan(reach):
        return None
    covered = objective.misses(target, predictions) <= reach
    coverage = _coverage(covered, resampling)
    width = float(2 * objective.half_widths(predictions, reach).mean())
    is_relative = bool(getattr(objective, "is_relative", False))
    told = f"{_percent(reach)} of the prediction" if is_relative else f"{reach:.3g} {objective.unit}".rstrip()
    ends = " to ".join(_percent(end) for end in coverage["interval"])
    text = (
        f"The prediction ± {told} holds {_percent(coverage['value'])} of the test rows (95 % interval {ends}; "
        f"{coverage['method']}), wanted {INTERVAL_LEVEL * 100:.0f} %; such intervals are {width:.3g} {objective.unit} "
        f"wide on average. The reach is that of {len(misses):,} {held_out.source} (split conformal prediction)."
    )
    return {
        "level": INTERVAL_LEVEL,
        "reach": reach,
        "is_relative": is_relative,
        "rows": len(misses),
        "source": held_out.source,
        "coverage": coverage,
        "width": width,
        "text": text,
    }


def _coverage(covered: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    """With Wilson's interval, or a bootstrap where rows depend on each other."""
    from problems.outline.metrics import weighted_mean

    share = float(covered.mean())
    if resampling.blocks is None:
        from scipy.stats import binomtest

        wilson = binomtest(int(covered.sum()), len(covered)).proportion_ci(method="wilson")
        return {"value": share, "interval": [float(wilson.low), float(wilson.high)], "method": "Wilson 1927"}
    statistics: dict[Key, Statistic] = {("coverage",): partial(weighted_mean, covered.astype(float))}
    samples = resampling.of(statistics, len(covered))["coverage",]
    return {
        "value": share,
        "interval": middle(samples) or [0.0, 1.0],
        "method": describe_method(resampling.blocks)["method"],
    }
