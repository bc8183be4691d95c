"""The flow `compare`, with a real Prefect server, a real store and the real digits."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main
from flows.compare import compare, forget_peak_memory
from flows.server import ServerAddress
from flows.train import train
from store import open_store
from store.registry import Registry
from store.retention import plan_removal
from tasks.register import AcceptanceFailed
from tests.conftest import CHROMIUM
from tests.prefect_server import shown_by_prefect

pytestmark = pytest.mark.server

SETTINGS = {"epochs": 1, "units": 64, "filters": 4}


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def compared(reported_to: ServerAddress, store_uri: str) -> dict[str, Any]:
    return compare("digits", ["mlp", "convnet"], seeds=2, hyperparameters=SETTINGS, sample=600, store=store_uri)


def fits_in(store_uri: str) -> set[Path]:
    return set(Path(store_uri, "steps", "digits", "fit").glob("*.json*"))


def test_each_variant_is_trained_with_each_seed_on_the_same_rows_and_ranked(
    compared: dict[str, Any], store_uri: str
) -> None:
    assert set(compared["variants"]) == {"mlp", "convnet"} and compared["best"] in compared["variants"]
    assert all(len(set(variant["values"])) == 2 for variant in compared["variants"].values())
    assert compared["asked"]["seeds"] == [0, 1] and compared["asked"]["sample"] == 600
    assert compared["asked"]["variants"]["mlp"]["network"] == "mlp"
    assert len(fits_in(store_uri)) == 4
    assert len(list(Path(store_uri, "steps", "digits", "prepare").glob("*.json*"))) == 1
    assert Registry(open_store(store_uri)).versions("digits") == []


def test_what_each_variant_cost_stands_beside_it(compared: dict[str, Any]) -> None:
    costs = {name: variant["cost"] for name, variant in compared["variants"].items()}
    assert costs["mlp"]["num_parameters"] == (784 + 1) * 64 + (64 + 1) * 10
    assert all(cost["seconds"] > 0 and cost["peak_memory_bytes"] > 1e8 for cost in costs.values())


def test_the_page_and_its_json_lie_in_the_store_and_ask_for_nothing_from_elsewhere(compared: dict[str, Any]) -> None:
    page = Path(compared["page"])
    text = page.read_text()
    assert page.parts[-4:-2] == ("comparisons", "digits") and compared["sentence"] in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text) and "<script" not in text
    kept = json.loads(page.with_name("comparison.json").read_text())
    assert kept["variants"] == compared["variants"] and page.with_name("comparison.svg").exists()


def test_a_second_comparison_trains_nothing_and_ends_with_the_same_result(
    compared: dict[str, Any], store_uri: str
) -> None:
    before = fits_in(store_uri)
    again = compare("digits", ["mlp", "convnet"], seeds=2, hyperparameters=SETTINGS, sample=600, store=store_uri)
    assert fits_in(store_uri) == before
    assert again["variants"] == compared["variants"] and again["page"] != compared["page"]


def test_what_train_has_fitted_is_not_fitted_again_nor_the_other_way_round(
    compared: dict[str, Any], store_uri: str
) -> None:
    before = fits_in(store_uri)
    with pytest.raises(AcceptanceFailed):
        train("digits", SETTINGS, variant="mlp", seed=1, sample=600, store=store_uri)
    assert fits_in(store_uri) == before


def test_a_comparison_is_never_removed(compared: dict[str, Any], store_uri: str) -> None:
    for path in Path(store_uri).rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))
    removals = {removal.key for removal in plan_removal(open_store(store_uri), keep_runs=0).files}
    assert any(key.startswith("steps/digits/fit") for key in removals)
    assert not any(key.startswith("comparisons") for key in removals)


def test_prefect_shows_a_run_for_each_training_a_table_a_picture_and_the_way_to_the_page(
    compared: dict[str, Any],
) -> None:
    shown = shown_by_prefect("compare digits: mlp, convnet")
    assert {"fit digits mlp, seed 0", "fit digits convnet, seed 1", "compare digits"} <= shown.task_runs
    assert "convnet" in str(shown.artifacts["digits-comparison"].data)
    assert shown.artifacts["digits-comparison"].description == compared["sentence"]
    drawn = str(shown.artifacts["digits-comparison-picture"].data).partition("data:image/svg+xml;base64,")[2]
    assert 'fill="white"' in base64.b64decode(drawn.split(")")[0].rstrip("'}")).decode()
    assert "comparison.html" in str(shown.artifacts["digits-comparison-page"].data)


def test_the_command_prints_the_ranking_and_json(
    compared: dict[str, Any], store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "2", "--sample", "600", "--store", store_uri]
    options += [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    assert main(["compare", "digits", "--variants", "mlp, convnet", *options]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(compared["sentence"]) and "comparison.html" in shown and "parameters" in shown
    assert main(["compare", "digits", "--variants", "mlp,convnet", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variants"] == compared["variants"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--variants", "mlp"], "There is nothing to compare mlp with"),
        (["--variants", "mlp,forest"], "digits has no variant 'forest'"),
        (["--set", "network=mlp"], "convnet and mlp are the same"),
        (["--set", "epoch=3"], "there is no hyperparameter 'epoch'"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_started(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "digits", *options, "--store", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert told in errors and "Prefect" not in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a process forget its peak")
def test_the_peak_memory_of_one_training_is_not_counted_to_the_next() -> None:
    import resource

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak()
    block = bytearray(os.urandom(1 << 20) * 300)
    high = peak()
    del block
    forget_peak_memory()
    assert high > before
    assert peak() < high - 200 * 1024


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_the_page_is_readable_in_chromium(compared: dict[str, Any], width: int, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("request", lambda request: said.extend([request.url] * (not request.url.startswith(("file:", "data:")))))
        tab.goto(Path(compared["page"]).as_uri())
        assert said == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        size = tab.locator(".plot svg").bounding_box()
        assert size and size["width"] > 250 and size["height"] > 100
        browser.close()
