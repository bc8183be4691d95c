"""The flow `monitor` with a real Prefect server: events arrive, the UI shows the verdict, and exit codes tell it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main
from flows.server import ServerAddress
from store import open_store
from tests.drift_champion import crown_with_reference, make_customers, raise_prices
from tests.prefect_server import wait_for

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("store"))
    crown_with_reference(open_store(uri))
    return uri


def write_window(folder: Path, dollars: float = 0, **renamed: str) -> str:
    path = folder / "window.csv"
    raise_prices(make_customers(900, 1), dollars).drop(columns="Churn").rename(columns=renamed).to_csv(
        path, index=False
    )
    return str(path)


def events(name: str) -> list[dict[str, Any]]:
    """Those about churn."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        asked = {"filter": {"event": {"name": [name]}}, "limit": 50}
        found = client.request("POST", "/events/filter", json=asked).json()["events"]  # type: ignore[arg-type]
    return [event for event in found if event["resource"]["prefect.resource.id"] == "modelkeep.churn"]


def test_drift_is_exit_code_1_and_an_event_that_arrives_once(
    tmp_path: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.artifacts import Artifact

    arguments = ["monitor", "churn", "--store", store_uri]
    assert main([*arguments, "--input", write_window(tmp_path)]) == 0
    assert "The window is like the reference." in capsys.readouterr().out
    assert events("modelkeep.drift.detected") == []
    assert main([*arguments, "--input", write_window(tmp_path, dollars=15)]) == 1
    said = capsys.readouterr().out
    assert "MonthlyCharges: moved by" in said and "retrain: drift." in said and "drift.html" in said
    (event,) = wait_for(lambda: events("modelkeep.drift.detected"))
    assert event["resource"]["prefect.resource.id"] == "modelkeep.churn"
    assert event["resource"]["modelkeep.retrain"] == "yes"
    payload = event["payload"]
    assert (payload["verdict"], payload["version"], payload["problem"]) == ("alert", 1, "churn")
    assert payload["window"] in said and payload["reasons"][0].startswith("MonthlyCharges")
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["window"] == payload["window"]
    for key in ("churn-drift", "churn-windows", "churn-drift-tests"):
        assert Artifact.get(key) is not None, key
    assert len(events("modelkeep.drift.detected")) == 1


def test_bad_data_is_exit_code_1_and_another_event_which_never_asks_to_retrain(
    tmp_path: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(events("modelkeep.drift.detected"))
    window = write_window(tmp_path, tenure="months")
    assert main(["monitor", "churn", "--store", store_uri, "--input", window]) == 1
    assert "Columns are missing: tenure" in capsys.readouterr().out
    (event,) = wait_for(lambda: events("modelkeep.data.invalid"))
    assert event["resource"]["modelkeep.retrain"] == "no" and event["payload"]["retrain"] == ""
    assert len(events("modelkeep.drift.detected")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input", "missing.csv"], "nothing to score"),
        (["--input", "a.csv", "--window", "b"], "named in two ways"),
        (["--labels", "missing.csv"], "labels cannot be used"),
        (["--window", "b"], "no scored window 'b'"),
        (["--input", "folder"], "are tables, and this is none"),
        (["--store", "empty"], "No window of churn was scored"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    options: list[str],
    said: str,
    store_uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELKEEP_STORE", store_uri)
    monkeypatch.setattr("flows.local_run.seen_by_prefect", None)  # would fail if it were called
    assert main(["monitor", "churn", *options]) == 2
    assert said in capsys.readouterr().err
