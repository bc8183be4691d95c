"""How well a version does on a window: measured where the truth has come, estimated where it has not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification, Objective
from store.artifacts import ArtifactRef, Store
from tasks.drift import some_rows
from tasks.resampling import Statistic, bootstrap, middle
from tasks.tables import ROW

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.metrics import Metric
    from problems.outline.problem import Problem

TARGET = "target"
LEAST_LABELS = 100
LEAST_HELD_OUT = 200
RESAMPLES = 500
MOST_ESTIMATED = 20_000
COVARIATE_SHIFT = "covariate shift only: what inputs mean is taken to be as it was"


class LabelsInvalid(ModelkeepError):
    """A file of labels cannot be read, or does not belong to the window."""


# --- labels --------------------------------------------------------------------------------------------------------


def read_labels(
    path: Path, objective: Objective, words: Mapping[str, int], scored: pd.Series | None = None
) -> pd.Series:
    """The true targets of the window's rows by row number; of classes their numbers. `scored` are the row numbers that
    have a score: labels of others, which were set aside, are left out.

    The file is .csv or .parquet with the columns `row`, from 0 on as in the scores, and `target`: a number, the name of
    a class, or the source's word for it (`Truth`). Raises LabelsInvalid.
    """
    table = _read_table(path)
    twice = table[ROW][table[ROW].duplicated()]
    if len(twice):
        raise _invalid(path, "each row once", f"{len(twice):,} of them more than once, first row {twice.iloc[0]}")
    labels = table.set_index(ROW)[TARGET].dropna()
    if isinstance(objective, Classification):
        labels = _class_numbers(path, labels, objective, words)
    else:
        labels = _numbers(path, labels)
    known = labels if scored is None else labels[labels.index.isin(scored)]
    if not len(known):
        raise _invalid(path, "rows of the window", f"{len(table):,} rows, none of which has a score")
    return known


def check_labels(place: str, problem: Problem) -> None:
    """Raises LabelsInvalid for a local file that is none of labels, before anything is done for it."""
    if place and "://" not in place:
        read_labels(Path(place), problem.objective, source_words(problem))


def source_words(problem: Problem) -> Mapping[str, int]:
    return problem.rows.truth.words if problem.rows and problem.rows.truth else {}


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise _invalid(path, "a file", "nothing there") from None
    except (ValueError, OSError) as fault:  # pandas' and pyarrow's own errors are ValueErrors
        raise _invalid(path, "a .csv or .parquet file", str(fault).splitlines()[0][:200]) from None
    missing = [name for name in (ROW, TARGET) if name not in table]
    if missing:
        raise _invalid(path, f"the columns {ROW} and {TARGET}", ", ".join(map(str, table.columns[:20])))
    return table


def _class_numbers(path: Path, labels: pd.Series, objective: Classification, words: Mapping[str, int]) -> pd.Series:
    """By the names of the classes, else by the source's words, else by their numbers: all labels in the same way."""
    names = {str(name): number for number, name in enumerate(objective.classes)}
    plain = {str(number): number for number in names.values()}
    texts = labels.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    if labels.dtype == bool:  # as pandas reads a column of nothing but true and false
        texts = texts.str.lower()
    ways = [names, *([words] if words else []), plain]
    way = next((way for way in ways if texts.isin(set(way)).all()), None)
    if way is None:
        likeliest = max(ways, key=lambda way: int(texts.isin(set(way)).sum()))
        unknown = texts[~texts.isin(set(likeliest))]
        known = dict.fromkeys([*list(names)[:12], *list(words)[:12]])
        expected = f"one of {', '.join(known)}, or numbers of classes from 0 to {len(names) - 1}"
        raise _invalid(path, expected, f"{unknown.iloc[0]!r} in row {unknown.index[0]}")
    return texts.map(way).astype("int64")


def _numbers(path: Path, labels: pd.Series) -> pd.Series:
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(labels, errors="coerce").astype(float)
    wrong = labels[~np.isfinite(numbers)]
    if len(wrong):
        raise _invalid(path, "numbers", f"{wrong.iloc[0]!r} in row {wrong.index[0]}")
    return numbers


def _invalid(path: Path, expected: str, received: str) -> LabelsInvalid:
    return LabelsInvalid(
        "The labels cannot be used.",
        where=str(path),
        expected=expected,
        received=received,
        next_step=f"give a table with the columns {ROW} (from 0 on, as in the scores) and {TARGET}",
    )


# --- measured ------------------------------------------------------------------------------------------------------


def load_part(
    store: Store, artifacts: Mapping[str, ArtifactRef], part: str, columns: Sequence[str]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Targets (n,) and predictions of the rows that a run kept: of the part `test`, `validation` or `held_out`."""
    import pandas as pd

    steps = ("fit",) if part != "held_out" else sorted({name.split("/")[0] for name in artifacts if "fold-" in name})
    names = [f"{step}/predictions.parquet" for step in steps if f"{step}/predictions.parquet" in artifacts]
    tables = [pd.read_parquet(store.local_path(artifacts[name])) for name in names]
    kept = [table[table["part"] == part] for table in tables]
    whole = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=[TARGET, *columns])
    return whole[TARGET].to_numpy(), whole[list(columns)]


def measure_performance(
    objective: Objective,
    window: tuple[np.ndarray, pd.DataFrame],
    test: tuple[np.ndarray, pd.DataFrame],
    seed: int = 0,
) -> dict[str, Any]:
    """The main metric of labelled rows of the window beside that of the test rows; both are targets and predictions.

        metric, title, value, interval, test, drop, drop_interval, margin, num_rows, each number with its _text
        is_judged    whether there are labels enough, and the metric is defined
        level        alert where the drop is shown (its 95 % interval lies above 0) and larger than the margin; warn
                     where it is shown and smaller; else none
        text         all of it in a sentence

    A drop above 0 is for the worse. The two sets of rows are drawn independently, as they have no row in common, and
    row by row: of a forecast, whose errors depend on each other, the interval is too narrow. The margin is the
    objective's, else half the width of the interval of the test value: what chance alone could do there.
    """
    metric = objective.metric(objective.main_metric)
    value, samples = _resample(metric, *window, seed)
    test_value, test_samples = _resample(metric, *test, seed + 1)
    sign = 1 if metric.greater_is_better else -1
    drop, drop_interval = sign * (test_value - value), middle(sign * (test_samples - samples))
    test_interval = middle(test_samples)
    is_judged = len(window[0]) >= LEAST_LABELS and drop_interval is not None and test_interval is not None
    low, high = test_interval or (0.0, 0.0)
    margin = (high - low) / 2 if objective.margin is None else objective.margin
    is_shown = drop_interval is not None and drop_interval[0] > 0
    told = _describe(objective, metric, value, middle(samples), test_value, drop, drop_interval, margin)
    return told | {
        "num_rows": len(window[0]),
        "is_judged": bool(is_judged),
        "level": "none" if not (is_judged and is_shown) else "alert" if drop > margin else "warn",
    }


def _resample(metric: Metric, target: np.ndarray, predictions: pd.DataFrame, seed: int) -> tuple[float, np.ndarray]:
    """The value, and (500,) values in resamples; of more than 50,000 rows so many are looked at."""
    chosen = some_rows(len(target), seed)
    statistic: Statistic = partial(metric.compute, target[chosen], predictions.iloc[chosen])
    return float(statistic(None)[0]), bootstrap({("metric",): statistic}, len(chosen), RESAMPLES, seed)["metric",]


def _describe(
    objective: Objective,
    metric: Metric,
    value: float,
    interval: list[float] | None,
    test: float,
    drop: float,
    drop_interval: list[float] | None,
    margin: float,
) -> dict[str, Any]:
    title = metric.title[0].lower() + metric.title[1:]
    text = (
        f"The {title} is {objective.describe(value, metric)}, {objective.describe(test, metric)} on the test rows: "
        f"{'worse' if drop > 0 else 'better'} by {objective.describe_difference(abs(drop), metric)} (95 % interval of "
        f"the drop {objective.describe_difference_range(drop_interval, metric)}, margin "
        f"{objective.describe_difference(margin, metric)})."
    )
    plain = {"value": value, "test": test, "drop": drop, "margin": margin}
    return {
        "metric": metric.name,
        "title": metric.title,
        **{name: number if math.isfinite(number) else None for name, number in plain.items()},
        "value_text": objective.describe(value, metric),
        "test_text": objective.describe(test, metric),
        "drop_text": objective.describe_difference(drop, metric),
        "interval": interval,
        "interval_text": objective.describe_range(interval, metric),
        "drop_interval": drop_interval,
        "drop_interval_text": objective.describe_difference_range(drop_interval, metric),
        "text": text,
    }


# --- estimated -----------------------------------------------------------------------------------------------------


def estimate_performance(
    objective: Objective, held_out: tuple[np.ndarray, pd.DataFrame], predictions: pd.DataFrame, seed: int = 0
) -> dict[str, Any] | None:
    """The main metric that the window's rows should have if probabilities mean what they meant on held-out rows; None
    for other objectives than classes, and with fewer than 200 held-out rows.

    Each row counts as each class with its calibrated probability (confidence-based performance estimation, as NannyML
    does it), which is right as long as only the inputs have moved; a change of what they mean is not seen. Keys:
    metric, title, value, interval, num_rows, each with its _text; `assumption` says this in words.
    """
    if not isinstance(objective, Classification) or len(held_out[0]) < LEAST_HELD_OUT:
        return None
    import numpy as np

    at_most = max(1, MOST_ESTIMATED // len(objective.classes))
    if len(predictions) > at_most:
        chosen = np.random.default_rng(seed).choice(len(predictions), at_most, replace=False)
        predictions = predictions.iloc[np.sort(chosen)]
    shares = calibrate(objective, held_out, objective.probabilities(predictions))
    metric = objective.metric(objective.main_metric)
    statistic = _expected(metric, predictions, shares)
    samples = bootstrap({("metric",): statistic}, len(predictions), RESAMPLES, seed)["metric",]
    value, interval = float(statistic(None)[0]), middle(samples)
    return {
        "metric": metric.name,
        "title": metric.title,
        "value": value if np.isfinite(value) else None,
        "value_text": objective.describe(value, metric),
        "interval": interval,
        "interval_text": objective.describe_range(interval, metric),
        "num_rows": len(predictions),
        "assumption": COVARIATE_SHIFT,
    }


def calibrate(
    objective: Classification, held_out: tuple[np.ndarray, pd.DataFrame], probabilities: np.ndarray
) -> np.ndarray:
    """Probabilities (n, k) as often as they came true on held-out rows, by isotonic regression, class by class; each
    row then sums to 1 again."""
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    truth, said = objective.numbers(held_out[0]), objective.probabilities(held_out[1])
    fitted = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(said[:, number], truth == number)
        .predict(probabilities[:, number])
        for number in range(probabilities.shape[1])
    ]
    shares = np.column_stack(fitted)
    sums = shares.sum(axis=1, keepdims=True)
    return np.where(sums > 0, shares / np.where(sums > 0, sums, 1), probabilities)


def _expected(metric: Metric, predictions: pd.DataFrame, shares: np.ndarray) -> Statistic:
    """The metric over k copies of the rows, of which each counts by the share of its class."""
    import numpy as np
    import pandas as pd

    num_rows, num_classes = shares.shape
    copies = pd.concat([predictions] * num_classes, ignore_index=True)
    target, share = np.repeat(np.arange(num_classes), num_rows), shares.T.ravel()

    def compute(weights: np.ndarray | None) -> np.ndarray:
        drawn = np.ones((1, num_rows)) if weights is None else weights
        return metric.compute(target, copies, np.tile(drawn, (1, num_classes)) * share)

    return compute
