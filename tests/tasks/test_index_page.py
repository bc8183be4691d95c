"""One page over a store, and the model card of a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store import open_store
from store.artifacts import ArtifactRef, Store
from store.registry import Registry
from tasks.index_page import draw_history, render_index
from tasks.model_card import write_model_card

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def register(store: Store, problem: str, value: float, *, promote: bool = True) -> int:
    run = f"{problem}-20260101T000000-{abs(hash(value)):06x}"[:40]
    manifest = ArtifactRef(uri=f"runs/{problem}/{run}/manifest.json", sha256="0" * 64, size=2, kind="json")
    registry = Registry(store)
    metrics = {"mae": value} if problem == "housing" else {"f": value}
    version = registry.register(problem, run=run, manifest=manifest, metrics=metrics, actor="ann", reason="trained")
    if promote:
        before = registry.champion(problem)
        expected = before.number if before else None
        registry.promote(problem, version.number, expected=expected, actor="ann", reason="the better one", run=run)
    return version.number


def test_every_problem_of_the_store_is_on_the_page_with_its_champion_and_who_made_it_so(store: Store) -> None:
    for value, promote in ((3.0, True), (2.5, True), (2.75, False)):
        register(store, "housing", value, promote=promote)
    page = render_index(store, NOW + timedelta(days=9.2))
    assert "1 of 1 problem with a version has a champion" in page
    assert re.search(r'class="value">2\.50 k\$<', page) and "version 2, champion, 9 days old" in page
    assert page.count("<circle") == 3 and page.count('class="crowned"><title>') == 2
    assert "Last: version 3 registered by ann" in page and "digits" in page.partition("Without a version")[2]
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page) and "<script" not in page


def test_a_problem_whose_file_is_gone_and_one_without_champion_are_shown_too(store: Store) -> None:
    register(store, "rents", 1.0)
    register(store, "housing", 3.0, promote=False)
    page = render_index(store)
    assert "rents" in page and "is not in problems/ any more" in page.lower() and "no champion" in page


def test_an_empty_store_has_a_page(store: Store) -> None:
    assert "0 of 0 problems" in render_index(store)


def test_the_chart_shows_higher_values_higher_and_equal_ones_in_the_middle(store: Store) -> None:
    for value in (2.0, 4.0, 3.0):
        register(store, "housing", value)
    registry = Registry(store)
    chart = draw_history(registry.versions("housing"), registry.audit("housing"), "mae")
    assert chart is not None
    first, second, third = (point["y"] for point in chart["points"])
    assert second < third < first
    assert draw_history(registry.versions("housing")[:1], [], "mae") is None
    assert draw_history(registry.versions("housing"), [], "unknown") is None


def test_a_model_card_has_the_nine_sections_and_says_where_data_differs() -> None:
    metric = {
        "title": "MAE",
        "explanation": "The mean.",
        "value_text": "2 k$",
        "interval_text": "1 to 3",
        "baseline_text": "7 k$",
    }
    group = {"n": 12, "small": True, "value_text": "4 k$", "interval_text": "1 to 9"}
    judged = {
        "acceptance": [{"criterion": "x", "passed": True, "reason": "mae is 2, wanted below 3"}],
        "evaluation": {
            "main_metric": "mae",
            "metrics": {"mae": metric},
            "num_test_rows": 101,
            "baseline_name": "the mean",
            "interval": {"method": "percentile bootstrap"},
            "slices": {"river": {"True": group}},
        },
    }
    source = {"source": "b.npz", "licence": "free", "differs": "a part", "ref": {"sha256": "ab12"}}
    manifest = {
        "run": "r1", "finished": "2026", "seed": 3, "hyperparameters": {"units": 64}, "backend": "jax", "device": "cpu",
        "weights_digest": "w", "code_digest": "c", "decision": {"reason": "Better."}, "num_examples": 506,
        "sources": [source], "sample": None,
    }  # fmt: skip
    text = write_model_card(
        {"title": "House prices", "question": "what?", "caution": "B encodes race"}, manifest, judged
    )
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 9
    assert "units=64" in text and "| river: True | 12 (few) | 4 k$ | 1 to 9 |" in text
    assert "\nWhat?\n" in text and text.count("B encodes race") == 1 and "Common-sense baseline: the mean." in text
    assert "differs from the public original: a part" in text and "not trained on the whole public original" in text
