"""Performance on a window: a drop that labels show, and an estimate without labels that holds under covariate shift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.outline import Binary, Multiclass, Regression
from problems.outline.catalogue import load_problem
from tasks.performance import (
    LabelsInvalid,
    calibrate,
    check_labels,
    estimate_performance,
    measure_performance,
    read_labels,
)

CHURN = Binary(positive="leaves", negative="stays", main_metric="accuracy")
PRICES = Regression(unit="k$")
DIGITS = Multiclass(classes=("zero", "one", "two"))


def draw_prices(num_rows: int, error: float, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    random = np.random.default_rng(seed)
    truth = random.normal(20, 5, num_rows)
    return truth, PRICES.predictions((truth + random.normal(0, error, num_rows))[:, None])


def draw_churn(num_rows: int, place: float, seed: int, spread: float = 1.5) -> tuple[np.ndarray, pd.DataFrame]:
    """Customers around `place` on a scale, 0 being undecided, and a model that is too sure of itself."""
    random = np.random.default_rng(seed)
    scale = random.normal(place, spread, num_rows)
    truth = (random.random(num_rows) < 1 / (1 + np.exp(-scale))).astype(int)
    return truth, CHURN.predictions((1 / (1 + np.exp(-3 * scale)))[:, None])


def test_a_drop_that_labels_show_is_an_alert_with_its_size() -> None:
    told = measure_performance(PRICES, draw_prices(800, 3.0, 1), draw_prices(1000, 2.0, 2))
    assert told["level"] == "alert" and told["is_judged"]
    assert 0.6 < told["drop"] < 1.0 and told["drop_interval"][0] > 0.5
    assert told["text"].startswith("The mean absolute error is 2.") and "worse by" in told["text"]


def test_the_same_error_and_a_better_one_are_no_drop() -> None:
    test = draw_prices(1000, 2.0, 2)
    for error in (2.0, 1.0):
        assert measure_performance(PRICES, draw_prices(800, error, 1), test)["level"] == "none"


def test_a_drop_within_the_margin_is_a_warning_and_few_labels_are_not_judged() -> None:
    test = draw_prices(1000, 2.0, 2)
    lenient = Regression(unit="k$", margin=5.0)
    assert measure_performance(lenient, draw_prices(800, 3.0, 1), test)["level"] == "warn"
    few = measure_performance(PRICES, draw_prices(60, 6.0, 1), test)
    assert few["level"] == "none" and not few["is_judged"]


def test_a_drop_of_a_metric_of_which_more_is_better_has_the_same_sign() -> None:
    test = draw_churn(2000, 2.0, 1)
    truth, predictions = draw_churn(2000, 2.0, 2)
    told = measure_performance(CHURN, (1 - truth, predictions), test)
    assert told["level"] == "alert" and told["drop"] > 0.3


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss"])
def test_the_estimate_without_labels_is_near_the_truth_under_covariate_shift(metric: str) -> None:
    objective = Binary(positive="leaves", negative="stays", main_metric=metric)
    truth, predictions = draw_churn(8000, 0.3, 2, spread=0.7)
    held_out = draw_churn(16_000, 1.5, 1)
    estimate = estimate_performance(objective, held_out, predictions)
    assert estimate is not None and "covariate shift only" in estimate["assumption"]
    before = float(objective.metric(metric).compute(*held_out, None)[0])
    real = float(objective.metric(metric).compute(truth, predictions, None)[0])
    assert abs(real - before) > 0.05 > 0.02 > abs(estimate["value"] - real)


def test_probabilities_that_are_too_sure_are_calibrated_class_by_class_and_sum_to_one() -> None:
    truth, predictions = draw_churn(6000, 0.0, 1)
    shares = calibrate(CHURN, (truth, predictions), CHURN.probabilities(predictions))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    said = CHURN.probabilities(predictions)[:, 1]
    sure = said > 0.95
    assert abs(shares[sure, 1].mean() - truth[sure].mean()) < 0.01 < said[sure].mean() - truth[sure].mean()


def test_the_accuracy_of_several_classes_is_estimated_too() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.5, 0.5, 0.5], 8000).astype(np.float32)
    truth = (random.random((8000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    predictions = DIGITS.predictions(probabilities)
    estimate = estimate_performance(DIGITS, (truth[:4000], predictions[:4000]), predictions[4000:])
    real = (probabilities.argmax(axis=1) == truth)[4000:].mean()
    assert estimate is not None and abs(estimate["value"] - real) < 0.02


def test_numbers_and_too_few_held_out_rows_have_no_estimate() -> None:
    assert estimate_performance(PRICES, draw_prices(900, 1, 1), draw_prices(9, 1, 1)[1]) is None
    assert estimate_performance(CHURN, draw_churn(100, 1, 1), draw_churn(9, 1, 1)[1]) is None


# Labels


def test_labels_are_classes_by_name_or_number_and_rows_without_a_score_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    scored = pd.Series([0, 2, 3])
    path.write_text("row,target\n0,leaves\n1,stays\n3,stays\n")
    assert read_labels(path, CHURN, {}, scored).to_dict() == {0: 1, 3: 0}
    path.write_text("row,target\n0,1\n2,\n3,0\n")
    assert read_labels(path, CHURN, {}, scored).to_dict() == {0: 1, 3: 0}
    pd.DataFrame({"row": [2, 3], "target": [21.5, 8]}).to_parquet(tmp_path / "l.parquet")
    assert read_labels(tmp_path / "l.parquet", PRICES, {}, scored).to_dict() == {2: 21.5, 3: 8.0}


def test_labels_may_be_in_the_words_of_the_source_but_not_in_both_at_once(tmp_path: Path) -> None:
    path, words = tmp_path / "labels.csv", {"No": 0, "Yes": 1, "Perhaps": 1}
    path.write_text("row,target\n0,true\n1,false\n")
    assert read_labels(path, CHURN, {"false": 0, "true": 1}).to_dict() == {0: 1, 1: 0}
    path.write_text("row,target\n0,Yes\n1,No\n3,Perhaps\n")
    assert read_labels(path, CHURN, words, pd.Series([0, 1, 2, 3])).to_dict() == {0: 1, 1: 0, 3: 1}
    path.write_text("row,target\n0,Yes\n1,No\n3,leaves\n")
    with pytest.raises(LabelsInvalid) as error:
        read_labels(path, CHURN, words)
    assert "'leaves' in row 3" in str(error.value) and "stays, leaves, No, Yes, Perhaps" in str(error.value)


def test_labels_are_read_before_anything_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("row,target\n0,Yes\n1,Never\n")
    with pytest.raises(LabelsInvalid, match="cannot be used"):
        check_labels(str(path), load_problem("churn"))
    path.write_text("row,target\n0,Yes\n1,No\n")
    check_labels(str(path), load_problem("churn"))
    check_labels("https://example.org/labels.csv", load_problem("churn"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row,target\n0,perhaps\n", "'perhaps' in row 0"),
        ("row,target\n0,Yes\n", "stays, leaves, or numbers of classes from 0 to 1"),
        ("row,target\n0,leaves\n0,stays\n", "1 of them more than once, first row 0"),
        ("line,target\n0,leaves\n", "line, target"),
        ("row,target\n77,leaves\n", "none of which has a score"),
        ("", "No columns"),
    ],
)
def test_labels_that_do_not_fit_say_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(LabelsInvalid) as error:
        read_labels(path, CHURN, {}, pd.Series([0, 1]))
    assert said in str(error.value)
    with pytest.raises(LabelsInvalid, match="cannot be used"):
        read_labels(tmp_path / "none.csv", CHURN, {}, pd.Series([0, 1]))
