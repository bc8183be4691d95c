"""Trust: probabilities and intervals are judged by rows whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from problems.outline import Binary, Forecast, Multiclass, Regression
from problems.outline.calibration import scale
from problems.outline.objectives import Blocks
from tasks.trust import HeldOut, Resampling, judge_intervals, judge_probabilities

NUM_ROWS = 800
LETTERS = Multiclass(classes=("a", "b", "c"))
QUICK = Resampling(200, 0)


def drawn(seed: int, temperature: float, count: int = NUM_ROWS) -> tuple[np.ndarray, pd.DataFrame]:
    """Truths that are drawn with the probabilities that are said at a temperature of 1."""
    random = np.random.default_rng(seed)
    true = random.dirichlet([1, 1, 1], count)
    target = (random.random((count, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return target, LETTERS.from_probabilities(scale(true, temperature).astype("float32"))


def test_an_overconfident_model_gets_a_temperature_that_makes_test_rows_better() -> None:
    target, predictions = drawn(0, 0.4)
    found = judge_probabilities(LETTERS, target, predictions, HeldOut([drawn(1, 0.4)], "validation rows"), QUICK)
    assert found is not None and found["temperature"]["helps"]
    assert found["temperature"]["value"] == pytest.approx(2.5, rel=0.15)
    assert found["gain"]["interval"][0] > 0
    for measure in found["measures"].values():
        assert measure["after"]["value"] < measure["before"]["value"]
    error = found["measures"]["ece"]
    assert error["before"]["interval"][0] > found["by_chance"]["at_most"] > error["after"]["value"]
    json.dumps(found, allow_nan=False)


def test_a_model_that_is_right_about_itself_keeps_its_probabilities() -> None:
    target, predictions = drawn(0, 1)
    found = judge_probabilities(LETTERS, target, predictions, HeldOut([drawn(1, 1)], "validation rows"), QUICK)
    assert found is not None and not found["temperature"]["helps"]
    assert found["gain"] is None and found["measures"]["ece"]["after"] is None
    assert found["measures"]["ece"]["before"]["value"] < 1.5 * found["by_chance"]["at_most"]


def test_a_few_held_out_rows_tell_no_temperature() -> None:
    target, predictions = drawn(0, 0.4)
    few = HeldOut([drawn(1, 0.4, 100), drawn(2, 0.4, 99)], "rows held out in 2 folds")
    found = judge_probabilities(LETTERS, target, predictions, few, QUICK)
    assert found is not None and found["temperature"] is None


def test_the_interval_of_the_error_holds_its_value_and_begins_above_nothing() -> None:
    for temperature in (0.4, 1.0):
        target, predictions = drawn(0, temperature)
        found = judge_probabilities(LETTERS, target, predictions, HeldOut([], ""), QUICK)
        assert found is not None
        error = found["measures"]["ece"]["before"]
        assert 0 <= error["interval"][0] <= error["value"] <= error["interval"][1]


def test_a_yes_or_no_is_judged_by_the_probability_of_yes() -> None:
    objective, random = Binary(positive="leaves"), np.random.default_rng(0)
    true = random.random(NUM_ROWS)
    target = (random.random(NUM_ROWS) < true).astype(int)
    found = judge_probabilities(objective, target, objective.predictions(true[:, None]), HeldOut([], ""), QUICK)
    assert found is not None and found["claim"] == "probability of leaves"
    assert found["measures"]["brier"]["before"]["value"] == pytest.approx(np.mean((true - target) ** 2), rel=1e-5)


def prices(seed: int, count: int = NUM_ROWS) -> tuple[np.ndarray, pd.DataFrame]:
    random = np.random.default_rng(seed)
    target = random.normal(20, 5, count)
    return target, Regression().predictions((target + random.normal(0, 2, count))[:, None])


def test_intervals_reach_as_far_as_nine_tenths_of_the_held_out_rows_and_are_proved_on_test_rows() -> None:
    target, predictions = prices(0)
    held_out = HeldOut([prices(1), prices(2)], "rows held out in 2 folds")
    found = judge_intervals(Regression(unit="k$"), target, predictions, held_out, QUICK)
    assert found is not None
    assert found["reach"] == pytest.approx(1.645 * 2, rel=0.1)
    assert (found["rows"], found["width"]) == (2 * NUM_ROWS, pytest.approx(2 * found["reach"]))
    low, high = found["coverage"]["interval"]
    assert low < 0.9 < high and found["coverage"]["method"] == "Wilson 1927"
    assert f"{found['reach']:.3g} k$ holds" in found["text"]


def test_intervals_of_a_model_whose_errors_grew_are_shown_to_cover_too_little() -> None:
    target, predictions = prices(0)
    found = judge_intervals(Regression(), target + 3, predictions, HeldOut([prices(1)], "validation rows"), QUICK)
    assert found is not None and found["coverage"]["interval"][1] < 0.9


def test_rows_that_depend_on_each_other_are_drawn_together() -> None:
    target, predictions = prices(0)
    blocks = Resampling(200, 0, Blocks(np.arange(NUM_ROWS), 20))
    found = judge_intervals(Regression(), target, predictions, HeldOut([prices(1)], "validation rows"), blocks)
    assert found is not None and "blocks of 20" in found["coverage"]["method"]


def test_a_forecast_that_is_judged_by_shares_has_intervals_of_shares() -> None:
    objective = Forecast(time="day", naive="before", naive_name="the day before", block=1, main_metric="mape")
    target, predictions = prices(0)
    found = judge_intervals(objective, target, predictions, HeldOut([prices(1)], "validation rows"), QUICK)
    assert found is not None and found["is_relative"]
    sizes = np.abs(predictions["prediction"]).mean()
    assert found["width"] == pytest.approx(2 * found["reach"] * sizes, rel=1e-5)
    assert "% of the prediction" in found["text"]


def test_what_an_objective_does_not_say_is_not_judged() -> None:
    target, predictions = prices(0)
    assert judge_probabilities(Regression(), target, predictions, HeldOut([], ""), QUICK) is None
    assert judge_intervals(Regression(), target, predictions, HeldOut([], ""), QUICK) is None
    assert judge_intervals(LETTERS, *drawn(0, 1), HeldOut([drawn(1, 1)], ""), QUICK) is None
