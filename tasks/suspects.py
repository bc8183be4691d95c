"""Rows that deserve doubt: labels that are likely wrong, and test rows that were also trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from problems.outline.objectives import Classification, Objective
from problems.outline.ragged import Ragged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.problem import Examples
    from problems.outline.splits import SplitRows

NUM_LISTED = 10
_MOST_BYTES = 1 << 30
_BYTES_AT_ONCE = 1 << 24
_DIGEST_BYTES = 16


def suspect_labels(objective: Objective, target: np.ndarray, predictions: pd.DataFrame) -> dict[str, Any] | None:
    """Labels that the model doubts with reason (confident learning, Northcutt et al. 2021, arXiv 1911.00068); None for
    an objective without classes.

    A class's threshold is the mean probability that rows labelled so are given for it. A label is suspected where its
    own probability is below its threshold while another class, the likeliest of such, reaches its own.

        num, share         how many of the test rows
        examples           [{place, given, suggested, given_probability, suggested_probability, threshold}], ten at
                           most, the largest difference first; `place` counts the test rows from 0
    """
    if not isinstance(objective, Classification):
        return None
    import numpy as np

    probabilities, given = objective.probabilities(predictions), objective.numbers(target)
    every = np.arange(len(given))
    own = probabilities[every, given]
    counts = np.bincount(given, minlength=probabilities.shape[1])
    sums = np.bincount(given, own, minlength=probabilities.shape[1])
    thresholds = np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    best = confident[every, suggested]
    suspected = np.flatnonzero((best >= 0) & (suggested != given) & (own < thresholds[given]))
    worst = suspected[np.argsort((own - best)[suspected], kind="stable")][:NUM_LISTED]
    names = zip(objective.target_labels(given[worst]), objective.target_labels(suggested[worst]), strict=True)
    return {
        "num": len(suspected),
        "share": len(suspected) / len(given),
        "examples": [
            {
                "place": int(place),
                "given": label,
                "suggested": other,
                "given_probability": float(own[place]),
                "suggested_probability": float(best[place]),
                "threshold": float(thresholds[given[place]]),
            }
            for place, (label, other) in zip(worst, names, strict=True)
        ],
    }


def find_overlap(
    objective: Objective, examples: Examples, rows: SplitRows, predictions: pd.DataFrame
) -> dict[str, Any] | None:
    """Test rows whose features are, bit for bit, those of a training or validation row; None where nothing was trained
    on, or where the features are more than 1 GB.

        num, share, rows       how many of the test rows, and the numbers of the first ten
        without, without_text  the main metric of the other test rows; null where none is left or nothing overlaps
    """
    import numpy as np

    known = np.union1d(rows.train, rows.validation)
    if not len(known) or _num_bytes(examples.features) > _MOST_BYTES:
        return None
    digests = np.array(list(_digests(examples.features, len(examples))))
    is_known = np.isin(digests[rows.test], digests[known])
    metric, others = objective.metric(objective.main_metric), np.flatnonzero(~is_known)
    without = None
    if is_known.any() and len(others):
        target = np.asarray(examples.target).reshape(len(examples))[rows.test]
        value = float(metric.compute(target[others], predictions.iloc[others], None)[0])
        without = value if np.isfinite(value) else None
    return {
        "num": int(is_known.sum()),
        "share": float(is_known.mean()),
        "rows": rows.test[is_known][:NUM_LISTED].tolist(),
        "without": without,
        "without_text": objective.describe(without, metric),
    }


def _num_bytes(features: Mapping[str, Any]) -> int:
    return sum(array.values.nbytes if isinstance(array, Ragged) else array.nbytes for array in features.values())


def _digests(features: Mapping[str, Any], num_rows: int) -> Iterator[bytes]:
    """16 bytes of BLAKE2b per example, of all its features together."""
    parts = [_rows_as_bytes(array) for array in features.values()]
    for row in zip(*parts, strict=True) if parts else iter([()] * num_rows):
        digest = blake2b(digest_size=_DIGEST_BYTES)
        for part in row:
            digest.update(part)
        yield digest.digest()


def _rows_as_bytes(array: Any) -> Iterator[Any]:
    """The bytes of each row, read a few megabytes at a time: the array may lie on disk."""
    import numpy as np

    if isinstance(array, Ragged):
        for start, end in zip(array.offsets[:-1].tolist(), array.offsets[1:].tolist(), strict=True):
            yield array.values[start:end].tobytes()
        return
    step = max(1, _BYTES_AT_ONCE // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), step):
        for row in np.ascontiguousarray(array[start : start + step]).reshape(len(array[start : start + step]), -1):
            yield row.tobytes()
