"""A validation as one HTML page that opens offline.

Great Expectations' own Data Docs fetch some 15 files from the network and are broken without them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.rules import number

if TYPE_CHECKING:
    import pandas as pd

    from validation.gate import Check, ValidationResult


def render_data_docs(result: ValidationResult, *, title: str, frame_summary: pd.DataFrame | None = None) -> str:
    """The page: verdict, what failed, every check by column, and the suite itself.

    `frame_summary` is a table with one row per column of the data, as `profile.summarise_frame` makes.
    The page asks for nothing outside itself, and says so to the browser in its content security policy.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=_shown, number=number)
    return environment.get_template("data_docs.html.j2").render(
        title=title,
        result=result,
        problems=_problems(result),
        groups=_by_subject(result),
        summary=_table(frame_summary),
        suite=json.dumps([_as_suite(check) for check in result.checks], indent=1, ensure_ascii=False),
    )


def _problems(result: ValidationResult) -> list[Check]:
    """What failed, then what warned; a column that is not there is named once, by the rule that is only about it."""
    failed = (*result.failures, *result.warnings)
    lacking: dict[str | None, Check] = {}
    for check in sorted(failed, key=lambda check: len(check.subject)):
        if check.lacks_column:
            lacking.setdefault(check.error, check)
    return [check for check in failed if not check.lacks_column or lacking[check.error] is check]


def _by_subject(result: ValidationResult) -> list[tuple[str, list[Check]]]:
    groups: dict[str, list[Check]] = {}
    for check in result.checks:
        groups.setdefault(check.subject, []).append(check)
    return list(groups.items())


def _as_suite(check: Check) -> dict[str, Any]:
    return {key: value for key, value in asdict(check).items() if key in ("expectation", "kwargs", "severity")}


def _table(summary: pd.DataFrame | None) -> tuple[list[str], list[tuple[str, list[Any]]]] | None:
    if summary is None:
        return None
    rows = zip(map(str, summary.index), summary.astype(object).to_numpy().tolist(), strict=True)
    return [str(name) for name in summary.columns], list(rows)


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
