"""The page that shows a validation."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from validation.data_docs import render_data_docs
from validation.gate import validate
from validation.profile import summarise_frame

FRAME = pd.DataFrame({"rooms": [4.0, 5500.0, np.nan], "town<b>": ["<script>alert(1)</script>", "b", "c"]})
SUITE = [
    gxe.ExpectColumnValuesToBeBetween(column="rooms", min_value=3, max_value=9),
    gxe.ExpectColumnValuesToNotBeNull(column="rooms", severity="warning", notes="some towns do not say"),
    gxe.ExpectColumnValuesToBeInSet(column="town<b>", value_set=["a"]),
    gxe.ExpectColumnToExist(column="tax"),
    gxe.ExpectColumnValuesToNotBeNull(column="tax"),
    gxe.ExpectColumnMaxToBeBetween(column="rooms", max_value=9),
]
PAGE = render_data_docs(
    validate(FRAME, SUITE, name="houses"), title="Data of houses", frame_summary=summarise_frame(FRAME)
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_says_what_failed_with_rule_count_and_rows() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", PAGE))
    assert "The data is not good enough" in text
    assert "0 of 6 checks passed, 5 failed, 1 warned" in text
    assert "Expected: between 3 and 9 Found: 1 of 3 rows (33.3 %) row 1: 5500.0" in text
    assert "some towns do not say" in text
    assert "row 2: missing" in text
    assert text.count("Column &#39;tax&#39; is missing.") == 1


def test_data_cannot_write_into_the_page() -> None:
    assert "<script" not in PAGE
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in PAGE
    assert "town<b>" not in PAGE


def test_the_page_is_well_formed_and_refers_to_nothing_outside() -> None:
    tags = Tags()
    assert tags.open == []
    assert tags.addresses == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert "url(" not in PAGE
    assert "default-src 'none'" in PAGE


def test_good_data_is_called_good_and_the_page_is_the_same_each_time() -> None:
    result = validate(FRAME, [gxe.ExpectColumnToExist(column="rooms")], name="houses")
    first, second = (render_data_docs(result, title="Data of houses") for _ in range(2))
    assert first == second
    assert "The data is good" in first
    assert "What is wrong" not in first


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_fits_a_screen_and_asks_for_nothing(width: int, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "page.html").write_text(PAGE)
    requests: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert overflow <= 0
    assert requests == [(tmp_path / "page.html").as_uri()]
