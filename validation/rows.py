"""Single rows against the expectations of their problem: what is wrong with each, for data that comes in pieces."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from validation.gate import POSITION, batch_of, is_about_rows, json_value, kwargs_of, results_of, shown
from validation.rules import columns_of, rule_text, subject

if TYPE_CHECKING:
    import numpy as np
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
        and set(read_columns(expectation)) <= set(columns)
    ]


def read_columns(expectation: Expectation) -> list[str]:
    """The columns that an expectation reads; none for one about the table as a whole."""
    keys = ("column", "column_A", "column_B", "column_list")
    return columns_of({key: getattr(expectation, key, None) for key in keys})


def describe_rules(rules: Sequence[Expectation]) -> dict[str, str]:
    """What rules ask of each column that they are about alone, in words: "never missing; between 3 and 10"."""
    told: dict[str, list[str]] = {}
    for rule in rules:
        kwargs = _kwargs(rule)
        if len(columns := columns_of(kwargs)) == 1:
            told.setdefault(columns[0], []).append(rule_text(rule.expectation_type, kwargs))
    return {column: "; ".join(texts) for column, texts in told.items()}


def _kwargs(rule: Expectation) -> dict[str, Any]:
    return kwargs_of({"expectation_config": rule.configuration.to_json_dict()}, rule)


def find_offending_rows(frame: pd.DataFrame, rules: Sequence[Expectation]) -> dict[int, str]:
    """What is wrong with each row that breaks a rule, by its position (0 … n-1), ascending.

    Great Expectations takes some 10 ms for a rule whatever the number of rows, which is more than a model takes for
    thousands of them. So it is asked about rules only whose kind is not among `_KEPT`, which a test holds against it.
    Raises ModelkeepError for a rule that cannot be evaluated.
    """
    if not len(frame):
        return {}
    columns = Columns(frame)
    known = {position: kept for position, rule in enumerate(rules) if (kept := keeps(columns, rule)) is not None}
    broken = {position: (~kept).nonzero()[0].tolist() for position, kept in known.items() if not kept.all()}
    broken |= _ask_great_expectations(frame, {place: rule for place, rule in enumerate(rules) if place not in known})
    reasons: dict[int, dict[str, str]] = {}
    for position, rows in sorted(broken.items()):
        kwargs = _kwargs(rules[position])
        name, rule = subject(kwargs), rule_text(rules[position].expectation_type, kwargs)
        values = frame[columns_of(kwargs)].iloc[rows].to_numpy(object)
        for row, value in zip(rows, values, strict=True):
            told = " and ".join(shown(json_value(one)) for one in value)
            reasons.setdefault(row, {}).setdefault(name, f"{name}: {told}, expected {rule}")
    return {row: "; ".join(reasons[row].values()) for row in sorted(reasons)}


class Columns(dict[str, "np.ndarray"]):
    """The columns of a frame as arrays, each made when it is first asked for: many rules ask for the same ones."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        if len(kinds := set(frame.dtypes)) == 1 and kinds.pop() == "float64":
            self.update(zip(frame.columns, frame.to_numpy().T, strict=True))

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = self._frame[name].to_numpy()
        return self[name]


def keeps(columns: Columns, rule: Expectation) -> np.ndarray | None:
    """Which rows (n,) keep a rule of a frequent kind, by the columns alone; None where that does not tell."""
    test = _KEPT.get(rule.expectation_type)
    return None if test is None or rule.row_condition else test(columns, rule)


def _is_there(columns: Columns, rule: Any) -> np.ndarray:
    import pandas as pd

    there: np.ndarray = ~pd.isna(columns[rule.column])
    return there


def _is_between(columns: Columns, rule: Any) -> np.ndarray | None:
    import numpy as np

    values = columns[rule.column]
    low, high = (math.inf * sign if end is None else end for end, sign in ((rule.min_value, -1), (rule.max_value, 1)))
    plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
    if rule.strict_min or rule.strict_max or not plain or values.dtype.kind not in "iuf":
        return None
    kept: np.ndarray = (values >= low) & (values <= high)
    return kept | np.isnan(values)  # a missing value breaks no rule but that none is missing


def _is_in_set(columns: Columns, rule: Any) -> np.ndarray:
    import numpy as np
    import pandas as pd

    values, members = columns[rule.column], set(rule.value_set)
    # For a row pandas takes longer than for a thousand.
    if values.dtype.kind == "O":
        kept = np.fromiter(map(members.__contains__, values), bool, len(values))
    elif (
        values.dtype.kind in "iufb" and 0 < len(members) < 10 and all(isinstance(one, (int, float)) for one in members)
    ):
        kept = np.logical_or.reduce([values == one for one in members])
    else:
        kept = pd.Series(values, dtype=values.dtype).isin(members).to_numpy()
    return kept | pd.isna(values)


def _is_equal(columns: Columns, rule: Any) -> np.ndarray | None:
    return _compare(columns, rule, operator.eq)


def _is_greater(columns: Columns, rule: Any) -> np.ndarray | None:
    return _compare(columns, rule, operator.ge if rule.or_equal else operator.gt)


def _compare(columns: Columns, rule: Any, compare: Callable[[Any, Any], Any]) -> np.ndarray | None:
    import pandas as pd

    one, other = columns[rule.column_A], columns[rule.column_B]
    both_missing = str(getattr(rule.ignore_row_if, "value", rule.ignore_row_if)) == "both_values_are_missing"
    if not both_missing or "O" in (one.dtype.kind, other.dtype.kind):
        return None
    kept: np.ndarray = compare(one, other) | (pd.isna(one) & pd.isna(other))
    return kept


_KEPT: dict[str, Callable[[Columns, Any], np.ndarray | None]] = {
    "expect_column_values_to_not_be_null": _is_there,
    "expect_column_values_to_be_between": _is_between,
    "expect_column_values_to_be_in_set": _is_in_set,
    "expect_column_pair_values_to_be_equal": _is_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _is_greater,
}


def _ask_great_expectations(frame: pd.DataFrame, rules: Mapping[int, Expectation]) -> dict[int, list[int]]:
    """The rows that break each rule, where there are any."""
    if not rules:
        return {}
    numbered = [
        rule.copy(update={"id": None, "meta": {**(rule.meta or {}), POSITION: position}})
        for position, rule in rules.items()
    ]
    verdicts = results_of(batch_of(frame), numbered, {"result_format": "COMPLETE"})
    return {
        position: _offenders(verdict, subject(kwargs_of(verdict, rules[position])))
        for position, verdict in verdicts.items()
        if not verdict["success"]
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
