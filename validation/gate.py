"""The data gate: run a suite of expectations on a frame, keep what came out, and stop where data is not good.

Great Expectations does the checking. Each call has a context of its own, because batch definitions that
threads share give wrong verdicts without an error. A clean frame costs one pass that only says yes or no;
what failed is run once more for counts and examples.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from modelkeep.errors import GateFailed, ModelkeepError
from validation.rules import columns_of, rule_text, subject

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.expectations.expectation import Expectation

NUM_EXAMPLES = 5
MAX_REPORTED_CHECKS = 12
POSITION = "modelkeep_position"


class ValidationFailed(GateFailed):
    """Data did not meet the expectations of its problem."""


@dataclass(frozen=True)
class Example:
    """One offending row: its label in the frame's index (its number, counted from 0, where there is no other)."""

    row: int | str
    value: Any


@dataclass(frozen=True)
class Check:
    """What one expectation found.

    `unexpected_count` is None for rules about a whole column or table; `unexpected_percent` is of all rows.
    `observed` is the value that such a rule looked at. `error` says why a rule could not be evaluated.
    """

    column: str | None
    rule: str
    expectation: str
    kwargs: dict[str, Any]
    severity: str
    success: bool
    unexpected_count: int | None = None
    unexpected_percent: float | None = None
    examples: tuple[Example, ...] = ()
    observed: Any = None
    error: str | None = None
    why: str | None = None

    @property
    def subject(self) -> str:
        return self.column or subject(self.kwargs)

    @property
    def lacks_column(self) -> bool:
        """Whether it failed because a column is not there: then all rules of the column fail, and one says it all."""
        return self.error is not None and self.error.startswith("column '")

    @property
    def blocks(self) -> bool:
        """Whether this check alone stops the data: it failed and is critical."""
        return not self.success and self.severity == "critical"


@dataclass(frozen=True)
class ValidationResult:
    """What a suite found in a frame. `success` is False if a critical check failed; others only warn."""

    name: str
    success: bool
    rows: int
    checks: tuple[Check, ...]
    seconds: float
    great_expectations_version: str

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.blocks)

    @property
    def warnings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.success and not check.blocks)

    def to_json(self) -> str:
        """The same text for the same data and suite, but for `seconds`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ValidationResult:
        fields = json.loads(text)
        checks = (
            Check(**{**check, "examples": tuple(Example(**example) for example in check["examples"])})
            for check in fields["checks"]
        )
        return cls(**{**fields, "checks": tuple(checks)})


def validate(frame: pd.DataFrame, expectations: Sequence[Expectation], *, name: str) -> ValidationResult:
    """Check a frame. Nothing is written anywhere, and neither the frame nor the expectations are changed.

    A frame without rows, or with columns whose names are the same but for case, never passes.
    Raises ModelkeepError if there is nothing to check against.
    """
    started = time.perf_counter()
    if not expectations:
        raise ModelkeepError(
            f"There is nothing to check the data of '{name}' against",
            where=f"validation of '{name}'",
            expected="at least one expectation",
            received="an empty suite",
            next_step="write the problem's expectations(); `modelkeep profile` drafts them from training data",
        )
    import great_expectations as gx

    checks = _structural_checks(frame) or tuple(_run(frame, expectations))
    return ValidationResult(
        name=name,
        success=not any(check.blocks for check in checks),
        rows=len(frame),
        checks=checks,
        seconds=round(time.perf_counter() - started, 6),
        great_expectations_version=gx.__version__,
    )


def require(result: ValidationResult) -> None:
    """Let good data pass. Raises ValidationFailed, naming columns, rules, rows and values, if it is not."""
    if result.success:
        return
    failures = result.failures
    sentences = list(dict.fromkeys(describe_check(check, result.rows) for check in failures))
    more = len(sentences) - MAX_REPORTED_CHECKS
    if more > 0:
        sentences = [*sentences[:MAX_REPORTED_CHECKS], f"and {more} more"]
    raise ValidationFailed(
        f"The data of '{result.name}' is not good enough: {len(failures)} of {len(result.checks)} checks failed",
        where=f"validation of '{result.name}', {result.rows:,} rows, named by the frame's index",
        expected="every critical rule of the problem's expectations() to hold",
        received="\n           ".join(sentences),
        next_step="mend or replace the data; change the problem's expectations() only if these values are right",
    )


def describe_check(check: Check, rows: int) -> str:
    """What a failed check found, in a sentence; `rows` are those of the frame."""
    if check.error and check.lacks_column:
        return check.error
    rule = f"{check.subject} (expected {check.rule}): "
    if check.error:
        return rule + check.error
    if check.unexpected_count is None:
        return rule + ("not so" if check.observed is None else shown(check.observed))
    examples = "; ".join(f"row {example.row}: {shown(example.value)}" for example in check.examples)
    count = f"not so in {check.unexpected_count:,} of {rows:,} rows ({check.unexpected_percent:.3g} %)"
    return f"{rule}{count}; {examples}" if examples else rule + count


def shown(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, float):
        value = float(f"{value:.8g}")  # 0.1 + 0.2 is shown as 0.3
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _structural_checks(frame: pd.DataFrame) -> tuple[Check, ...]:
    """What makes a frame unfit for any expectation: rules about rows all pass where there are no rows."""
    names = [str(column) for column in frame.columns]
    # Great Expectations takes the first column whose name is the same but for case.
    times = Counter(name.casefold() for name in names)
    twins = sorted(name for name in names if times[name.casefold()] > 1)
    if twins:
        error = f"these are more than one column, or differ only in case: {', '.join(map(repr, twins))}"
        return (_failed_check("names of columns that can be told apart", "table_columns_distinct", error),)
    if len(frame) == 0:
        return (_failed_check("at least one row", "table_not_empty", "there are no rows"),)
    return ()


def _failed_check(rule: str, expectation: str, error: str) -> Check:
    return Check(
        column=None, rule=rule, expectation=expectation, kwargs={}, severity="critical", success=False, error=error
    )


def _run(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> Iterable[Check]:
    """One quick pass over all expectations, and one for details of those that failed or tolerate some rows."""
    batch = batch_of(frame)
    numbered = [
        expectation.copy(update={"id": None, "meta": {**(expectation.meta or {}), POSITION: position}})
        for position, expectation in enumerate(expectations)
    ]
    verdicts = results_of(batch, numbered, "BOOLEAN_ONLY")
    unclear = [
        numbered[position]
        for position, verdict in verdicts.items()
        if not verdict["success"] or float(verdict["expectation_config"]["kwargs"].get("mostly", 1)) < 1
    ]
    if unclear:
        detail = {"result_format": "SUMMARY", "partial_unexpected_count": NUM_EXAMPLES}
        verdicts |= results_of(batch, unclear, detail)
    arguments = [kwargs_of(verdicts[position], expectation) for position, expectation in enumerate(numbered)]
    known = {str(column) for column in frame.columns}
    spare = sorted(known - {column for kwargs in arguments for column in columns_of(kwargs)})
    for position, kwargs in enumerate(arguments):
        lacking = "; ".join(_missing(column, spare) for column in columns_of(kwargs) if column not in known)
        yield _check(verdicts[position], kwargs, lacking, is_about_rows(numbered[position]), frame)


def batch_of(frame: pd.DataFrame) -> Batch:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    definition = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    whole = definition.add_batch_definition_whole_dataframe("whole")
    # Row numbers are positions here; `_examples` turns them into the labels of the frame's own index.
    return whole.get_batch(batch_parameters={"dataframe": frame.reset_index(drop=True)})


def results_of(batch: Batch, expectations: list[Expectation], result_format: Any) -> dict[int, dict[str, Any]]:
    """Results by position in the suite: Great Expectations puts those with errors first."""
    import great_expectations as gx

    suite = gx.ExpectationSuite(name="suite", expectations=expectations)
    results = batch.validate(suite, result_format=result_format).results
    verdicts: list[Any] = [result.to_json_dict() for result in results]
    return {verdict["expectation_config"]["meta"][POSITION]: verdict for verdict in verdicts}


def _check(
    verdict: dict[str, Any], kwargs: dict[str, Any], lacking: str, about_rows: bool, frame: pd.DataFrame
) -> Check:
    config, found = verdict["expectation_config"], verdict["result"]
    # A column of the same name but for case satisfies Great Expectations; it does not satisfy code that reads it.
    success = bool(verdict["success"]) and not lacking
    count = found.get("unexpected_count", 0 if success else None) if about_rows else None
    return Check(
        column=kwargs.get("column"),
        rule=rule_text(config["type"], kwargs),
        expectation=config["type"],
        kwargs=kwargs,
        severity=str(config.get("severity", "critical")),
        success=success,
        unexpected_count=count,
        unexpected_percent=None if count is None else round(100 * count / len(frame), 6),
        examples=tuple(_examples(found, frame)) if about_rows else (),
        observed=None if about_rows else json_value(_observed(found)),
        error=lacking or _error(columns_of(kwargs), verdict.get("exception_info") or {}, frame),
        why=_why(config),
    )


def kwargs_of(verdict: Mapping[str, Any], expectation: Expectation) -> dict[str, Any]:
    """The expectation's arguments, and the columns that it takes by default, which its configuration leaves out."""
    given = verdict["expectation_config"]["kwargs"]
    defaults = {key: getattr(expectation, key, None) for key in ("column", "column_A", "column_B")}
    kwargs = {key: value for key, value in defaults.items() if value} | given
    return {key: json_value(value) for key, value in sorted(kwargs.items()) if key != "batch_id"}


def is_about_rows(expectation: Expectation) -> bool:
    from great_expectations.expectations import expectation as kinds

    return isinstance(
        expectation, (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    )


def _observed(found: Mapping[str, Any]) -> Any:
    """The value, the values or the differences that a rule about a column or table found."""
    differences = (found.get("details") or {}).get("mismatched")
    value = found.get("observed_value")
    return differences or (found.get("partial_unexpected_list") if value is None else value)


def _examples(found: Mapping[str, Any], frame: pd.DataFrame) -> Iterable[Example]:
    positions = found.get("partial_unexpected_index_list") or []
    values = found.get("partial_unexpected_list") or []
    for position, value in zip(positions, values, strict=False):
        label = json_value(frame.index[position])
        yield Example(row=label if isinstance(label, int) else str(label), value=json_value(value))


def _why(config: Mapping[str, Any]) -> str | None:
    notes = config.get("notes") or (config.get("meta") or {}).get("notes") or config.get("description")
    return "\n".join(notes) if isinstance(notes, list) else notes


def _error(columns: list[str], exceptions: Mapping[str, Any], frame: pd.DataFrame) -> str | None:
    """Great Expectations reports a rule that it could not evaluate as one that failed; this says why."""
    raised = [exceptions] if "raised_exception" in exceptions else list(exceptions.values())
    messages = [str(one["exception_message"]).strip() for one in raised if one.get("raised_exception")]
    if not messages:
        return None
    types = ", ".join(f"'{column}' holds {frame[column].dtype}" for column in columns if column in frame.columns)
    reason = (messages[0] or "no reason given").splitlines()[0]
    return f"could not be checked: {reason}{f' ({types})' if types else ''}"


def _missing(column: str, spare: list[str]) -> str:
    """`spare` are the columns that no expectation names: one of them may be this one under a new name."""
    by_case = {other.casefold(): other for other in spare}
    near = get_close_matches(column.casefold(), by_case, n=1)
    return f"column '{column}' is missing{f' (is it called {by_case[near[0]]!r} now?)' if near else ''}"


def json_value(value: Any) -> Any:
    """A value as JSON can hold it: no NaN, no numpy or pandas scalars; times as ISO text; sets sorted."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _json_float(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((json_value(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return json_value(value.tolist())
    if hasattr(value, "isoformat"):
        return None if str(value) == "NaT" else value.isoformat()
    return None if str(value) == "<NA>" else str(value)


def _json_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return str(value) if math.isinf(value) else value
