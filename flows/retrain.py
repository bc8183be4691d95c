"""The flow `retrain`: a challenger that has learnt from what has come since, against the champion.

python -m flows.retrain churn            the same as `modelkeep retrain churn`
"""

from __future__ import annotations

import datetime
import logging
import sys
from typing import Annotated

from prefect import flow, runtime
from prefect.transactions import transaction
from pydantic import Field

from flows.run_tags import note_process
from flows.train import Trained, begin_run, go_through
from modelkeep.addresses import without_secrets
from problems.outline.catalogue import ProblemName
from store import open_store
from store.steps import Lease
from tasks.devices import Gpu
from tasks.manifest import utc_now
from tasks.notify import tell_of_failure
from tasks.register import AcceptanceFailed
from tasks.retraining import (
    COOLDOWN_HOURS,
    Plan,
    Retrained,
    Retraining,
    claim_retraining,
    plan_retraining,
    record_retraining,
    stay,
)
from tasks.runs import own_file
from tasks.settings import load_settings
from tasks.steps import Run

logger = logging.getLogger("modelkeep")


def _run_name() -> str:
    moment = datetime.datetime.now().strftime("%d %b %H:%M:%S")
    return f"retrain {runtime.flow_run.parameters['problem']} · {moment}"


@flow(
    name="retrain",
    flow_run_name=_run_name,
    log_prints=False,
    on_running=[note_process],
    on_failure=[tell_of_failure],
    on_crashed=[tell_of_failure],
)
def retrain(
    problem: Annotated[ProblemName, Field(description="Whose champion is challenged")],
    data: Annotated[str, Field(description="A newer file, path or address, in place of the source")] = "",
    reason: Annotated[str, Field(description="Why; empty for what `monitor` has found")] = "",
    cooldown_hours: Annotated[float, Field(ge=0, description="Not sooner after the last retraining")] = COOLDOWN_HOURS,
    store: Annotated[str, Field(description="Where versions and windows are kept; empty for MODELKEEP_STORE")] = "",
    gpu: Annotated[Gpu, Field(description="Whether to train on a GPU")] = "prefer",
) -> Retrained:
    """Train a challenger with the champion's settings on all that is known now, and promote it if it is not worse.

    Nothing is done where nothing has come since, soon after another retraining, or beside one. Whatever fails leaves
    the champion as it was. Raises NoChampion, ValidationFailed, AcceptanceFailed, RefusedBefore, PromotionConflict,
    SourceUnavailable, NoGpu.
    """
    place = store or load_settings().store
    claimed = claim_retraining(open_store(place), str(problem))
    if not isinstance(claimed, Lease):
        return stay(str(problem), f"Another retraining is at work: {claimed}.", reason)
    with claimed:
        plan = plan_retraining(open_store(place), str(problem), data, reason, cooldown_hours)
        if plan.stay:
            return stay(plan.problem, plan.stay, plan.cause)
        run = begin_challenger(plan, data, place, gpu)
        try:
            with transaction():  # a promotion that cannot be recorded is undone
                return conclude(run, plan, go_through(run))
        except AcceptanceFailed as refusal:
            record(run, "refused", refusal.received)
            raise


def begin_challenger(plan: Plan, data: str, place: str, gpu: Gpu) -> Run:
    """A run with the settings of the champion's."""
    manifest = plan.manifest
    logger.info("retrain   because of %s", plan.cause)
    return begin_run(
        plan.problem,
        manifest["hyperparameters"],
        "",
        manifest["seed"],
        manifest["sample"],
        data or own_file(open_store(place), manifest),
        manifest["full"],
        place,
        windows=plan.windows,
        cause=plan.cause,
        gpu=gpu,
    )


def conclude(run: Run, plan: Plan, trained: Trained) -> Retrained:
    outcome = "promoted" if trained.champion and trained.version != plan.champion else "kept"
    if trained.run == run.run_id:  # else it is the answer of an earlier one, which stands in the record
        record(run, outcome, trained.reason, trained)
    windows = [window for window, _ in plan.windows]
    return Retrained(plan.problem, outcome, trained.reason, plan.cause, trained.run, trained.version, windows)


def record(run: Run, outcome: str, sentence: str, trained: Trained | None = None) -> None:
    done = Retraining(
        when=utc_now(),
        cause=run.cause,
        outcome=outcome,
        sentence=sentence,
        windows=[window for window, _ in run.windows],
        data=without_secrets(run.data),
        run=trained.run if trained else "",
        version=trained.version if trained else None,
    )
    record_retraining(run.open_store(), run.problem, done)


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["retrain", *sys.argv[1:]]))
