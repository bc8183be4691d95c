"""What is told of data before a model sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.outline import Binary, Examples, Regression
from problems.outline.ragged import Ragged, flatten
from problems.outline.splits import SplitRows
from tasks.exploration import column_kind, explore

ROWS = SplitRows(np.arange(0, 60), np.arange(60, 70), np.arange(70, 100), ())


def look(frame: pd.DataFrame, target: Any, features: Any = None) -> dict[str, Any]:
    features = np.arange(100.0)[:, None] if features is None else features
    objective = Binary() if np.issubdtype(np.asarray(target).dtype, np.integer) else Regression(unit="m")
    return explore(Examples({"x": features}, np.asarray(target), frame), ROWS, objective)


def column(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in told["columns"] if one["name"] == name)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, 2, 3], "number"),
        ([True, False, True], "category"),
        (["a", "a", "b"], "category"),
        (["a", "b", "c"], "text"),
        ([4, 4, None], "constant"),
    ],
)
def test_a_column_is_what_its_values_are(values: list[Any], kind: str) -> None:
    assert column_kind(pd.Series(values)) == kind


def test_numbers_missing_values_and_bins_are_told() -> None:
    height = np.where(np.arange(100) % 10 == 0, np.nan, np.arange(100.0))
    told = column(look(pd.DataFrame({"height": height}), np.arange(100.0)), "height")
    assert (told["missing"], told["missing_share"], told["distinct"]) == (10, 0.1, 90)
    assert (told["min"], told["max"]) == (1.0, 99.0)
    assert sum(one["count"] for one in told["bins"]) == 90


def test_the_relation_to_the_target_is_strong_where_there_is_one_and_weak_where_there_is_none() -> None:
    random = np.random.default_rng(0)
    target = np.arange(100.0)
    frame = pd.DataFrame(
        {
            "curve": target**3 + random.normal(0, 1, 100),
            "noise": random.normal(size=100),
            "half": np.where(target < 50, "low", "high"),
            "coin": random.choice(["heads", "tails"], 100),
        }
    )
    told = look(frame, target)
    strength = {one["name"]: one["relation"]["value"] for one in told["columns"]}
    assert strength["curve"] > 0.99 and strength["half"] > 0.7
    assert strength["noise"] < 0.25 and strength["coin"] < 0.1
    assert any(note.startswith("curve alone gives the target away") for note in told["notes"])


def test_the_target_itself_is_no_leak_but_a_column_that_nearly_is_one_is() -> None:
    target = np.arange(100) % 2
    leak = np.where(np.arange(100) == 3, "maybe", np.where(target == 1, "paid", "open"))
    told = look(pd.DataFrame({"label": np.where(target == 1, "yes", "no"), "state": leak}), target)
    assert column(told, "label")["is_target"] and not column(told, "state")["is_target"]
    assert [note.split()[0] for note in told["notes"] if "gives the target away" in note] == ["state"]


def test_columns_in_which_test_rows_differ_are_named_and_chance_is_not() -> None:
    random = np.random.default_rng(0)
    drifted = random.normal(size=100) + np.where(np.arange(100) >= 70, 1.5, 0)
    frame = pd.DataFrame({"drifted": drifted} | {f"still{i}": random.normal(size=100) for i in range(20)})
    told = look(frame, random.normal(size=100))
    assert [one["name"] for one in told["columns"] if one["difference"]["is_notable"]] == ["drifted"]
    assert "Test rows differ from training rows in drifted." in told["notes"]


def test_what_divides_training_and_test_rows_is_no_news() -> None:
    part = np.where(np.arange(100) < 70, "train", "test")
    assert not [note for note in look(pd.DataFrame({"part": part}), np.arange(100.0))["notes"] if "differ" in note]


def test_copies_are_counted_across_parts_and_with_another_target() -> None:
    features = np.arange(100.0)[:, None].copy()
    features[80], features[90], features[5] = features[10], features[20], features[6]
    target = np.arange(100) % 2
    copies = look(pd.DataFrame({"a": range(100)}), target, features)["copies"]
    assert copies == {"copies": 3, "test_rows_learnt": 2, "contradictions": 2}


def test_copies_of_sequences_are_found_as_the_model_sees_them() -> None:
    words = [[number, number + 1] for number in range(99)] + [[9, 0, 1]]
    ragged = Ragged(*flatten(words, "int32"), 2, "padded")
    copies = look(pd.DataFrame({"a": range(100)}), np.arange(100.0), ragged)["copies"]
    assert copies["copies"] == 1 and copies["test_rows_learnt"] == 1


def test_uneven_classes_are_told() -> None:
    target = (np.arange(100) == 99).astype(int)
    told = look(pd.DataFrame({"a": range(100)}), target)
    assert told["target"]["classes"][0]["count"] == 99 and told["target"]["imbalance"] == 99
    assert any("yes is 1.00%" in note for note in told["notes"])
