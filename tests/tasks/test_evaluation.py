"""Evaluation: intervals, comparisons, slices, and the decisions that follow from them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline import (
    Above,
    BeatsBaseline,
    Below,
    Binary,
    Examples,
    Hyperparameters,
    KFold,
    Objective,
    Problem,
    Regression,
)
from problems.outline.acceptance import Verdict
from problems.outline.objectives import PredictionsInvalid
from tasks import resampling
from tasks.evaluation import evaluate, judge_acceptance, judge_challenger

NUM_ROWS = 200
PRICES = Regression(unit="k$")


def problem_with(objective: Objective = PRICES, **parts: Any) -> Problem:
    def read(files: Any) -> Examples:
        raise NotImplementedError

    return Problem(
        name="prices",
        objective=objective,
        sources=(),
        read=read,
        expectations=list,
        split=KFold(4, 0.2),
        build=read,
        hyperparameters=Hyperparameters,
        **parts,
    )


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "river": np.arange(NUM_ROWS) % 2 == 0,
            "rare": np.where(np.arange(NUM_ROWS) < 10, "few", "many"),
            "rooms": np.linspace(3, 9, NUM_ROWS),
            "town": [f"town {number % 40:02d}" for number in range(NUM_ROWS)],
            "gone": np.where(np.arange(NUM_ROWS) < 100, np.nan, 1.0),
        }
    )


@pytest.fixture
def target() -> np.ndarray:
    return np.random.default_rng(0).normal(20, 5, NUM_ROWS)


def off_by(target: np.ndarray, size: float, seed: int = 1) -> pd.DataFrame:
    """Predictions with normal errors of that standard deviation."""
    return PRICES.predictions((target + np.random.default_rng(seed).normal(0, size, len(target)))[:, None])


def measured(target: np.ndarray, frame: pd.DataFrame, **parts: Any) -> dict[str, Any]:
    problem = parts.pop("problem", problem_with())
    given = {"predictions": off_by(target, 1), "baseline": PRICES.baseline(target, frame), "resamples": 400}
    return evaluate(problem, target=target, frame=frame, **(given | parts))


def test_an_evaluation_can_be_written_as_json_and_is_the_same_for_the_same_seed(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    problem = problem_with(slices=("river", "rooms"))
    parts = {"problem": problem, "champion": off_by(target, 1, seed=2)}
    texts = [json.dumps(measured(target, frame, **parts), allow_nan=False) for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0] != json.dumps(measured(target, frame, **parts, seed=5))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says(target: np.ndarray, frame: pd.DataFrame) -> None:
    metric = measured(target, frame, resamples=2000)["metrics"]["mae"]
    errors = np.abs(off_by(target, 1)["prediction"] - target)
    low, high = metric["interval"]
    assert metric["value"] == pytest.approx(errors.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * errors.std() / np.sqrt(NUM_ROWS), rel=0.1)


def test_memory_is_bounded_by_chunks_that_do_not_change_the_result(
    target: np.ndarray, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(target, frame)["metrics"]["rmse"]["interval"]
    monkeypatch.setattr(resampling, "_CHUNK_NUMBERS", 1)
    monkeypatch.setattr(resampling, "_LEAST_CHUNK", 7)
    assert measured(target, frame)["metrics"]["rmse"]["interval"] == pytest.approx(whole, rel=1e-12)


def test_acceptance_is_judged_criterion_by_criterion(target: np.ndarray, frame: pd.DataFrame) -> None:
    problem = problem_with(acceptance=(Below("mae", 3.5), Above("r2", 0.999), BeatsBaseline()))
    verdicts = judge_acceptance(problem, measured(target, frame, problem=problem))
    assert [(text, verdict.passed) for text, verdict in verdicts] == [
        ("Below('mae', 3.5)", True),
        ("Above('r2', 0.999)", False),
        ("BeatsBaseline()", True),
    ]
    with pytest.raises(ModelkeepError, match="no metric 'speed'"):
        judge_acceptance(problem_with(acceptance=(Above("speed", 1),)), measured(target, frame))


def test_a_model_no_better_than_the_baseline_does_not_beat_it(target: np.ndarray, frame: pd.DataFrame) -> None:
    problem = problem_with(acceptance=(BeatsBaseline(),))
    guess = PRICES.baseline(target, frame)
    [(_, verdict)] = judge_acceptance(problem, measured(target, frame, predictions=guess))
    assert not verdict.passed


def test_a_metric_that_the_rows_leave_undefined_is_null_and_fails_its_criterion(frame: pd.DataFrame) -> None:
    target = np.full(NUM_ROWS, -1.0)
    problem = problem_with(acceptance=(Below("mape", 1),))
    evaluation = measured(target, frame, problem=problem)
    assert evaluation["metrics"]["mape"]["value"] is None
    assert evaluation["metrics"]["mape"]["interval"] is None
    json.dumps(evaluation, allow_nan=False)
    [(_, verdict)] = judge_acceptance(problem, evaluation)
    assert not verdict.passed


def test_the_first_version_is_promoted(target: np.ndarray, frame: pd.DataFrame) -> None:
    assert judge_challenger(measured(target, frame)).promote


def test_a_challenger_that_predicts_the_same_is_as_good_as_the_champion(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    decision = judge_challenger(measured(target, frame, champion=off_by(target, 1)))
    assert decision.promote
    assert "as good as" in decision.reason


def test_a_better_challenger_is_promoted(target: np.ndarray, frame: pd.DataFrame) -> None:
    decision = judge_challenger(measured(target, frame, champion=off_by(target, 2)))
    assert decision.promote
    assert "better than the champion" in decision.reason


def test_a_worse_challenger_is_not_promoted(target: np.ndarray, frame: pd.DataFrame) -> None:
    """Not even within the margin: it is shown to be worse."""
    for objective in (PRICES, Regression(unit="k$", margin=10)):
        problem = problem_with(objective)
        decision = judge_challenger(measured(target, frame, problem=problem, champion=off_by(target, 0.5)))
        assert not decision.promote
        assert "It is worse than the champion" in decision.reason


def test_a_challenger_that_may_be_worse_by_more_than_the_margin_is_not_promoted(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    champion = off_by(target, 1, seed=2)
    for margin, promoted in ((10.0, True), (0.0001, False)):
        problem = problem_with(Regression(unit="k$", margin=margin))
        evaluation = measured(target, frame, problem=problem, champion=champion)
        low, high = evaluation["against_champion"]["interval"]
        assert low < 0 < high
        assert judge_challenger(evaluation).promote is promoted


def test_a_challenger_that_harms_a_slice_is_not_promoted(target: np.ndarray, frame: pd.DataFrame) -> None:
    river = frame["river"].to_numpy()
    champion = PRICES.predictions((target + 1)[:, None])
    challenger = PRICES.predictions((target + np.where(river, 1.5, 0.1))[:, None])
    problem = problem_with(slices=("river",))
    evaluation = measured(target, frame, problem=problem, predictions=challenger, champion=champion)
    assert evaluation["against_champion"]["interval"][0] > 0
    decision = judge_challenger(evaluation)
    assert not decision.promote
    assert "river = yes" in decision.reason


def test_a_slice_of_few_rows_is_shown_and_called_small_but_never_harmed(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    champion = PRICES.predictions((target + 1)[:, None])
    challenger = PRICES.predictions((target + np.where(frame["rare"] == "few", 3, 0.1))[:, None])
    problem = problem_with(slices=("rare",))
    evaluation = measured(target, frame, problem=problem, predictions=challenger, champion=champion)
    few = evaluation["slices"]["rare"]["few"]
    assert (few["n"], few["small"], few["value_text"]) == (10, True, "3.00 k$")
    assert judge_challenger(evaluation).promote


def test_a_gap_between_a_slice_and_the_other_rows_is_found(target: np.ndarray, frame: pd.DataFrame) -> None:
    worse_at_the_river = PRICES.predictions((target + np.where(frame["river"], 2, 0.5))[:, None])
    problem = problem_with(slices=("river", "rooms"))
    slices = measured(target, frame, problem=problem, predictions=worse_at_the_river)["slices"]
    assert slices["river"]["yes"]["gap"] == pytest.approx(-1.5)
    assert slices["river"]["yes"]["gap_significant"]
    assert not any(part["gap_significant"] for part in slices["rooms"].values())


def test_chance_alone_seldom_makes_a_gap(target: np.ndarray, frame: pd.DataFrame) -> None:
    """Without the correction two of these coins would seem to matter."""
    random = np.random.default_rng(0)
    columns = {f"coin {number}": random.integers(0, 2, NUM_ROWS) for number in range(40)}
    slices = measured(target, frame.assign(**columns), problem=problem_with(slices=tuple(columns)))["slices"]
    assert not any(part["gap_significant"] for parts in slices.values() for part in parts.values())


def test_slices_by_numbers_are_quarters_and_by_many_names_the_most_frequent(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    slices = measured(target, frame, problem=problem_with(slices=("rooms", "town", "gone")))["slices"]
    assert [part["n"] for part in slices["rooms"].values()] == [50] * 4
    assert len(slices["town"]) == 12
    assert slices["town"]["other"]["n"] == NUM_ROWS - 11 * 5
    assert {value: part["n"] for value, part in slices["gone"].items()} == {"1": 100, "missing": 100}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (np.arange(NUM_ROWS) + 0.001, ["0.001 to 49", "50 to 99", "100 to 149", "150 to 199"]),
        (np.arange(NUM_ROWS) * 10, ["0 to 490", "500 to 990", "1000 to 1490", "1500 to 1990"]),
        (np.concatenate([np.zeros(120), 1 + np.arange(80) // 5]), ["0 to 6", "7 to 16"]),
        (1 + np.arange(NUM_ROWS) / 1e5, ["1 to 1.00049", "1.0005 to 1.00099", "1.001 to 1.00149", "1.0015 to 1.00199"]),
    ],
    ids=["fractions", "whole numbers", "many zeros", "numbers that are nearly alike"],
)
def test_quarters_are_told_by_the_values_that_are_in_them(
    target: np.ndarray, frame: pd.DataFrame, values: np.ndarray, labels: list[str]
) -> None:
    slices = measured(target, frame.assign(size=values), problem=problem_with(slices=("size",)))["slices"]
    assert list(slices["size"]) == labels


def test_the_chance_of_a_gap_is_told_after_the_correction(target: np.ndarray, frame: pd.DataFrame) -> None:
    guess = off_by(target, 1)
    alone = measured(target, frame, predictions=guess, problem=problem_with(slices=("river",)))["slices"]["river"]
    both = measured(target, frame, predictions=guess, problem=problem_with(slices=("river", "rooms")))["slices"]
    assert 0 < alone["yes"]["gap_p"] <= both["river"]["yes"]["gap_p"] <= 1
    assert both["river"]["yes"]["gap_p_text"] == f"p = {both['river']['yes']['gap_p']:.3f}"


def test_a_behaviour_that_is_not_met_refuses_the_model(target: np.ndarray, frame: pd.DataFrame) -> None:
    found = {"name": "more rooms", "kind": "direction", "rows": 9, "share": 0.1, "passed": False, "reason": "it falls"}
    evaluation = measured(target, frame) | {"behaviours": [found]}
    assert judge_acceptance(problem_with(), evaluation) == [("Direction('more rooms')", Verdict(False, "it falls"))]


def test_intervals_are_made_of_the_folds_and_labels_are_doubted_with_their_row(
    target: np.ndarray, frame: pd.DataFrame
) -> None:
    folds = [(target, off_by(target, 1, seed=seed)) for seed in (3, 4)]
    intervals = measured(target, frame, folds=folds)["intervals"]
    assert (intervals["rows"], intervals["source"]) == (2 * NUM_ROWS, "rows held out in 2 folds")
    assert measured(target, frame, validation=folds[0])["intervals"]["source"] == "validation rows"
    objective, labels = Binary(), np.arange(NUM_ROWS) % 2
    guess = objective.predictions(np.where(np.arange(NUM_ROWS) == 7, 1 - labels, labels)[:, None] * 0.8 + 0.1)
    problem, rows = problem_with(objective), np.arange(NUM_ROWS) + 1000
    doubts = measured(labels, frame, problem=problem, predictions=guess, baseline=guess, rows=rows)["label_errors"]
    assert [(one["row"], one["frame"]["town"]) for one in doubts["examples"]] == [(1007, "town 07")]


def test_a_slice_of_all_rows_has_no_gap(target: np.ndarray, frame: pd.DataFrame) -> None:
    slices = measured(target, frame.assign(same="yes"), problem=problem_with(slices=("same",)))["slices"]
    assert slices["same"]["yes"]["gap"] is None


def test_a_slice_that_is_no_column_is_named(target: np.ndarray, frame: pd.DataFrame) -> None:
    with pytest.raises(ModelkeepError, match="no column 'rivers'"):
        measured(target, frame, problem=problem_with(slices=("rivers",)))


def test_the_worst_examples_come_with_their_row_of_the_data(target: np.ndarray, frame: pd.DataFrame) -> None:
    guess = off_by(target, 0.1)
    guess.loc[7, "prediction"] += 30
    evaluation = measured(target, frame, predictions=guess, rows=np.arange(NUM_ROWS) + 1000)
    worst = evaluation["worst"][0]
    assert worst["row"] == 1007
    assert worst["error"] == pytest.approx(30, abs=1)
    assert worst["frame"]["town"] == "town 07"
    assert len(evaluation["worst"]) == 10


def test_folds_are_summed_up(target: np.ndarray, frame: pd.DataFrame) -> None:
    folds = [(np.zeros(3), PRICES.predictions(np.full((3, 1), error))) for error in (1.0, 2.0, 3.0)]
    cross_validation = measured(target, frame, folds=folds)["cross_validation"]
    assert (cross_validation["values"], cross_validation["mean"], cross_validation["sd"]) == ([1, 2, 3], 2, 1)


def test_predictions_that_are_not_finite_are_refused_with_their_rows(target: np.ndarray, frame: pd.DataFrame) -> None:
    guess = off_by(target, 1)
    guess.loc[[3, 9], "prediction"] = np.nan
    with pytest.raises(PredictionsInvalid, match=r"2 of 200 predictions of the champion.*\n.*rows 3, 9"):
        measured(target, frame, champion=guess)


def test_predictions_for_other_rows_are_refused(target: np.ndarray, frame: pd.DataFrame) -> None:
    with pytest.raises(PredictionsInvalid, match="not one for each target"):
        measured(target, frame, predictions=off_by(target[:50], 1))


def test_a_champion_of_other_classes_is_refused(target: np.ndarray, frame: pd.DataFrame) -> None:
    with pytest.raises(PredictionsInvalid, match="other columns"):
        measured(target, frame, champion=off_by(target, 1).rename(columns={"prediction": "probability"}))


def test_test_rows_of_one_class_cannot_decide_by_the_area_under_the_curve(frame: pd.DataFrame) -> None:
    objective, target = Binary(), np.zeros(NUM_ROWS, int)
    guess = objective.predictions(np.full((NUM_ROWS, 1), 0.2))
    with pytest.raises(ModelkeepError, match="'roc_auc' of the model is undefined"):
        measured(target, frame, problem=problem_with(objective), predictions=guess, baseline=guess)


def test_holm_adjusts_as_in_the_textbook() -> None:
    assert resampling.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert resampling.holm([]) == []
