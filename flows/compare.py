"""The flow `compare`: variants of a problem, trained over seeds on the same rows, and ranked.

python -m flows.compare digits            the same as `modelkeep compare digits`

Trainings run one after the other, or on Dask or Ray where MODELKEEP_RUNNER says so; see `flows.runner`. Workers need
the same store and nothing else in common: steps are claimed there.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.runner import opened_runner, run_all
from flows.train import begin_run
from problems.outline.catalogue import ProblemName, load_problem
from store.steps import StepRecord
from tasks.compare import compare as compare_variants
from tasks.comparison import choose_variants
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.settings import load_settings
from tasks.steps import Run
from tasks.validate import validate

logger = logging.getLogger("modelkeep")


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    told = [f"{name}={value}" for name, value in (parameters.get("hyperparameters") or {}).items()]
    variants = ", ".join(parameters.get("variants") or ["all variants"])
    seeds = "1 seed" if parameters["seeds"] == 1 else f"{parameters['seeds']} seeds"
    return " ".join(["compare", f"{parameters['problem']}:", variants, "×", seeds, *told])


@flow(name="compare", flow_run_name=_run_name, log_prints=False)
def compare(
    problem: Annotated[ProblemName, Field(description="What to learn")],
    variants: Annotated[list[str], Field(description="Variants of the problem; all of them if left out")] = [],  # noqa: B006
    seeds: Annotated[int, Field(ge=1, description="How often each variant is trained, with the seeds 0, 1, …")] = 5,
    hyperparameters: Annotated[dict[str, Any], Field(description="Settings that all variants are to have")] = {},  # noqa: B006
    sample: Annotated[int | None, Field(ge=1, description="Use only so many examples, drawn at random")] = None,
    data: Annotated[str, Field(description="Your own file, path or address, in place of the source")] = "",
    full: Annotated[bool, Field(description="Refuse a package's partial copy of the data")] = False,
    store: Annotated[str, Field(description="Where artifacts are kept; empty for MODELKEEP_STORE")] = "",
) -> dict[str, Any]:
    """Train each variant with each seed, on the same rows, and rank them. Nothing is registered.

    What `train` has fitted with the same settings is not fitted again. The result is that of `tasks.compare.compare`.
    Raises VariantsInvalid, ValidationFailed, SourceUnavailable.
    """
    runs = begin_trials(str(problem), variants, seeds, hyperparameters, sample, data, full, store)
    examples = ingest(runs[0])
    validate(runs[0], examples)
    prepared = prepare(runs[0], examples)
    trials = [{"run": run, "examples": examples, "prepared": prepared} for run in runs]
    with opened_runner(load_settings().runner, len(trials)) as runner:
        fitted = run_all(fit_trial, trials, runner)
    return compare_variants(runs, examples, prepared, fitted)


def begin_trials(
    problem: str,
    variants: list[str],
    seeds: int,
    hyperparameters: dict[str, Any],
    sample: int | None,
    data: str,
    full: bool,
    store: str,
) -> list[Run]:
    """A run for each seed and variant. Raises VariantsInvalid, UnknownProblem, HyperparameterInvalid."""
    chosen = choose_variants(load_problem(problem), variants, hyperparameters)
    return [
        begin_run(problem, hyperparameters, variant, seed, sample, data, full, store)
        for seed in range(seeds)
        for variant in chosen
    ]


@task(name="fit", cache_policy=NO_CACHE, task_run_name="fit {run.problem} {run.variant}, seed {run.seed}")
def fit_trial(run: Run, examples: StepRecord, prepared: StepRecord) -> StepRecord:
    """The step `fit` of `train`, with a peak memory of its own."""
    logger.info("trial     %s, seed %d", run.variant, run.seed)
    forget_peak_memory()
    return fit.fn(run, examples, prepared)


def forget_peak_memory() -> None:
    """Let the kernel measure this process's peak memory anew (Linux; proc_pid_clear_refs(5)); elsewhere do nothing."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["compare", *sys.argv[1:]]))
