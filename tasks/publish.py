"""What a run shows in the Prefect UI: artifacts with stable keys, so that the UI keeps their history.

Outside a Prefect run nothing is shown; a server that does not answer costs a warning, never the run.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.steps import Run

if TYPE_CHECKING:
    from tasks.verdicts import Verdict
    from validation.gate import ValidationResult

logger = logging.getLogger("modelkeep")


def show_validation(run: Run, result: ValidationResult) -> None:
    """A table of the checks."""
    from prefect.artifacts import create_table_artifact

    rows = [
        {
            "column": check.subject,
            "rule": check.rule,
            "passed": "yes" if check.success else "no",
            "rows against it": check.unexpected_count,
        }
        for check in result.checks
    ]
    passed = sum(check.success for check in result.checks)
    _show(
        create_table_artifact,
        key=_key(run, "data-checks"),
        table=rows,
        description=f"{passed} of {len(rows)} checks passed on {result.rows:,} rows",
    )


def show_evaluation(run: Run, evaluation: Mapping[str, Any], sentence: str) -> None:
    """The decision in a sentence, with the metrics against baseline and champion."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    rows = [
        {
            "metric": metric["title"],
            "model": metric["value_text"],
            "95 % interval": metric["interval_text"],
            "baseline": metric["baseline_text"],
            "champion": metric.get("champion_text") or "—",
        }
        for metric in evaluation["metrics"].values()
    ]
    _show(create_table_artifact, key=_key(run, "metrics"), table=rows, description=sentence)
    lines = [f"# {run.problem}", "", sentence, "", _markdown_table(rows), "", f"Kept in `{run.store}/{run.prefix}`."]
    _show(create_markdown_artifact, key=_key(run, "summary"), markdown="\n".join(lines), description=sentence)


def show_scores(scored: Mapping[str, Any]) -> None:
    """Who scored how many, and where the answers are; `scored` is what the flow `predict` ends with."""
    from prefect.artifacts import create_markdown_artifact

    names = ("scores", "rejected", "page", "picture", "window")
    places = [f"- {name}: `{scored[name]}`" for name in names if scored[name]]
    text = "\n".join([f"# {scored['problem']}", "", scored["sentence"], "", *places])
    key = f"{scored['problem'].replace('_', '-')}-scores"
    _show(create_markdown_artifact, key=key, markdown=text, description=scored["sentence"])


def show_comparison(run: Run, comparison: Mapping[str, Any]) -> None:
    """The ranking of variants as a table, under the sentence that says who is best."""
    from prefect.artifacts import create_table_artifact

    title = comparison["metric"]["title"]
    rows = [
        {
            "variant": name,
            title: variant["mean_text"],
            "95 % interval": variant["interval_text"],
            "spread over seeds (sd)": variant["sd_text"],
            "worse than the best by": variant["behind"]["value_text"] if variant["behind"] else "—",
            "shown": "—" if not variant["behind"] else "yes" if variant["behind"]["is_shown"] else "no",
            "seconds of training": variant["cost"]["seconds"],
            "parameters": variant["cost"]["num_parameters"],
            "peak memory, MB": round(variant["cost"]["peak_memory_bytes"] / 1e6),
        }
        for name, variant in comparison["variants"].items()
    ]
    _show(create_table_artifact, key=_key(run, "comparison"), table=rows, description=comparison["sentence"])


def show_study(run: Run, study: Mapping[str, Any]) -> None:
    """The trials of a search as a table, under the sentence that says what it found."""
    from prefect.artifacts import create_table_artifact

    rows = [
        {"trial": one["number"], study["metric_title"]: one["value_text"] or one["state"], **one["settings"]}
        for one in study["trials"]
    ]
    _show(create_table_artifact, key=_key(run, "study"), table=rows, description=study["sentence"])


def show_exploration(run: Run, told: Mapping[str, Any]) -> None:
    """What to look at first in the data, and its columns as a table."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    title = f"{told['num_examples']:,} examples, {len(told['columns'])} columns"
    notes = [f"- {note}" for note in told["notes"]] or ["Nothing striking."]
    text = "\n".join([f"# {run.problem}: the data", "", title, "", *notes])
    _show(create_markdown_artifact, key=_key(run, "data-notes"), markdown=text, description=title)
    rows = [
        {
            "column": one["name"],
            "kind": one["kind"],
            "missing": one["missing"],
            "different values": one["distinct"],
            "relation to the target": round(one["relation"]["value"] or 0, 3) if one["relation"] else "—",
        }
        for one in told["columns"]
    ]
    _show(create_table_artifact, key=_key(run, "data-columns"), table=rows, description=title)


def show_drift(
    problem: str, sentence: str, told: Mapping[str, Any] | None, verdicts: Sequence[Verdict], page: str
) -> None:
    """What was found of a window: its tests and the windows so far as tables, and where the page is; `told` is None
    where nothing could be scored."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    key = problem.replace("_", "-")
    places = [f"Page: `{page}`", ""] if page else []
    reasons = [f"- {reason}" for reason in told["reasons"]] if told else []
    text = "\n".join([f"# {problem}: the last window", "", sentence, "", *places, *reasons])
    _show(create_markdown_artifact, key=f"{key}-drift", markdown=text, description=sentence)
    rows = [_describe_verdict(one) for one in reversed(verdicts[-50:])]
    _show(create_table_artifact, key=f"{key}-windows", table=rows, description=f"Windows of {problem}, newest first")
    if not (told and told["drift"]):
        return
    names = ("part", "column", "aspect", "level", "measure", "effect", "test", "p_adjusted")
    findings = [{name: one[name] for name in names} for one in told["drift"]["findings"]]
    _show(create_table_artifact, key=f"{key}-drift-tests", table=findings, description=sentence)


def _describe_verdict(one: Verdict) -> dict[str, Any]:
    numbers = {name: getattr(one, name) for name in ("strength", "value")}
    return {
        "window": one.window,
        "scored (UTC)": one.when[:16].replace("T", " "),
        "version": one.version,
        "level": one.level,
        "alarm": "yes" if one.is_alarm else "no",
        "rows": one.num_rows,
        "column": one.column,
        **{name: number and float(f"{number:.4g}") for name, number in numbers.items()},
        "sentence": one.sentence,
    }


def announce(event: str, problem: str, verdict: Mapping[str, Any]) -> None:
    """Send a Prefect event about a problem, for the automations that wait for it; only from within a run.

    Its resource says in `modelkeep.retrain` whether there is a reason to train again, "yes" or "no".
    """
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.events import emit_event

    if not (FlowRunContext.get() or TaskRunContext.get()):
        return
    resource = {
        "prefect.resource.id": f"modelkeep.{problem}",
        "prefect.resource.name": problem,
        "modelkeep.retrain": "yes" if verdict["retrain"] else "no",
    }
    names = ("window", "verdict", "reasons", "version", "retrain", "sentence", "page")
    emit_event(event, resource=resource, payload={"problem": problem, **{name: verdict[name] for name in names}})


def show_picture(run: Run, name: str, svg: str, text: str) -> None:
    """A picture; as data, so that the UI shows it offline, and on white, since the UI may be dark."""
    from prefect.artifacts import create_image_artifact

    on_white = re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="white"/>', svg, count=1)
    data = base64.b64encode(on_white.encode()).decode()
    _show(
        create_image_artifact,
        key=_key(run, name),
        image_url=f"data:image/svg+xml;base64,{data}",
        description=text,
    )


def show_link(run: Run, name: str, uri: str, text: str) -> None:
    """A link to a page of the run; a local file as a file: address, which a browser opens when it is pasted."""
    from pathlib import Path

    from prefect.artifacts import create_link_artifact

    link = uri if "://" in uri else Path(uri).absolute().as_uri()
    _show(create_link_artifact, key=_key(run, name), link=link, link_text=text, description=f"{text}: {link}")


def _key(run: Run, name: str) -> str:
    """What is made of a replay of the past stands apart."""
    problem = run.problem.replace("_", "-")
    return f"{problem}-simulated-{name}" if run.is_replay else f"{problem}-{name}"


def _show(create: Callable[..., Any], **content: Any) -> None:
    from prefect.context import FlowRunContext, TaskRunContext

    if not (FlowRunContext.get() or TaskRunContext.get()):
        return
    try:
        create(**content)
    except Exception as fault:  # Prefect's client raises many kinds; none of them is worth a trained model.
        logger.warning("the artifact %s could not be shown in Prefect: %s", content["key"], fault)


def _markdown_table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
