"""Single rows against the expectations of their problem: what is wrong with each, for data that comes in pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from validation.gate import POSITION, batch_of, is_about_rows, json_value, kwargs_of, results_of, shown
from validation.rules import columns_of, rule_text, subject

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

# They compare rows with each other, or are about the type of a whole column.
_NOT_ABOUT_ONE_ROW = {
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_no_duplicate_examples",
    "expect_parts_to_be_disjoint",
    "expect_one_label_per_example",
}


def rules_of_one_row(expectations: Sequence[Expectation], columns: Sequence[str]) -> list[Expectation]:
    """Those that a row by itself keeps or breaks: critical, without exception (`mostly`), and about these columns only.

    So rules about the target, the number of rows or the share of a class are left out where the target is.
    """
    return [
        expectation
        for expectation in expectations
        if is_about_rows(expectation)
        and expectation.expectation_type not in _NOT_ABOUT_ONE_ROW
        and str(getattr(expectation.severity, "value", expectation.severity)) == "critical"
        and float(getattr(expectation, "mostly", 1)) >= 1
        and set(_columns(expectation)) <= set(columns)
    ]


def _columns(expectation: Expectation) -> list[str]:
    keys = ("column", "column_A", "column_B", "column_list")
    return columns_of({key: getattr(expectation, key, None) for key in keys})


def find_offending_rows(frame: pd.DataFrame, rules: Sequence[Expectation]) -> dict[int, str]:
    """What is wrong with each row that breaks a rule, by its position (0 … n-1), ascending.

    Raises ModelkeepError for a rule that cannot be evaluated.
    """
    suspected = [rule for rule in rules if not is_surely_kept(frame, rule)]
    if not len(frame) or not suspected:
        return {}
    numbered = [
        rule.copy(update={"id": None, "meta": {**(rule.meta or {}), POSITION: position}})
        for position, rule in enumerate(suspected)
    ]
    verdicts = results_of(batch_of(frame), numbered, {"result_format": "COMPLETE"})
    broken = {position: verdict for position, verdict in sorted(verdicts.items()) if not verdict["success"]}
    reasons: dict[int, dict[str, str]] = {}
    for position, verdict in broken.items():
        kwargs = kwargs_of(verdict, numbered[position])
        name, rule = subject(kwargs), rule_text(verdict["expectation_config"]["type"], kwargs)
        rows = _offenders(verdict, name)
        values = frame[columns_of(kwargs)].iloc[rows].to_numpy(object)
        for row, value in zip(rows, values, strict=True):
            told = " and ".join(shown(json_value(one)) for one in value)
            reasons.setdefault(row, {}).setdefault(name, f"{name}: {told}, expected {rule}")
    return {row: "; ".join(reasons[row].values()) for row in sorted(reasons)}


def is_surely_kept(frame: pd.DataFrame, rule: Expectation) -> bool:
    """Whether every row keeps a rule of a frequent kind, by one look at its columns; False where that does not tell.

    Great Expectations takes some 10 ms for a rule whatever the number of rows, which is more than a model takes for
    thousands of them. So it is asked about the rules that are in doubt, and has the last word on them.
    """
    test = _TESTS.get(rule.expectation_type)
    return test is not None and not rule.row_condition and bool(test(frame, rule))


def _is_between(frame: pd.DataFrame, rule: Any) -> bool:
    import pandas as pd

    column = frame[rule.column]
    bounds = (rule.min_value, rule.max_value)
    plain = all(bound is None or isinstance(bound, (int, float)) for bound in bounds)
    if rule.strict_min or rule.strict_max or not plain or not pd.api.types.is_numeric_dtype(column):
        return False
    low, high = bounds
    return (low is None or column.min() >= low) and (high is None or column.max() <= high)


_TESTS: dict[str, Callable[[pd.DataFrame, Any], Any]] = {
    "expect_column_values_to_not_be_null": lambda frame, rule: frame[rule.column].notna().all(),
    "expect_column_values_to_be_between": _is_between,
    "expect_column_values_to_be_in_set": lambda frame, rule: frame[rule.column].isin(rule.value_set).all(),
    "expect_column_pair_values_to_be_equal": lambda frame, rule: (frame[rule.column_A] == frame[rule.column_B]).all(),
    "expect_column_pair_values_a_to_be_greater_than_b": lambda frame, rule: (
        frame[rule.column_A] > frame[rule.column_B]
        if not rule.or_equal
        else frame[rule.column_A] >= frame[rule.column_B]
    ).all(),
}


def _offenders(verdict: dict[str, Any], name: str) -> list[int]:
    # Of values Great Expectations tells the first 200 only, of positions all.
    found = verdict["result"]
    positions: list[int] = found.get("unexpected_index_list") or []
    if not positions or len(positions) != found["unexpected_count"]:
        raise ModelkeepError(
            f"A rule about {name} cannot be evaluated.",
            received=str(verdict.get("exception_info"))[:300],
            next_step="mend the problem's expectations()",
        )
    return positions
