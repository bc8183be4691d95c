"""Whether probabilities and intervals can be believed, and how to make them so.

Imported only where that is measured: it needs numpy at once.
"""

from __future__ import annotations

import math

import numpy as np

NUM_BINS = 10
NUM_FOLDS = 5
_LEAST_PROBABILITY = 1e-12
_DRAWS_AT_ONCE = 1 << 20


def calibration_error(said: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Expected calibration error (Naeini et al. 2015) in each of B sets of weights (B, n) of the rows, float64 (B,).

    The rows fall into ten bins of equally many in the order of `said` (n,), as near as ties allow: rows of the same
    probability share a bin. `happened` (n,) is 0 or 1. The mean over the rows of how far, in a row's bin, what was
    said lies from what happened.
    """
    gaps = _bins(said) * (happened - said)[:, None]
    drawn = np.ones((1, len(said))) if weights is None else weights
    error: np.ndarray = np.abs(drawn @ gaps).sum(axis=1) / drawn.sum(axis=1)
    return error


def errors_if_calibrated(said: np.ndarray, seed: int, num_draws: int = 500) -> np.ndarray:
    """The calibration errors that so many rows show by chance where what is said is the truth, float64 (num_draws,)
    (consistency resampling, Bröcker & Smith 2007)."""
    random, bins = np.random.default_rng(seed), _bins(said)
    at_once = max(1, _DRAWS_AT_ONCE // len(said))
    parts = []
    for start in range(0, num_draws, at_once):
        count = min(at_once, num_draws - start)
        surprises = (random.random((count, len(said))) < said) - said
        parts.append(np.abs(surprises @ bins).sum(axis=1) / len(said))
    return np.concatenate(parts)


def _bins(said: np.ndarray) -> np.ndarray:
    """Which bin each row is in: float64 (n, 10) with a single 1 in each row."""
    edges = np.unique(np.quantile(said, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return np.eye(NUM_BINS)[np.searchsorted(edges, said, side="right")]


# --- temperature ---------------------------------------------------------------------------------------------------


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by the temperature, for probabilities (n, k): above 1 they become less sure."""
    logits = np.log(np.clip(probabilities, _LEAST_PROBABILITY, 1)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return scaled


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature from e⁻³ to e³ whose log loss on these rows is lowest (Guo et al. 2017); `truth` int64 (n,)."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_of_it: float(log_losses(scale(probabilities, math.exp(log_of_it)), truth).mean()),
        bounds=(-3, 3),
        method="bounded",
    )
    return math.exp(found.x)


def temperature_gains(probabilities: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """By how much the log loss of each row falls with a temperature that was fitted on other rows, float64 (n,)."""
    scaled = np.empty_like(probabilities, float)
    for fold in np.array_split(np.random.default_rng(seed).permutation(len(truth)), NUM_FOLDS):
        others = np.setdiff1d(np.arange(len(truth)), fold)
        scaled[fold] = scale(probabilities[fold], fit_temperature(probabilities[others], truth[others]))
    return log_losses(scale(probabilities, 1), truth) - log_losses(scaled, truth)


def log_losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each row, float64 (n,)."""
    given = probabilities[np.arange(len(truth)), truth]
    losses: np.ndarray = -np.log(np.clip(given, _LEAST_PROBABILITY, 1))
    return losses


# --- intervals -----------------------------------------------------------------------------------------------------


def conformal_reach(misses: np.ndarray, level: float) -> float:
    """How far from their prediction a share `level` of new rows will lie, from how far held-out rows (n,) did; NaN
    where they are too few to tell (split conformal prediction, Lei et al. 2018, arXiv 1604.04173)."""
    place = math.ceil(level * (len(misses) + 1))
    return float(np.sort(misses)[place - 1]) if place <= len(misses) else math.nan
