"""Rows that deserve doubt: wrong labels are found, and copies of training rows are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.outline import Binary, Examples, Multiclass, Regression, SplitRows
from problems.outline.ragged import Ragged
from tasks.suspects import find_overlap, suspect_labels

LETTERS = Multiclass(classes=("a", "b", "c"))


def confident(labels: np.ndarray) -> pd.DataFrame:
    """What a good model says of rows that really are of these classes."""
    return LETTERS.predictions(np.eye(3)[labels] * 0.7 + 0.1)


def test_labels_that_were_changed_are_the_ones_that_are_suspected() -> None:
    true = np.arange(300) % 3
    given, changed = true.copy(), np.array([10, 60, 111, 250])
    given[changed] = (true[changed] + 1) % 3
    found = suspect_labels(LETTERS, given, confident(true))
    assert found is not None and found["num"] == 4
    assert {one["place"] for one in found["examples"]} == set(changed.tolist())
    first = found["examples"][0]
    assert first["suggested"] == LETTERS.classes[true[first["place"]]]
    assert first["given_probability"] < first["threshold"] and first["suggested_probability"] > 0.7


def test_right_labels_are_not_suspected() -> None:
    true = np.arange(300) % 3
    found = suspect_labels(LETTERS, true, confident(true))
    assert found == {"num": 0, "share": 0.0, "examples": []}


def test_ten_are_listed_and_all_are_counted() -> None:
    true = np.arange(300) % 3
    found = suspect_labels(LETTERS, np.where(np.arange(300) < 40, (true + 1) % 3, true), confident(true))
    assert found is not None and found["num"] == 40 and len(found["examples"]) == 10


def test_a_class_that_no_row_is_labelled_with_is_never_suggested() -> None:
    given = np.zeros(30, int)
    given[:15] = 1
    found = suspect_labels(LETTERS, given, confident(np.full(30, 2)))
    assert found is not None and all(one["suggested"] != "c" for one in found["examples"])


def test_a_rare_yes_is_held_to_what_such_rows_are_commonly_given() -> None:
    """A probability of 0.3 is not doubtful where a yes is commonly given 0.3."""
    objective = Binary()
    target = np.array([1] * 5 + [0] * 95)
    probability = np.array([0.3, 0.3, 0.3, 0.3, 0.001] + [0.02] * 95)
    found = suspect_labels(objective, target, objective.predictions(probability[:, None]))
    assert found is not None and [one["place"] for one in found["examples"]] == [4]


def test_numbers_have_no_labels() -> None:
    assert suspect_labels(Regression(), np.zeros(3), Regression().predictions(np.zeros((3, 1)))) is None


def overlap(features: dict[str, Any], target: np.ndarray, rows: SplitRows) -> dict[str, Any] | None:
    examples = Examples(features, target, pd.DataFrame(index=range(len(target))))
    predictions = Regression().predictions(np.zeros((len(rows.test), 1)))
    return find_overlap(Regression(), examples, rows, predictions)


ROWS = SplitRows(np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))


def test_test_rows_that_were_trained_on_are_counted_and_the_metric_is_told_without_them() -> None:
    values = np.array([[1, 1], [2, 2], [3, 3], [1, 1], [3, 3], [2, 3]], np.float32)
    found = overlap({"table": values}, np.array([0, 0, 0, 10, 10, 1.0]), ROWS)
    assert found is not None
    assert (found["num"], found["rows"], found["share"]) == (2, [3, 4], pytest.approx(2 / 3))
    assert found["without"] == 1


def test_rows_that_are_alike_in_one_feature_only_are_no_copies() -> None:
    table = np.ones((6, 2), np.float32)
    found = overlap({"table": table, "other": np.arange(6)}, np.zeros(6), ROWS)
    assert found is not None and found["num"] == 0 and found["without"] is None


def test_sequences_are_compared_by_their_numbers() -> None:
    words = [[1, 2], [3], [4], [1, 2], [1], [2, 3]]
    flat = Ragged(np.concatenate(words).astype(np.int16), np.cumsum([0, *map(len, words)]), 5, "multi_hot")
    found = overlap({"words": flat}, np.zeros(6), ROWS)
    assert found is not None and found["rows"] == [3]


def test_pictures_are_read_in_parts_that_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    pictures[5] = pictures[0]
    whole = overlap({"image": pictures}, np.zeros(6), ROWS)
    monkeypatch.setattr("tasks.suspects._BYTES_AT_ONCE", 400)
    assert whole is not None and whole["rows"] == [5] and overlap({"image": pictures}, np.zeros(6), ROWS) == whole


def test_where_nothing_was_trained_on_there_is_no_overlap() -> None:
    none = np.empty(0, int)
    assert overlap({"table": np.ones((6, 2))}, np.zeros(6), SplitRows(none, none, np.arange(6))) is None
