"""The flow `tune`, with a real Prefect server, a real store and a real study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main
from flows.server import ServerAddress
from flows.tune import find_storage, tune
from modelkeep.errors import ModelkeepError
from store import open_store
from store.registry import Registry
from tasks.settings import Settings
from tests.prefect_server import shown_by_prefect

pytestmark = pytest.mark.server

SETTINGS = {"units": 32, "batch_size": 128, "filters": 4}  # more epochs are better, and they are searched


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tune")
    return {"hyperparameters": SETTINGS, "variant": "mlp", "sample": 600, "store": str(folder / "store")}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, reported_to: ServerAddress) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('studies') / 'studies.db'}"


@pytest.fixture(scope="module")
def tuned(asked: dict[str, Any], studies: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MODELKEEP_STUDIES", studies)
        return tune("digits", trials=6, seeds=2, **asked)


def test_the_best_settings_are_trained_beside_the_defaults(tuned: dict[str, Any], asked: dict[str, Any]) -> None:
    assert tuned["num_done"] == 6 and set(tuned["settings"]) == {"epochs"}
    values = [trial["value"] for trial in tuned["trials"] if trial["value"] is not None]
    assert tuned["best"]["value"] == max(values)
    compared = tuned["comparison"]
    assert set(compared["variants"]) == {"defaults", "tuned"} and compared["num_seeds"] == 2
    asked_for = compared["asked"]["variants"]
    assert asked_for["tuned"] == {**asked_for["defaults"], "epochs": tuned["settings"]["epochs"]}
    assert Registry(open_store(asked["store"])).versions("digits") == []


def test_the_command_that_trains_the_best_settings_keeps_the_fixed_ones(tuned: dict[str, Any]) -> None:
    assert tuned["command"].startswith("modelkeep train digits --variant mlp --set ")
    wanted = {**SETTINGS, **tuned["settings"]}
    assert sorted(re.findall(r"--set (\S+)", tuned["command"])) == sorted(f"{name}={wanted[name]}" for name in wanted)
    assert tuned["command"] in Path(tuned["page"]).read_text()


def test_the_page_and_its_json_lie_in_the_store_and_ask_for_nothing_from_elsewhere(tuned: dict[str, Any]) -> None:
    page = Path(tuned["page"])
    text = page.read_text()
    assert page.parts[-4:-2] == ("studies", "digits") and "All trials" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text) and "<script" not in text
    kept = json.loads(page.with_name("study.json").read_text())
    assert kept["trials"] == tuned["trials"] and page.with_name("study-history.svg").exists()


def test_a_search_goes_on_where_it_stood(
    tuned: dict[str, Any],
    asked: dict[str, Any],
    studies: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODELKEEP_STUDIES", studies)
    options = [option for name, value in SETTINGS.items() for option in ("--set", f"{name}={value}")]
    command = ["tune", "digits", "--trials", "7", "--seeds", "1", *options, "--variant", "mlp", "--sample", "600"]
    assert main([*command, "--store", asked["store"], "--json"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert more["num_done"] == 7 and more["trials"][:6] == tuned["trials"]


def test_prefect_shows_a_run_for_each_trial_the_table_and_the_pictures(tuned: dict[str, Any]) -> None:
    shown = shown_by_prefect("tune digits: 6 trials")
    assert {"trial 0 of digits", "trial 5 of digits"} <= shown.task_runs
    assert "epochs" in str(shown.artifacts["digits-study"].data)
    assert "svg" in str(shown.artifacts["digits-study-history"].data)
    assert "study.html" in str(shown.artifacts["digits-study-page"].data)


@pytest.mark.dask
def test_trials_may_run_in_the_processes_of_a_cluster(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELKEEP_STUDIES", f"sqlite:///{tmp_path / 'studies.db'}")
    monkeypatch.setenv("MODELKEEP_RUNNER", "dask")
    found = tune("digits", trials=4, seeds=1, **{**asked, "store": str(tmp_path / "store")})
    assert found["num_done"] == 4 and found["states"].get("complete", 0) >= 2
    assert len({str(trial["settings"]) for trial in found["trials"]}) > 1


def test_workers_elsewhere_need_a_database_that_they_reach() -> None:
    with pytest.raises(ModelkeepError, match="cannot reach the studies"):
        find_storage(Settings(runner="dask://10.0.0.1:8786", studies=""))
    shared = Settings(runner="dask://10.0.0.1:8786", studies="postgresql://host/studies")
    assert find_storage(shared) == "postgresql://host/studies"
    assert find_storage(Settings(runner="dask", studies="")).startswith("sqlite:///")
