"""Tune: what a search has found, with a page of its own in the store and in the Prefect UI."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from store.steps import StepRecord
from tasks.publish import show_link, show_picture, show_study
from tasks.report import source_origins
from tasks.report_page import flatten, picture, render_page
from tasks.search import Study, require_best, short
from tasks.steps import Run, package_versions

if TYPE_CHECKING:
    from problems.outline.objectives import Objective
    from tasks.report_page import Picture

logger = logging.getLogger("modelkeep")


@task(name="tune", cache_policy=NO_CACHE, task_run_name="tell of the study of {run.problem}")
def tell_study(
    run: Run, study: Study, examples: StepRecord, compared: Mapping[str, Any] | None, fixed: Collection[str]
) -> dict[str, Any]:
    """Write the page and its files; `compared` is what `compare` found of `tuned` and `defaults`, None where the search
    found nothing better than these. The result can be written as JSON:

        problem, sentence, is_better    whether the tuned settings are shown to be better on the test rows
        settings                        the best settings, which the search changed
        command                         what trains with them, and with those that were fixed
        metric, num_done, states        the metric's name, how many trials were made and how they ended
        best, first, trials             as tasks.search has trials; with value_text
        importance                      {hyperparameter: share}, or null
        comparison                      as `compared`, or null
        page                            where the page is
    """
    objective = load_problem(run.problem).objective
    found = {**_describe(run, objective, study, compared), "command": _command(run, study, fixed)}
    pictures = _draw(objective, study)
    page = _write(run, found, examples, pictures)
    for one in pictures:
        show_picture(run, one.name, one.svg, found["sentence"])
    show_study(run, found)
    show_link(run, "study-page", page, "The search")
    logger.info("tune      %s", found["sentence"], extra={"is_answer": True})
    return {**found, "page": page}


def _describe(run: Run, objective: Objective, study: Study, compared: Mapping[str, Any] | None) -> dict[str, Any]:
    metric, best = objective.metric(objective.main_metric), require_best(study)
    states = [trial["state"] for trial in study.trials]
    found = {
        "problem": run.problem,
        "settings": best["settings"],
        "metric": metric.name,
        "metric_title": metric.title,
        "greater_is_better": metric.greater_is_better,
        "num_done": study.num_done,
        "states": {state: states.count(state) for state in sorted(set(states))},
        "importance": study.importance,
        "trials": [_with_text(objective, trial) for trial in study.trials],
        "best": _with_text(objective, best),
        "is_better": bool(compared and compared["best"] == "tuned" and compared["is_clear"]),
        "comparison": compared,
    }
    return {**found, "sentence": _say(found)}


def _command(run: Run, study: Study, fixed: Collection[str]) -> str:
    settings = {name: run.hyperparameters[name] for name in fixed} | require_best(study)["settings"]
    words = ["modelkeep", "train", run.problem, *(["--variant", run.variant] if run.variant else [])]
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join([*words, *(["--data", run.data] if run.data else [])])


def _with_text(objective: Objective, trial: Mapping[str, Any]) -> dict[str, Any]:
    value, metric = trial["value"], objective.metric(objective.main_metric)
    settings = {name: short(one) for name, one in trial["settings"].items()}
    return {**trial, "value_text": "" if value is None else objective.describe(value, metric), "shown": settings}


def _say(found: Mapping[str, Any]) -> str:
    trials = f"{found['num_done']} trials" if found["num_done"] > 1 else "1 trial"
    if found["comparison"] is None:
        return f"Of {trials} none was better than the settings that the search began from."
    settings = ", ".join(f"{name}={value}" for name, value in found["best"]["shown"].items())
    on_test_rows = found["comparison"]["sentence"]
    return f"The best of {trials} is {settings}. On the test rows {on_test_rows[0].lower()}{on_test_rows[1:]}"


def _draw(objective: Objective, study: Study) -> list[Picture]:
    from problems.outline.plots import importance_of_settings, search_history

    metric = objective.metric(objective.main_metric)
    factor = 100 if metric.is_share else 1
    values = [None if trial["value"] is None else factor * trial["value"] for trial in study.trials]
    drawn = [picture("study-history", search_history(values, metric.label, metric.greater_is_better))]
    if study.importance:
        drawn.append(picture("study-importance", importance_of_settings(study.importance)))
    return drawn


def _write(run: Run, found: Mapping[str, Any], examples: StepRecord, pictures: list[Picture]) -> str:
    store, place = run.open_store(), f"studies/{run.problem}/{run.run_id}"
    data = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    store.put_bytes(f"{place}/study.json", data.encode(), kind="json")
    for one in pictures:
        store.put_bytes(f"{place}/{one.name}.svg", one.svg.encode(), kind="svg")
    page = render_page(
        "study.html.j2",
        study=found,
        card=read_card(run.problem),
        pictures=pictures,
        sources=source_origins(examples),
        facts=flatten({"begun_from": dict(run.hyperparameters), "versions": package_versions()}),
    )
    store.put_bytes(f"{place}/study.html", page.encode(), kind="html")
    return f"{run.store.rstrip('/')}/{place}/study.html"
