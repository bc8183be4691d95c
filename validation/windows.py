"""Windows of new data against the expectations of their problem: those about columns that they have."""

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


def ask_of_source(expectations: Sequence[Expectation], frame: pd.DataFrame, recent: str) -> list[Expectation]:
    """The same rules for a frame of which some rows, where the column `recent` is true, come from windows.

    A rule about a column that these do not have looks at the other rows alone.
    """
    empty = {str(name) for name, is_empty in frame[frame[recent]].isna().all().items() if is_empty}
    condition = {"row_condition": f"{recent} == False", "condition_parser": "pandas"}
    return [one.copy(update=condition) if empty.intersection(read_columns(one)) else one for one in expectations]
