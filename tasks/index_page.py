"""One page over a whole store: every problem with its champion, how its main metric went from version to version, and
what was done last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from problems.outline.catalogue import load_problem, problem_names, read_card
from store.artifacts import Store
from store.errors import ArtifactCorrupt, ArtifactMissing
from store.registry import AuditEntry, Registry, Version
from tasks.report_page import render_page
from tasks.runs import UnknownRun, read_manifest
from tasks.verdicts import Verdict, read_verdicts

CHART_WIDTH, CHART_HEIGHT, CHART_EDGE = 240, 64, 8


@dataclass(frozen=True)
class Line:
    """A problem as the page shows it; `chart` is None with fewer than two values to draw."""

    problem: str
    title: str
    question: str
    metric: str  # its title
    describe: Callable[[float], str]  # a value of it with its unit
    greater_is_better: bool
    champion: Version | None
    value: float | None
    num_versions: int
    age_days: float | None
    last: AuditEntry | None
    report: str
    differs: str
    verdict: Verdict | None  # of the window that was scored last, of those that were monitored
    chart: Mapping[str, Any] | None


def render_index(store: Store, now: datetime | None = None) -> str:
    """The page. Problems that were never registered stand at its end by name."""
    now = now or datetime.now(UTC)
    registry = Registry(store)
    registered = registry.problems()
    lines = [describe_problem(store, registry, name, now) for name in registered]
    untrained = [name for name in problem_names() if name not in registered]
    return render_page(
        "index.html.j2", store=store.uri, lines=lines, untrained=untrained, made=now.isoformat(" ", "minutes")
    )


def describe_problem(store: Store, registry: Registry, name: str, now: datetime) -> Line:
    versions, champion, audit = registry.versions(name), registry.champion(name), registry.audit(name)
    shown = champion or (versions[-1] if versions else None)
    card = read_card(name) if name in problem_names() else {"title": name, "question": "is not in problems/ any more"}
    metric, title, describe, greater = _main_metric(name, shown)
    report, differs = _of_run(store, shown)
    verdicts = read_verdicts(store, name)
    return Line(
        problem=name,
        title=card["title"],
        question=card["question"],
        metric=title,
        describe=describe,
        greater_is_better=greater,
        champion=champion,
        value=champion.metrics.get(metric) if champion else None,
        num_versions=len(versions),
        age_days=(now - datetime.fromisoformat(champion.created)).total_seconds() / 86_400 if champion else None,
        last=audit[-1] if audit else None,
        report=report,
        differs=differs,
        verdict=verdicts[-1] if verdicts else None,
        chart=draw_history(versions, audit, metric),
    )


def _main_metric(name: str, version: Version | None) -> tuple[str, str, Callable[[float], str], bool]:
    """Its name, title, how a value is told, and direction; of a problem that is gone the first metric there is."""
    if name not in problem_names():
        first = next(iter(version.metrics), "") if version else ""
        return first, first, "{:.4g}".format, True
    objective = load_problem(name).objective
    found = next(metric for metric in objective.metrics() if metric.name == objective.main_metric)
    return found.name, found.title, lambda value: objective.describe(value, found), found.greater_is_better


def _of_run(store: Store, version: Version | None) -> tuple[str, str]:
    """Where the report of a version's run is, and in what its data is not the public original; "" where unknown."""
    if version is None:
        return "", ""
    try:
        manifest = read_manifest(store, version.run)
    except (UnknownRun, ArtifactMissing, ArtifactCorrupt):
        return "", ""
    place = manifest["artifacts"]["report.html"]["uri"]
    return f"{store.uri.rstrip('/')}/{place}", "; ".join(
        sorted({source["differs"] for source in manifest["sources"] if source["differs"]})
    )


def draw_history(versions: Sequence[Version], audit: Sequence[AuditEntry], metric: str) -> Mapping[str, Any] | None:
    """Points of a small chart by version, in the chart's own units, y down; those that were champion are marked."""
    known = [version for version in versions if version.metrics.get(metric) is not None]
    if len(known) < 2:
        return None
    values = [version.metrics[metric] for version in known]
    low, high = min(values), max(values)
    crowned = {entry.version for entry in audit if entry.action in ("promote", "rollback")}
    step = (CHART_WIDTH - 2 * CHART_EDGE) / (len(known) - 1)
    height = CHART_HEIGHT - 2 * CHART_EDGE
    points = [
        {
            "x": round(CHART_EDGE + place * step, 1),
            "y": round(CHART_EDGE + height * (1 - (value - low) / (high - low) if high > low else 0.5), 1),
            "version": version.number,
            "value": value,
            "crowned": version.number in crowned,
        }
        for place, (version, value) in enumerate(zip(known, values, strict=True))
    ]
    return {"points": points, "low": low, "high": high, "width": CHART_WIDTH, "height": CHART_HEIGHT}
