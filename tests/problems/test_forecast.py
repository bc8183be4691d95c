"""Forecasts: baselines row by row, scaled errors, intervals that are calibrated, blocks, windows and backtests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from problems.outline import Backtest, Examples, Forecast
from problems.outline.forecast import COVERAGE
from problems.outline.windows import WindowHyperparameters, build_window_model, look_back, look_back_by_month
from tasks.evaluation import evaluate
from tasks.resampling import _draw_blocks
from tests.tasks.test_evaluation import problem_with

SALES = Forecast(unit="€", time="day", naive="last_week", naive_name="last week", block=7)
NUM_DAYS = 140


def rows(num_series: int = 1) -> tuple[np.ndarray, pd.DataFrame]:
    """Days with a target that goes up slowly, and errors of a naive forecast that are 5 everywhere."""
    days = np.repeat(pd.date_range("2024-01-01", periods=NUM_DAYS).to_numpy(), num_series)
    target = np.linspace(50, 60, len(days))
    return target, pd.DataFrame({"day": days, "last_week": target - 5})


def off_by(target: np.ndarray, errors: np.ndarray) -> pd.DataFrame:
    return SALES.predictions((target + errors)[:, None])


def test_the_baseline_is_the_naive_forecast_of_each_row() -> None:
    target, frame = rows()
    assert SALES.baseline(target[:1], frame)["prediction"].to_numpy() == pytest.approx(target - 5)


def test_an_error_is_scaled_by_that_of_the_naive_forecast_on_the_training_rows() -> None:
    target, frame = rows()
    calibrated = SALES.calibrated(target, frame, [])
    value = calibrated.metric("mase").compute(target, off_by(target, np.full(len(target), 2.0)), None)
    assert value == pytest.approx([0.4])


def test_the_interval_covers_as_many_new_rows_as_it_says() -> None:
    random, target = np.random.default_rng(0), np.full(20_000, 100.0)
    held_out, tested = np.split(random.laplace(0, 3, 20_000), 2)
    for objective in (SALES, Forecast(**{**vars(SALES), "main_metric": "mape"})):
        calibrated = objective.calibrated(
            target, pd.DataFrame({"last_week": target}), [(target[:10_000], off_by(target[:10_000], held_out))]
        )
        covered = calibrated.metric("coverage").compute(target[:10_000], off_by(target[:10_000], tested), None)
        assert covered[0] == pytest.approx(COVERAGE, abs=0.01)


def test_without_held_out_rows_nothing_is_said_of_coverage() -> None:
    target, frame = rows()
    for held_out in ([], [(target[:5], off_by(target[:5], np.ones(5)))]):
        calibrated = SALES.calibrated(target, frame, held_out)
        assert np.isnan(calibrated.metric("coverage").compute(target, off_by(target, 0 * target), None)[0])


def test_percentages_are_left_out_where_zero_does_not_mean_none() -> None:
    anomalies = Forecast(time="day", naive="last_week", naive_name="last year", block=7, is_ratio=False)
    assert "mape" not in [metric.name for metric in anomalies.metrics()]


def test_rows_of_a_moment_are_drawn_together_and_moments_in_blocks() -> None:
    _, frame = rows(num_series=3)
    blocks = SALES.blocks(frame)
    weights = _draw_blocks(np.random.default_rng(0), 50, blocks)
    assert weights.shape == (50, 3 * NUM_DAYS)
    assert (weights.sum(axis=1) == 3 * NUM_DAYS).all()
    by_day = weights.reshape(50, NUM_DAYS, 3)
    assert (by_day == by_day[:, :, :1]).all()
    # Of 20 blocks of 7 days at most 40 ends stand where the count changes; single draws would change it anywhere.
    assert (np.diff(by_day[:, :, 0]) != 0).sum(axis=1).max() <= 40


def test_blocks_are_shorter_where_there_are_few_moments() -> None:
    _, frame = rows()
    assert SALES.blocks(frame.head(10)).length == 2
    assert SALES.blocks(frame.head(1)).length == 1


def test_errors_that_go_on_for_days_make_the_interval_wider_than_independent_rows_would() -> None:
    target, frame = rows()
    waves = np.repeat(np.random.default_rng(1).normal(0, 3, NUM_DAYS // 7), 7)
    widths = []
    for block in (1, 14):
        objective = Forecast(**{**vars(SALES), "block": block})
        evaluation = evaluate(
            problem_with(objective), target=target, predictions=off_by(target, waves),
            baseline=objective.baseline(target, frame), frame=frame, resamples=400,
        )  # fmt: skip
        assert evaluation["interval"]["block"] == block
        low, high = evaluation["metrics"]["mae"]["interval"]
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("num_series", [1, 3])
def test_the_forecast_is_drawn_over_time(num_series: int) -> None:
    target, frame = rows(num_series)
    held_out = [(target, off_by(target, np.full(len(target), 2.0)))]
    figures = SALES.calibrated(target, frame, held_out).figures(
        target, off_by(target, np.ones(len(target))), frame, SALES.baseline(target, frame)
    )
    assert "from 2024-01-01 to 2024-05-19" in figures["over_time"].alt
    assert ("band" in figures["over_time"].note) is (num_series == 1)


def examples(num_moments: int) -> Examples:
    months = pd.date_range("2000-01-01", periods=num_moments, freq="MS")
    return Examples({}, np.zeros(num_moments), pd.DataFrame({"month": months}))


def test_a_backtest_never_trains_on_what_came_after_the_origin_or_within_the_gap() -> None:
    split = Backtest(column="month", origins=4, test=0.2, gap=2).divide(examples(100), seed=0)
    assert split.test.tolist() == list(range(80, 100))
    assert split.train.tolist() == list(range(78))
    assert len(split.folds) == 4
    assert np.concatenate([held_out for _, held_out in split.folds]).tolist() == list(range(16, 80))
    for train, held_out in split.folds:
        assert train.tolist() == list(range(held_out[0] - 2))


def test_folds_that_the_gap_leaves_nothing_to_train_on_are_left_out() -> None:
    split = Backtest(column="month", origins=4, test=0.2, gap=3).divide(examples(15), seed=0)
    assert all(len(train) and len(held_out) for train, held_out in split.folds)
    assert len(split.folds) < 4


def test_a_window_is_followed_by_what_came_a_horizon_later() -> None:
    known = look_back(np.arange(10), length=3, horizon=2)
    assert known.dtype == np.float32 and known.shape == (10, 3)
    assert known[4].tolist() == [0, 1, 2] and known[9].tolist() == [5, 6, 7]
    assert np.isnan(known[3]).tolist() == [True, False, False] and np.isnan(known[0]).all()


def test_windows_over_a_hole_and_of_a_short_series_are_left_out() -> None:
    series = np.arange(10.0)
    series[5] = np.nan
    whole = np.isfinite(look_back(series, length=3, horizon=1)).all(axis=1)
    assert np.flatnonzero(whole).tolist() == [3, 4, 5, 9]
    assert not np.isfinite(look_back(np.arange(4), length=3, horizon=2)).all(axis=1).any()


def test_what_was_known_of_months_in_any_order_with_holes_and_copies() -> None:
    months = pd.to_datetime(pd.Series(["2020-05-01", "2020-01-01", "2020-02-01", "2020-02-01", "2020-03-01", None]))
    known = look_back_by_month(months, pd.Series([np.nan, 1.0, 7.0, 2.0, 3.0, 9.0]), length=2, horizon=2)
    assert known[0].tolist() == [2, 3]
    assert known[4, 1] == 1 and np.isnan(known[4, 0])
    assert np.isnan(known[[1, 2, 3, 5]]).all()


@pytest.mark.parametrize("network", ["linear", "dense", "convolution", "lstm"])
def test_an_untrained_window_model_goes_on_as_the_training_rows_did_on_average(network: str) -> None:
    """And so at a level that it was not trained on."""
    known = look_back(np.arange(60), length=24, horizon=3)[26:]
    train = Examples({"window": known}, np.arange(26, 60, dtype=np.float32), pd.DataFrame(index=range(34)))
    model = build_window_model(WindowHyperparameters(network=network, units=4), train)
    ahead = model({"window": known[:2] + 1000})
    assert np.asarray(ahead).ravel() == pytest.approx([1023 + 3, 1024 + 3], abs=1e-2)
