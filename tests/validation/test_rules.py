"""Rules in plain words."""

from __future__ import annotations

from typing import Any

import pytest
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation

from validation import expectations as own
from validation.rules import RULES, rule_text, subject


@pytest.mark.parametrize(
    ("kind", "kwargs", "words"),
    [
        ("expect_column_values_to_be_between", {"min_value": 3.0, "max_value": 9}, "between 3 and 9"),
        ("expect_column_values_to_be_between", {"min_value": 0, "strict_min": True}, "more than 0"),
        (
            "expect_column_values_to_be_between",
            {"min_value": 0, "max_value": 1, "strict_max": True},
            "at least 0 and less than 1",
        ),
        ("expect_column_values_to_be_in_set", {"value_set": list("abcdefghij")}, None),
        ("expect_table_row_count_to_be_between", {"min_value": 5, "max_value": 5}, "number of rows exactly 5"),
        (
            "expect_column_values_to_not_be_null",
            {"row_condition": {"type": "pass_through", "pass_through_filter": "recent == False"}},
            "never missing, where recent == False",
        ),
        ("expect_something_new", {"column": "a", "limit": 0.5}, "something new (limit 0.5)"),
    ],
)
def test_a_rule_reads_as_plain_words(kind: str, kwargs: dict[str, Any], words: str | None) -> None:
    text = rule_text(kind, kwargs)
    assert text == (words or "one of 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' and 2 more")


def test_every_rule_belongs_to_an_expectation_that_exists() -> None:
    classes = [value for module in (gxe, own) for value in vars(module).values() if isinstance(value, type)]
    known = {kind.expectation_type for kind in classes if issubclass(kind, Expectation)}
    assert set(RULES) <= known


def test_the_subject_of_a_rule_about_several_columns_names_them() -> None:
    assert subject({"column_list": ["a", "b"]}) == "a, b"
    assert subject({}) == "table"
