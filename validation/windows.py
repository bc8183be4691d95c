"""A window of new data against the expectations of its problem: those about columns that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from validation.gate import ValidationResult, validate
from validation.rows import read_columns, rules_of_one_row

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation


def rules_of_a_window(expectations: Sequence[Expectation], columns: Sequence[str]) -> list[Expectation]:
    """Those that are about columns, and about none that the window has not, such as the target.

    A rule about the table as a whole, such as its number of rows, is about training data.
    """
    return [one for one in expectations if (named := read_columns(one)) and set(named) <= set(columns)]


def validate_window(
    frame: pd.DataFrame, expectations: Sequence[Expectation], *, name: str, is_large: bool
) -> ValidationResult | None:
    """None where no rule applies. Rules about whole columns, such as their mean, need a window that `is_large`."""
    columns = [str(column) for column in frame]
    choose = rules_of_a_window if is_large else rules_of_one_row
    rules = choose(expectations, columns)
    return validate(frame, rules, name=name) if rules else None
