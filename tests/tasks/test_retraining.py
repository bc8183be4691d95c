"""Whether there is anything to train again with: decided from the store alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from store import open_store
from store.artifacts import Store
from store.registry import Registry
from store.steps import Lease
from tasks import retraining
from tasks.champion import NoChampion
from tasks.retraining import (
    Plan,
    Retraining,
    claim_retraining,
    plan_retraining,
    read_retrainings,
    record_retraining,
    usable_windows,
)
from tasks.verdicts import read_verdicts, record_verdict
from tests.drift_champion import crown_with_reference, make_customers, raise_prices
from tests.tasks.test_monitor import monitored

DONE = Retraining("2026-01-01T00:00:00+00:00", "drift.", "kept", "It is worse.", ["w"], "")


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowned")
    crown_with_reference(open_store(str(folder)))
    return folder


@pytest.fixture
def place(crowned: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(crowned, tmp_path / "store"))


@pytest.fixture
def store(place: str) -> Store:
    return open_store(place)


def write_truth(table: pd.DataFrame, folder: Path) -> str:
    path = folder / "truth.csv"
    truth = table["Churn"].map({"Yes": "leaves", "No": "stays"})
    pd.DataFrame({"row": np.arange(len(table)), "target": truth}).to_csv(path, index=False)
    return str(path)


def watch(place: str, table: pd.DataFrame, *, labelled: bool = True) -> str:
    """The window's id, after it was scored and monitored, with its truth."""
    labels = write_truth(table, Path(place).parent) if labelled else ""
    return monitored(place, table.drop(columns="Churn"), labels=labels).window


def plan(store: Store, problem: str = "churn", **fields: Any) -> Plan:
    return plan_retraining(store, problem, **{"data": "", "reason": "", "cooldown_hours": 24.0, **fields})


def test_without_a_champion_there_is_nothing_to_challenge(tmp_path: Path) -> None:
    with pytest.raises(NoChampion):
        plan(open_store(tmp_path / "empty"))


def test_with_neither_windows_nor_a_file_nothing_is_new(place: str, store: Store) -> None:
    assert "Nothing new has come since version 1" in plan(store).stay
    watch(place, make_customers(600, 1), labelled=False)
    assert "Nothing new has come since version 1" in plan(store).stay and "--labels" in plan(store).stay
    assert plan(store, data="newer.csv").stay == "" and plan(store, data="newer.csv").cause == "a newer file"


def test_a_window_whose_truth_has_come_is_new_and_its_verdict_the_cause(place: str, store: Store) -> None:
    window = watch(place, raise_prices(make_customers(600, 1), 15))
    found = plan(store)
    assert found.stay == "" and [name for name, _ in found.windows] == [window]
    (verdict,) = read_verdicts(store, "churn")
    assert found.cause == (f"{verdict.retrain} (window {window})" if verdict.retrain else "1 new labelled window")
    assert plan(store, reason="the new tariff").cause == "the new tariff"


def test_what_the_champion_has_learnt_from_is_not_new_nor_why_it_was_trained(place: str, store: Store) -> None:
    window = watch(place, raise_prices(make_customers(600, 1), 15))
    page = json.dumps({"windows": [[window, "0" * 64]], "artifacts": {}}).encode()
    manifest = store.put_bytes("runs/churn/churn-2/manifest.json", page, kind="json")
    registry = Registry(store)
    who: Any = {"actor": "test", "reason": "test", "run": "churn-2"}
    registry.register("churn", manifest=manifest, metrics={}, weights="w", **who)
    registry.promote("churn", 2, expected=1, **who)
    assert "Nothing new has come since version 2" in plan(store).stay
    assert plan(store, data="newer.csv").cause == "a newer file"


def test_a_window_that_is_bad_data_by_now_takes_no_part(place: str, store: Store) -> None:
    good, bad = watch(place, make_customers(600, 1)), watch(place, make_customers(600, 2))
    verdict = next(one for one in read_verdicts(store, "churn") if one.window == bad)
    record_verdict(store, "churn", replace(verdict, level="bad data"))
    assert [window for window, _ in usable_windows(store, "churn")] == [good]


def test_a_file_that_cannot_be_scored_or_fails_its_checks_keeps_no_labels(place: str, store: Store) -> None:
    table = make_customers(900, 1)
    watch(place, table.assign(PaymentMethod=table["PaymentMethod"].mask(np.arange(900) < 90, "coins")))
    watch(place, table.rename(columns={"tenure": "months"}))
    assert [one.level for one in read_verdicts(store, "churn")] == ["bad data", "bad data"]
    assert usable_windows(store, "churn") == () and "Nothing new" in plan(store).stay


def test_the_same_file_counts_once_however_many_versions_have_scored_it(
    place: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_customers(600, 1)
    first = watch(place, table)
    monkeypatch.setattr("tasks.score_rows.CHUNK_ROWS", 1000)  # as another version, it gives the window another name
    assert watch(place, table) != first
    assert [window for window, _ in usable_windows(store, "churn")] == [first]


def test_a_problem_whose_windows_are_not_scored_by_rows_wants_a_file(store: Store) -> None:
    assert usable_windows(store, "co2") == ()
    assert "--data FILE" in retraining._how_to_bring_news("co2")


def test_between_two_retrainings_lies_the_cooldown(place: str, store: Store) -> None:
    watch(place, make_customers(600, 1))
    record_retraining(store, "churn", replace(DONE, when=(datetime.now(UTC) - timedelta(hours=5)).isoformat()))
    stay = plan(store).stay
    assert "5.0 h ago" in stay and "--cooldown-hours 0" in stay
    assert plan(store, cooldown_hours=4.9).stay == plan(store, cooldown_hours=0).stay == ""
    record_retraining(store, "churn", replace(DONE, when=(datetime.now(UTC) + timedelta(hours=5)).isoformat()))
    assert "0.0 h ago" in plan(store).stay and plan(store, cooldown_hours=0).stay == ""  # a clock that was set back


def test_of_many_retrainings_the_newest_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "MOST_KEPT", 3)
    for number in range(5):
        record_retraining(store, "churn", replace(DONE, cause=str(number)))
    assert [one.cause for one in read_retrainings(store, "churn")] == ["2", "3", "4"]


def test_while_one_retrains_another_learns_who_it_is_and_takes_over_when_it_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "_WAIT_SECONDS", 0.2)
    first = claim_retraining(store, "churn")
    assert isinstance(first, Lease)
    with first:
        held = claim_retraining(store, "churn")
        assert isinstance(held, str) and str(os.getpid()) in held
        other = claim_retraining(store, "housing")
        assert isinstance(other, Lease)
        with other:
            pass
    again = claim_retraining(store, "churn")
    assert isinstance(again, Lease) and again.number == first.number + 1
    with again:
        pass


def test_whoever_was_killed_while_retraining_has_lost_the_right(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "_WAIT_SECONDS", 0.2)
    code = (
        "import os\nfrom store import open_store\nfrom tasks.retraining import claim_retraining\n"
        f"claim_retraining(open_store({store.uri!r}), 'churn')\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == -9
    claimed = claim_retraining(store, "churn")
    assert isinstance(claimed, Lease)
    with claimed:
        pass


def test_deciding_needs_neither_prefect_nor_pandas() -> None:
    code = (
        "import sys, tasks.retraining\nprint(*[name for name in ('prefect', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "", done.stderr
