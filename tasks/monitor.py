"""Monitor: a scored window against the reference of the version that scored it, and what follows from that."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from problems.outline.problem import Problem, Stack
from problems.outline.raw import BadInput
from store import open_store
from store.artifacts import ArtifactRef, Store, sha256_of
from store.registry import Registry
from tasks.champion import find_champion, find_objective
from tasks.drift import LEVELS, Finding, measure_drift, some_rows
from tasks.drift_page import MOST_DRAWN, render_drift
from tasks.embeddings import ARTIFACT, MOST_EMBEDDED, Embedded, compare_embeddings, embed
from tasks.forms import form_of_run
from tasks.ingest import fetch_window
from tasks.kept_windows import KeptWindow, choose_window, keep_labels
from tasks.manifest import utc_now
from tasks.notify import notify
from tasks.parts import take_rows, unpack_rows
from tasks.performance import estimate_performance, load_part, measure_performance, read_labels, source_words
from tasks.publish import announce, show_drift
from tasks.recent import has_rows
from tasks.reference import load_reference, watched_predictions
from tasks.runs import read_manifest
from tasks.score_rows import score_rows
from tasks.tables import ROW
from tasks.verdicts import Verdict, before, is_persistent, read_verdicts, record_verdict
from tasks.windows import WindowInvalid, plan_outputs, require_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective
    from problems.outline.ragged import Ragged
    from tasks.reference import Reference
    from validation.gate import ValidationResult

logger = logging.getLogger("modelkeep")

DRIFT_DETECTED = "modelkeep.drift.detected"
DATA_INVALID = "modelkeep.data.invalid"
_MOST_FAILURES = 12
_NOTHING = {"drift": None, "performance": None, "estimate": None, "reference": None}


@dataclass(frozen=True)
class Monitored:
    """What `monitor` ends with: a Verdict, and where it is told; `page` and `data` are "" for a file that could not be
    scored at all."""

    problem: str
    window: str
    version: int
    level: str
    is_alarm: bool
    retrain: str
    sentence: str
    reasons: list[str]
    page: str
    data: str


class _Watched:
    """A window with what is known of the version that scored it, read when it is asked for."""

    def __init__(self, problem: Problem, store: Store, kept: KeptWindow) -> None:
        self.problem, self.store, self.kept = problem, store, kept

    @cached_property
    def artifacts(self) -> dict[str, ArtifactRef]:
        entries = read_manifest(self.store, self.kept.run)["artifacts"]
        return {name: ArtifactRef.from_dict(entry) for name, entry in entries.items()}

    @cached_property
    def objective(self) -> Objective:
        return find_objective(self.problem, self.store, self.kept.run)

    @cached_property
    def reference(self) -> Reference:
        who = f"{self.problem.name} version {self.kept.version}"
        return load_reference(self.store, self.artifacts, who)

    def read(self, name: str) -> pd.DataFrame:
        """The rows of the window that are looked at, of its `frame` or `scores`: without their row numbers."""
        return read_rows(self.store.local_path(self.kept.artifacts[name])).drop(columns=ROW)

    def read_features(self) -> Mapping[str, np.ndarray | Ragged]:
        """Of at most 2,000 of its rows."""
        form = form_of_run(self.problem, self.store, read_manifest(self.store, self.kept.run))
        assert form is not None  # it was scored
        name = "array" if isinstance(form, Stack) else "frame"
        path = self.store.local_path(self.kept.artifacts[name])
        table = take_rows(path, partial(some_rows, most=MOST_EMBEDDED))
        content = unpack_rows(table, form.dtype, form.shape) if isinstance(form, Stack) else table.to_pandas()
        return form.inputs(content).features


def read_rows(path: Path) -> pd.DataFrame:
    """The rows that `some_rows` chooses."""
    return take_rows(path, some_rows).to_pandas()


# --- the window ----------------------------------------------------------------------------------------------------


@task(name="take window", cache_policy=NO_CACHE, task_run_name="take window {problem}")
def take_window(problem: str, window: str, place: str, store: str) -> KeptWindow | Monitored:
    """The window whose scores were asked for last, or that of an id; or that of a file or folder, which is scored
    first. A verdict where it cannot be: its data is bad.

    Raises NoWindow, NoChampion, WindowInvalid, SourceUnavailable, OutputBusy, ArtifactCorrupt.
    """
    kept_in, found = open_store(store), load_problem(problem)
    require_rows(found)
    if not place:
        return choose_window(kept_in, problem, window)
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        outputs = plan_outputs(found, place, str(Path(folder, "scores")))
        try:
            return score_rows(found, place, outputs, kept_in)
        except (BadInput, WindowInvalid) as fault:
            return _refuse(kept_in, problem, place, fault)


def _refuse(store: Store, problem: str, place: str, fault: ModelkeepError) -> Monitored:
    """A file of which nothing could be scored: an alarm about the data, and nothing to retrain with."""
    sentence = f"The window cannot be scored, so drift was not measured: {fault.what}"
    window = f"unscored-{sha256_of(f'{place} {fault}'.encode())[:12]}"
    reasons = [fault.what, *([f"received: {fault.received}"] if fault.received else [])]
    version = find_champion(store, problem).number
    verdict = Verdict(window, utc_now(), version, "bad data", True, "", sentence, 0, reasons)
    return _tell(store, problem, verdict)


# --- what is found -------------------------------------------------------------------------------------------------


@task(name="check window", cache_policy=NO_CACHE, task_run_name="check window {kept.problem}")
def check_window(kept: KeptWindow, store: str) -> dict[str, Any]:
    """Whether the window is good data: {success, text, failures, share_set_aside}."""
    from validation.windows import validate_window

    problem = load_problem(kept.problem)
    frame = _Watched(problem, open_store(store), kept).read("frame")
    is_large = kept.num_scored >= problem.drift.least_rows
    name = f"{problem.name} window {kept.window}"
    result = validate_window(frame, problem.expectations(), name=name, is_large=is_large)
    told = _describe_checks(kept, result, problem.drift.most_set_aside)
    logger.info("check     %s", told["text"])
    return told


def _describe_checks(kept: KeptWindow, result: ValidationResult | None, most_set_aside: float) -> dict[str, Any]:
    from validation.gate import describe_check

    share = kept.num_set_aside / (kept.num_scored + kept.num_set_aside)
    failed = [describe_check(check, result.rows) for check in result.failures] if result else []
    if share > most_set_aside:
        most = f"{most_set_aside * 100:g} %"
        failed.insert(0, f"{share * 100:.1f} % of the rows broke a rule and were set aside, where at most {most} may")
    passed = f"{sum(check.success for check in result.checks)} of {len(result.checks)}" if result else "0 of 0"
    aside = f"{kept.num_set_aside:,} rows ({share * 100:.1f} %) were" if kept.num_set_aside else "no row was"
    text = f"{passed} checks passed; {aside} set aside when the window was scored."
    return {"success": not failed, "text": text, "failures": failed[:_MOST_FAILURES], "share_set_aside": share}


@task(name="measure drift", cache_policy=NO_CACHE, task_run_name="measure drift {kept.problem}")
def measure_window(kept: KeptWindow, labels: str, store: str) -> dict[str, Any]:
    """{drift, performance, estimate, reference}: what the window differs in, and how well the version does on it.

    Raises NoReference, LabelsInvalid, SourceUnavailable, ArtifactCorrupt.
    """
    watched = _Watched(load_problem(kept.problem), open_store(store), kept)
    reference, columns = watched.reference, list(watched.reference.prediction_columns)
    predictions = watched.read("scores")[columns]
    window = {"data": watched.read("frame"), "predictions": watched_predictions(watched.objective, predictions)}
    profiles = {"data": reference.data, "predictions": reference.predictions}
    found = measure_drift(profiles, window, watched.problem.drift, others=_compare_embeddings(watched))
    logger.info("drift     %s", found["level"] if found["is_judged"] else "not judged: too few rows")
    performance = _measure_with_labels(watched, labels, columns) if labels else _known_performance(watched)
    return {
        "drift": found,
        "performance": performance,
        "estimate": None if performance else _estimate(watched, predictions),
        "reference": {name: {"num_rows": one.num_rows, "rows": one.rows} for name, one in profiles.items()},
    }


def _compare_embeddings(watched: _Watched) -> list[Finding]:
    """None where the version has no reference of them, or the window not what features are made of."""
    from tasks.fit import load_model

    ref = watched.artifacts.get(ARTIFACT)
    if ref is None or not has_rows(watched.problem, watched.kept):
        return []
    reference = Embedded.from_bytes(watched.store.read_bytes(ref))
    model = load_model(watched.store.local_path(watched.artifacts["fit/model.keras"]))
    features = {name: array[:] for name, array in watched.read_features().items()}
    embeddings = embed(model, features)
    return [] if embeddings is None else compare_embeddings(reference, embeddings, watched.problem.drift)


def _measure_with_labels(watched: _Watched, place: str, columns: list[str]) -> dict[str, Any]:
    import pandas as pd

    scores = pd.read_parquet(watched.store.local_path(watched.kept.artifacts["scores"]), columns=[ROW, *columns])
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path, words = fetch_window(place, Path(folder)), source_words(watched.problem)
        labels = read_labels(path, watched.objective, words, scores[ROW])
    keep_labels(watched.store, watched.problem.name, watched.kept.window, labels)
    predictions = scores.set_index(ROW).loc[labels.index, columns].reset_index(drop=True)
    test = load_part(watched.store, watched.artifacts, "test", columns)
    told = measure_performance(watched.objective, (labels.to_numpy(), predictions), test)
    logger.info("measure   %s", told["text"])
    return told


def _known_performance(watched: _Watched) -> dict[str, Any] | None:
    """What labels have shown when the window was looked at before; None where none had come."""
    verdicts = read_verdicts(watched.store, watched.problem.name)
    folder = next((one.folder for one in verdicts if one.window == watched.kept.window and one.value is not None), "")
    ref = watched.store.find(f"{folder}/drift.json", kind="json") if folder else None
    known: dict[str, Any] | None = json.loads(watched.store.read_bytes(ref))["performance"] if ref else None
    return known


def _estimate(watched: _Watched, predictions: pd.DataFrame) -> dict[str, Any] | None:
    columns = list(predictions.columns)
    for part in ("validation", "held_out"):
        target, held_out = load_part(watched.store, watched.artifacts, part, columns)
        if len(target):
            return estimate_performance(watched.objective, (target, held_out), predictions)
    return None


# --- what follows --------------------------------------------------------------------------------------------------


@task(name="conclude", cache_policy=NO_CACHE, task_run_name="conclude {kept.problem}")
def conclude(kept: KeptWindow, checks: Mapping[str, Any], found: Mapping[str, Any] | None, store: str) -> Monitored:
    """The verdict, its page, and the event that tells others; `found` is None where the data is bad."""
    problem, kept_in = load_problem(kept.problem), open_store(store)
    champion = Registry(kept_in).champion(kept.problem)
    is_champion = champion is not None and champion.number == kept.version
    earlier = before(read_verdicts(kept_in, kept.problem), kept.window, kept.scored)
    verdict = judge(problem, kept, checks, found, earlier, is_champion)
    told = {**_describe_window(kept, verdict, is_champion), "validation": dict(checks), **(found or _NOTHING)}
    told["limits"] = asdict(problem.drift)
    folder = _write(kept_in, kept, told, [*earlier, verdict])
    return _tell(kept_in, kept.problem, replace(verdict, folder=folder), told)


def _describe_window(kept: KeptWindow, verdict: Verdict, is_champion: bool) -> dict[str, Any]:
    named = ("input", "scored", "num_scored", "num_set_aside")
    judged = ("level", "is_alarm", "retrain", "sentence", "reasons")
    return {
        "problem": kept.problem,
        "window": {"id": kept.window, **{name: getattr(kept, name) for name in named}},
        "version": kept.version,
        "run": kept.run,
        "is_champion": is_champion,
        **{name: getattr(verdict, name) for name in judged},
    }


def judge(
    problem: Problem,
    kept: KeptWindow,
    checks: Mapping[str, Any],
    found: Mapping[str, Any] | None,
    earlier: list[Verdict],
    is_champion: bool,
) -> Verdict:
    """What the findings mean, with the windows before.

    Bad data is an alarm, and never a reason to retrain. A drop that labels show is an alarm at once, as drift at the
    level of an alert is. Both are reasons to retrain while the version is champion, drift only where no labels say that
    it does no harm. Warnings are an alarm when they persist.
    """
    told = (kept.window, kept.scored, kept.version)
    if found is None:
        sentence = f"The data is bad, so drift was not measured: {checks['failures'][0]}"
        return Verdict(*told, "bad data", True, "", sentence, kept.num_scored, checks["failures"])
    drift, performance = found["drift"], found["performance"]
    level, reasons = _level(drift, performance)
    is_alarm = is_persistent(level, earlier, kept.version, problem.drift.persistence)
    retrain = _reason_to_retrain(drift, performance) if is_champion else ""
    strength = drift["strength"] or {"value": None, "column": ""}
    sentence = _sentence(problem, level, is_alarm, reasons, kept.num_scored)
    return Verdict(
        *(*told, level, is_alarm, retrain, sentence, kept.num_scored, reasons),
        strength=strength["value"],
        column=strength["column"],
        value=performance and performance["value"],
    )


def _level(drift: Mapping[str, Any], performance: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """The higher of both, and the reasons; a window of few rows is judged by its labels alone."""
    dropped = performance["level"] if performance else "none"
    level = max(drift["level"], dropped, key=LEVELS.index)
    is_judged = drift["is_judged"] or (performance and performance["is_judged"])
    reasons = [*([performance["text"]] if performance and dropped != "none" else []), *drift["reasons"]]
    return level if is_judged else "few rows", reasons


def _reason_to_retrain(drift: Mapping[str, Any], performance: Mapping[str, Any] | None) -> str:
    """Where labels tell how the version does, they decide: drift need not do harm."""
    if performance and performance["is_judged"]:
        return f"a drop that labels show. {performance['text']}" if performance["level"] == "alert" else ""
    return f"drift. {drift['reasons'][0]}." if drift["level"] == "alert" else ""


def _sentence(problem: Problem, level: str, is_alarm: bool, reasons: list[str], num_rows: int) -> str:
    k, m = problem.drift.persistence
    others = len(reasons) - 1
    more = f" And {others} more finding{'s' if others > 1 else ''}." if others > 0 else ""
    first = f"{reasons[0].rstrip('.')}.{more}" if reasons else ""
    if level == "none":
        return "The window is like the reference."
    if level == "few rows":
        few = "1 row is" if num_rows == 1 else f"{num_rows:,} rows are"
        return f"{few} too few to judge: at least {problem.drift.least_rows:,} are needed."
    if level == "warn":
        return f"{first} " + (
            f"Such a warning has come in {k} of the last {m} windows."
            if is_alarm
            else f"No alarm yet: that takes warnings in {k} of {m} windows."
        )
    return first


def _write(store: Store, kept: KeptWindow, told: Mapping[str, Any], verdicts: list[Verdict]) -> str:
    """drift.json and drift.html, in a folder of the window that is named by what they tell; that folder."""
    shown = {**told, "windows": [asdict(one) for one in verdicts[-MOST_DRAWN:]]}
    data = json.dumps(shown, indent=1, ensure_ascii=False, allow_nan=False).encode()
    page = render_drift(told, verdicts).encode()
    folder = f"{kept.prefix}/drift-{sha256_of(data + page)[:12]}"
    store.put_bytes(f"{folder}/drift.json", data, kind="json")
    store.put_bytes(f"{folder}/drift.html", page, kind="html")
    return folder


def _tell(store: Store, problem: str, verdict: Verdict, told: Mapping[str, Any] | None = None) -> Monitored:
    """To the Prefect UI, to who waits for the event, and to the next windows.

    The event goes out before it is noted that it did: twice, if this process is killed in between, rather than never.
    """
    place = f"{store.uri.rstrip('/')}/{verdict.folder}" if verdict.folder else ""
    page, data = (f"{place}/drift.{ending}" if place else "" for ending in ("html", "json"))
    if verdict.is_alarm and not _was_told(read_verdicts(store, problem), verdict):
        event = DATA_INVALID if verdict.level == "bad data" else DRIFT_DETECTED
        announce(event, problem, asdict(verdict) | {"page": page, "verdict": verdict.level})
        notify(event, problem, verdict.sentence, window=verdict.window, retrain=verdict.retrain, page=page)
    record_verdict(store, problem, verdict)
    show_drift(problem, verdict.sentence, told, read_verdicts(store, problem), page)
    logger.info("monitor   %s", verdict.sentence, extra={"is_answer": True})
    shown = {name: getattr(verdict, name) for name in ("version", "level", "is_alarm", "retrain", "sentence")}
    return Monitored(problem, verdict.window, **shown, reasons=list(verdict.reasons), page=page, data=data)


def _was_told(verdicts: list[Verdict], verdict: Verdict) -> bool:
    """Whether the same was found of the window before: monitoring it again must not start anything again."""
    told = [one for one in verdicts if one.window == verdict.window]
    return bool(told) and (told[0].level, told[0].is_alarm, told[0].retrain) == (
        verdict.level,
        verdict.is_alarm,
        verdict.retrain,
    )
