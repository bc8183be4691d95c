"""Report: one page and its pictures for a run, in the store and in the Prefect UI; then the manifest that closes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from problems.outline.images import is_picture
from problems.outline.problem import Examples, Problem
from store.artifacts import ArtifactRef, Store
from store.steps import StepRecord
from tasks.evaluate import load_tested
from tasks.examples import load_examples
from tasks.manifest import close_run, describe_run
from tasks.publish import show_evaluation, show_link, show_picture
from tasks.report_page import Picture, ReportContent, SourceOrigin, figure_png, heat, picture, render_report, thumbnail
from tasks.steps import Run

if TYPE_CHECKING:
    from problems.outline.objectives import Objective
    from problems.outline.plots import Plot


@task(name="report", cache_policy=NO_CACHE, task_run_name="report {run.problem}")
def report(
    run: Run,
    examples: StepRecord,
    validated: StepRecord,
    prepared: StepRecord,
    folds: Sequence[StepRecord],
    fitted: StepRecord,
    evaluated: StepRecord,
    exported: StepRecord,
) -> ArtifactRef:
    """Write the page, the pictures and the manifest, and show them in the Prefect UI. The manifest's reference."""
    problem, store = load_problem(run.problem), run.open_store()
    records = {
        "ingest": examples,
        "validate": validated,
        "prepare": prepared,
        **{f"fold-{number}": record for number, record in enumerate(folds, start=1)},
        "fit": fitted,
        "evaluate": evaluated,
        "export": exported,
    }
    judged = json.loads(store.read_bytes(evaluated.products["evaluation"]))
    plots = _plots(problem, store, records, folds, judged["evaluation"])
    pictures = {name: picture(name, plot) for name, plot in plots.items()}
    content = ReportContent(
        problem=run.problem,
        outcome=_outcome(evaluated),
        decision=evaluated.facts["reason"],
        card=read_card(run.problem),
        facts=_facts(examples, prepared, folds, fitted),
        sources=[*source_origins(examples), *source_origins(fitted)],
        validation=json.loads(store.read_bytes(validated.products["validation"])),
        learning=pictures.pop("learning", None),
        importance=pictures.pop("importance", None),
        evaluation=judged["evaluation"],
        pictures=list(pictures.values()),
        acceptance=judged["acceptance"],
        manifest=describe_run(run, records),
        thumbnails=_thumbnails(load_examples(store, examples), judged["evaluation"]),
        heat=_heat(load_examples(store, examples), judged["evaluation"]),
    )
    _show(run, content, judged["evaluation"])
    return close_run(
        run,
        records,
        outcome="accepted" if judged["accepted"] else "acceptance failed",
        reason=judged["reason"],
        register=judged["accepted"],
        promote=judged["promote"],
        metrics=evaluated.facts["metrics"],
        settled=not judged["champion_fault"],
        pages=_write(run, store, content, plots),
    )


def report_refused_data(run: Run, examples: StepRecord, validated: StepRecord, reason: str) -> ArtifactRef:
    """The page and the manifest of a run whose data did not pass: there is no model to tell of."""
    store = run.open_store()
    records = {"ingest": examples, "validate": validated}
    content = ReportContent(
        problem=run.problem,
        outcome="refused",
        decision=reason,
        card=read_card(run.problem),
        facts={"examples": examples.facts["num_examples"]},
        sources=source_origins(examples),
        validation=json.loads(store.read_bytes(validated.products["validation"])),
        manifest=describe_run(run, records),
    )
    return close_run(
        run, records, outcome="validation failed", reason=reason, pages=_write(run, store, content, plots={})
    )


def _plots(
    problem: Problem,
    store: Store,
    records: Mapping[str, StepRecord],
    folds: Sequence[StepRecord],
    evaluation: Mapping[str, Any],
) -> dict[str, Plot]:
    from problems.outline.plots import learning_curves

    tested = load_tested(problem, store, records["ingest"], records["prepare"], folds, records["fit"])
    figures = tested.objective.figures(tested.target, tested.predictions, tested.frame, tested.baseline)
    if evaluation["importance"]:
        figures["importance"] = _importance(tested.objective, evaluation["importance"])
    history = records["fit"].facts["history"]
    if not history:  # nothing was fitted
        return figures
    return {"learning": learning_curves(history, [fold.facts["history"] for fold in folds]), **figures}


def _importance(objective: Objective, found: Mapping[str, Any]) -> Plot:
    from problems.outline.plots import importance

    metric = objective.metric(found["metric"])
    scale, unit = (100, "points") if metric.is_share else (1, metric.unit)
    columns = {name: [scale * value for value in column["values"]] for name, column in found["columns"].items()}
    title = metric.title[0].lower() + metric.title[1:]
    return importance(columns, f"{title} worse by" + (f", {unit}" if unit else ""))


def _write(run: Run, store: Store, content: ReportContent, plots: Mapping[str, Plot]) -> dict[str, ArtifactRef]:
    """The page, and each picture as SVG and PNG, in the run's prefix."""
    written = {}
    shown: list[Picture] = [*content.pictures, *(one for one in (content.learning, content.importance) if one)]
    for one in shown:
        name = f"plots/{one.name}"
        written[f"{name}.svg"] = store.put_bytes(f"{run.prefix}/{name}.svg", one.svg.encode(), kind="svg")
        png = figure_png(plots[one.name].figure)
        written[f"{name}.png"] = store.put_bytes(f"{run.prefix}/{name}.png", png, kind="png")
    page = render_report(content).encode()
    written["report.html"] = store.put_bytes(f"{run.prefix}/report.html", page, kind="html")
    show_link(run, "report", f"{run.store.rstrip('/')}/{run.prefix}/report.html", "The report")
    return written


def _show(run: Run, content: ReportContent, evaluation: Mapping[str, Any]) -> None:
    show_evaluation(run, evaluation, content.decision)
    if content.learning:
        show_picture(run, "learning-curves", content.learning.svg, content.learning.alt)


def _outcome(evaluated: StepRecord) -> Literal["promoted", "kept", "refused"]:
    if not evaluated.facts["accepted"]:
        return "refused"
    return "promoted" if evaluated.facts["promote"] else "kept"


def source_origins(record: StepRecord) -> list[SourceOrigin]:
    """Where the raw files of ingested examples, or the weights that a model began with, were found."""
    return [
        SourceOrigin(
            name=source["source"],
            origin=source["origin"],
            sha256=source["ref"]["sha256"],
            size=source["ref"]["size"],
            licence=source["licence"],
            differs=source["differs"],
        )
        for source in record.facts["sources"]
    ]


def _facts(
    examples: StepRecord, prepared: StepRecord, folds: Sequence[StepRecord], fitted: StepRecord
) -> dict[str, Any]:
    parts = {f"{part} rows": prepared.facts[part] for part in ("train", "validation", "test") if prepared.facts[part]}
    return {
        "examples": examples.facts["num_examples"],
        **parts,
        "parameters of the model": fitted.facts["num_parameters"],
        "epochs": fitted.facts["num_epochs"],
        "seconds of training": round(sum(record.facts["seconds"] for record in (*folds, fitted)), 1),
        "device": fitted.facts["device"],
        "peak memory, MB": round(fitted.facts["peak_memory_bytes"] / 1e6),
    }


def _thumbnails(examples: Examples, evaluation: Mapping[str, Any]) -> dict[int, str]:
    """The pictures of the examples that are listed as data URIs; nothing where examples are not pictures."""
    doubtful = evaluation["label_errors"] or {"examples": []}
    rows = {int(entry["row"]) for entry in [*evaluation["worst"], *doubtful["examples"]]}
    pictures = next(filter(is_picture, examples.features.values()), None)
    return {row: thumbnail(pictures[row]) for row in sorted(rows)} if pictures is not None else {}


def _heat(examples: Examples, evaluation: Mapping[str, Any]) -> dict[int, str]:
    """The pictures of the worst examples with the patches that the answer hangs on, as data URIs."""
    found = evaluation["occlusion"]
    if not found or found["kind"] != "picture":
        return {}
    pictures = next(filter(is_picture, examples.features.values()))
    return {int(row): heat(pictures[int(row)], one["drops"]) for row, one in found["examples"].items()}
