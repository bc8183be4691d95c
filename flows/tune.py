"""The flow `tune`: hyperparameters searched within the ranges of a problem; the best trained beside the defaults.

python -m flows.tune churn            the same as `modelkeep tune churn`

Trials run one after the other, or on Dask or Ray where MODELKEEP_RUNNER says so; see `flows.runner`. The study is kept
in a database, by default a file of this machine: workers elsewhere need one that all can reach (MODELKEEP_STUDIES).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import Annotated, Any

from prefect import flow, runtime
from pydantic import Field

from flows.background import state_folder
from flows.compare import fit_trial
from flows.runner import opened_runner, run_all, run_each
from flows.train import begin_run
from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import ProblemName
from tasks.compare import compare as compare_variants
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.search import Study, begin_study, read_study, require_best, try_settings
from tasks.settings import Settings, load_settings
from tasks.steps import Run
from tasks.tune import tell_study
from tasks.validate import validate

logger = logging.getLogger("modelkeep")


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    told = [f"{name}={value}" for name, value in (parameters.get("hyperparameters") or {}).items()]
    told += [str(parameters["variant"])] if parameters.get("variant") else []
    return " ".join(["tune", f"{parameters['problem']}:", f"{parameters['trials']} trials", *told])


@flow(name="tune", flow_run_name=_run_name, log_prints=False)
def tune(
    problem: Annotated[ProblemName, Field(description="Whose ranges are searched")],
    trials: Annotated[
        int, Field(ge=1, description="How many settings are tried, those of earlier calls among them")
    ] = 30,
    seeds: Annotated[int, Field(ge=1, description="How often the best and the defaults are trained at the end")] = 5,
    hyperparameters: Annotated[dict[str, Any], Field(description="Settings to begin from, and that all have")] = {},  # noqa: B006
    variant: Annotated[str, Field(description="A named setting of the problem to begin from")] = "",
    sample: Annotated[int | None, Field(ge=1, description="Use only so many examples, drawn at random")] = None,
    data: Annotated[str, Field(description="Your own file, path or address, in place of the source")] = "",
    full: Annotated[bool, Field(description="Refuse a package's partial copy of the data")] = False,
    store: Annotated[str, Field(description="Where artifacts are kept; empty for MODELKEEP_STORE")] = "",
) -> dict[str, Any]:
    """Search hyperparameters by rows held out of training, then compare the best with the defaults on the test rows.

    A search that was killed goes on; more trials may be asked for later. Nothing is registered.
    Raises NothingToSearch, NoTrialFinished, ValidationFailed, SourceUnavailable.
    """
    settings, fixed = load_settings(), sorted(hyperparameters)
    storage = find_storage(settings)
    run = begin_run(str(problem), hyperparameters, variant, 0, sample, data, full, store)
    examples = ingest(run)
    validate(run, examples)
    prepared = prepare(run, examples)
    study = begin_study(run, examples, prepared, storage, fixed)
    steps = {"run": run, "examples": examples, "prepared": prepared, "storage": storage, "study": study, "fixed": fixed}
    num_done = read_study(run.problem, storage, study).num_done
    if num_done:
        logger.info("tune      goes on after %d trials", num_done)
    with opened_runner(settings.runner, max(trials, 2 * seeds)) as runner:
        searched = [{**steps, "number": place} for place in range(num_done, trials)]
        for fault in run_each(try_settings, searched, runner):
            logger.warning("a trial was lost: %s", fault)
        found = read_study(run.problem, storage, study)
        runs = begin_finals(run, found, seeds)
        finals = [{"run": one, "examples": examples, "prepared": prepared} for one in runs]
        fitted = run_all(fit_trial, finals, runner)
    compared = compare_variants(runs, examples, prepared, fitted) if runs else None
    return tell_study(run, found, examples, compared, fixed)


def find_storage(settings: Settings) -> str:
    """The address of the database of studies. Raises ModelkeepError where workers elsewhere could not reach it."""
    if settings.studies:
        return settings.studies
    _, _, address = settings.runner.partition("://")
    if address:
        raise ModelkeepError(
            "Workers of a cluster cannot reach the studies, which are in a file of this machine.",
            received=f"MODELKEEP_RUNNER={settings.runner}, and no MODELKEEP_STUDIES",
            expected="a database that all workers reach, such as PostgreSQL",
            next_step="set MODELKEEP_STUDIES=postgresql://…",
        )
    return f"sqlite:///{state_folder(create=True) / 'studies.db'}"


def begin_finals(run: Run, found: Study, seeds: int) -> list[Run]:
    """A run of the best settings and one of those that the search began from, for each seed; none where these are the
    best. Raises NoTrialFinished."""
    best = require_best(found)
    if all(run.hyperparameters[name] == value for name, value in best["settings"].items()):
        return []
    contenders = {"defaults": run.hyperparameters, "tuned": {**run.hyperparameters, **best["settings"]}}
    return [
        replace(run, variant=name, seed=seed, hyperparameters=settings)
        for seed in range(seeds)
        for name, settings in contenders.items()
    ]


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["tune", *sys.argv[1:]]))
