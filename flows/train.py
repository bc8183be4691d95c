"""The flow `train`: data in, a version of the model out, or a clear reason why not.

python -m flows.train housing            the same as `modelkeep train housing`
"""

from __future__ import annotations

import datetime
import logging
import sys
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from prefect import flow, runtime
from pydantic import Field

from flows.run_tags import note_process
from flows.runner import opened_runner, run_all
from modelkeep.errors import GateFailed
from problems.outline.catalogue import ProblemName, load_problem
from store.steps import StepRecord
from tasks.devices import Gpu, settle_gpu
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.fit import fit, fit_fold
from tasks.ingest import ingest
from tasks.manifest import utc_now
from tasks.notify import tell_of_failure
from tasks.prepare import prepare
from tasks.register import promote, register
from tasks.report import report
from tasks.requests import Answer, Request, backend_name, recall
from tasks.settings import load_settings
from tasks.steps import Run
from tasks.validate import validate

logger = logging.getLogger("modelkeep")


class RefusedBefore(GateFailed):
    """The same request was refused before, and nothing has changed since."""


@dataclass(frozen=True)
class Trained:
    """What `train` ends with: the version, whether it is champion now, and the sentence that says why."""

    problem: str
    run: str
    version: int
    champion: bool
    reason: str


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    told = [f"{name}={value}" for name, value in (parameters.get("hyperparameters") or {}).items()]
    told += [str(parameters[name]) for name in ("variant",) if parameters.get(name)]
    moment = datetime.datetime.now().strftime("%d %b %H:%M:%S")
    return " ".join(["train", str(parameters["problem"]), *told, "·", moment])


@flow(
    name="train",
    flow_run_name=_run_name,
    log_prints=False,
    on_running=[note_process],
    on_failure=[tell_of_failure],
    on_crashed=[tell_of_failure],
)
def train(
    problem: Annotated[ProblemName, Field(description="What to learn")],
    hyperparameters: Annotated[dict[str, Any], Field(description="Settings that differ from the problem's own")] = {},  # noqa: B006
    variant: Annotated[
        str, Field(description="A named setting of the problem, such as mlp; empty for its default")
    ] = "",
    seed: Annotated[int, Field(ge=0, description="Decides the initial weights and the order of examples")] = 0,
    sample: Annotated[int | None, Field(ge=1, description="Use only so many examples, drawn at random")] = None,
    data: Annotated[str, Field(description="Your own file, path or address, in place of the source")] = "",
    full: Annotated[bool, Field(description="Refuse a package's partial copy of the data")] = False,
    store: Annotated[str, Field(description="Where artifacts are kept; empty for MODELKEEP_STORE")] = "",
    gpu: Annotated[Gpu, Field(description="Whether to train on a GPU")] = "prefer",
) -> Trained:
    """Train a model, prove that it is good, and make it champion if it is the better one.

    Steps whose product is in the store are not done again; with nothing changed, nothing is done.
    Raises ValidationFailed, AcceptanceFailed, RefusedBefore, PromotionConflict, SourceUnavailable, NoGpu.
    """
    return go_through(begin_run(str(problem), hyperparameters, variant, seed, sample, data, full, store, gpu=gpu))


def go_through(run: Run) -> Trained:
    """Every step of a run, or what an earlier run of the same request ended with. Raises what `train` raises."""
    if answer := recall(run.open_store(), run.problem, run.request, run.data):
        return answer_again(answer)
    examples = ingest(run)
    validated = validate(run, examples)
    prepared = prepare(run, examples)
    folds = fit_folds(run, examples, prepared)
    fitted = fit(run, examples, prepared)
    evaluated = evaluate(run, examples, prepared, folds, fitted)
    exported = export(run, examples, prepared, fitted)
    manifest = report(run, examples, validated, prepared, folds, fitted, evaluated, exported)
    version = register(run, manifest, fitted, evaluated, exported)
    is_champion = promote(run, version, evaluated)
    return Trained(run.problem, run.run_id, version.number, is_champion, evaluated.facts["reason"])


def fit_folds(run: Run, examples: StepRecord, prepared: StepRecord) -> list[StepRecord]:
    """The trainings of a cross-validation, where MODELKEEP_RUNNER says; none where the problem has none."""
    steps = {"run": run, "examples": examples, "prepared": prepared}
    calls = [{**steps, "fold": number} for number in range(1, prepared.facts["folds"] + 1)]
    if not calls:
        return []
    with opened_runner(load_settings().runner, len(calls)) as runner:
        return run_all(fit_fold, calls, runner)


def answer_again(answer: Answer) -> Trained:
    """What an earlier run of the same request ended with. Raises RefusedBefore if it was refused."""
    manifest = answer.manifest
    reason = manifest["decision"]["reason"]
    logger.info("nothing has changed since run %s; nothing is computed", manifest["run"])
    if answer.version is None:
        raise RefusedBefore(
            f"Nothing has changed since run {manifest['run']}, which ended with: {manifest['outcome']}.",
            received=reason,
            next_step="change the hyperparameters, the data or the criterion",
        )
    return Trained(manifest["problem"], manifest["run"], answer.version, answer.version == answer.champion, reason)


def begin_run(
    problem: str,
    hyperparameters: dict[str, Any],
    variant: str,
    seed: int,
    sample: int | None,
    data: str,
    full: bool,
    store: str,
    windows: tuple[tuple[str, str], ...] = (),
    until: str = "",
    cause: str = "",
    is_replay: bool = False,
    gpu: Gpu = "prefer",
) -> Run:
    """What is asked for, with defaults filled in and names checked.

    Raises UnknownProblem, HyperparameterInvalid, NoGpu.
    """
    settle_gpu(gpu)
    settings = load_settings()
    found = load_problem(problem)
    place = store or settings.store
    request = Request(
        problem, hyperparameters, variant, seed, sample, data, full, place, settings.mirror, windows, until
    )
    complete = found.complete(variant, hyperparameters)
    started = utc_now()
    key = request.key()
    return Run(
        run_id=f"{problem}-{started[:19].replace('-', '').replace(':', '')}-{uuid.uuid4().hex[:6]}",
        problem=problem,
        store=request.store,
        mirror=request.mirror,
        hyperparameters=complete.model_dump(),
        variant=variant,
        seed=seed,
        sample=sample,
        data=data,
        full=full,
        backend=backend_name(),
        request=key,
        started=started,
        flow_run=str(runtime.flow_run.id or ""),
        checkpoint_seconds=settings.checkpoint_seconds,
        windows=windows,
        until=until,
        cause=cause,
        is_replay=is_replay,
        gpu=gpu,
    )


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["train", *sys.argv[1:]]))
