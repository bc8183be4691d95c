"""Search: trials of hyperparameters within a problem's ranges, each judged on rows that were held out of training.

Those are the validation rows, or of k folds each the rows that it holds out. Test rows take no part. Optuna suggests
what to try next (tree-structured Parzen estimators, Bergstra et al. 2011), ends trials whose curve lies below the
median of those before (Golovin et al. 2017, §3.2.2) and keeps everything, so that a search that was killed goes on.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.addresses import without_secrets
from modelkeep.errors import GateFailed, ModelkeepError
from problems.outline.catalogue import load_problem
from problems.outline.hyperparameters import Hyperparameters
from problems.outline.problem import Examples, Problem
from problems.outline.splits import SplitRows
from store.artifacts import digest_of
from store.steps import StepRecord
from tasks.code_digest import code_digest
from tasks.examples import load_examples, with_named_classes
from tasks.fit import complete_predictions, open_training
from tasks.ingest import RawFile
from tasks.prepare import load_rows
from tasks.pretrained import fetch_pretrained
from tasks.steps import Run, digests
from tasks.training import Training

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from problems.outline.metrics import Metric

logger = logging.getLogger("modelkeep")

_HEARTBEAT_SECONDS = 15
_GRACE_SECONDS = 60  # without a heartbeat, before a trial is taken for dead
_LOCKED_SECONDS = 60
_TRIALS_BEFORE_PRUNING = 5
_FINISHED_FOR_IMPORTANCE = 10


class NothingToSearch(ModelkeepError):
    """The problem declares no ranges, or has no rows to judge trials by."""


class NoTrialFinished(GateFailed):
    """Every trial failed."""


def search_space(hyperparameters: type[Hyperparameters], fixed: Collection[str] = ()) -> dict[str, BaseDistribution]:
    """What `search(…)` of each field says, for Optuna; without those that are fixed."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    for name, field in hyperparameters.model_fields.items():
        extra = field.json_schema_extra
        bounds: Any = extra.get("search") if isinstance(extra, dict) else None
        if not bounds or name in fixed:
            continue
        if "choices" in bounds:
            space[name] = CategoricalDistribution(bounds["choices"])
        else:
            kind = IntDistribution if field.annotation is int else FloatDistribution
            space[name] = kind(bounds["low"], bounds["high"], log=bounds.get("log", False))
    return space


def begin_study(run: Run, examples: StepRecord, prepared: StepRecord, storage: str, fixed: Collection[str]) -> str:
    """Its name: the same for the same data, settings and code, so that it goes on where it stood.

    The first trial of a new one is that of the run's own settings. Raises NothingToSearch, ModelkeepError for a
    storage that cannot be used.
    """
    problem = load_problem(run.problem)
    space = search_space(problem.hyperparameters, fixed)
    _require_searchable(problem, space, prepared)
    asked: Any = {
        "code": code_digest(__name__, f"problems.{run.problem}"),
        "inputs": [*digests(examples), *digests(prepared)],
        "settings": dict(run.hyperparameters),
        "searched": sorted(space),
        "seed": run.seed,
        "backend": run.backend,
    }
    name = f"{run.problem}-{digest_of(asked)[:12]}"
    study = open_study(storage, name, maximize=_metric(problem).greater_is_better)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({key: run.hyperparameters[key] for key in space}, skip_if_exists=True)
    return name


def _require_searchable(problem: Problem, space: Mapping[str, Any], prepared: StepRecord) -> None:
    if not space:
        raise NothingToSearch(
            f"{problem.name} declares no ranges to search.",
            expected="hyperparameters with search(default, low=…, high=…) or search(default, choices=…)",
            next_step=f"declare some in problems/{problem.name}.py",
        )
    if not prepared.facts["folds"] and not prepared.facts["validation"]:
        raise NothingToSearch(
            f"{problem.name} holds no rows out of training that trials could be judged by.",
            expected="validation rows or folds; test rows are not for searching",
            next_step="give its split a validation share",
        )


def open_study(storage: str, name: str, *, maximize: bool, seed: int | None = None) -> OptunaStudy:
    """A study in a database, made if it is not there. Raises ModelkeepError where the database cannot be used."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # It warns that heartbeats are an experiment, and that the first settings may lie outside of the ranges.
    for category in (optuna.exceptions.ExperimentalWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category, module=r"optuna|tasks\.search")
    try:
        return optuna.create_study(
            study_name=name,
            storage=_open_storage(storage),
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING),
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as fault:
        raise ModelkeepError(
            "The studies cannot be read or written.",
            where=without_secrets(storage),
            expected="a database that SQLAlchemy can open",
            received=str(fault).splitlines()[0],
            next_step="correct MODELKEEP_STUDIES or leave it out",
        ) from None


def _open_storage(storage: str) -> Any:
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    waiting = {"connect_args": {"timeout": _LOCKED_SECONDS}} if storage.startswith("sqlite") else {}
    return RDBStorage(
        storage,
        engine_kwargs=waiting,
        heartbeat_interval=_HEARTBEAT_SECONDS,
        grace_period=_GRACE_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
    )


@dataclass(frozen=True)
class Study:
    """What a search has found: {number, state, value, settings, seconds, fault} of each trial that was begun.

    `best`        the trial with the best value on the held-out rows; None where none was finished
    `num_done`    trials that were finished, pruned or failed by themselves; not those whose process was killed
    `importance`  share of the variance that each hyperparameter explains (fANOVA, Hutter et al. 2014), the largest
                  first; None of too few finished trials to tell
    """

    name: str
    trials: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any] | None
    num_done: int
    importance: Mapping[str, float] | None


def read_study(problem: str, storage: str, name: str) -> Study:
    """A study as it stands. Raises ModelkeepError where the database cannot be used."""
    from optuna.trial import TrialState

    study = open_study(storage, name, maximize=_metric(load_problem(problem)).greater_is_better)
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    finished = [trial for trial in begun if trial.state == TrialState.COMPLETE]
    num_done = sum(map(_is_done, begun))
    return Study(
        name,
        [_tell(trial) for trial in begun],
        _tell(study.best_trial) if finished else None,
        num_done,
        _importance(study) if len(finished) >= _FINISHED_FOR_IMPORTANCE else None,
    )


def _is_done(trial: FrozenTrial) -> bool:
    from optuna.trial import TrialState

    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "fault" in trial.user_attrs


def require_best(study: Study) -> Mapping[str, Any]:
    """Raises NoTrialFinished."""
    if study.best is None:
        faults = [f"trial {trial['number']}: {trial['fault'] or trial['state']}" for trial in study.trials]
        raise NoTrialFinished(
            "No trial could be finished.",
            where=study.name,
            received="; ".join(faults[:3]),
            next_step="train with one of these settings to see what is wrong",
        )
    return study.best


def _importance(study: OptunaStudy) -> dict[str, float] | None:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    try:
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except (RuntimeError, ValueError):  # all values are the same
        return None


# --- one trial -----------------------------------------------------------------------------------------------------


@task(name="trial", cache_policy=NO_CACHE, task_run_name="trial {number} of {run.problem}")
def try_settings(
    run: Run,
    examples: StepRecord,
    prepared: StepRecord,
    storage: str,
    study: str,
    fixed: Collection[str],
    number: int,
) -> dict[str, Any]:
    """Train once with what Optuna suggests, and keep the value, or the fault, in the study: {number, state, value,
    settings}. `number` makes the suggestion a function of the trials so far. A trial that fails does not raise.

    A cluster that loses a process calls again what it had done, as the answers are lost with it: they are looked up.
    """
    problem = load_problem(run.problem)
    pretrained = fetch_pretrained(problem, run)
    kept, rows = load_examples(run.open_store(), examples), load_rows(run.open_store(), prepared)
    opened = open_study(storage, study, maximize=_metric(problem).greater_is_better, seed=run.seed + number)
    call, space = f"{run.run_id} {number}", search_space(problem.hyperparameters, fixed)

    def judge(trial: Trial) -> float:
        trial.set_user_attr("call", call)
        return _judge(trial, space, problem, run, kept, rows, pretrained)

    trials = _made_by(call, opened)
    if not trials:
        opened.optimize(judge, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: trials.append(trial)])
    told = _tell(trials[0])
    _log(_metric(problem), told)
    return told


def _made_by(call: str, study: OptunaStudy) -> list[FrozenTrial]:
    begun = study.get_trials(deepcopy=False)
    return [trial for trial in begun if _is_done(trial) and trial.user_attrs.get("call") == call]


def _judge(
    trial: Trial,
    space: Mapping[str, BaseDistribution],
    problem: Problem,
    run: Run,
    examples: Examples,
    rows: SplitRows,
    pretrained: RawFile | None,
) -> float:
    from optuna import TrialPruned

    begin = time.perf_counter()
    suggested = {name: _suggest(trial, name, distribution) for name, distribution in space.items()}
    try:
        if (known := _known_value(trial)) is not None:
            return known
        settings = problem.hyperparameters.from_settings({**run.hyperparameters, **suggested}).model_dump()
        return _validate(trial, problem, replace(run, hyperparameters=settings), examples, rows, pretrained)
    except TrialPruned:
        raise
    except Exception as fault:  # whatever it is, the study goes on without this trial
        trial.set_user_attr("fault", f"{type(fault).__name__}: {fault}"[:500])
        raise
    finally:
        trial.set_user_attr("seconds", round(time.perf_counter() - begin, 2))


def _suggest(trial: Trial, name: str, distribution: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    ask: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return ask(name, distribution.low, distribution.high, log=distribution.log)


def _known_value(trial: Trial) -> float | None:
    """What another trial of the same settings was judged, so that it need not be trained again."""
    from optuna.trial import TrialState

    done = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((one.value for one in done if one.params == trial.params), None)


def _validate(
    trial: Trial, problem: Problem, run: Run, examples: Examples, rows: SplitRows, pretrained: RawFile | None
) -> float:
    """The main metric on the held-out rows, the mean over the folds where there are some. Raises TrialPruned."""
    from optuna import TrialPruned

    problem = with_named_classes(problem, examples)
    values: list[float] = []
    for train_rows, held_out in rows.folds or [(rows.train, rows.validation)]:
        with open_training(problem, run, examples, pretrained, train_rows, held_out) as training:
            measure = _measured(problem, training)
            training.run(_ask_each_epoch(trial, training, measure) if not rows.folds else lambda: None)
            values.append(measure())
        if rows.folds and len(values) < len(rows.folds):
            trial.report(sum(values) / len(values), len(values))
            if trial.should_prune():
                raise TrialPruned
    return sum(values) / len(values)


def _ask_each_epoch(trial: Trial, training: Training, measure: Callable[[], float]) -> Callable[[], None]:
    """Reports the curve after each epoch but the last, and ends a trial that promises little by TrialPruned."""
    from optuna import TrialPruned

    def after_block() -> None:
        position = training.position
        if position.step or position.finished:
            return
        trial.report(measure(), position.epoch)
        if trial.should_prune():
            raise TrialPruned

    return after_block


def _measured(problem: Problem, training: Training) -> Callable[[], float]:
    """The main metric on the rows that the training holds out, as the model stands."""
    import numpy as np

    rows, examples = training.validation_rows, training.examples
    train, target = examples.take(training.train_rows), np.ravel(examples.target[rows])
    objective = problem.objective.calibrated(train.target, train.frame, [])
    metric = objective.metric(objective.main_metric)

    def measure() -> float:
        predictions = complete_predictions(problem, training, rows, training.predict(rows))
        return float(metric.compute(target, predictions, None)[0])

    return measure


def _metric(problem: Problem) -> Metric:
    return problem.objective.metric(problem.objective.main_metric)


def _tell(trial: FrozenTrial) -> dict[str, Any]:
    attributes, state = trial.user_attrs, trial.state.name.lower()
    return {
        "number": trial.number + 1,
        "state": state,
        "value": trial.value if state == "complete" else None,  # Optuna gives pruned ones their last report
        "settings": dict(trial.params),
        "seconds": attributes.get("seconds"),
        "fault": attributes.get("fault"),
    }


def _log(metric: Metric, told: Mapping[str, Any]) -> None:
    settings = ", ".join(f"{name}={short(value)}" for name, value in told["settings"].items())
    if told["state"] == "complete":
        outcome = f"{metric.name} {told['value']:.4g}"
    else:
        outcome = "ended early" if told["state"] == "pruned" else f"failed: {told['fault']}"[:200]
    logger.info("trial %-3d %s: %s", told["number"], outcome, settings)


def short(value: Any) -> str:
    """A setting as a reader wants it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
