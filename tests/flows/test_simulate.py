"""The flow `simulate` with a real Prefect server: a world whose growth quickens, and nothing real is touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.command_line import main
from flows.server import ServerAddress
from problems.co2 import FILE
from store import open_store
from store.registry import Registry
from tests.webhook import Webhook

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


def make_mirror(folder: Path) -> Path:
    """Months of 23 years; from the 17th on it grows three times as fast."""
    months = np.arange(276)
    grown = 0.1 * months + 0.2 * np.maximum(months - 192, 0)
    value = 320 + grown + 3 * np.sin(2 * np.pi * months / 12) + np.random.default_rng(0).normal(0, 0.2, len(months))
    dates = pd.date_range("1980-01-01", periods=len(months), freq="MS").strftime("%Y-%m-%d")
    table = pd.DataFrame({"Date": dates, "Average": value.round(2), "Interpolated": value.round(2)})
    table.to_csv(folder / "months.csv", index=False)
    digest = hashlib.sha256((folder / "months.csv").read_bytes()).hexdigest()
    (folder / "mirror.toml").write_text(f'["{FILE}"]\nfile = "months.csv"\nsha256 = "{digest}"\nnote = "made up"\n')
    return folder


def simulate(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    command = ["simulate", "co2", "--variant", "linear", "--set", "epochs=20", "--store", str(store), "--json"]
    assert main([*command, *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_keeping_alive_is_worth_something_where_the_world_moves_and_nothing_real_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, webhook: Webhook
) -> None:
    monkeypatch.setenv("MODELKEEP_MIRROR", str(make_mirror(tmp_path)))
    store = tmp_path / "store"
    found = simulate(store, capsys, "--start", "1995-01-01", "--every", "3")
    assert (found["unit"], found["start"], found["end"], found["num_periods"]) == (
        "year",
        "1995-01-01",
        "2002-12-01",
        8,
    )
    assert found["periods"][0]["version"] == 1
    assert found["retrainings"] and found["retrainings"][0]["cause"] == "the schedule, each 3 years"
    for one in found["retrainings"]:  # a year ahead: nothing of the year that is forecast, nor of the one before
        assert one["until"] == f"{int(one['period'])}-01-01"
        changed = [period["version"] for period in found["periods"] if period["period"] > one["period"]]
        assert one["outcome"] != "promoted" or changed[0] == one["version"]
    assert found["gain"]["value"] == pytest.approx(found["left"]["value"] - found["kept"]["value"], rel=1e-4)
    assert found["left"]["value"] < found["baseline"]["value"]
    page = Path(found["page"])
    assert json.loads(page.with_suffix(".json").read_text()) == found
    html = page.read_text()
    assert "kept alive" in html and 'src="http' not in html and "<script" not in html
    assert Registry(open_store(str(store))).problems() == [] and webhook.told == []
    assert {path.name for path in store.iterdir() if not path.name.startswith(".")} == {"simulations"}


def test_a_problem_without_moments_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.local_run.seen_by_prefect", None)  # would fail if it were called
    assert main(["simulate", "churn"]) == 2
    assert "have no moments" in capsys.readouterr().err
