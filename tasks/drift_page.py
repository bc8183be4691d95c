"""The page that tells what `monitor` found of a window: verdict, reasons, columns, performance, and how it went on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from problems.outline.catalogue import read_card
from tasks.report_page import render_page
from tasks.verdicts import Verdict

CHART_WIDTH, CHART_HEIGHT, CHART_EDGE = 720, 180, 28
MOST_DRAWN = 60
_LEAST_TOP = 2.0
_MOST_TOP = 10.0  # a difference of many times its limit must not flatten the others
STATUS = {"none": "promoted", "few rows": "kept", "warn": "kept", "alert": "refused", "bad data": "refused"}
HEADINGS = {
    "none": "✓ No drift",
    "few rows": "? Too few rows to judge",
    "warn": "! Warning",
    "alert": "✗ Alert",
    "bad data": "✗ Bad data",
}


def render_drift(told: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """`told` as tasks.monitor writes it to drift.json; `verdicts` of the windows up to this one, the oldest first."""
    shown = verdicts[-MOST_DRAWN:]
    return render_page(
        "drift.html.j2",
        told=told,
        card=read_card(told["problem"]),
        status=STATUS[told["level"]],
        heading=HEADINGS[told["level"]],
        headings=HEADINGS,
        columns=order_columns(told["drift"]) if told["drift"] else [],
        verdicts=shown,
        chart=draw_history(shown),
    )


def order_columns(drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns with their findings, the strongest first; then those that were not compared."""
    ordered = []
    for column in drift["columns"]:
        findings = [
            one for one in drift["findings"] if (one["part"], one["column"]) == (column["part"], column["name"])
        ]
        strength = max((one["effect"] / one["limits"]["warn"] for one in findings), default=-1.0)
        levels = {one["level"] for one in findings}
        level = next((level for level in ("alert", "warn") if level in levels), "none")
        ordered.append({**column, "findings": findings, "strength": strength, "level": level})
    ranks = {"alert": 0, "warn": 1, "none": 2}
    return sorted(ordered, key=lambda one: (ranks[one["level"]], not one["is_compared"], -one["strength"]))


def draw_history(verdicts: Sequence[Verdict]) -> dict[str, Any] | None:
    """The strongest difference of each window that has one, in units of its limit: points in the chart's own units, y
    down, with the height of the limit; None with fewer than two."""
    drawn = [(place, one) for place, one in enumerate(verdicts) if one.level != "bad data"]
    if len(drawn) < 2:
        return None
    values = [min(one.strength or 0.0, _MOST_TOP) for _, one in drawn]
    top = max(_LEAST_TOP, *values)
    step = (CHART_WIDTH - 2 * CHART_EDGE) / (len(verdicts) - 1)

    def height(value: float) -> float:
        return round(CHART_HEIGHT - CHART_EDGE - (CHART_HEIGHT - 2 * CHART_EDGE) * value / top, 1)

    points = [
        {"x": round(CHART_EDGE + place * step, 1), "y": height(value), "verdict": one}
        for (place, one), value in zip(drawn, values, strict=True)
    ]
    return {"points": points, "limit": height(1), "top": top, "width": CHART_WIDTH, "height": CHART_HEIGHT}
