"""The comparison of variants: who is best, how sure that is, and when nobody is."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline import Binary, Forecast, Multiclass, Regression
from problems.outline.catalogue import load_problem
from tasks.comparison import VariantsInvalid, choose_variants, rank

NUM_ROWS = 150
CLASSES = Multiclass(classes=("cat", "dog"))


def trained(random: np.random.Generator, target: np.ndarray, error: float, seeds: int, spread: float) -> list[Any]:
    """Predictions of a regression whose error is `error` on average, with that of the seeds spread around it."""
    levels = error + random.normal(0, spread, seeds)
    noises = random.choice([-1.0, 1.0], (seeds, len(target)))
    return [PRICES.predictions((target + level * noise)[:, None]) for level, noise in zip(levels, noises, strict=True)]


PRICES = Regression(unit="k$")


def ranked(errors: dict[str, float], *, seeds: int = 5, spread: float = 0.1, random: int = 0, **options: Any) -> Any:
    generator = np.random.default_rng(random)
    target = generator.normal(20, 5, NUM_ROWS)
    frame = pd.DataFrame(index=range(NUM_ROWS))
    return rank(
        PRICES,
        target=target,
        frame=frame,
        predictions={name: trained(generator, target, error, seeds, spread) for name, error in errors.items()},
        baseline=PRICES.baseline(target, frame),
        **{"resamples": 500, **options},
    )


def test_a_clearly_better_variant_is_ranked_first_whatever_the_order() -> None:
    result = ranked({"small": 3.0, "large": 1.0, "middle": 2.0})
    assert list(result["variants"]) == ["large", "middle", "small"]
    assert result["best"] == "large" and result["is_clear"]
    assert result["sentence"].startswith("large is best: the mean absolute error of large is")
    assert "middle is worse by" in result["sentence"] and "cannot be told apart" not in result["sentence"]
    behind = result["variants"]["small"]["behind"]
    assert behind["interval"][0] < 2 < behind["interval"][1] and behind["is_shown"]
    assert result["variants"]["large"]["behind"] is None


def test_two_equal_variants_cannot_be_told_apart() -> None:
    result = ranked({"one": 2.0, "other": 2.0})
    assert not result["is_clear"]
    assert "No variant is shown to be best" in result["sentence"] and "cannot be told apart" in result["sentence"]


def test_a_variant_that_is_as_good_as_the_best_is_said_to_be_and_a_worse_one_to_be_worse() -> None:
    sentence = ranked({"one": 2.0, "other": 2.0, "bad": 6.0})["sentence"]
    assert "is ahead" in sentence and "cannot be told apart from it (worse by" in sentence
    assert "bad is worse by" in sentence
    sentence = ranked({"one": 2.0, "other": 2.0, "third": 2.0, "fourth": 2.0})["sentence"]
    assert re.search(r"; \w+, \w+ and \w+ cannot be told apart from it\.$", sentence)


def test_the_same_predictions_are_equal_to_the_last_digit() -> None:
    random = np.random.default_rng(0)
    target = random.normal(20, 5, NUM_ROWS)
    said = trained(random, target, 2.0, 1, 0.0)
    frame = pd.DataFrame(index=range(NUM_ROWS))
    result = rank(
        PRICES, target=target, frame=frame, predictions={"one": said, "other": said}, baseline=said[0], resamples=100
    )
    behind = result["variants"]["other"]["behind"]
    assert behind["value"] == 0 and behind["interval"] == [0, 0] and behind["p_value"] == 1


def test_a_difference_that_is_small_beside_the_spread_over_seeds_is_not_shown_though_the_rows_would_show_it() -> None:
    errors = {"one": 2.0, "other": 2.3}
    assert not ranked(errors, spread=1.0, random=3)["is_clear"]
    assert ranked(errors, spread=0.01)["is_clear"]


def test_the_same_test_rows_cancel_in_a_difference() -> None:
    """Two variants with nearly the same large errors, whose own intervals overlap by far."""
    random = np.random.default_rng(0)
    target, frame = random.normal(20, 5, NUM_ROWS), pd.DataFrame(index=range(NUM_ROWS))
    errors = random.exponential(4, NUM_ROWS)
    said = {
        name: [PRICES.predictions((target + errors + shift)[:, None]) for _ in range(3)]
        for name, shift in (("one", 0.0), ("other", 0.2))
    }
    result = rank(PRICES, target=target, frame=frame, predictions=said, baseline=said["one"][0], resamples=200)
    one, other = result["variants"]["one"], result["variants"]["other"]
    assert one["interval"][1] > other["mean"]
    assert result["is_clear"] and other["behind"]["value"] == pytest.approx(0.2, abs=1e-5)


def test_intervals_cover_the_truth_and_equal_variants_are_rarely_told_apart() -> None:
    """The seeds matter as much as the rows here; without the stretch only four of five intervals cover."""
    results = [ranked({"one": 2.0, "other": 2.0}, spread=0.3, random=number, resamples=200) for number in range(120)]
    intervals = [result["variants"]["one"]["interval"] for result in results]
    gaps = [next(one["behind"] for one in result["variants"].values() if one["behind"]) for result in results]
    assert np.mean([low <= 2.0 <= high for low, high in intervals]) >= 0.9
    assert np.mean([gap["interval"][0] <= 0 for gap in gaps]) >= 0.9
    assert np.mean([result["is_clear"] for result in results]) <= 0.1


def test_with_one_seed_the_spread_is_said_to_be_unknown_and_nobody_is_called_best() -> None:
    result = ranked({"one": 1.0, "other": 3.0}, seeds=1)
    assert result["variants"]["one"]["sd"] is None and not result["is_clear"]
    assert "No variant is shown to be best" in result["sentence"]
    assert "the spread over seeds is unknown" in result["sentence"]
    assert "unknown" not in ranked({"one": 1.0, "other": 3.0})["sentence"]


def test_the_order_in_which_variants_are_named_changes_nothing() -> None:
    random = np.random.default_rng(0)
    target, frame = random.normal(20, 5, NUM_ROWS), pd.DataFrame(index=range(NUM_ROWS))
    said = {name: trained(random, target, 2.0, 3, 0.1) for name in ("one", "other")}
    results = [
        rank(PRICES, target=target, frame=frame, predictions=order, baseline=said["one"][0], resamples=100)
        for order in (said, dict(reversed(said.items())))
    ]
    assert results[0] == results[1]


def test_an_interval_of_errors_does_not_reach_below_0_however_few_the_seeds() -> None:
    interval = ranked({"one": 1.0, "other": 3.0}, seeds=2, spread=0.5, random=4)["variants"]["one"]["interval"]
    assert interval[0] == 0 < interval[1]


def test_the_result_is_json_the_same_each_time_and_has_every_metric() -> None:
    result = ranked({"one": 1.0, "other": 3.0})
    text = json.dumps(result, allow_nan=False)
    assert json.dumps(ranked({"one": 1.0, "other": 3.0}), allow_nan=False) == text
    one = result["variants"]["one"]
    assert one["mean"] == pytest.approx(np.mean(one["values"])) and len(one["values"]) == 5
    assert set(one["metrics"]) == {metric.name for metric in PRICES.metrics()}
    assert one["metrics"]["mae"]["mean"] == pytest.approx(one["mean"])
    assert (result["num_test_rows"], result["num_seeds"]) == (NUM_ROWS, 5)


def test_a_metric_of_which_more_is_better_is_ranked_that_way() -> None:
    random = np.random.default_rng(0)
    target = random.integers(0, 2, NUM_ROWS)

    def said(share_right: float) -> pd.DataFrame:
        right = random.random(NUM_ROWS) < share_right
        return CLASSES.predictions(np.eye(2)[np.where(right, target, 1 - target)] * 0.8 + 0.1)

    frame = pd.DataFrame(index=range(NUM_ROWS))
    predictions = {"guess": [said(0.5) for _ in range(3)], "good": [said(0.9) for _ in range(3)]}
    result = rank(CLASSES, target=target, frame=frame, predictions=predictions, baseline=said(0.5), resamples=300)
    assert result["best"] == "good" and "points" in result["variants"]["guess"]["behind"]["value_text"]
    assert "%" in result["variants"]["good"]["mean_text"]


def test_rows_that_depend_on_each_other_are_drawn_in_the_objectives_blocks() -> None:
    objective = Forecast(unit="t", time="day", naive="before", naive_name="yesterday", block=7)
    frame = pd.DataFrame({"day": np.arange(NUM_ROWS), "before": 1.0})
    said = [objective.predictions(np.full((NUM_ROWS, 1), 2.0))]
    target = np.random.default_rng(0).normal(2, 1, NUM_ROWS)
    result = rank(
        objective, target=target, frame=frame, predictions={"one": said, "other": said}, baseline=said[0], resamples=50
    )
    assert result["interval"]["block"] == 7 and "Künsch" in result["interval"]["source"]


def test_test_rows_of_one_class_are_told_with_the_variants_that_they_leave_undefined() -> None:
    objective, frame = Binary(), pd.DataFrame(index=range(20))
    said = [objective.predictions(np.full((20, 1), 0.2))]
    with pytest.raises(ModelkeepError, match=r"'roc_auc' is undefined(.|\n)*other, seed 0"):
        rank(
            objective, target=np.zeros(20, int), frame=frame, predictions={"one": said, "other": said}, baseline=said[0]
        )


def test_all_variants_of_a_problem_are_compared_where_none_are_named() -> None:
    chosen = choose_variants(load_problem("digits"), [], {"epochs": 2})
    assert list(chosen) == ["convnet", "mlp"]
    assert {one.epochs for one in chosen.values()} == {2}


@pytest.mark.parametrize(
    ("names", "settings", "told"),
    [
        (["mlp"], {}, "nothing to compare mlp with"),
        (["mlp", "mlp"], {}, "nothing to compare mlp with"),
        (["mlp", "forest"], {}, "no variant 'forest'"),
        ([], {"network": "mlp"}, "convnet and mlp are the same with these settings(.|\n)*network=mlp"),
    ],
)
def test_variants_that_cannot_be_compared_are_refused(names: list[str], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelkeepError, match=told):
        choose_variants(load_problem("digits"), names, settings)


def test_a_problem_without_variants_says_where_to_add_them() -> None:
    with pytest.raises(VariantsInvalid, match=r"housing has no variants(.|\n)*add them to `variants`"):
        choose_variants(load_problem("housing"), [], {})
