"""Drift: how far a window of new data, and what was predicted of it, have moved away from a reference.

Pure functions over frames and arrays. A difference counts if it is significant after Holm's correction over all tests
and large enough (`problems.outline.drift.Drift`). Numbers are tested by Kolmogorov-Smirnov and measured by the
Wasserstein distance, categories by χ² and the Jensen-Shannon distance (Rabanser et al. 2019, arXiv 1810.11953, compares
such tests); missing values and unseen categories are tested apart. All columns together are tested by a classifier that
tries to tell the rows of both sides apart (Lopez-Paz & Oquab 2017, arXiv 1610.06545).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from problems.outline.drift import Drift, Limits
from tasks.reference import COMPARED, Profiled, as_category, as_numbers, count_in_bins, quantiles
from tasks.resampling import holm

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_ROWS = 50_000
MOST_CLASSIFIED = 5_000
NUM_FOLDS = 5
LEAST_EXPECTED = 5
NUM_SHOWN_BINS = 24
MOST_SHOWN_VALUES = 12
LEVELS = ("none", "warn", "alert")


@dataclass(frozen=True)
class Finding:
    """A test of one aspect of a column: `values`, `missing` or `unseen`; of all columns together: `together`.

    `p` becomes `p_adjusted`, and the level is judged, when all tests of a window are known.
    """

    part: str  # data or predictions
    column: str
    aspect: str
    test: str
    p: float
    measure: str
    effect: float
    limits: Limits
    text: str
    p_adjusted: float = 1.0
    level: str = "none"

    @property
    def strength(self) -> float:
        """The effect in units of the limit from which on it is worth a warning."""
        return self.effect / self.limits.warn


def measure_drift(
    reference: Mapping[str, Profiled],
    window: Mapping[str, pd.DataFrame],
    drift: Drift,
    seed: int = 0,
    others: Sequence[Finding] = (),
) -> dict[str, Any]:
    """Both by part, `data` and `predictions`; a window's rows beyond 50,000 are sampled. `others` are findings of the
    same window, to be judged with these. As JSON:

    num_rows      the rows of the window's data that were looked at
    is_judged     whether they are enough to be judged
    level         none, warn or alert: the highest of the findings; none where it is not judged
    reasons       the findings at that level and below, the strongest first, in a sentence each
    strength      {column, part, level, value}: the strongest finding that is significant, in units of the limit
                  from which on it is worth a warning; or null
    findings      each Finding, the strongest first
    columns       [{part, name, kind, note, missing, reference_missing, psi, bins: [{label, reference, window}]}]:
                  shares of the rows; `note` says why a column was not compared; PSI is for display only
    only_reference, only_window    columns of the data that one side only has
    """
    thin = {part: frame.iloc[some_rows(len(frame), seed)].reset_index(drop=True) for part, frame in window.items()}
    columns: list[dict[str, Any]] = []
    findings: list[Finding] = [*others]
    usable: list[str] = []
    for part, profiled in reference.items():
        for name, profile in profiled.columns.items():
            if name not in thin[part] or name in drift.ignored:
                continue
            told, found = _look_at(part, name, profile, profiled, thin[part][name], drift)
            columns.append(told)
            findings += found
            usable += [name] if part == "data" and told["is_compared"] else []
    findings += _together(reference["data"], thin["data"], usable, drift, seed)
    is_judged = len(window["data"]) >= drift.least_rows
    judged = _judge(findings, drift, is_judged)
    strongest = next((one for one in judged if one.p_adjusted < drift.significance), None)
    held, known = set(map(str, window["data"])), set(reference["data"].columns)
    return {
        "num_rows": len(thin["data"]),
        "is_judged": is_judged,
        "level": max((one.level for one in judged), key=LEVELS.index, default="none"),
        "reasons": [one.text for one in judged if one.level != "none"],
        "strength": strongest
        and {"part": strongest.part, "column": strongest.column, "level": strongest.level, "value": strongest.strength},
        "findings": [asdict(one) for one in judged],
        "columns": columns,
        "only_reference": sorted(known - held - set(drift.ignored)),
        "only_window": sorted(held - known - set(drift.ignored)),
    }


def some_rows(count: int, seed: int = 0, most: int | None = None) -> np.ndarray:
    """All rows, or `most` of them (50,000) drawn at random, always the same: int64, ascending."""
    import numpy as np

    most = MOST_ROWS if most is None else most
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _judge(findings: Sequence[Finding], drift: Drift, is_judged: bool) -> list[Finding]:
    """With corrected p values and levels; the highest level first, and of a level the strongest."""
    adjusted = holm([one.p for one in findings])
    judged = [
        replace(
            one, p_adjusted=p, level=one.limits.level(one.effect) if is_judged and p < drift.significance else "none"
        )
        for one, p in zip(findings, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda one: (LEVELS.index(one.level), one.strength), reverse=True)


# --- one column ----------------------------------------------------------------------------------------------------


def _look_at(
    part: str, name: str, profile: Mapping[str, Any], profiled: Profiled, column: pd.Series, drift: Drift
) -> tuple[dict[str, Any], list[Finding]]:
    """What is shown of a column, and what was found. A column that cannot be compared is told and stops no other."""
    missing = float(column.isna().mean()) if len(column) else 0.0
    told: dict[str, Any] = {
        "part": part,
        "name": name,
        "kind": profile["kind"],
        "note": "",
        "missing": missing,
        "reference_missing": profile["missing"] / profiled.num_rows,
        "psi": None,
        "bins": [],
        "is_compared": False,
    }
    findings = compare_missing(part, name, profile, profiled, column, drift)
    if profile["kind"] not in COMPARED:
        return told | {"note": f"{profile['kind']}: only missing values are compared"}, findings
    if missing == 1:
        return told | {"note": "no value at all in the window"}, findings
    compare = compare_numbers if profile["kind"] == "number" else compare_categories
    try:
        shown, found = compare(part, name, profile, profiled, column, drift)
    except Exception as fault:  # whatever one column holds, the others are looked at
        return told | {"note": f"cannot be compared: {type(fault).__name__}: {fault}"[:200]}, findings
    return told | shown | {"is_compared": True}, findings + found


def compare_missing(
    part: str, name: str, profile: Mapping[str, Any], profiled: Profiled, column: pd.Series, drift: Drift
) -> list[Finding]:
    """Fisher's exact test; none where nothing is missing on either side, since p could be nothing but 1 then."""
    before, now = profile["missing"], int(column.isna().sum())
    if before + now == 0 or not len(column):
        return []
    p = _fisher(before, profiled.num_rows, now, len(column))
    shares = before / profiled.num_rows, now / len(column)
    text = f"{name}: {_percent(shares[1])} of the values are missing, {_percent(shares[0])} in the reference"
    effect = abs(shares[1] - shares[0])
    return [Finding(part, name, "missing", "Fisher", p, "difference of shares", effect, drift.missing, text)]


def _fisher(before: int, num_before: int, now: int, num_now: int) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact([[before, num_before - before], [now, num_now - now]]).pvalue)


def compare_numbers(
    part: str, name: str, profile: Mapping[str, Any], profiled: Profiled, column: pd.Series, drift: Drift
) -> tuple[dict[str, Any], list[Finding]]:
    """Raises ValueError or TypeError for a column that does not hold numbers."""
    import numpy as np
    from scipy.stats import ks_2samp

    values = as_numbers(column)
    values = values[~np.isnan(values)]
    sample = as_numbers(profiled.sample[name])
    sample = sample[~np.isnan(sample)]
    p = float(ks_2samp(sample, values.astype(np.float32), method="asymp").pvalue)
    effect = shift(np.asarray(profile["quantiles"]), profile["sd"], values)
    counts = count_in_bins(values, np.asarray(profile["edges"]))
    text = (
        f"{name}: moved by {effect:.2f} standard deviations (Wasserstein distance), "
        f"mean {values.mean():.4g}, before {profile['mean']:.4g}"
    )
    found = Finding(
        part, name, "values", "Kolmogorov-Smirnov", p, "Wasserstein distance / σ", effect, drift.shift, text
    )
    shown = {"psi": psi(np.asarray(profile["counts"]), counts), "bins": _number_bins(sample, values)}
    return shown, [found]


def shift(reference_quantiles: np.ndarray, deviation: float, values: np.ndarray) -> float:
    """The Wasserstein distance to `values` in standard deviations of the reference. A reference that never varied has
    none: there every other value is a shift of 1."""
    import numpy as np

    distance = float(np.abs(reference_quantiles - quantiles(values)).mean())
    return distance / deviation if deviation > 0 else float(distance > 0)


def compare_categories(
    part: str, name: str, profile: Mapping[str, Any], profiled: Profiled, column: pd.Series, drift: Drift
) -> tuple[dict[str, Any], list[Finding]]:
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    counts = as_category(column).value_counts()
    known = list(profile["counts"])
    before = np.array([profile["counts"][value] for value in known])
    now = counts.reindex(known).fillna(0).to_numpy(np.int64)
    unseen = counts.drop(labels=[value for value in known if value in counts.index])
    found = _unseen(part, name, before.sum(), unseen, int(counts.sum()), drift)
    if now.sum() and len(known) > 1:
        effect = float(jensenshannon(before, now, base=2))
        text = f"{name}: {_largest_change(known, before, now)} (Jensen-Shannon distance {effect:.2f})"
        p = _chi_squared(before, now)
        found.append(Finding(part, name, "values", "χ²", p, "Jensen-Shannon distance", effect, drift.distance, text))
    both_sides = np.append(before, 0), np.append(now, unseen.sum())
    return {"psi": psi(*both_sides), "bins": _category_bins(known, *both_sides)}, found


def _unseen(part: str, name: str, num_before: int, unseen: pd.Series, num_now: int, drift: Drift) -> list[Finding]:
    """Values that no row of the reference has; a class that is predicted is known, be it never predicted before."""
    count = int(unseen.sum())
    if not count:
        return []
    values = ", ".join(map(repr, unseen.index[:3])) + (", …" if len(unseen) > 3 else "")
    text = f"{name}: {_percent(count / num_now)} of the rows have a value that the reference does not know ({values})"
    p = _fisher(0, int(num_before), count, num_now)
    return [Finding(part, name, "unseen", "Fisher", p, "share of the rows", count / num_now, drift.unseen, text)]


def _chi_squared(before: np.ndarray, now: np.ndarray) -> float:
    """Categories of which fewer than 5 are expected on a side are taken together, the rarest first."""
    import numpy as np
    from scipy.stats import chi2_contingency

    table = np.stack([before, now])[:, np.argsort(before + now)]
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    num_rare = int((expected < LEAST_EXPECTED).sum())
    # A rest that is still too rare goes with the next one.
    if 0 < num_rare < table.shape[1] and expected[:num_rare].sum() < LEAST_EXPECTED:
        num_rare += 1
    merged = np.column_stack([table[:, :num_rare].sum(axis=1), table[:, num_rare:]]) if num_rare else table
    merged = merged[:, merged.sum(axis=0) > 0]
    return float(chi2_contingency(merged, correction=False).pvalue) if merged.shape[1] > 1 else 1.0


def psi(before: np.ndarray, now: np.ndarray) -> float | None:
    """The population stability index of counts in the same bins, half a row added to each bin; None without rows."""
    import numpy as np

    if not before.sum() or not now.sum():
        return None
    shares = [(counts + 0.5) / (counts + 0.5).sum() for counts in (before, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


# --- all columns ---------------------------------------------------------------------------------------------------


def _together(profiled: Profiled, frame: pd.DataFrame, names: Sequence[str], drift: Drift, seed: int) -> list[Finding]:
    import numpy as np

    if not names:
        return []
    count = min(len(profiled.sample), len(frame), MOST_CLASSIFIED)
    random = np.random.default_rng(seed)
    sides = [side.iloc[random.permutation(len(side))[:count]] for side in (profiled.sample, frame)]
    blocks = {name: _design(profiled.columns[name], [side[name] for side in sides]) for name in names}
    rows = np.column_stack(list(blocks.values()))
    found = classify_sides(rows[:count], rows[count:], seed)
    if found is None:
        return []
    ends = np.cumsum([block.shape[1] for block in blocks.values()])[:-1]
    heaviest = [float(np.abs(part).sum()) for part in np.split(found.weights, ends)]
    most = [names[place] for place in np.argsort(heaviest)[::-1][:3]]
    tells = "tells" if found.area >= drift.separability.warn else "hardly tells"
    said = f"a classifier {tells} the window's rows from the reference's, most by {', '.join(most)}"
    text = f"All columns together: {said} (area under the ROC curve {found.area:.2f}, where 0.5 is chance)"
    test_of = ("data", "all columns", "together", "Mann-Whitney", found.p, "area under the ROC curve")
    return [Finding(*test_of, max(found.area, 0.5), drift.separability, text)]


@dataclass(frozen=True)
class Separated:
    """The area under the ROC curve, the p value of the Mann-Whitney test, and the mean weights (columns,) in units of a
    column's spread."""

    area: float
    p: float
    weights: np.ndarray


def classify_sides(before: np.ndarray, now: np.ndarray, seed: int) -> Separated | None:
    """How well a logistic regression tells rows (n, columns) of both sides apart, by rows that it was not fitted on.

    Of the longer side as many rows are drawn as the other has. None for fewer than ten rows.
    """
    import numpy as np
    from scipy.stats import mannwhitneyu

    count = min(len(before), len(now), MOST_CLASSIFIED)
    if count < 2 * NUM_FOLDS:
        return None
    random = np.random.default_rng(seed)
    rows = np.concatenate([side[random.permutation(len(side))[:count]] for side in (before, now)])
    is_new = np.repeat([0, 1], count)
    scores, weights = _classify(rows, is_new, seed)
    test = mannwhitneyu(scores[is_new == 1], scores[is_new == 0], alternative="greater")
    return Separated(float(test.statistic) / count**2, float(test.pvalue), weights)


def _design(profile: Mapping[str, Any], sides: Sequence[pd.Series]) -> np.ndarray:
    """A column as the classifier sees it, float64 (rows of both sides, …): numbers in standard deviations, cut at 5,
    and whether they are missing; a 0 or 1 for each category."""
    import numpy as np
    import pandas as pd

    if profile["kind"] == "number":
        values = np.concatenate([as_numbers(side) for side in sides])
        scaled = (values - profile["mean"]) / (profile["sd"] or 1)
        return np.column_stack([np.nan_to_num(scaled.clip(-5, 5)), np.isnan(values)])
    texts = pd.concat([as_category(side) for side in sides], ignore_index=True)
    return np.column_stack([texts == value for value in profile["counts"]]).astype(float)


def _classify(rows: np.ndarray, is_new: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n,) of each row by a model of the other folds, and the mean weights (columns,) in units of a column's
    spread."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    scores = np.empty(len(rows))
    weights = np.zeros(rows.shape[1])
    for fitted, held_out in StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed).split(rows, is_new):
        model = LogisticRegression(max_iter=200).fit(rows[fitted], is_new[fitted])
        scores[held_out] = model.decision_function(rows[held_out])
        weights += model.coef_[0] / NUM_FOLDS
    return scores, weights * rows.std(axis=0)


# --- for the reader ------------------------------------------------------------------------------------------------


def _number_bins(before: np.ndarray, now: np.ndarray) -> list[dict[str, Any]]:
    """Shares in bins of one width between the outer 0.5 % of both sides; what lies outside is in the outermost."""
    import numpy as np

    ends = np.quantile(before, [0.005, 0.995]), np.quantile(now, [0.005, 0.995])
    low, high = float(min(ends[0][0], ends[1][0])), float(max(ends[0][1], ends[1][1]))
    if low == high:
        return []
    sides = [np.histogram(side.clip(low, high), NUM_SHOWN_BINS, (low, high)) for side in (before, now)]
    edges = sides[0][1]
    return [
        {
            "label": f"{edges[i]:.4g} to {edges[i + 1]:.4g}",
            "reference": float(sides[0][0][i] / len(before)),
            "window": float(sides[1][0][i] / len(now)),
        }
        for i in range(NUM_SHOWN_BINS)
    ]


def _category_bins(known: Sequence[str], before: np.ndarray, now: np.ndarray) -> list[dict[str, Any]]:
    """Shares of the values that are the most frequent on either side, at most 12; what is unseen comes last."""
    import numpy as np

    shares = before / max(before.sum(), 1), now / max(now.sum(), 1)
    order = np.argsort(-np.maximum(*shares), kind="stable")
    chosen = [*order[order < len(known)][: MOST_SHOWN_VALUES - 1], len(known)]
    labels = [*known, "unseen before"]
    return [
        {"label": labels[place], "reference": float(shares[0][place]), "window": float(shares[1][place])}
        for place in chosen
        if shares[0][place] or shares[1][place]
    ]


def _largest_change(known: Sequence[str], before: np.ndarray, now: np.ndarray) -> str:
    import numpy as np

    shares = before / before.sum(), now / now.sum()
    place = int(np.argmax(np.abs(shares[1] - shares[0])))
    return f"{known[place]!r} is {_percent(shares[1][place])} of the rows, before {_percent(shares[0][place])}"


def _percent(share: float) -> str:
    digits = 1 if share >= 0.001 or share == 0 or math.isnan(share) else 3
    return f"{share * 100:.{digits}f} %"
