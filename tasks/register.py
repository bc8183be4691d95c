"""Register and promote: a run that was accepted becomes a version, and the better version becomes champion."""

from __future__ import annotations

import getpass
import logging
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.transactions import get_transaction

from modelkeep.errors import GateFailed
from store import open_store
from store.artifacts import ArtifactRef
from store.errors import PromotionConflict
from store.registry import Registry, Version
from store.steps import StepRecord
from tasks.export import publish_export
from tasks.notify import PROMOTED, notify
from tasks.runs import is_whole_version
from tasks.steps import Run

if TYPE_CHECKING:
    from prefect.transactions import Transaction

logger = logging.getLogger("modelkeep")


class AcceptanceFailed(GateFailed):
    """The model does not meet what its problem asks of it; no version was registered."""


@task(name="register", cache_policy=NO_CACHE, task_run_name="register {run.problem}")
def register(
    run: Run, manifest: ArtifactRef, fitted: StepRecord, evaluated: StepRecord, exported: StepRecord
) -> Version:
    """The run as a version of the model, with its export; the same weights are not registered twice, unless the first
    were damaged.

    Raises AcceptanceFailed.
    """
    require_acceptance(evaluated.facts["acceptance"], run.problem, f"{run.store}/{run.prefix}/report.html")
    store, weights = run.open_store(), fitted.facts["weights_digest"]
    registry = Registry(store)
    same = [version for version in registry.versions(run.problem) if version.weights == weights]
    version = registry.register(
        run.problem,
        run=run.run_id,
        manifest=manifest,
        metrics={name: value for name, value in evaluated.facts["metrics"].items() if value is not None},
        weights=weights,
        renew=bool(same) and not is_whole_version(store, same[-1]),
        actor=actor_name(),
        reason="trained and accepted",
    )
    publish_export(store, run.problem, version.number, exported)
    logger.info("register  version %d", version.number)
    return version


@task(name="promote", cache_policy=NO_CACHE, task_run_name="promote {run.problem}")
def promote(run: Run, version: Version, evaluated: StepRecord) -> bool:
    """Make the version champion if the evaluation said so. Raises PromotionConflict if another was faster."""
    if not evaluated.facts["promote"]:
        logger.info("promote   kept version %s: %s", evaluated.facts["champion"], evaluated.facts["reason"])
        return False
    registry = Registry(run.open_store())
    if was_withdrawn(registry, run.problem, version.number):
        logger.info("promote   version %d was withdrawn by hand; `modelkeep promote` brings it back", version.number)
        return False
    because = f" Retrained because of {run.cause}" if run.cause else ""
    registry.promote(
        run.problem,
        version.number,
        expected=evaluated.facts["champion"],
        actor=actor_name(),
        reason=evaluated.facts["reason"] + because,
        run=run.run_id,
    )
    sentence = f"version {version.number} is champion: {evaluated.facts['reason']}"
    logger.info("promote   %s", sentence)
    if transaction := get_transaction():
        transaction.set("promoted", {"run": run, "version": version, "before": evaluated.facts["champion"]})
    if version.number != evaluated.facts["champion"] and not run.is_replay:
        notify(PROMOTED, run.problem, sentence, version=version.number, run=run.run_id, cause=run.cause)
    return True


@promote.on_rollback
def undo_promotion(transaction: Transaction) -> None:
    """What belongs to the promotion failed after it: the champion before is champion again, unless there was none, or
    there is another one by now."""
    done = transaction.get("promoted", None)
    if done is None or done["before"] is None:
        return
    run, version, before = done["run"], done["version"], done["before"]
    reason = f"the promotion of version {version.number} is undone: what followed it failed"
    try:
        # A promotion by the run that made the version: a rollback would count as a person's word against it.
        Registry(open_store(run.store)).promote(
            run.problem, before, expected=version.number, actor=actor_name(), reason=reason, run=version.run
        )
    except PromotionConflict as conflict:
        logger.warning("promote   %s", conflict.what)
        return
    logger.warning("promote   %s", reason)
    notify(PROMOTED, run.problem, f"version {before} is champion again: {reason}", version=before)


def was_withdrawn(registry: Registry, problem: str, number: int) -> bool:
    """Whether a person, not a run, was the last to take the championship from this version."""
    moves = [entry for entry in registry.audit(problem) if entry.action != "register"]
    moves = [entry for entry in moves if number in (entry.version, entry.previous)]
    return bool(moves) and moves[-1].previous == number and (moves[-1].action == "rollback" or not moves[-1].run)


def require_acceptance(acceptance: list[dict], problem: str, where: str) -> None:
    """Raises AcceptanceFailed naming every criterion that was not met."""
    failed = [entry["reason"] for entry in acceptance if not entry["passed"]]
    if failed:
        raise AcceptanceFailed(
            f"The model for {problem} was trained but not accepted.",
            where=where,
            expected="every criterion of the problem's acceptance",
            received="; ".join(failed),
            next_step="read the report there, then change the hyperparameters, the data or the criterion",
        )


def actor_name() -> str:
    """Who acts: the login name, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
