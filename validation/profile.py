"""A first suite for a new problem, drafted from its training data. Great Expectations 1.x removed its own.

A draft holds what is true of the rows that were seen, widened by stated margins. It is meant to be read and
corrected: what is only true of these rows, and what must be true of all, is for a person to know.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

RANGE_MARGIN = 0.25  # of the range that was seen, on each side
SPREAD_FACTOR = 20  # a change of units is a factor of 100 or 1000; few rows move the spread by less than this
MAX_CODES = 20  # more whole numbers than these are a measure, not categories
MAX_WORDS = 200
ROWS_PER_CATEGORY = 10
NULL_MARGIN = 0.01
ROW_COUNT_SHARE = 0.5
DUPLICATES_TOLERATED = 0.2
TARGET_NAMES = ("label", "target", "class", "y")
IDENTIFIER = re.compile(r"(^|_)(id|key|uuid|digest)$", re.IGNORECASE)


@dataclass(frozen=True)
class Draft:
    """One expectation to be: its class, its arguments and, for the reader, what was seen."""

    kind: str
    kwargs: dict[str, Any]
    seen: str = ""


def draft_expectations(frame: pd.DataFrame, *, target: str | None = None) -> list[Expectation]:
    """Expectations that this frame meets: types, missing values, ranges, categories, duplicates, row count.

    `target` is the column of classes whose shares are bounded; without it, a column called label, target, class
    or y. Raises ModelkeepError for a frame without rows or with columns whose names are not text.
    """
    from great_expectations import expectations as gxe

    from validation import expectations as own

    return [
        getattr(own if draft.kind in OWN else gxe, draft.kind)(**draft.kwargs)
        for _, drafts in _drafts(frame, target)
        for draft in drafts
    ]


def draft_source(frame: pd.DataFrame, problem: str, *, target: str | None = None) -> str:
    """The same as Python source: a function `expectations()` to paste into the file of a problem."""
    sections = list(_drafts(frame, target))
    kinds = {draft.kind for _, drafts in sections for draft in drafts}
    lines = [
        'def expectations() -> "list[Expectation]":',
        f'    """What the data of {_plain(problem)} must look like: a draft from {len(frame):,} rows, to be corrected.',
        "",
        f"    Ranges are wider than what was seen by {RANGE_MARGIN:.0%} of it on each side, spreads by a factor of",
        f"    {SPREAD_FACTOR}, and shares of missing values by {NULL_MARGIN:.0%}.",
        '    """',
        "    from great_expectations import expectations as gxe",
        *(["", "    from validation import expectations as own"] if kinds & OWN else []),
        "",
        "    return [",
    ]
    for heading, drafts in sections:
        lines.append(f"        # {heading}")
        lines += [_source_line(draft) for draft in drafts]
    return "\n".join([*lines, "    ]", ""])


def summarise_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per column: type, missing (rows), distinct (values), min, median, mean, max and most common value."""
    import pandas as pd

    return pd.DataFrame([_summarise_column(frame[name]) for name in frame.columns], index=frame.columns)


def _summarise_column(column: pd.Series[Any]) -> dict[str, Any]:
    from pandas.api import types

    counts = column.value_counts()
    counts = counts[counts > 0]  # a category may be declared and not be there
    numeric = types.is_numeric_dtype(column) and not types.is_bool_dtype(column) and column.notna().any()
    statistics = {name: getattr(column, name)() if numeric else None for name in ("min", "median", "mean", "max")}
    return {
        "type": str(column.dtype),
        "missing": int(column.isna().sum()),
        "distinct": len(counts),
        **statistics,
        "most common": counts.index[0] if len(counts) and counts.iloc[0] > 1 else None,
    }


MAX_LINE = 120
COMPOUND = "ExpectCompoundColumnsToBeUnique"
OWN = {"ExpectNoDuplicateExamples", "ExpectClassShareToBeBetween"}


def _drafts(frame: pd.DataFrame, target: str | None) -> Iterator[tuple[str, list[Draft]]]:
    """A heading and its expectations, for the table and then for each column."""
    _require_draftable(frame, target)
    yield f"the table: {len(frame):,} rows were seen", list(_table_drafts(frame))
    targets = [target] if target else [name for name in frame.columns if name.lower() in TARGET_NAMES][:1]
    for name in frame.columns:
        column = frame[name]
        drafts = [Draft("ExpectColumnTypeToBe", {"column": name, "type_": str(column.dtype)})]
        drafts += [*_null_drafts(column), *_value_drafts(column, is_target=name in targets)]
        yield f"{_plain(name)}: {_seen(column)}", drafts


def _require_draftable(frame: pd.DataFrame, target: str | None) -> None:
    from pandas.api.types import is_hashable

    odd = [name for name in frame.columns if not isinstance(name, str)]
    nested = [name for name, column in frame.items() if column.dtype == object and not column.map(is_hashable).all()]
    if len(frame) and not odd and not nested and (target is None or target in frame.columns):
        return
    raise ModelkeepError(
        "No expectations can be drafted from this frame",
        where="draft_expectations",
        expected="rows, columns that are named by text and hold plain values, and the target among them",
        received=f"{len(frame)} rows, columns {list(frame.columns)[:MAX_CODES]}, lists in {nested}, target {target}",
        next_step="read the data as the problem's read() will, summarise images and sequences, then profile the frame",
    )


def _table_drafts(frame: pd.DataFrame) -> Iterator[Draft]:
    fewest = max(1, math.floor(len(frame) * ROW_COUNT_SHARE))
    yield Draft("ExpectTableRowCountToBeBetween", {"min_value": fewest})
    kind, kwargs, copies = COMPOUND, {"column_list": list(frame.columns)}, frame.duplicated(keep=False)
    if "digest" in frame.columns:
        kind, kwargs, copies = "ExpectNoDuplicateExamples", {}, frame["digest"].duplicated()
    share = float(copies.mean())
    if share <= DUPLICATES_TOLERATED and (kind != COMPOUND or len(frame.columns) > 1):
        yield Draft(kind, {**kwargs, **_mostly(1 - 2 * share)}, f"{share:.3%} were copies" if share else "")


def _null_drafts(column: pd.Series[Any]) -> Iterator[Draft]:
    share = float(column.isna().mean())
    if share < 1:
        mostly = {} if share == 0 else _mostly(1 - share - NULL_MARGIN)
        yield Draft("ExpectColumnValuesToNotBeNull", {"column": column.name, **mostly})


def _value_drafts(column: pd.Series[Any], *, is_target: bool) -> Iterator[Draft]:
    """Nothing for dates, because those seen say little about those to come, nor for columns of mixed types."""
    from pandas.api import types

    values = column.dropna()
    is_mixed = column.dtype == object and values.map(type).nunique() > 1
    if values.empty or is_mixed or types.is_datetime64_any_dtype(column):
        return
    if _is_categorical(values, is_target):
        yield from _category_drafts(values, is_target)
    elif types.is_numeric_dtype(column):
        yield from _number_drafts(values)
    elif types.is_string_dtype(column):
        yield from _text_drafts(values)


def _is_categorical(values: pd.Series[Any], is_target: bool) -> bool:
    """Few values, each often. Fractions are a measure, however few of them were seen."""
    from pandas.api import types

    if types.is_bool_dtype(values) or values.dtype == "category":
        return True
    num_values = values.nunique()
    if types.is_float_dtype(values):
        return num_values <= (MAX_CODES if is_target else 2) and bool((values % 1 == 0).all())
    if not types.is_integer_dtype(values) and not types.is_string_dtype(values):
        return False
    most = MAX_CODES if types.is_integer_dtype(values) else MAX_WORDS
    return num_values <= most and num_values * (2 if is_target else ROWS_PER_CATEGORY) <= len(values)


def _category_drafts(values: pd.Series[Any], is_target: bool) -> Iterator[Draft]:
    shares = values.value_counts(normalize=True)
    shares = shares[shares > 0]
    names = sorted(shares.index.tolist(), key=lambda name: (str(type(name)), name))
    if not is_target:
        yield Draft("ExpectColumnValuesToBeInSet", {"column": values.name, "value_set": names})
        return
    bounds = {"min_value": _outward(shares.min() / 2, down=True), "max_value": _outward(min(1, shares.max() * 2))}
    seen = f"shares from {shares.min():.3g} to {shares.max():.3g}"
    yield Draft("ExpectClassShareToBeBetween", {"column": values.name, "classes": names, **bounds}, seen)


def _number_drafts(values: pd.Series[Any]) -> Iterator[Draft]:
    from pandas.api import types

    low, high = values.min().item(), values.max().item()
    if not math.isfinite(2 * (high - low)):
        return  # an infinite value has no margin: a person decides first whether it may be there
    spread = float(values.std())
    is_identifier = types.is_integer_dtype(values) and IDENTIFIER.search(str(values.name)) and values.is_unique
    yield Draft("ExpectColumnValuesToBeBetween", {"column": values.name, **_bounds(low, high)})
    if is_identifier:
        yield Draft("ExpectColumnValuesToBeUnique", {"column": values.name})
    elif math.isfinite(spread * SPREAD_FACTOR) and spread > 0:
        limits = {
            "min_value": _outward(spread / SPREAD_FACTOR, down=True),
            "max_value": _outward(spread * SPREAD_FACTOR),
        }
        yield Draft("ExpectColumnStdevToBeBetween", {"column": values.name, **limits}, "a change of units shows here")


def _bounds(low: float, high: float) -> dict[str, float]:
    """The range that was seen and its margins, rounded outward; what never was below (above) zero stays so."""
    is_whole = isinstance(low, int)
    margin = -int((low - high) * RANGE_MARGIN // 1) if is_whole else (high - low) * RANGE_MARGIN
    lowest = max(low - margin, 0) if low >= 0 else low - margin
    highest = min(high + margin, 0) if high <= 0 else high + margin
    return {
        "min_value": lowest if is_whole else _outward(lowest, down=True),
        "max_value": highest if is_whole else _outward(highest),
    }


def _text_drafts(values: pd.Series[Any]) -> Iterator[Draft]:
    lengths = values.str.len()
    shortest, longest = int(lengths.min()), int(lengths.max())
    limits = (shortest, longest) if shortest == longest else (min(1, shortest), 2 * longest)
    kwargs = {"column": values.name, "min_value": limits[0], "max_value": limits[1]}
    yield Draft("ExpectColumnValueLengthsToBeBetween", kwargs)
    if IDENTIFIER.search(str(values.name)) and values.is_unique:
        yield Draft("ExpectColumnValuesToBeUnique", {"column": values.name})


def _outward(value: float, *, down: bool = False) -> float:
    """Three significant digits, rounded away from what was seen, so that the bound is easy to read."""
    rounding = ROUND_FLOOR if down else ROUND_CEILING
    return float(Context(prec=3, rounding=rounding).create_decimal_from_float(value))


def _mostly(share: float) -> dict[str, float]:
    return {} if share >= 1 else {"mostly": max(0.0, math.floor(share * 1000) / 1000)}


def _seen(column: pd.Series[Any]) -> str:
    summary = _summarise_column(column)
    parts = [f"{summary['missing']:,} of {len(column):,} missing", f"{summary['distinct']:,} distinct"]
    if summary["min"] is not None:
        parts.append("{min:.6g} to {max:.6g}, median {median:.6g}, mean {mean:.6g}".format(**summary))
    return ", ".join(parts)


def _plain(text: str) -> str:
    """Text that cannot leave a comment or a docstring."""
    return "".join(char if char.isprintable() and char not in "\"'\\" else "?" for char in str(text))


def _source_line(draft: Draft) -> str:
    arguments = [f"{name}={_literal(value)}" for name, value in draft.kwargs.items()]
    note = f"  # {draft.seen}" if draft.seen else ""
    call = f"        {'own' if draft.kind in OWN else 'gxe'}.{draft.kind}("
    line = f"{call}{', '.join(arguments)}),{note}"
    if len(line) <= MAX_LINE:
        return line
    return "\n".join([f"{call}{note}", *(_on_lines(name, value) for name, value in draft.kwargs.items()), "        ),"])


def _on_lines(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return f"            {name}={_literal(value)},"
    items = [f"                {_literal(item)}," for item in value]
    return "\n".join([f"            {name}=[", *items, "            ],"])


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
