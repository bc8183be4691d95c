"""Evaluate: the predictions of the test rows against the truth, the baseline and the champion, and a decision."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from problems.outline.images import is_picture
from problems.outline.objectives import Asked
from problems.outline.problem import Examples, Problem
from problems.outline.splits import SplitRows
from problems.outline.words import FindFile
from store.artifacts import ArtifactRef, Store
from store.errors import StoreUnavailable
from store.registry import Registry, Version
from store.steps import Lease, StepRecord
from tasks.embeddings import FILE as EMBEDDINGS
from tasks.embeddings import are_embedded, embed_reference
from tasks.evaluation import Decision, judge_acceptance, judge_challenger
from tasks.evaluation import evaluate as measure
from tasks.examples import load_examples, with_named_classes
from tasks.fit import load_model, outputs_of, predict_with
from tasks.occlusion import explain_examples
from tasks.prepare import load_rows
from tasks.probing import measure_importance, probe_behaviours
from tasks.recent import RECENT
from tasks.reference import make_reference, put_reference
from tasks.resampling import num_resamples
from tasks.runs import is_whole_version
from tasks.steps import Products, Run, digests, do_once
from tasks.suspects import find_overlap
from tasks.trust import kept_temperature

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective

logger = logging.getLogger("modelkeep")


@task(name="evaluate", cache_policy=NO_CACHE, task_run_name="evaluate {run.problem}")
def evaluate(
    run: Run, examples: StepRecord, prepared: StepRecord, folds: Sequence[StepRecord], fitted: StepRecord
) -> StepRecord:
    """How good the model is and how far it can be believed; whether it is accepted, and whether it may be champion."""
    problem = load_problem(run.problem)
    champion = Registry(run.open_store()).champion(run.problem)
    return do_once(
        run,
        "evaluate",
        lambda lease: _judge(problem, run, champion, lease, examples, prepared, folds, fitted),
        module=__name__,
        inputs=[
            *digests(examples),
            *digests(prepared),
            *(record.products["predictions"].sha256 for record in (*folds, fitted)),
            fitted.facts["weights_digest"],
        ],
        parameters={
            "champion": champion.manifest.sha256 if champion else None,
            "champion_is_whole": champion is None or is_whole_version(run.open_store(), champion),
            "seed": run.seed,
        },
    )


def _judge(
    problem: Problem,
    run: Run,
    champion: Version | None,
    lease: Lease,
    ingested: StepRecord,
    prepared: StepRecord,
    folds: Sequence[StepRecord],
    fitted: StepRecord,
) -> Products:
    store = run.open_store()
    examples, rows = load_examples(store, ingested), load_rows(store, prepared)
    problem = with_named_classes(problem, examples)
    if RECENT in examples.frame:
        problem = replace(problem, slices=(*problem.slices, RECENT))
    tested = load_tested(problem, store, ingested, prepared, folds, fitted)
    data = {
        "data_digests": {name: ref.sha256 for name, ref in ingested.products.items()},
        "rows_digest": prepared.products["rows"].sha256,
    }
    compared = _predict_with_champion(
        problem, store, champion, examples, rows, tested.predictions, data, fitted.facts["weights_digest"]
    )
    evaluation = measure(
        replace(problem, objective=tested.objective),
        target=tested.target,
        predictions=tested.predictions,
        baseline=tested.baseline,
        frame=tested.frame,
        champion=compared.predictions,
        folds=tested.held_out if folds else None,
        validation=None if folds else tested.held_out[0],
        rows=rows.test,
        seed=run.seed,
        resamples=num_resamples(len(rows.test)),
    )
    model = cache(lambda: load_model(store.local_path(fitted.products["model"])))
    file = partial(_find_raw, store, ingested)
    evaluation |= _probe(problem, model, examples, rows, tested, evaluation["worst"], run.seed, file)
    judged = _decide(problem, evaluation, compared)
    page = json.dumps({**judged, "evaluation": evaluation}, indent=1, ensure_ascii=False, allow_nan=False)
    metrics = {name: metric["value"] for name, metric in evaluation["metrics"].items()}
    predicted = [*(part for _, part in tested.held_out), tested.predictions]
    reference = make_reference(tested.objective, examples, rows, predicted, run.seed)
    return Products(
        {
            "evaluation": lease.put_bytes("evaluation.json", page.encode(), kind="json"),
            **put_reference(reference, lease),
            **_put_embeddings(model, examples, rows, run.seed, lease),
        },
        {
            **judged,
            "metrics": metrics,
            "champion": champion.number if champion else None,
            "temperature": kept_temperature(evaluation),
            "interval": evaluation["intervals"]
            and {name: evaluation["intervals"][name] for name in ("level", "reach", "is_relative")},
        },
    )


def _probe(
    problem: Problem,
    load: Callable[[], keras.Model],
    examples: Examples,
    rows: SplitRows,
    tested: Tested,
    worst: Sequence[Mapping[str, Any]],
    seed: int,
    file: FindFile,
) -> dict[str, Any]:
    """What of an evaluation needs the examples or the model, which is loaded only where it is asked."""
    found: dict[str, Any] = {"overlap": find_overlap(tested.objective, examples, rows, tested.predictions)}
    has_parts = problem.words or any(map(is_picture, examples.features.values()))
    if problem.behaviours or problem.columns or has_parts:
        model = load()
        found["behaviours"] = probe_behaviours(problem, model, examples, rows.test)
        found["importance"] = measure_importance(problem, model, examples, rows.test, seed)
        found["occlusion"] = explain_examples(problem, model, examples, [one["row"] for one in worst], file)
    return found


def _find_raw(store: Store, ingested: StepRecord, name: str) -> Path | None:
    refs = {source["source"]: source["ref"] for source in ingested.facts["sources"]}
    return store.local_path(ArtifactRef.from_dict(refs[name])) if name in refs else None


def _put_embeddings(
    load: Callable[[], keras.Model], examples: Examples, rows: SplitRows, seed: int, lease: Lease
) -> dict[str, ArtifactRef]:
    """Of pictures and texts, of rows that were not trained on: windows are compared with them."""
    import numpy as np

    if not are_embedded(examples.features):
        return {}
    embedded = embed_reference(load(), examples, np.union1d(rows.validation, rows.test), seed)
    return {"embeddings": lease.put_bytes(EMBEDDINGS, embedded.to_bytes(), kind="npz")} if embedded else {}


def _decide(problem: Problem, evaluation: Mapping[str, Any], compared: _Champion) -> dict[str, Any]:
    verdicts = judge_acceptance(problem, evaluation)
    accepted = all(verdict.passed for _, verdict in verdicts)
    decision = judge_challenger(evaluation)
    against = evaluation["against_champion"]
    if (
        decision.promote
        and against
        and not against["identical"]
        and not compared.has_other_data
        and against["gain"] <= 0
    ):
        # Not shown to be worse is enough for fresh data; on the same data it would let the model creep downwards.
        decision = Decision(False, f"It was trained on the champion's own data and is no better: {against['text']}.")
    if compared.fault:
        decision = Decision(
            False,
            f"The champion, version {compared.number}, could not be asked for predictions ({compared.fault}); "
            "choose a champion with `modelkeep promote` or `modelkeep rollback`.",
        )
    caution = " The champion was trained on other data and may have seen some of these rows." * compared.has_other_data
    failed = "; ".join(verdict.reason for _, verdict in verdicts if not verdict.passed)
    return {
        "acceptance": [
            {"criterion": text, "passed": verdict.passed, "reason": verdict.reason} for text, verdict in verdicts
        ],
        "accepted": accepted,
        "promote": accepted and decision.promote,
        "champion_fault": compared.fault,
        "reason": decision.reason + caution if accepted else f"It is not accepted: {failed}.",
    }


# --- predictions that are compared ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Champion:
    """The champion's predictions for the test rows, None where there is no champion or it cannot be asked."""

    number: int | None = None
    predictions: pd.DataFrame | None = None
    fault: str = ""
    has_other_data: bool = False


def _predict_with_champion(
    problem: Problem,
    store: Store,
    champion: Version | None,
    examples: Examples,
    rows: SplitRows,
    predictions: pd.DataFrame,
    data: Mapping[str, Any],
    weights_digest: str,
) -> _Champion:
    """The champion may have been trained on other rows: it is asked again, for exactly the test rows.

    `data` are the digests of this run's examples and of their division, as the manifest holds them.
    """
    if champion is None:
        return _Champion()
    try:
        manifest = json.loads(store.read_bytes(champion.manifest))
        path = store.local_path(ArtifactRef.from_dict(manifest["artifacts"]["fit/model.keras"]))
        theirs = _predict(problem, load_model(path), examples, rows)
        compared = _comparable(champion, theirs, predictions)
        return replace(compared, has_other_data=any(manifest.get(name) != digest for name, digest in data.items()))
    except StoreUnavailable:
        raise
    except (ModelkeepError, ValueError, KeyError) as fault:
        if champion.weights == weights_digest:
            return _Champion(champion.number, predictions)  # the same model, made again
        # A damaged or outdated champion must not stop a better one; it is kept until someone decides.
        logger.warning("evaluate  the champion cannot be compared: %s", fault)
        return _Champion(champion.number, fault=str(fault).splitlines()[0])


def _predict(problem: Problem, model: keras.Model, examples: Examples, rows: SplitRows) -> pd.DataFrame:
    """What a loaded model predicts for the test rows."""
    import numpy as np

    known = np.union1d(rows.train, rows.validation)
    predictions = problem.objective.predictions(predict_with(model, examples, rows.test))
    return problem.objective.complete(predictions, Asked(examples, rows.test, known, partial(outputs_of, model)))


def _comparable(champion: Version, theirs: pd.DataFrame, ours: pd.DataFrame) -> _Champion:
    if list(theirs.columns) != list(ours.columns):
        return _Champion(
            champion.number, fault=f"it predicts {', '.join(theirs.columns)}, not {', '.join(ours.columns)}"
        )
    return _Champion(champion.number, theirs)


@dataclass(frozen=True)
class Tested:
    """The test rows (n): their truth, what the model and common sense predict, and the objective that judges it; and
    targets and predictions of the rows that were held out of training, of each fold or of the validation part."""

    objective: Objective
    target: np.ndarray
    frame: pd.DataFrame
    predictions: pd.DataFrame
    baseline: pd.DataFrame
    held_out: Sequence[tuple[np.ndarray, pd.DataFrame]]


def load_tested(
    problem: Problem,
    store: Store,
    ingested: StepRecord,
    prepared: StepRecord,
    folds: Sequence[StepRecord],
    fitted: StepRecord,
) -> Tested:
    """The test rows of a run, with an objective that is calibrated on the folds, else on the validation rows."""
    examples, rows = load_examples(store, ingested), load_rows(store, prepared)
    target, predictions = _part(store, fitted, "test")
    held_out = [_part(store, fold, "held_out") for fold in folds] or [_part(store, fitted, "validation")]
    train, frame = examples.take(rows.train), examples.take(rows.test).frame
    objective = with_named_classes(problem, examples).objective.calibrated(train.target, train.frame, held_out)
    return Tested(objective, target, frame, predictions, objective.baseline(train.target, frame), held_out)


def _part(store: Store, record: StepRecord, part: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Target and predictions (the objective's columns only) of one part of the rows, in their order."""
    import pandas as pd

    table = pd.read_parquet(store.local_path(record.products["predictions"]))
    table = table[table["part"] == part].drop(columns=["row", "part"]).reset_index(drop=True)
    return table["target"].to_numpy(), table.drop(columns="target")
