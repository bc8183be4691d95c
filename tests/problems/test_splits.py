"""How examples are divided."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline import ByGroup, ByTime, Examples, KFold, Official, Split, SplitRows, Stratified, TestOnly


def make_examples(num: int) -> Examples:
    frame = pd.DataFrame(
        {
            "part": np.where(np.arange(num) % 5 == 4, "test", "train"),
            "day": pd.date_range("2020-01-01", periods=(num + 1) // 2).repeat(2)[:num],
            "group": [f"g{row // 3}" for row in range(num)],
        }
    )
    return Examples({"x": np.zeros((num, 1), "float32")}, (np.arange(num) % 3).astype("int64"), frame)


SPLITS = [
    KFold(4, test=0.2),
    Stratified(0.2, 0.1),
    Official(validation=0.1),
    ByTime("day", 0.2, 0.1),
    ByGroup("group", 0.2, 0.1),
]


def parts(rows: SplitRows) -> list[np.ndarray]:
    return [rows.train, rows.validation, rows.test]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)
def test_every_example_is_in_exactly_one_part_and_the_division_repeats(split: Split) -> None:
    examples = make_examples(120)
    rows = split.divide(examples, 0)
    assert sorted(np.concatenate(parts(rows))) == list(range(120))
    for one, other in zip(parts(rows), parts(split.divide(examples, 0)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)
@pytest.mark.parametrize("num", [1, 2, 3, 4, 6, 10])
def test_few_examples_are_divided_or_refused_with_what_to_do(split: Split, num: int) -> None:
    try:
        rows = split.divide(make_examples(num), 0)
    except ModelkeepError as refusal:
        assert "give more data" in str(refusal)
    else:
        assert len(rows.train) and len(rows.test)


def test_folds_hold_out_every_training_row_once_and_never_a_test_row() -> None:
    rows = KFold(4, test=0.2).divide(make_examples(101), 0)
    held_out = np.concatenate([fold[1] for fold in rows.folds])
    assert sorted(held_out) == rows.train.tolist()
    for train, held in rows.folds:
        assert not set(train) & set(held) and not (set(train) | set(held)) & set(rows.test)


def test_nothing_of_a_test_day_or_later_is_known_before_it() -> None:
    examples = make_examples(120)
    rows = ByTime("day", 0.2, 0.1).divide(examples, 0)
    days = examples.frame["day"]
    assert days[rows.train].max() < days[rows.validation].min() <= days[rows.validation].max() < days[rows.test].min()


def test_a_group_is_on_one_side_only() -> None:
    examples = make_examples(120)
    rows = ByGroup("group", 0.2, 0.1).divide(examples, 0)
    sides = [set(examples.frame["group"][part]) for part in parts(rows)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_classes_are_as_frequent_in_each_part() -> None:
    examples = make_examples(300)
    for part in parts(Stratified(0.2, 0.1).divide(examples, 0)):
        assert np.ptp(np.bincount(examples.target[part])) <= 1


def test_a_model_that_has_learnt_elsewhere_is_tested_on_everything() -> None:
    rows = TestOnly().divide(make_examples(7), 0)
    assert rows.test.tolist() == list(range(7))
    assert len(rows.train) == len(rows.validation) == 0
    with pytest.raises(ModelkeepError, match="'test'"):
        TestOnly().divide(make_examples(0), 0)
