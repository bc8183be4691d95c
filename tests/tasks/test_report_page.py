"""The report page: complete, self-contained, the same for the same run, and readable in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.outline import Hyperparameters, Multiclass, Problem, Regression
from problems.outline.plots import importance, learning_curves
from problems.outline.splits import KFold
from tasks.evaluation import evaluate
from tasks.report_page import ReportContent, SourceOrigin, figure_png, picture, render_report, thumbnail

CHROMIUM = shutil.which("chromium")
HISTORY = {"mae": [5.0, 3.0, 2.0], "loss": [30.0, 12.0, 5.0], "val_loss": [31.0, 14.0, 9.0], "val_mae": [5.1, 3.3, 2.4]}
CHECKS = [
    {"column": "rooms", "rule": "between 3 and 9", "success": True, "severity": "critical", "unexpected_count": 0},
    {"column": "tax", "rule": "never missing", "success": False, "severity": "warning", "unexpected_count": 2},
]


PROBED = {
    "overlap": {"num": 2, "share": 0.025, "rows": [3, 4], "without": 0.9, "without_text": "0.90 k$"},
    "behaviours": [
        {"name": "a room <more>", "kind": "direction", "rows": 80, "share": 0.912, "passed": True, "reason": "it does"},
        {"name": "a pixel", "kind": "invariant", "rows": 80, "share": 0.5, "passed": False, "reason": "it does not"},
    ],
    "importance": {"metric": "mae", "value": 0.8, "rows": 80, "repeats": 5, "seed": 0, "columns": {}},
}


def content(objective: Any = None, **parts: Any) -> ReportContent:
    """The report of a run on 80 rows, with everything a report may hold."""
    objective = objective or Regression(unit="k$")
    random, num_rows = np.random.default_rng(0), 80
    frame = pd.DataFrame({"river": random.integers(0, 2, num_rows), "rooms": random.normal(6, 1, num_rows)})
    if objective.kind == "regression":
        target = random.normal(20, 5, num_rows)
        outputs = (target + random.normal(0, 1, num_rows))[:, None]
    else:
        target = random.integers(0, len(objective.classes), num_rows)
        outputs = np.eye(len(objective.classes))[target] * 0.6 + 0.4 / len(objective.classes)
    predictions, baseline = objective.predictions(outputs), objective.baseline(target, frame)
    problem = Problem(
        name="prices", objective=objective, sources=(), read=None, expectations=list, split=KFold(4, 0.2),
        build=None, hyperparameters=Hyperparameters, slices=("river",),
    )  # type: ignore[arg-type]  # fmt: skip
    evaluation = evaluate(
        problem, target=target, predictions=predictions, baseline=baseline, frame=frame, champion=baseline,
        folds=[(target[:40], predictions[:40]), (target[40:], predictions[40:])] * 3, resamples=200,
    )  # fmt: skip
    evaluation |= PROBED
    checks = [{**check, "examples": [{"row": 4, "value": None}], "error": None} for check in CHECKS]
    given: dict[str, Any] = {
        "problem": "prices",
        "outcome": "promoted",
        "decision": "It is better than the champion.",
        "card": {"title": "Prices", "question": "what does a <house> cost?", "caution": "old data & few"},
        "facts": {"Training rows": 320},
        "sources": [
            SourceOrigin(name="a.csv", origin="mirror", sha256="ab" * 32, size=2048, licence="CC0", differs="half")
        ],
        "validation": {"success": True, "rows": 400, "checks": checks},
        "learning": picture("learning", learning_curves(HISTORY, [HISTORY, HISTORY])),
        "importance": picture("importance", importance({"rooms": [2.0, 2.1], "age": [0.0, -0.1]}, "worse by, k$")),
        "evaluation": evaluation,
        "pictures": [
            picture(name, plot) for name, plot in objective.figures(target, predictions, frame, baseline).items()
        ],
        "acceptance": [{"criterion": "Below('mae', 3.5)", "passed": True, "reason": "mae is 0.8"}],
        "manifest": {"run": "r1", "hyperparameters": {"units": 64}, "sources": [{"name": "a.csv"}]},
        "thumbnails": {evaluation["worst"][0]["row"]: thumbnail(np.eye(28, dtype=np.uint8) * 255)},
    }
    return ReportContent(**(given | parts))


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(content())


class Elements(HTMLParser):
    """Every start tag of a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_opens_with_the_decision(page: str) -> None:
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert "Promoted" in heading.group()
    assert "It is better than the champion." in heading.group()
    assert page.index("<h1>") < page.index("<h2")


def test_the_same_run_gives_the_same_bytes(page: str) -> None:
    assert render_report(content()) == page


def test_the_page_asks_for_nothing_from_elsewhere(page: str) -> None:
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert "<script" not in page
    assert len(page) < 3_000_000


def test_no_id_is_there_twice_and_every_reference_is_met(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Elements(page).found if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:url\(|href=")#([^")]+)', page)
    assert referred
    assert set(referred) <= set(ids)


def test_every_picture_has_an_alt_text_and_every_table_a_caption(page: str) -> None:
    elements = Elements(page)
    assert len(elements.all("svg")) == 6
    assert all(len(svg["aria-label"] or "") > 20 for svg in elements.all("svg"))
    assert all(image["alt"] for image in elements.all("img"))
    assert len(elements.all("caption")) == len(elements.all("table")) >= 6


def test_what_comes_from_data_is_escaped() -> None:
    page = render_report(content(decision="<script>alert(1)</script>"))
    assert "<script" not in page
    assert "What does a &lt;house&gt; cost?" in page


def test_colours_follow_the_page_and_stand_alone_in_a_file() -> None:
    given = content()
    assert given.learning is not None
    assert "var(--" not in given.learning.svg
    assert "#2563eb" in given.learning.svg
    assert "#2563eb" not in render_report(given).split("</style>")[1]


def test_a_run_that_the_data_gate_stopped_has_a_page_too() -> None:
    failed = CHECKS[0] | {"success": False, "error": "column 'rooms' is missing", "examples": []}
    page = render_report(
        ReportContent(
            problem="prices",
            outcome="refused",
            decision="The data did not pass.",
            card={"title": "Prices", "question": "what?"},
            validation={"success": False, "rows": 3, "checks": [failed]},
        )
    )
    assert "Not registered" in page
    assert "column &#39;rooms&#39; is missing" in page
    assert "<details open>" in page


def test_the_page_tells_how_far_a_number_can_be_believed(page: str) -> None:
    assert "k$ holds" in page and "rows held out in 6 folds" in page
    assert "2 test rows are exact copies" in page and "2.50 %" in page and "0.90 k$" in page
    assert "A room &lt;more&gt;" in page and "91.2 %" in page
    assert page.count("✗ not met") == 1


def test_the_page_of_classes_tells_of_calibration_and_doubtful_labels() -> None:
    objective = Multiclass(classes=tuple("abcde"))
    page = render_report(content(objective))
    assert "Expected calibration error" in page and "With the temperature" in page
    assert "0 of the 80 test rows (0.00 %)" in page
    made = content(objective)
    assert made.evaluation is not None
    doubt = {"row": 3, "given": "a", "suggested": "b", "given_probability": 0.01, "suggested_probability": 0.98}
    example = doubt | {"threshold": 0.7, "frame": made.evaluation["worst"][0]["frame"]}
    made.evaluation["label_errors"].update(num=1, share=1 / 80, examples=[example])
    assert "The 1 most doubtful" in render_report(made)


def test_a_substitute_is_said_to_differ(page: str) -> None:
    assert "differs: half" in page


def test_learning_curves_are_drawn_without_held_out_rows_and_of_folds_that_stopped_early() -> None:
    short = {name: values[:2] for name, values in HISTORY.items()}
    assert "3 epochs" in learning_curves({"loss": [3.0, 2.0, 1.0]}).alt
    assert "on held-out rows from 31 to 14" in learning_curves({"loss": [3.0, 2.0, 1.0]}, [HISTORY, short]).alt
    assert figure_png(learning_curves(HISTORY).figure).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_readable_in_chromium(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_report(content(Multiclass(classes=tuple("abcde")))), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sizes = [plot.bounding_box() for plot in tab.locator(".plot svg").all()]
    assert len(sizes) == 5
    assert all(size and size["width"] > 250 and size["height"] > 150 for size in sizes)
    assert contrast(tab, ".explanation", "body") >= 4.5
    assert contrast(tab, ".chip", "header") >= 4.5
    context.close()


def contrast(tab: Any, text: str, behind: str) -> float:
    """The contrast ratio of WCAG 2.1 between the colour of a text and of what is behind it."""
    colours = [
        tab.evaluate("([at, what]) => getComputedStyle(document.querySelector(at))[what]", [at, what])
        for at, what in ((text, "color"), (behind, "backgroundColor"))
    ]
    lightnesses = []
    for colour in colours:
        shares = np.array([int(number) for number in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(shares <= 0.03928, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        lightnesses.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lightnesses) + 0.05) / (min(lightnesses) + 0.05)


def test_a_long_text_among_the_worst_examples_is_wrapped_and_escaped_and_a_short_one_stands_in_its_column() -> None:
    made = content()
    assert made.evaluation is not None
    made.evaluation["worst"][0]["frame"] |= {"river": "a <film> that I would rather not have seen at all", "rooms": "6"}
    page = render_report(made)
    assert '<td class="wrap text">a &lt;film&gt; that I would rather' in page
    assert '<td class="number">6</td>' in page
