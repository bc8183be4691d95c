"""A few rows against rules without pandas: what is told of them is never another thing than `validation.rows` tells."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from problems.outline.problem import Rows
from tasks.online import blank_row
from tasks.row_fields import to_content
from validation.rows import find_offending_rows, rules_of_one_row
from validation.single_rows import quick_test

NAN, LARGE = float("nan"), 2**53
VALUES = {
    "floats": [-1.0, 0.0, 0.5, 1.0, 2.0, 1e300, float("inf"), -float("inf"), NAN],
    "wholes": [-1, 0, 1, 2, LARGE, LARGE + 1],
    "small": np.array([0, 1, 2, 255], np.uint8),
    "truths": [True, False],
    "texts": pd.Series(["a", "b", "", None], dtype="str"),
    "texts_of_python": pd.array(["a", "1", None], pd.StringDtype("python", na_value=NAN)),
    "mixed": pd.Series([1, 1.0, "a", "1", None, True, NAN], dtype=object),
    "days": pd.Series([datetime.datetime(2020, 1, 1), None], dtype="datetime64[us]"),
    "kinds": pd.Categorical(["a", "b", None]),
    "masked": pd.array([1, None], "Int64"),
}
OF_A_COLUMN: list[Callable[[str], gxe.Expectation]] = [
    lambda name: gxe.ExpectColumnValuesToNotBeNull(column=name),
    lambda name: gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1),
    lambda name: gxe.ExpectColumnValuesToBeBetween(column=name, max_value=1.5),
    lambda name: gxe.ExpectColumnValuesToBeBetween(column=name, min_value=LARGE + 1),
    lambda name: gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1, strict_max=True),
    lambda name: gxe.ExpectColumnValuesToBeInSet(column=name, value_set=["a", "1"]),
    lambda name: gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[0, 1]),
    lambda name: gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[*range(1, 20)]),
    lambda name: gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[True]),
    lambda name: gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[LARGE]),
]
OF_A_PAIR: list[gxe.Expectation] = [
    gxe.ExpectColumnPairValuesToBeEqual(column_A="one", column_B="other"),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="one", column_B="other"),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="one", column_B="other", or_equal=True),
    gxe.ExpectColumnPairValuesToBeEqual(column_A="one", column_B="other", ignore_row_if="either_value_is_missing"),
]


def is_told_as_slowly(frame: pd.DataFrame, rule: Any) -> bool:
    """Whether the rows are told to keep the rule. Fails where they are, but one breaks it."""
    is_sure = quick_test([rule])(frame)
    with suppress(ModelkeepError):  # a rule that cannot be evaluated for such a column
        assert not is_sure or find_offending_rows(frame, [rule]) == {}, (rule, frame.iloc[0].tolist())
    return is_sure


@pytest.mark.parametrize("kind", VALUES)
def test_a_row_that_is_told_to_keep_a_rule_keeps_it(kind: str) -> None:
    column = pd.Series(VALUES[kind])
    for place in range(len(column)):
        # Beside a column of floats, and beside one of texts: a row of them holds other types.
        for beside in (0.5, "text"):
            frame = pd.DataFrame({"value": column.iloc[[place]], "beside": beside})
            for make in OF_A_COLUMN:
                is_told_as_slowly(frame, make("value"))


@pytest.mark.parametrize("one", ["floats", "wholes", "truths", "texts", "mixed", "masked"])
@pytest.mark.parametrize("other", ["floats", "wholes", "truths", "texts"])
def test_a_row_that_is_told_to_keep_a_rule_about_two_columns_keeps_it(one: str, other: str) -> None:
    for left in pd.Series(VALUES[one]).index:
        for right in pd.Series(VALUES[other]).index:
            columns = {"one": (one, left), "other": (other, right)}
            values = {name: pd.Series(VALUES[kind]).iloc[[place]].array for name, (kind, place) in columns.items()}
            for rule in OF_A_PAIR:
                is_told_as_slowly(pd.DataFrame(values), rule)


@pytest.mark.parametrize(
    ("rule", "frame", "is_sure"),
    [
        (OF_A_COLUMN[0]("value"), {"value": [1.0, 2.0]}, True),
        (OF_A_COLUMN[1]("value"), {"value": [0.0, NAN]}, True),
        (OF_A_COLUMN[1]("value"), {"value": [0.0, 2.0]}, False),
        (OF_A_COLUMN[4]("value"), {"value": [0.5]}, False),  # rare: left to others
        (OF_A_COLUMN[5]("value"), {"value": ["a", None]}, True),
        (OF_A_COLUMN[6]("value"), {"value": [0, 1]}, True),
        (OF_A_PAIR[0], {"one": [True], "other": [True]}, True),
        (OF_A_PAIR[1], {"one": [2.0], "other": [1]}, True),
        (OF_A_PAIR[2], {"one": [NAN], "other": [NAN]}, True),
        (OF_A_PAIR[2], {"one": [2.0], "other": [NAN]}, False),
        (gxe.ExpectColumnValueLengthsToBeBetween(column="value", max_value=3), {"value": ["a"]}, False),
    ],
)
def test_rows_that_keep_a_frequent_rule_are_told_so(rule: Any, frame: dict[str, Any], is_sure: bool) -> None:
    assert is_told_as_slowly(pd.DataFrame(frame), rule) is is_sure


@pytest.mark.parametrize("name", ["churn", "fraud", "housing", "perceptron"])
def test_the_rules_of_a_table_are_all_of_a_kind_that_is_told_quickly(name: str) -> None:
    problem = load_problem(name)
    assert isinstance(problem.rows, Rows)
    frame = problem.rows.inputs(to_content(problem.rows, [blank_row(problem.rows)])).frame
    rules = rules_of_one_row(problem.expectations(), list(map(str, frame)))
    broken = [rule for rule in rules if not is_told_as_slowly(frame, rule)]
    assert rules and len(broken) == len([rule for rule in rules if find_offending_rows(frame, [rule])])
