"""Recommendations: ranks among what is unknown, NDCG by hand, users drawn whole, and baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from modelkeep.errors import ModelkeepError
from problems.outline import Examples, Recommendation, WithinGroup
from problems.outline.objectives import Asked, PredictionsInvalid
from problems.outline.ranking import NOTHING, Order, Pairs, by_popularity
from tasks.evaluation import evaluate
from tasks.resampling import _draw_blocks
from tests.tasks.test_evaluation import problem_with

PLAYS = Recommendation(unit="stars", user="listener", item="song", labels=("name",), liked=4, bounds=(1, 5))
NUM_USERS, NUM_ITEMS = 30, 25


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def order(scores: list[list[float]], known: Pairs) -> Order:
    """Users 0, 1, … whose products with the items are these."""
    table = np.array(scores)
    return Order(np.arange(len(table)), table, np.eye(table.shape[1]), known)


def test_what_a_user_knows_is_neither_ranked_nor_shown() -> None:
    known = Pairs(numbers(0, 1, 1, 7), numbers(30, 10, 20, 40))
    ordered = order([[5, 7, 9, 6], [1, 2, 3, 4]], known)
    assert ordered.first(3).tolist() == [[20, 40, 10], [40, 30, NOTHING]]
    assert ordered.ranks(numbers(0, 0, 0, 1), numbers(20, 40, 10, 40)).tolist() == [1, 2, 3, 1]


def test_an_item_that_nobody_knows_comes_after_the_whole_catalogue() -> None:
    ordered = order([[5, 7]], Pairs(numbers(1, 1), numbers(10, 20)))
    assert ordered.ranks(numbers(0, 0), numbers(15, 99)).tolist() == [3, 3]


def test_equal_products_go_by_number_and_more_places_than_items_stay_empty() -> None:
    ordered = order([[1, 1, 1]], Pairs(numbers(9, 9, 9), numbers(10, 20, 30)))
    assert ordered.ranks(numbers(0, 0, 0), numbers(30, 20, 10)).tolist() == [3, 2, 1]
    assert ordered.first(5).tolist() == [[10, 20, 30, NOTHING, NOTHING]]


def test_blocks_of_users_do_not_change_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    known = Pairs(random.integers(0, NUM_USERS, 300), random.integers(0, NUM_ITEMS, 300))
    users, items = np.repeat(np.arange(NUM_USERS), NUM_ITEMS), np.tile(known.catalogue, NUM_USERS)
    ordered = order(random.normal(size=(NUM_USERS, NUM_ITEMS)).tolist(), known)
    ranks, first = ordered.ranks(users, items), ordered.first(10)
    monkeypatch.setattr("problems.outline.ranking._BLOCK_NUMBERS", 40)
    assert (ordered.ranks(users, items) == ranks).all() and (ordered.first(10) == first).all()
    of_first = {(user, item): rank for user, item, rank in zip(users, items, ranks, strict=True)}
    assert all(
        of_first[user, item] == place for user in users[::NUM_ITEMS] for place, item in enumerate(first[user], 1)
    )


def test_popular_items_come_first_for_everybody_who_does_not_know_them() -> None:
    trained = Pairs(numbers(0, 1, 2, 0, 1, 3), numbers(10, 10, 10, 20, 20, 30))
    held_out = Pairs(numbers(*trained.users, 3, 3, 2), numbers(*trained.items, 40, 20, 30))
    assert by_popularity(numbers(3, 4), held_out, trained).first(4).tolist() == [
        [10, NOTHING, NOTHING, NOTHING],
        [10, 20, 30, 40],
    ]


def rows(seed: int = 0) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Ratings, the frame, and predictions of 10 test rows each for 30 users, ranked among 25."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(NUM_USERS), 10)
    item = np.concatenate([random.choice(NUM_ITEMS, 10, replace=False) for _ in range(NUM_USERS)])
    rank = np.concatenate([1 + random.choice(NUM_ITEMS, 10, replace=False) for _ in range(NUM_USERS)])
    frame = pd.DataFrame({"listener": user, "song": item})
    first = {f"first_{place}": np.full(len(user), place) for place in range(1, 11)}
    predictions = pd.DataFrame({"user": user, "item": item, "prediction": 3.0, "rank": rank, **first})
    return random.integers(1, 6, len(user)).astype(float), frame, predictions


def test_ndcg_is_that_of_scikit_learn_where_all_that_was_liked_is_ranked() -> None:
    target, _, predictions = rows()
    value = PLAYS.metric("ndcg_at_10").compute(target, predictions, None)[0]
    singles = []
    for user in range(NUM_USERS):
        mine = (predictions["user"] == user).to_numpy()
        relevance, scores = np.zeros(NUM_ITEMS), -np.arange(NUM_ITEMS, dtype=float)
        relevance[predictions["rank"][mine] - 1] = target[mine] >= 4
        if relevance.any():
            singles.append(reference.ndcg_score([relevance], [scores], k=10))
    assert value == pytest.approx(np.mean(singles))


def test_a_user_who_liked_nothing_does_not_count_and_nobody_at_all_is_undefined() -> None:
    target, _, predictions = rows()
    metric = PLAYS.metric("ndcg_at_10")
    target[:10] = 1
    rest = predictions["user"] > 0
    expected = metric.compute(target[rest], predictions[rest], None)
    assert metric.compute(target, predictions, None) == pytest.approx(expected)
    assert np.isnan(metric.compute(np.ones(len(target)), predictions, None)).all()


def test_users_are_drawn_with_all_of_their_rows_and_a_weight_is_as_good_as_copies() -> None:
    target, frame, predictions = rows()
    weights = _draw_blocks(np.random.default_rng(0), 5, PLAYS.blocks(frame))
    by_user = weights.reshape(5, NUM_USERS, 10)
    assert (by_user == by_user[:, :, :1]).all() and (by_user[:, :, 0].sum(axis=1) == NUM_USERS).all()
    for name in ("ndcg_at_10", "rmse"):
        metric = PLAYS.metric(name)
        for place, drawn in enumerate(metric.compute(target, predictions, weights)):
            copies = np.repeat(np.arange(len(target)), weights[place].astype(int))
            copy = np.concatenate([np.arange(int(count)) for count in weights[place]])
            copied = predictions.iloc[copies].assign(user=predictions["user"].to_numpy()[copies] * 100 + copy)
            assert drawn == pytest.approx(metric.compute(target[copies], copied, None)[0])


def test_coverage_counts_what_is_shown_to_anybody_once() -> None:
    target, frame, predictions = rows()
    calibrated = PLAYS.calibrated(target, frame, [])
    metric = calibrated.metric("coverage_at_10")
    assert metric.compute(target, predictions, None) == pytest.approx([10 / NUM_ITEMS])
    assert metric.compute(target, predictions.assign(first_3=NOTHING), None) == pytest.approx([9 / NUM_ITEMS])
    assert np.isnan(metric.compute(target, predictions, np.ones((2, len(target))))).all()


def model_of(ratings: np.ndarray, scores: np.ndarray) -> Any:
    """Stands for a model whose ratings and products (users, items) are these."""

    def outputs_of(features: Any) -> np.ndarray:
        user, item = features["listener"], features["song"]
        return np.column_stack([ratings[user, item], scores[user], np.eye(scores.shape[1])[item]])

    return outputs_of


def asked() -> Asked:
    """Two users know songs 0 and 1; then one hears song 2, which the other knows, and song 3, which nobody does."""
    frame = pd.DataFrame({"listener": [0, 0, 1, 1, 1, 0, 0], "song": [0, 1, 0, 1, 2, 2, 3], "name": [*"abxxcxd"]})
    examples = Examples({}, np.array([5, 3, 4, 4, 2, 5, 1.0]), frame)
    scores = np.array([[9, 8, 1, 5.0], [9, 8, 7, 6.0]])
    return Asked(examples, numbers(5, 6), np.arange(5), model_of(np.full((2, 4), 7.0), scores))


def test_predictions_hold_all_that_is_needed_to_measure_them_again() -> None:
    question = asked()
    outputs = question.outputs_of({"listener": numbers(0, 0), "song": numbers(2, 3)})
    predictions = PLAYS.complete(PLAYS.predictions(outputs), question)
    assert predictions["prediction"].tolist() == [5, 5]
    assert predictions["rank"].tolist() == [1, 4]
    assert predictions[["first_1", "first_2"]].to_numpy().tolist() == [[2, NOTHING]] * 2


def test_what_is_kept_for_later_knows_the_test_rows_too() -> None:
    kept = PLAYS.keepsakes(asked())
    assert kept["catalogue"]["name"].tolist() == [*"abcd"]
    assert kept["suggestions"][["user", "place", "item", "rating"]].to_numpy().tolist() == [[1, 1, 3, 5]]


def test_the_baseline_is_the_mean_of_the_user_and_what_is_popular() -> None:
    question = asked()
    examples = question.examples
    trained, held_out = examples.take(numbers(0, 1, 2, 3)), examples.take(numbers(4))
    validation = held_out.frame.rename(columns={"listener": "user", "song": "item"})
    calibrated = PLAYS.calibrated(trained.target, trained.frame, [(held_out.target, validation)])
    frame = pd.DataFrame({"listener": [0, 1, 8], "song": [2, 3, 1]})
    baseline = calibrated.baseline(trained.target, frame)
    assert baseline["prediction"].tolist() == [4, 4, 4] and baseline["rank"].tolist() == [1, 4, 2]
    with pytest.raises(ModelkeepError, match="needs the training rows"):
        PLAYS.baseline(trained.target, frame)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_outputs_without_two_vectors_of_the_same_width_are_refused(width: int) -> None:
    with pytest.raises(PredictionsInvalid, match="wrong shape"):
        PLAYS.predictions(np.ones((3, width)))


def test_an_evaluation_says_how_users_were_drawn_and_draws_what_was_found() -> None:
    target, frame, predictions = rows()
    calibrated = PLAYS.calibrated(target, frame.assign(song=frame["song"] + NUM_ITEMS), [])
    baseline = calibrated.baseline(target, frame)
    evaluation = evaluate(
        problem_with(calibrated), target=target, predictions=predictions, baseline=baseline, frame=frame, resamples=50
    )
    assert evaluation["interval"]["method"] == "percentile bootstrap of users, each with all rows"
    assert evaluation["metrics"]["coverage_at_10"]["interval"] is None
    assert evaluation["metrics"]["ndcg_at_10"]["interval"] is not None
    figures = calibrated.figures(target, predictions, frame, baseline)
    assert "in the first 10 the model has" in figures["found"].alt
    assert "for 5" in figures["ratings"].alt


def test_the_last_of_each_group_test_and_those_before_validate() -> None:
    frame = pd.DataFrame({"reader": [*"abaabbbaaaaaaa", "c"]})
    examples = Examples({}, np.zeros(15), frame)
    split = WithinGroup("reader", test=0.2, validation=0.1).divide(examples, seed=0)
    assert split.test.tolist() == [12, 13]
    assert split.validation.tolist() == [11]
    assert split.train.tolist() == [*range(11), 14]
    for part in (split.validation, split.test):
        assert set(frame["reader"][part]) <= set(frame["reader"][split.train])
