"""Monitoring: what is said of a window, what follows from it, and what is kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.churn import problem
from store import open_store
from store.artifacts import Store
from store.registry import Registry
from tasks import drift
from tasks.drift_page import HEADINGS
from tasks.index_page import render_index
from tasks.kept_windows import KeptWindow, NoWindow, choose_window, keep_window, note_last
from tasks.monitor import Monitored, check_window, conclude, judge, measure_window, read_rows, take_window
from tasks.verdicts import Verdict, before, is_persistent, read_verdicts, record_verdict
from tests.drift_champion import ask, crown_with_reference, draw_truth, make_customers, raise_prices

if TYPE_CHECKING:
    import keras


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, keras.Model]:
    folder = tmp_path_factory.mktemp("crowned")
    return folder, crown_with_reference(open_store(str(folder)))


@pytest.fixture
def place(crowned: tuple[Path, keras.Model], tmp_path: Path) -> str:
    """A store of the test's own with the champion."""
    return str(shutil.copytree(crowned[0], tmp_path / "store"))


def monitored(store: str, table: pd.DataFrame | None = None, window: str = "", labels: str = "") -> Monitored:
    """What the flow does."""
    data = ""
    if table is not None:
        data = str(Path(store).parent / "window.csv")
        table.to_csv(data, index=False)
    kept = take_window.fn("churn", window, data, store)
    if isinstance(kept, Monitored):
        return kept
    checks = check_window.fn(kept, store)
    return conclude.fn(kept, checks, measure_window.fn(kept, labels, store) if checks["success"] else None, store)


def customers(num_rows: int = 900, seed: int = 1) -> pd.DataFrame:
    return make_customers(num_rows, seed).drop(columns="Churn")


def told(found: Monitored) -> dict[str, Any]:
    return json.loads(Path(found.data).read_text())


def test_a_window_like_the_training_data_is_quiet_and_is_compared_column_by_column(place: str) -> None:
    found = monitored(place, customers())
    assert (found.level, found.is_alarm, found.retrain, found.version) == ("none", False, "", 1)
    page = told(found)
    compared = {one["name"] for one in page["drift"]["columns"] if one["is_compared"]}
    assert {"tenure", "MonthlyCharges", "Contract", "probability of leaves", "predicted class"} <= compared
    assert page["drift"]["only_reference"] == ["Churn"] and page["drift"]["only_window"] == []
    assert page["validation"]["success"] and page["reference"]["data"]["num_rows"] == 2400


def test_higher_prices_are_an_alarm_at_once_that_names_the_column_and_a_reason_to_retrain(place: str) -> None:
    found = monitored(place, raise_prices(customers(), 15))
    assert found.level == "alert" and found.is_alarm
    assert found.reasons[0].startswith("MonthlyCharges: moved by 0.")
    assert found.retrain.startswith("drift. MonthlyCharges")
    html = Path(found.page).read_text()
    assert "✗ Alert" in html and "MonthlyCharges" in html and 'src="http' not in html and "<script" not in html


def test_a_warning_is_an_alarm_when_it_comes_again_and_no_reason_to_retrain(place: str) -> None:
    first = monitored(place, raise_prices(customers(1500, 1), 6))
    assert (first.level, first.is_alarm) == ("warn", False) and "No alarm yet" in first.sentence
    again = monitored(place, window=first.window)
    assert not again.is_alarm  # the same window does not count twice
    second = monitored(place, raise_prices(customers(1500, 2), 6))
    assert (second.level, second.is_alarm, second.retrain) == ("warn", True, "")
    assert "in 2 of the last 3 windows" in second.sentence
    assert [one["window"] for one in told(second)["windows"]] == [first.window, second.window]
    assert '<svg class="history"' in Path(second.page).read_text()


def test_few_rows_are_not_judged(place: str) -> None:
    found = monitored(place, raise_prices(customers(300), 40))
    assert (found.level, found.is_alarm, found.reasons) == ("few rows", False, [])
    assert found.sentence == "300 rows are too few to judge: at least 500 are needed."
    assert monitored(place, customers(1)).sentence.startswith("1 row is too few")


def test_without_an_id_the_window_that_was_scored_last_is_taken(place: str) -> None:
    first, second = monitored(place, customers(600, 1)), monitored(place, customers(600, 2))
    assert monitored(place).window == second.window != first.window
    assert monitored(place, window=first.window).window == first.window
    with pytest.raises(NoWindow, match="no scored window 'abc'"):
        monitored(place, window="abc")


def test_without_any_window_the_message_says_how_to_make_one(place: str) -> None:
    with pytest.raises(NoWindow) as error:
        monitored(place)
    assert "modelkeep monitor churn --input FILE" in str(error.value)


# Bad data


def test_a_file_of_another_schema_is_an_alarm_without_a_verdict_on_drift(place: str) -> None:
    found = monitored(place, customers().rename(columns={"tenure": "months"}))
    assert (found.level, found.is_alarm, found.retrain, found.page) == ("bad data", True, "", "")
    assert "Columns are missing: tenure" in found.sentence
    assert [one.level for one in read_verdicts(open_store(place), "churn")] == ["bad data"]


def test_too_many_rows_that_break_a_rule_are_bad_data_and_drift_is_not_measured(place: str) -> None:
    table = customers()
    found = monitored(place, table.assign(PaymentMethod=table["PaymentMethod"].mask(np.arange(900) < 90, "coins")))
    assert (found.level, found.is_alarm, found.retrain) == ("bad data", True, "")
    assert "10.0 % of the rows broke a rule" in found.sentence and told(found)["drift"] is None
    assert "✗ Bad data" in Path(found.page).read_text()


def test_a_rule_about_a_whole_column_stops_a_window_that_its_rows_one_by_one_do_not(place: str) -> None:
    table = customers()
    found = monitored(place, table.assign(customerID=table["customerID"].mask(np.arange(900) == 5, "0001-00001")))
    assert found.level == "bad data" and "customerID (expected no value twice)" in found.sentence


# Performance


def write_labels(folder: Path, model: keras.Model, table: pd.DataFrame, *, flip: bool) -> str:
    truth = draw_truth(ask(model, table.assign(Churn="No")), seed=7)
    names = np.where(truth != flip, "leaves", "stays")
    path = folder / "labels.csv"
    pd.DataFrame({"row": np.arange(len(table)), "target": names}).to_csv(path, index=False)
    return str(path)


def test_labels_that_show_a_drop_are_an_alarm_and_the_reason_to_retrain(
    place: str, crowned: tuple[Path, keras.Model], tmp_path: Path
) -> None:
    table = customers()
    good = monitored(place, table, labels=write_labels(tmp_path, crowned[1], table, flip=False))
    assert (good.level, good.is_alarm) == ("none", False), good.sentence
    assert told(good)["performance"]["num_rows"] == 900 and told(good)["estimate"] is None
    bad = monitored(place, window=good.window, labels=write_labels(tmp_path, crowned[1], table, flip=True))
    assert (bad.level, bad.is_alarm) == ("alert", True) and bad.retrain.startswith("a drop that labels show.")
    (kept,) = read_verdicts(open_store(place), "churn")
    assert kept.level == "alert" and kept.value is not None and kept.value < 0.5


def test_a_later_look_without_labels_keeps_what_they_showed(
    place: str, crowned: tuple[Path, keras.Model], tmp_path: Path
) -> None:
    table = customers()
    bad = monitored(place, table, labels=write_labels(tmp_path, crowned[1], table, flip=True))
    again = monitored(place)
    assert again == bad and told(again)["performance"]["num_rows"] == 900
    monitored(place, window=bad.window, labels=write_labels(tmp_path, crowned[1], table, flip=False))
    assert monitored(place).level == "none"


def test_drift_that_does_no_harm_by_its_labels_is_an_alarm_and_no_reason_to_retrain(
    place: str, crowned: tuple[Path, keras.Model], tmp_path: Path
) -> None:
    table = raise_prices(customers(), 15)
    labels = write_labels(tmp_path, crowned[1], table, flip=False)
    found = monitored(place, table, labels=labels)
    assert (found.level, found.is_alarm, found.retrain) == ("alert", True, "")


def test_without_labels_the_metric_is_estimated_and_said_to_hold_for_covariate_shift_only(
    place: str, crowned: tuple[Path, keras.Model]
) -> None:
    table = customers()
    found = told(monitored(place, table))
    predictions = ask(crowned[1], table.assign(Churn="No"))
    truth = draw_truth(predictions, seed=7)
    real = problem.objective.metric("roc_auc").compute(truth, predictions, None)[0]
    assert abs(found["estimate"]["value"] - real) < 0.05 and found["performance"] is None
    assert "covariate shift only" in found["estimate"]["assumption"]


def test_a_version_that_is_not_champion_any_more_is_no_reason_to_retrain(place: str) -> None:
    found = monitored(place, raise_prices(customers(), 15))
    store = open_store(place)
    version = Registry(store).champion("churn")
    assert version is not None
    who: dict[str, Any] = {"actor": "test", "reason": "test"}
    Registry(store).register("churn", run="churn-2", manifest=version.manifest, metrics={}, weights="w", **who)
    Registry(store).promote("churn", 2, expected=1, run="churn-2", **who)
    again = monitored(place, window=found.window)
    assert (again.level, again.is_alarm, again.retrain) == ("alert", True, "")


def test_a_version_without_a_reference_cannot_be_monitored(place: str) -> None:
    store = open_store(place)
    ref = store.put_bytes("runs/churn/churn-20260102T000000-000002/manifest.json", b'{"artifacts": {}}', kind="json")
    found = monitored(place, customers())
    kept = take_window.fn("churn", found.window, "", place)
    assert isinstance(kept, KeptWindow) and ref
    with pytest.raises(ModelkeepError, match="has no reference"):
        measure_window.fn(replace(kept, run="churn-20260102T000000-000002"), "", place)


# What is kept


def test_monitoring_a_window_again_keeps_the_same_files(place: str) -> None:
    first = monitored(place, customers())
    assert monitored(place, window=first.window) == first
    assert len(list(Path(first.page).parent.parent.glob("drift-*"))) == 1


def test_a_page_that_looks_otherwise_since_does_not_stop_monitoring(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = monitored(place, customers())
    monkeypatch.setattr("tasks.drift_page.HEADINGS", {**HEADINGS, "none": "✓ Quiet"})
    again = monitored(place, window=first.window)
    assert "✓ Quiet" in Path(again.page).read_text() and again.page != first.page


def test_the_last_verdict_is_on_the_page_of_the_store(place: str) -> None:
    assert "no drift" not in render_index(open_store(place))
    monitored(place, customers())
    assert "no drift" in render_index(open_store(place))
    monitored(place, raise_prices(customers(), 15))
    page = render_index(open_store(place))
    assert "✗ alarm" in page and "MonthlyCharges: moved by" in page


def test_of_a_large_file_the_same_rows_are_read_whatever_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_ROWS", 1000)
    frame = pd.DataFrame({"row": np.arange(200_000), "value": np.arange(200_000) % 7})
    frame.to_parquet(tmp_path / "f.parquet", row_group_size=30_000)
    read = read_rows(tmp_path / "f.parquet")
    assert len(read) == 1000 and read["row"].is_monotonic_increasing
    pd.testing.assert_frame_equal(read, frame.iloc[read["row"]].reset_index(drop=True))


def test_the_window_that_was_asked_for_last_is_found_on_every_store(store: Store, tmp_path: Path) -> None:
    record_verdict(store, "churn", verdict(1))
    for window in ("c", "a", "b"):
        told: dict[str, Any] = {"problem": "churn", "input": {}, "version": 1, "run": "r", "num_scored": 1}
        (tmp_path / "scores.csv").write_text(window)
        keep_window(store, {"scores": tmp_path / "scores.csv"}, window=window, num_set_aside=0, **told)
    assert choose_window(store, "churn").window == "b"
    assert choose_window(store, "churn", "c").window == "c"
    note_last(store, choose_window(store, "churn", "a"))
    assert choose_window(store, "churn").window == "a"


def verdict(number: int, level: str = "none", version: int = 1) -> Verdict:
    told = f"2026-01-01T00:00:{number:02d}+00:00"
    return Verdict(f"w{number}", told, version, level, False, "", "It is.", 900)


def test_verdicts_stand_in_the_order_of_their_windows_and_the_last_look_counts(store: Store) -> None:
    for number in (3, 1, 2):
        record_verdict(store, "churn", verdict(number))
    record_verdict(store, "churn", verdict(2, "warn"))
    kept = read_verdicts(store, "churn")
    assert [(one.window, one.level) for one in kept] == [("w1", "none"), ("w2", "warn"), ("w3", "none")]
    assert [one.window for one in before(kept, "w3", kept[2].when)] == ["w1", "w2"]
    assert read_verdicts(store, "housing") == []


@pytest.mark.parametrize(
    ("earlier", "level", "alarm"),
    [
        ("", "warn", False),
        ("warn", "warn", True),
        ("warn none", "warn", True),
        ("warn none none", "warn", False),
        ("alert none", "warn", True),
        ("warn few bad", "warn", True),
        ("warn warn", "none", False),
        ("", "alert", True),
    ],
)
def test_warnings_are_an_alarm_when_two_of_the_last_three_judged_windows_have_one(
    earlier: str, level: str, alarm: bool
) -> None:
    names = {"few": "few rows", "bad": "bad data"}
    verdicts = [verdict(number, names.get(one, one)) for number, one in enumerate(earlier.split())]
    assert is_persistent(level, verdicts, 1, (2, 3)) is alarm
    assert is_persistent("warn", [replace(one, version=2) for one in verdicts], 1, (2, 3)) is False


def test_bad_data_is_never_a_reason_to_retrain_whatever_was_found_before() -> None:
    kept = KeptWindow("w", "churn", {}, 1, "run", "2026-01-02", 900, 0, {})
    found = judge(problem, kept, {"failures": ["tenure is missing"]}, None, [verdict(1, "alert")], True)
    assert (found.level, found.is_alarm, found.retrain) == ("bad data", True, "")
