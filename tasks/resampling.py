"""Resamples of the test rows, and what is read off them: intervals, and whether a difference is more than chance.

Percentile intervals of the bootstrap (Efron & Tibshirani 1993, ch. 13). All statistics of a call see the same draws,
so that what is the same for two models cancels in their difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from problems.outline.objectives import Blocks

LEVEL = 0.95
# Weights are drawn 4 MB at a time, or 32 resamples: each chunk sorts the rows anew where a metric needs their order.
_CHUNK_NUMBERS = 2**19
_LEAST_CHUNK = 32

Key: TypeAlias = tuple[str, ...]
Statistic: TypeAlias = "Callable[[np.ndarray | None], np.ndarray]"


def num_resamples(num_rows: int) -> int:
    """2,000, and fewer from 10,000 rows on, where they take long and the intervals are narrow; never below 500."""
    return min(2000, max(500, 20_000_000 // num_rows))


def bootstrap(
    statistics: Mapping[Key, Statistic], num_rows: int, resamples: int, seed: int, blocks: Blocks | None = None
) -> dict[Key, np.ndarray]:
    """Each statistic in each resample, (resamples,); all of them see the same draws. Memory is bounded by chunks."""
    import numpy as np

    random = np.random.default_rng(seed)
    chunk = max(_LEAST_CHUNK, _CHUNK_NUMBERS // num_rows)
    parts: dict[Key, list[np.ndarray]] = {key: [] for key in statistics}
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        weights = _draw(random, count, num_rows) if blocks is None else _draw_blocks(random, count, blocks)
        for key, statistic in statistics.items():
            parts[key].append(statistic(weights))
    return {key: np.concatenate(values) for key, values in parts.items()}


def _draw(random: np.random.Generator, num_resamples: int, num_rows: int) -> np.ndarray:
    """How often each row is drawn in each resample: float64 (num_resamples, num_rows), each row summing to num_rows."""
    return _count(random.integers(0, num_rows, (num_resamples, num_rows)))


def _draw_blocks(random: np.random.Generator, num_resamples: int, blocks: Blocks) -> np.ndarray:
    """The moving-block bootstrap (Künsch 1989): blocks of consecutive moments until there are as many moments as
    before, the last block cut short; a moment comes with all of its rows. float64 (num_resamples, n)."""
    import numpy as np

    num_moments = int(blocks.moments.max()) + 1
    num_blocks = -(-num_moments // blocks.length)
    starts = random.integers(0, num_moments - blocks.length + 1, (num_resamples, num_blocks))
    drawn = (starts[:, :, None] + np.arange(blocks.length)).reshape(num_resamples, -1)[:, :num_moments]
    return _count(drawn).take(blocks.moments, axis=1)


def _count(drawn: np.ndarray) -> np.ndarray:
    """How often each of 0 … n-1 is in each row of `drawn`, int64 (B, n): float64 (B, n)."""
    import numpy as np

    places = drawn + np.arange(len(drawn))[:, None] * drawn.shape[1]
    return np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def describe_method(blocks: Blocks | None) -> dict[str, Any]:
    if blocks is None:
        return {"method": "percentile bootstrap", "block": None, "source": "Efron & Tibshirani 1993"}
    if blocks.length == 1 and blocks.of != "moments":
        method = f"percentile bootstrap of {blocks.of}, each with all rows"
        return {"method": method, "block": 1, "source": "Field & Welsh 2007"}
    method = f"percentile bootstrap of blocks of {blocks.length} consecutive moments"
    return {"method": method, "block": blocks.length, "source": "Künsch 1989"}


def middle(samples: np.ndarray) -> list[float] | None:
    """The ends of the middle 95 % of the resamples; None where more than half of them are undefined."""
    import numpy as np

    defined = samples[~np.isnan(samples)]
    if len(defined) * 2 < len(samples):
        return None
    tail = (1 - LEVEL) / 2
    return [float(end) for end in np.quantile(defined, [tail, 1 - tail])]


def p_value(gain: float, samples: np.ndarray) -> float:
    """Two-sided, from the normal distribution with the standard error of the bootstrap.

    The share of resamples beyond 0 would not do: with 2,000 of them it is never below 0.001, too coarse for Holm.
    """
    import numpy as np

    defined = samples[~np.isnan(samples)]
    if math.isnan(gain) or len(defined) < 2 or gain == 0:
        return 1.0
    error = float(defined.std(ddof=1))
    return math.erfc(abs(gain) / error / math.sqrt(2)) if error > 0 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): below .05 all together in at most 5 % of the cases where nothing differs."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, p_values[number] * (len(p_values) - place)))
        adjusted[number] = least
    return adjusted
