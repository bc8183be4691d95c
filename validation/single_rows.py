"""A few rows against rules, in microseconds: whether they surely keep them all.

Where one may not, or a rule is of a rare kind, `validation.rows` tells what is wrong with which row. It asks pandas for
columns, which takes as long for one row as for thousands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

Test = Callable[[Mapping[Any, Any]], bool]

# A row of mixed columns holds floats in place of whole numbers: from here on they may not be the same.
_EXACT = 2.0**53


def quick_test(rules: Sequence[Expectation]) -> Callable[[pd.DataFrame], bool]:
    """Whether every row of a frame surely keeps all rules; False says nothing."""
    tests = [None if rule.row_condition else _KINDS.get(rule.expectation_type, _never)(rule) for rule in rules]
    known = [test for test in tests if test]

    def surely_keeps(frame: pd.DataFrame) -> bool:
        names = list(frame)
        try:
            for place in range(len(frame)):
                row = dict(zip(names, frame.iloc[place].tolist(), strict=True))
                if not all(test(row) for test in known):
                    return False
        except (TypeError, ValueError):  # of values that cannot be compared
            return False
        return True

    return surely_keeps if len(known) == len(tests) else lambda frame: False


def _never(rule: Any) -> None:
    return None


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)


def _is_there(rule: Any) -> Test:
    name = rule.column
    return lambda row: not _is_missing(row[name])


def _is_between(rule: Any) -> Test | None:
    """A missing value breaks no rule but that none is missing."""
    name, ends = rule.column, (rule.min_value, rule.max_value)
    if rule.strict_min or rule.strict_max or not all(end is None or type(end) in (int, float) for end in ends):
        return None
    low = -_EXACT if ends[0] is None else max(ends[0], -_EXACT)
    high = _EXACT if ends[1] is None else min(ends[1], _EXACT)
    return lambda row: _is_number(value := row[name]) and not (value < low or value > high)


def _is_number(value: Any) -> bool:
    import numpy as np

    return type(value) is float or type(value) is int or isinstance(value, (np.floating, np.integer))


def _is_in_set(rule: Any) -> Test | None:
    name, members = rule.column, frozenset(rule.value_set or ())
    if any(isinstance(one, (int, float)) and not -_EXACT < one < _EXACT for one in members):
        return None
    return lambda row: (value := row[name]) in members or _is_missing(value)


def _is_equal(rule: Any) -> Test | None:
    return _pair(rule, operator.eq)


def _is_greater(rule: Any) -> Test | None:
    return _pair(rule, operator.ge if rule.or_equal else operator.gt)


def _pair(rule: Any, compare: Callable[[Any, Any], Any]) -> Test | None:
    import numpy as np

    one, other = rule.column_A, rule.column_B
    if str(getattr(rule.ignore_row_if, "value", rule.ignore_row_if)) != "both_values_are_missing":
        return None

    def test(row: Mapping[Any, Any]) -> bool:
        values = row[one], row[other]
        if not all(isinstance(value, (bool, np.bool_)) or _is_number(value) for value in values):
            return False
        return all(map(_is_missing, values)) or (all(abs(v) < _EXACT for v in values) and compare(*values))

    return test


_KINDS: Mapping[str, Callable[[Any], Test | None]] = {
    "expect_column_values_to_not_be_null": _is_there,
    "expect_column_values_to_be_between": _is_between,
    "expect_column_values_to_be_in_set": _is_in_set,
    "expect_column_pair_values_to_be_equal": _is_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _is_greater,
}
