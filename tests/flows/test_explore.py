"""`modelkeep explore`, with a real Prefect server, a real store and real data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flows.command_line import main
from flows.server import ServerAddress
from tests.conftest import CHROMIUM

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture
def store_uri(tmp_path: Path, reported_to: ServerAddress) -> str:
    return str(tmp_path / "store")


def run(problem: str, store: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["explore", problem, "--store", store, "--json"]) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_the_page_lies_in_the_store_and_asks_for_nothing_from_elsewhere(
    store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run("housing", store_uri, capsys)
    page = Path(str(told["page"]))
    text = page.read_text()
    assert page.parts[-4:-2] == ("explorations", "housing") and told["num_examples"] == 506
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text) and "<script" not in text
    assert "Spearman" in text and text.count("<svg") >= 10
    assert json.loads(page.with_name("exploration.json").read_text())["columns"] == told["columns"]
    again = run("housing", store_uri, capsys)
    assert again["columns"] == told["columns"]
    assert len(list(Path(store_uri, "steps", "housing", "explore").glob("*.json*"))) == 1


def test_pictures_are_shown_as_pictures(store_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(str(run("digits", store_uri, capsys)["page"])).read_text()
    assert text.count('<img src="data:image/png') == 12 and len(text) < 3_000_000


@pytest.mark.browser
def test_the_page_opens_in_a_browser_without_a_fault_at_two_widths(
    store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from playwright.sync_api import sync_playwright

    page = Path(str(run("housing", store_uri, capsys)["page"]))
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        opened.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url),
        )
        for width in (1200, 390):
            opened.set_viewport_size({"width": width, "height": 900})
            opened.goto(page.as_uri())
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert faults == []
