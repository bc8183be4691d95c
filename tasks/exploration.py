"""What data looks like before a model sees it: columns, target, copies, and how test rows differ from training rows.

Pure functions over a frame and its arrays (DLWP 2nd ed. §6.1.2, "collect a dataset": look at it first).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from problems.outline.problem import Examples

if TYPE_CHECKING:
    from problems.outline.objectives import Objective
    from problems.outline.splits import SplitRows

MOST_ROWS = 50_000  # more are sampled for relations and differences
MOST_VALUES = 12
MOST_CATEGORIES = 50
NUM_BINS = 24
LIKELY_LEAK = 0.95
NOTABLE = 0.1
DIVIDES = 0.999


def explore(examples: Examples, rows: SplitRows, objective: Objective) -> dict[str, Any]:
    """{num_examples, parts, features, target, columns, copies, notes}; every number is of the examples given."""
    classes = _class_names(objective, examples)
    parts = {name: getattr(rows, name) for name in ("train", "validation", "test")}
    learnt, tested = np.concatenate([rows.train, rows.validation]), rows.test
    target = np.asarray(examples.target).reshape(len(examples), -1)[:, 0]
    columns = [_describe_column(examples.frame[name], target, bool(classes), learnt, tested) for name in examples.frame]
    _correct_for_many(columns)
    told = {
        "num_examples": len(examples),
        "parts": {name: len(part) for name, part in parts.items() if len(part)},
        "features": [_describe_array(name, array) for name, array in examples.features.items()],
        "target": _describe_target(target, classes),
        "columns": columns,
        "copies": count_copies(examples, target, learnt, tested),
    }
    return {**told, "notes": _notes(told)}


def _class_names(objective: Objective, examples: Examples) -> Sequence[str]:
    return examples.classes or getattr(objective, "classes", ())


def _describe_array(name: str, array: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": str(array.dtype), "bytes": int(array.nbytes)}


def _describe_target(target: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    if not classes:
        return {"kind": "number", **_summary(pd.Series(target)), "bins": _histogram(pd.Series(target))}
    counts = np.bincount(target.astype(np.int64), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    listed = [{"name": classes[i], "count": int(counts[i]), "share": float(counts[i] / len(target))} for i in order]
    present = counts[counts > 0]
    return {"kind": "classes", "classes": listed, "imbalance": float(present.max() / present.min())}


# --- columns -------------------------------------------------------------------------------------------------------


def _describe_column(
    column: pd.Series, target: np.ndarray, has_classes: bool, learnt: np.ndarray, tested: np.ndarray
) -> dict[str, Any]:
    present = column.dropna()
    kind = column_kind(column)
    told: dict[str, Any] = {
        "name": str(column.name),
        "kind": kind,
        "missing": int(column.isna().sum()),
        "missing_share": float(column.isna().mean()) if len(column) else 0.0,
        "distinct": int(present.nunique()),
        "is_target": _is_target(column, target),
        "bins": [],
        "values": [],
        "relation": None,
        "difference": None,
    }
    if kind == "number":
        told |= _summary(present) | {"bins": _histogram(present)}
    elif kind == "category":
        counts = present.astype(str).value_counts().head(MOST_VALUES)
        told["values"] = [{"value": value, "count": int(count)} for value, count in counts.items()]
    if kind in ("number", "category"):
        told["relation"] = _relation(column, target, kind, has_classes)
        told["difference"] = _difference(column.iloc[learnt], column.iloc[tested], kind)
    return told


def _is_target(column: pd.Series, target: np.ndarray) -> bool:
    """Whether the column is the target: the same numbers, or each of a few values goes with one class."""
    if column.isna().any():
        return False
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return bool(np.allclose(column.to_numpy(float), target, rtol=1e-6))
    pairs = pd.DataFrame({"column": column.to_numpy(), "target": target}).drop_duplicates()
    return len(pairs) < len(column) and pairs["column"].is_unique and pairs["target"].is_unique


def column_kind(column: pd.Series) -> str:
    """`constant`, `number`, `category` (at most 50 values) or `text` (anything else, such as names and moments)."""
    distinct = column.nunique()
    if distinct <= 1:
        return "constant"
    if pd.api.types.is_bool_dtype(column):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    return "category" if distinct <= MOST_CATEGORIES and distinct < len(column) else "text"


def _summary(values: pd.Series) -> dict[str, Any]:
    quantiles = values.astype(float).quantile([0, 0.25, 0.5, 0.75, 1])
    names = ("min", "lower_quarter", "median", "upper_quarter", "max")
    return {name: _plain(value) for name, value in zip(names, quantiles, strict=True)} | {
        "mean": _plain(values.astype(float).mean())
    }


def _histogram(values: pd.Series) -> list[dict[str, Any]]:
    """Counts in bins of one width between the 0.5 and 99.5 % quantiles; what lies outside is in the outermost ones."""
    numbers = values.to_numpy(float)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return []
    low, high = np.quantile(numbers, [0.005, 0.995])
    if low == high:
        low, high = numbers.min(), numbers.max()
    counts, edges = np.histogram(numbers.clip(low, high), bins=NUM_BINS, range=(low, high) if low < high else None)
    return [
        {"from": _plain(edges[i]), "to": _plain(edges[i + 1]), "count": int(count)} for i, count in enumerate(counts)
    ]


def _relation(column: pd.Series, target: np.ndarray, kind: str, has_classes: bool) -> dict[str, Any] | None:
    """How much a column alone tells of the target, 0 … 1, by a measure for the kinds of both."""
    rows = _some_rows(len(column))
    column, target = column.iloc[rows], target[rows]
    is_there = column.notna().to_numpy() & np.isfinite(target.astype(float))
    column, target = column[is_there], target[is_there]
    if len(column) < 10 or column.nunique() < 2 or len(np.unique(target)) < 2:
        return None
    if kind == "number" and not has_classes:
        from scipy.stats import spearmanr

        return {"measure": "Spearman’s ρ", "value": _plain(abs(spearmanr(column.astype(float), target).statistic))}
    if kind == "category" and has_classes:
        return {"measure": "Cramér’s V", "value": _plain(_cramers_v(column.astype(str), target))}
    values, groups = (target, column.astype(str)) if kind == "category" else (column.astype(float), target)
    return {"measure": "ε² of ranks", "value": _plain(_epsilon_squared(np.asarray(values), np.asarray(groups)))}


def _cramers_v(first: pd.Series, second: np.ndarray) -> float:
    """With the correction for its bias (Bergsma 2013)."""
    from scipy.stats import chi2_contingency

    table = pd.crosstab(first.to_numpy(), second).to_numpy()
    n, (r, k) = table.sum(), table.shape
    phi2 = max(0.0, chi2_contingency(table, correction=False).statistic / n - (r - 1) * (k - 1) / (n - 1))
    r, k = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return math.sqrt(phi2 / max(min(r, k) - 1, 1e-12))


def _epsilon_squared(values: np.ndarray, groups: np.ndarray) -> float:
    """Share of the variance of ranks that lies between groups (Kelley 1935), not below 0."""
    from scipy.stats import rankdata

    ranks = rankdata(values)
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    total = ((ranks - ranks.mean()) ** 2).sum()
    means = np.bincount(place, ranks) / counts
    within = ((ranks - means[place]) ** 2).sum()
    n, k = len(ranks), len(counts)
    return max(0.0, float(1 - (within / max(n - k, 1)) / (total / (n - 1)))) if total else 0.0


def _difference(learnt: pd.Series, tested: pd.Series, kind: str) -> dict[str, Any] | None:
    """Between training and test rows: an effect of 0 … 1 and the p value of its test."""
    learnt, tested = (part.dropna().iloc[_some_rows(part.notna().sum())] for part in (learnt, tested))
    if len(learnt) < 10 or len(tested) < 10:
        return None
    if kind == "number":
        from scipy.stats import ks_2samp

        tested_against = ks_2samp(learnt.astype(float), tested.astype(float), method="asymp")
        return {"measure": "Kolmogorov-Smirnov", "effect": _plain(tested_against.statistic)} | {
            "p": float(tested_against.pvalue)
        }
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2_contingency

    counts = pd.concat([learnt.astype(str).value_counts(), tested.astype(str).value_counts()], axis=1).fillna(0)
    table = counts.to_numpy()
    distance = jensenshannon(table[:, 0], table[:, 1], base=2)
    return {
        "measure": "Jensen-Shannon distance",
        "effect": _plain(distance),
        "p": float(chi2_contingency(table).pvalue),
    }


def _correct_for_many(columns: list[dict[str, Any]]) -> None:
    """Holm's correction over the columns; a difference is notable with p < 0.05 and an effect of 0.1 or more."""
    tested = sorted((column["difference"] for column in columns if column["difference"]), key=lambda one: one["p"])
    worst = 0.0
    for place, one in enumerate(tested):
        worst = max(worst, min(1.0, one["p"] * (len(tested) - place)))
        one["p"] = worst
        one["is_notable"] = bool(worst < 0.05 and (one["effect"] or 0) >= NOTABLE)


# --- copies --------------------------------------------------------------------------------------------------------


def count_copies(examples: Examples, target: np.ndarray, learnt: np.ndarray, tested: np.ndarray) -> dict[str, int]:
    """Examples whose features are those of an earlier one, byte by byte; test rows that have such a copy among the
    rows that are learnt from; and examples that have a copy with another target."""
    digests = _row_digests(examples)
    _, first, place = np.unique(digests, return_index=True, return_inverse=True)
    differs = target != target[first][place]
    return {
        "copies": int(len(digests) - len(first)),
        "test_rows_learnt": int(np.isin(digests[tested], digests[learnt]).sum()),
        "contradictions": int(np.isin(place, place[differs]).sum()),
    }


def _row_digests(examples: Examples) -> np.ndarray:
    """8 bytes for the features of each example, uint64 (n,)."""
    arrays = [examples.features[name] for name in sorted(examples.features)]
    digests = np.empty(len(examples), np.uint64)
    for start in range(0, len(examples), 256):
        blocks = [np.ascontiguousarray(array[start : start + 256]) for array in arrays]
        for row in range(len(blocks[0])):
            digest = blake2b(digest_size=8)
            for block in blocks:
                digest.update(block[row].tobytes())
            digests[start + row] = int.from_bytes(digest.digest(), "little")
    return digests


# --- what to look at -----------------------------------------------------------------------------------------------


def _notes(told: dict[str, Any]) -> list[str]:
    """What a reader should know first, worst first; may be empty."""
    notes, copies, columns = [], told["copies"], told["columns"]
    if copies["test_rows_learnt"]:
        notes.append(
            f"{copies['test_rows_learnt']:,} test rows have the same features as a row that is learnt from: the score "
            "on them tells little. Divide by groups, or remove the copies."
        )
    if copies["contradictions"]:
        notes.append(f"{copies['contradictions']:,} examples have a copy with another target: no model can be right.")
    notes += [
        f"{one['name']} alone gives the target away ({one['relation']['measure']} {one['relation']['value']:.2f}): it "
        "must not be a feature, unless it is known at the time of prediction."
        for one in columns
        if one["relation"] and (one["relation"]["value"] or 0) >= LIKELY_LEAK and not one["is_target"]
    ]
    # A column without a common value is what divides them, such as the part or the date.
    different = [
        one["name"]
        for one in columns
        if one["difference"] and one["difference"]["is_notable"] and one["difference"]["effect"] < DIVIDES
    ]
    if different:
        notes.append("Test rows differ from training rows in " + ", ".join(different) + ".")
    missing = [f"{one['name']} ({one['missing_share']:.1%})" for one in columns if one["missing"]]
    if missing:
        notes.append("Values are missing in " + ", ".join(missing) + ".")
    if told["target"].get("imbalance", 1) >= 10:
        rarest = told["target"]["classes"][-1]
        notes.append(
            f"Classes are uneven: {rarest['name']} is {rarest['share']:.2%} of the examples. Accuracy says little."
        )
    return notes


def _some_rows(count: int) -> np.ndarray:
    """All rows, or so many of them drawn at random, always the same."""
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_ROWS, replace=False))


def _plain(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
