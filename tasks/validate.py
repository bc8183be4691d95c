"""Validate: what a problem expects of its data, checked before anything is trained on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem
from problems.outline.problem import Problem
from store.artifacts import ArtifactRef
from store.steps import Lease, StepRecord
from tasks.publish import show_validation
from tasks.recent import RECENT
from tasks.report import report_refused_data
from tasks.steps import Products, Run, digests, do_once

if TYPE_CHECKING:
    from validation.gate import ValidationResult

logger = logging.getLogger("modelkeep")


@task(name="validate", cache_policy=NO_CACHE, task_run_name="validate {run.problem}")
def validate(run: Run, examples: StepRecord) -> StepRecord:
    """Check the frame; keep the result as JSON and as a page. Raises ValidationFailed; the run is closed then."""
    from validation.gate import ValidationResult, require

    problem = load_problem(run.problem)
    store = run.open_store()
    record = do_once(
        run,
        "validate",
        lambda lease: _check(problem, run, examples.products["frame"], lease),
        module=__name__,
        inputs=digests(examples),
    )
    result = ValidationResult.from_json(store.read_bytes(record.products["validation"]).decode())
    show_validation(run, result)
    if not result.success:
        report_refused_data(run, examples, record, _reason(result))
    require(result)
    return record


def _check(problem: Problem, run: Run, frame: ArtifactRef, lease: Lease) -> Products:
    import pandas as pd

    from validation.data_docs import render_data_docs
    from validation.gate import validate as check
    from validation.windows import ask_of_source

    table = pd.read_parquet(run.open_store().local_path(frame))
    rules = ask_of_source(problem.expectations(), table, RECENT) if RECENT in table else problem.expectations()
    result = check(table, rules, name=f"{problem.name} examples")
    passed = sum(one.success for one in result.checks)
    logger.info("validate  %s rows, %d of %d checks passed", f"{result.rows:,}", passed, len(result.checks))
    page = render_data_docs(result, title=f"Data checks: {problem.name}")
    return Products(
        {
            "validation": lease.put_bytes("validation.json", result.to_json().encode(), kind="json"),
            "data_docs": lease.put_bytes("data-docs.html", page.encode(), kind="html"),
        },
        {"success": result.success, "rows": result.rows, "checks": len(result.checks), "passed": passed},
    )


def _reason(result: ValidationResult) -> str:
    failed = ", ".join(dict.fromkeys(check.subject for check in result.failures))
    return f"The data failed {len(result.failures)} of {len(result.checks)} checks ({failed})."
