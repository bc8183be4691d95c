"""Calibration: what is measured where the truth is known, and what a temperature mends."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from problems.outline.calibration import (
    calibration_error,
    conformal_reach,
    errors_if_calibrated,
    fit_temperature,
    scale,
    temperature_gains,
)

NUM_ROWS = 2000


@pytest.fixture
def said() -> np.ndarray:
    return np.random.default_rng(0).beta(2, 3, NUM_ROWS)


@pytest.fixture
def happened(said: np.ndarray) -> np.ndarray:
    """As often as it was said."""
    return (np.random.default_rng(1).random(NUM_ROWS) < said).astype(int)


def pair(positive: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - positive, positive])


def test_the_error_is_that_of_scikit_learns_bins_of_equal_mass(said: np.ndarray, happened: np.ndarray) -> None:
    seen, told = calibration_curve(happened, said, n_bins=10, strategy="quantile")
    assert calibration_error(said, happened) == pytest.approx([np.abs(seen - told).mean()], rel=1e-9)


def test_an_overconfident_model_has_an_error_of_what_it_says_too_much() -> None:
    """It says 0.9 and 0.1, and is right in 70 % of the cases: off by 0.2 everywhere."""
    said = np.repeat([0.9, 0.1], 100)
    happened = np.concatenate([np.arange(100) < 70, np.arange(100) < 30])
    assert calibration_error(said, happened) == pytest.approx([0.2])


def test_rows_of_the_same_probability_share_a_bin() -> None:
    """A constant that is right on average has no error, in whatever order the rows stand."""
    happened = np.arange(100) < 30
    assert calibration_error(np.full(100, 0.3), happened) == pytest.approx([0], abs=1e-12)


def test_weights_count_rows() -> None:
    said, happened = np.array([0.2, 0.9]), np.array([0, 1])
    assert calibration_error(said, happened, np.array([[3.0, 1.0], [0.0, 4.0]])) == pytest.approx([0.175, 0.1])


def test_chance_alone_makes_errors_like_those_of_a_calibrated_model(said: np.ndarray, happened: np.ndarray) -> None:
    chance = errors_if_calibrated(said, seed=0)
    assert len(chance) == 500 and chance.min() > 0
    assert calibration_error(said, happened)[0] < np.quantile(chance, 0.99)
    too_sure = scale(pair(said), 0.4)[:, 1]
    assert calibration_error(too_sure, happened)[0] > errors_if_calibrated(too_sure, seed=0).max()


def test_a_temperature_finds_back_what_was_distorted(said: np.ndarray, happened: np.ndarray) -> None:
    for distortion in (0.5, 2.0):
        found = fit_temperature(scale(pair(said), distortion), happened)
        assert found == pytest.approx(1 / distortion, rel=0.12)


def test_scaling_by_one_changes_nothing_and_scaling_never_changes_the_order() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 2, 3], 50)
    np.testing.assert_allclose(scale(probabilities, 1.0), probabilities)
    for temperature in (0.2, 5.0):
        scaled = scale(probabilities, temperature)
        np.testing.assert_array_equal(scaled.argsort(axis=1), probabilities.argsort(axis=1))
        np.testing.assert_allclose(scaled.sum(axis=1), 1)


def test_scaling_takes_probabilities_of_zero_and_one() -> None:
    assert np.isfinite(scale(np.array([[0.0, 1.0], [1.0, 0.0]]), 0.1)).all()


def test_a_temperature_gains_on_rows_it_was_not_fitted_on_only_where_there_is_something_to_mend(
    said: np.ndarray, happened: np.ndarray
) -> None:
    assert temperature_gains(scale(pair(said), 0.4), happened, seed=0).mean() > 0.05
    assert abs(temperature_gains(pair(said), happened, seed=0).mean()) < 0.002


def test_a_conformal_interval_covers_new_rows_as_often_as_it_promises() -> None:
    """Over many small samples the mean coverage is between 90 % and 90 % + 1 / (n + 1) (Lei et al. 2018)."""
    random = np.random.default_rng(0)
    covered = [
        np.mean(np.abs(random.standard_t(3, 500)) <= conformal_reach(np.abs(random.standard_t(3, 39)), 0.9))
        for _ in range(400)
    ]
    assert 0.895 < np.mean(covered) < 0.93


def test_too_few_held_out_rows_give_no_interval() -> None:
    assert np.isnan(conformal_reach(np.arange(8.0), 0.9))
    assert conformal_reach(np.arange(9.0), 0.9) == 8
