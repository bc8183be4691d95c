"""An expectation in a few plain words, for messages and Data Docs: "between 3 and 9", "never missing"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Kwargs = Mapping[str, Any]

MAX_LISTED_VALUES = 8


def rule_text(expectation_type: str, kwargs: Kwargs) -> str:
    """The rule without its column. A type that is not known here is spelled out from its name and kwargs."""
    text = RULES[expectation_type](kwargs) if expectation_type in RULES else _from_name(expectation_type, kwargs)
    mostly = kwargs.get("mostly")
    if mostly is not None and float(mostly) < 1:
        text += f", in at least {float(mostly):.6g} of the rows"
    condition = kwargs.get("row_condition")
    if isinstance(condition, Mapping):  # as Great Expectations keeps one that is given as text
        condition = condition.get("pass_through_filter", condition)
    return f"{text}, where {condition}" if condition else text


def subject(kwargs: Kwargs) -> str:
    """What an expectation is about: its column, its columns, or the table."""
    return ", ".join(columns_of(kwargs)) or "table"


def columns_of(kwargs: Kwargs) -> list[str]:
    """The columns that an expectation reads."""
    named = [kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key)]
    return [str(column) for column in (*named, *(kwargs.get("column_list") or []))]


def number(value: object) -> str:
    """Six significant digits for a float; anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def listed(values: object) -> str:
    """The first few values, and how many more there are."""
    items = list(values) if isinstance(values, (list, tuple, set, frozenset)) else [values]
    shown = ", ".join(repr(item) if isinstance(item, str) else number(item) for item in items[:MAX_LISTED_VALUES])
    more = len(items) - MAX_LISTED_VALUES
    return f"{shown} and {more} more" if more > 0 else shown


def _interval(kwargs: Kwargs) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    strict_low, strict_high = kwargs.get("strict_min"), kwargs.get("strict_max")
    if low is not None and high is not None and not strict_low and not strict_high:
        return f"exactly {number(low)}" if low == high else f"between {number(low)} and {number(high)}"
    ends = []
    if low is not None:
        ends.append(f"{'more than' if strict_low else 'at least'} {number(low)}")
    if high is not None:
        ends.append(f"{'less than' if strict_high else 'at most'} {number(high)}")
    return " and ".join(ends) or "of any size"


def _statistic(name: str) -> Callable[[Kwargs], str]:
    return lambda kwargs: f"{name} {_interval(kwargs)}"


def _one_of(key: str, words: str) -> Callable[[Kwargs], str]:
    return lambda kwargs: f"{words} {listed(kwargs.get(key))}"


def _fixed(words: str) -> Callable[[Kwargs], str]:
    return lambda _: words


def _from_name(expectation_type: str, kwargs: Kwargs) -> str:
    words = expectation_type.removeprefix("expect_").replace("_", " ")
    shown = {key: value for key, value in kwargs.items() if key not in NOT_PART_OF_A_RULE and value is not None}
    return f"{words} ({', '.join(f'{key} {listed(value)}' for key, value in shown.items())})" if shown else words


NOT_PART_OF_A_RULE = ("column", "column_A", "column_B", "column_list", "batch_id", "mostly", "row_condition")

RULES: dict[str, Callable[[Kwargs], str]] = {
    "expect_column_to_exist": _fixed("present"),
    "expect_column_type_to_be": _one_of("type_", "of type"),
    "expect_column_values_to_be_of_type": _one_of("type_", "of type"),
    "expect_column_values_to_be_in_type_list": _one_of("type_list", "of a type among"),
    "expect_column_values_to_not_be_null": _fixed("never missing"),
    "expect_column_values_to_be_null": _fixed("always missing"),
    "expect_column_values_to_be_unique": _fixed("no value twice"),
    "expect_compound_columns_to_be_unique": _fixed("no combination twice"),
    "expect_column_values_to_be_between": _interval,
    "expect_column_values_to_be_in_set": _one_of("value_set", "one of"),
    "expect_column_values_to_not_be_in_set": _one_of("value_set", "none of"),
    "expect_column_distinct_values_to_be_in_set": _one_of("value_set", "no values but"),
    "expect_column_distinct_values_to_equal_set": _one_of("value_set", "exactly the values"),
    "expect_column_distinct_values_to_contain_set": _one_of("value_set", "all of the values"),
    "expect_column_value_lengths_to_be_between": _statistic("length"),
    "expect_column_values_to_match_regex": _one_of("regex", "matching"),
    "expect_column_values_to_not_match_regex": _one_of("regex", "not matching"),
    "expect_column_min_to_be_between": _statistic("minimum"),
    "expect_column_max_to_be_between": _statistic("maximum"),
    "expect_column_mean_to_be_between": _statistic("mean"),
    "expect_column_median_to_be_between": _statistic("median"),
    "expect_column_stdev_to_be_between": _statistic("standard deviation"),
    "expect_column_sum_to_be_between": _statistic("sum"),
    "expect_column_unique_value_count_to_be_between": _statistic("number of different values"),
    "expect_column_proportion_of_unique_values_to_be_between": _statistic("share of different values"),
    "expect_column_proportion_of_non_null_values_to_be_between": _statistic("share of values that are not missing"),
    "expect_column_values_to_be_increasing": lambda kwargs: (
        "strictly increasing" if kwargs.get("strictly") else "increasing"
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": lambda kwargs: (
        f"{kwargs['column_A']} {'at least' if kwargs.get('or_equal') else 'more than'} {kwargs['column_B']}"
    ),
    "expect_column_pair_values_to_be_equal": _fixed("equal in each row"),
    "expect_table_row_count_to_be_between": _statistic("number of rows"),
    "expect_table_row_count_to_equal": lambda kwargs: f"number of rows exactly {kwargs['value']}",
    "expect_table_column_count_to_equal": lambda kwargs: f"number of columns exactly {kwargs['value']}",
    "expect_table_columns_to_match_set": lambda kwargs: (
        f"{'exactly' if kwargs.get('exact_match', True) else 'at least'} the columns {listed(kwargs.get('column_set'))}"
    ),
    "expect_table_columns_to_match_ordered_list": _fixed("these columns in this order"),
    "expect_no_duplicate_examples": _fixed("no example twice"),
    "expect_class_share_to_be_between": lambda kwargs: (
        f"the classes {listed(kwargs.get('classes'))}, each a share {_interval(kwargs)} of the rows"
    ),
    "expect_parts_to_be_disjoint": lambda kwargs: (
        f"no {kwargs.get('column_A', 'digest')} with two values of {kwargs.get('column_B', 'part')}"
    ),
    "expect_one_label_per_example": lambda kwargs: (
        f"one {kwargs.get('column_B', 'label')} for each {kwargs.get('column_A', 'digest')}"
    ),
}
