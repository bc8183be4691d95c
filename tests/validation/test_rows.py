"""Rules about single rows: which of a problem's expectations they are, and what is wrong with each row."""

from __future__ import annotations

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from problems.outline.catalogue import load_problem
from validation.rows import Columns, describe_rules, find_offending_rows, keeps, rules_of_one_row


def table() -> pd.DataFrame:
    return pd.DataFrame({"age": [30.0, -5.0, None, 40.0], "kind": ["a", "z", "b", "b"], "limit": [50.0, 1, 1, 1]})


RULES = [
    gxe.ExpectColumnValuesToNotBeNull(column="age"),
    gxe.ExpectColumnValuesToBeBetween(column="age", min_value=0),
    gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "b"]),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="limit", column_B="age"),
]


def test_each_row_is_told_what_is_wrong_with_it() -> None:
    found = find_offending_rows(table(), RULES)
    assert list(found) == [1, 2, 3]
    assert found[1] == "age: -5.0, expected at least 0; kind: 'z', expected one of 'a', 'b'"
    assert found[2].startswith("age: missing, expected never missing")
    assert found[3] == "limit, age: 1.0 and 40.0, expected limit more than age"


def test_rules_are_described_by_the_column_that_they_are_about() -> None:
    assert describe_rules(RULES) == {"age": "never missing; at least 0", "kind": "one of 'a', 'b'"}


def test_good_rows_are_told_nothing_and_no_rows_neither() -> None:
    assert find_offending_rows(table().iloc[:1], RULES) == {}
    assert find_offending_rows(table().iloc[:0], RULES) == {}


def test_every_one_of_many_offenders_is_told() -> None:
    found = find_offending_rows(pd.DataFrame({"age": range(-1000, 5)}), RULES[1:2])
    assert len(found) == 1000 and found[999] == "age: -1, expected at least 0"


def test_row_numbers_are_positions_whatever_the_index() -> None:
    assert list(find_offending_rows(table().set_axis([7, 8, 9, 10]), RULES[:2])) == [1, 2]


@pytest.mark.parametrize(
    "rule",
    [
        gxe.ExpectTableRowCountToBeBetween(min_value=100),
        gxe.ExpectColumnMeanToBeBetween(column="age", min_value=100),
        gxe.ExpectColumnValuesToBeUnique(column="kind"),
        gxe.ExpectColumnValuesToBeIncreasing(column="age"),
        gxe.ExpectColumnValuesToBeBetween(column="age", min_value=100, mostly=0.1),
        gxe.ExpectColumnValuesToBeBetween(column="age", min_value=100, severity="warning"),
        gxe.ExpectColumnValuesToBeInSet(column="target", value_set=[0, 1]),
    ],
)
def test_a_rule_about_the_table_a_share_of_rows_or_the_target_is_none_of_a_row(rule: gxe.Expectation) -> None:
    assert rules_of_one_row([rule, *RULES], list(table())) == RULES


def test_customers_without_their_target_keep_the_rules_about_their_answers() -> None:
    problem = load_problem("churn")
    assert problem.rows is not None
    kept = rules_of_one_row(problem.expectations(), [*problem.rows.columns, "blank_total", "new_customer"])
    columns = {getattr(rule, "column", "") for rule in kept}
    assert {"gender", "tenure"} <= columns and not {"Churn", "customerID"} & columns


FREQUENT = [
    *RULES,
    gxe.ExpectColumnValuesToBeBetween(column="age", max_value=40),
    gxe.ExpectColumnValuesToBeBetween(column="age", max_value=40, strict_max=True),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="limit", column_B="age", or_equal=True),
    gxe.ExpectColumnPairValuesToBeEqual(column_A="limit", column_B="age"),
    gxe.ExpectColumnValuesToBeInSet(column="limit", value_set=[1, 50]),
    gxe.ExpectColumnValuesToBeInSet(column="limit", value_set=list(range(2, 60))),
]
FRAMES = [
    table(),
    table().iloc[:1],
    table().assign(age=40.0, limit=40.0),
    table().assign(age=float("nan")),
    table().assign(age=float("nan"), limit=float("nan")),
    table().assign(age=[1, 2, 3, 4], kind="a"),
    table().assign(age=float("inf"), kind=None),
    table().assign(kind=table()["kind"].astype(pd.StringDtype("python", na_value=float("nan")))),
    table().assign(limit=[True, False, True, False]),
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("rule", FREQUENT)
def test_rules_of_a_frequent_kind_are_kept_by_the_same_rows_as_great_expectations_says(
    frame: pd.DataFrame, rule: gxe.Expectation, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = find_offending_rows(frame, [rule])
    monkeypatch.setattr("validation.rows._KEPT", {})
    assert alone == find_offending_rows(frame, [rule])


def test_a_rule_about_some_rows_or_with_an_open_end_is_left_to_great_expectations() -> None:
    frame = table()
    open_end = gxe.ExpectColumnValuesToBeBetween(column="age", max_value=40, strict_max=True)
    assert keeps(Columns(frame), open_end) is None and list(find_offending_rows(frame, [open_end])) == [3]


def test_about_rules_of_a_frequent_kind_great_expectations_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("validation.rows.results_of", None)  # would fail if it were called
    assert list(find_offending_rows(table(), RULES)) == [1, 2, 3]


def test_a_row_alone_is_told_what_it_is_told_among_others() -> None:
    draw = np.random.default_rng(0)
    ages, limits = (draw.choice([-5.0, 0, 30, 40, 200, float("nan"), float("inf")], 60) for _ in range(2))
    frame = pd.DataFrame(
        {"age": ages, "limit": limits, "kind": pd.Series(draw.choice(["a", "z", None], 60), dtype="str")}
    )
    together = find_offending_rows(frame, RULES)
    alone = {row: find_offending_rows(frame.iloc[[row]], RULES).get(0) for row in range(60)}
    assert {row: reason for row, reason in alone.items() if reason} == together and 0 < len(together) < 60
