"""The past once more: which periods there are, what is known when one begins, and when a challenger is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.co2 import HORIZON, problem
from problems.outline import Backtest, Examples
from store import open_store
from store.artifacts import Store
from store.steps import Lease, StepRecord, claim_step
from tasks.examples import save_examples
from tasks.simulate import COOLDOWN_PERIODS, Calendar, choose_cause, lend_sources, open_calendar
from tasks.simulation import measure_gain
from tasks.verdicts import Verdict

NUM_MONTHS = 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def keep(store: Store, moments: pd.DatetimeIndex, column: str = "month") -> StepRecord:
    """Examples as `ingest` keeps them, the latest first."""
    later = moments[::-1]
    target = np.arange(len(later), dtype=np.float32)[::-1].copy()
    frame = pd.DataFrame({column: later, "last_year": target})
    claimed = claim_step(store, "co2", "ingest", "0" * 64)
    assert isinstance(claimed, Lease)
    with claimed as lease:
        return lease.publish(save_examples(Examples({"window": target[:, None]}, target, frame), lease), {})


def open_months(store: Store, start: str = "2003-05-01") -> Calendar:
    return open_calendar(problem, store, keep(store, pd.date_range("2000-01-01", periods=NUM_MONTHS, freq="MS")), start)


def test_what_comes_monthly_is_lived_through_in_years_that_begin_after_the_start(store: Store) -> None:
    world = open_months(store)
    assert (world.unit, [period.name for period in world.periods]) == ("year", [str(2004 + year) for year in range(6)])
    assert [len(period.rows) for period in world.periods] == [12] * 6
    assert world.examples.target[world.periods[0].rows].tolist() == list(range(48, 60))  # in the order of time
    assert world.lived(3, 1).tolist() == list(range(60, 84))


def test_what_comes_daily_is_lived_through_in_weeks(store: Store) -> None:
    daily = replace(problem, split=Backtest(column="month", origins=3, test=0.2))
    days = keep(store, pd.date_range("2016-01-01", periods=90, freq="D"))
    world = open_calendar(daily, store, days, "2016-02-10")
    assert (world.unit, world.periods[0].name, len(world.periods[0].rows)) == ("week", "2016-02-15", 7)
    assert world.known(0) == {"until": "2016-02-14"}


def test_without_a_start_a_third_of_the_moments_is_known_before(store: Store) -> None:
    assert open_months(store, "").periods[0].name == "2004"


def test_a_model_knows_no_target_that_had_not_come_when_its_first_forecast_was_made(store: Store) -> None:
    """The forecast of January 2004 is made in January 2003, whose own value is the last that is known."""
    world = open_months(store)
    assert world.gap == HORIZON - 1
    assert [world.known(number)["until"] for number in (0, 1)] == ["2003-01-01", "2004-01-01"]


@pytest.mark.parametrize("start", ["1999-01-01", "2010-01-01", "soon"])
def test_a_start_with_nothing_before_or_after_it_is_refused(start: str, store: Store) -> None:
    with pytest.raises(ModelkeepError, match=r"nothing to live through|cannot be read"):
        open_months(store, start)


def verdict(retrain: str) -> Verdict:
    return Verdict("w", "2026-01-01", 1, "alert" if retrain else "none", bool(retrain), retrain, "It is.", 12)


def test_a_challenger_is_trained_when_monitoring_asks_for_it_and_not_soon_again(store: Store) -> None:
    world = open_months(store)
    assert choose_cause(world, verdict(""), 0, 0) == ""
    assert choose_cause(world, verdict("a drop"), 0, 0) == "a drop"
    world.retrainings.append({"after": 0})
    found = [choose_cause(world, verdict("a drop"), number, 0) for number in range(1, 6)]
    assert found == ["", "", "", "a drop", ""] and COOLDOWN_PERIODS == 4  # after the last period there is no next


def test_a_schedule_counts_from_the_last_retraining(store: Store) -> None:
    world = open_months(store)
    assert [bool(choose_cause(world, verdict(""), number, 2)) for number in range(3)] == [False, True, True]
    world.retrainings.append({"after": 1})
    assert choose_cause(world, verdict(""), 2, 2) == ""
    assert choose_cause(world, verdict(""), 3, 2) == "the schedule, each 2 years"


def test_the_gain_is_what_the_kept_one_is_better_by_and_its_interval_is_paired(store: Store) -> None:
    world, random = open_months(store), np.random.default_rng(0)
    errors = np.abs(random.normal(2, 0.1, NUM_MONTHS))
    world.forecasts = {
        name: problem.objective.predictions((world.examples.target + less * errors)[:, None])
        for name, less in (("kept", 0.5), ("left", 1.0))
    }
    rows = world.lived(len(world.periods))
    gain = measure_gain(world, rows)
    assert gain["value"] == pytest.approx(0.5 * errors[rows].mean(), abs=1e-4)
    low, high = gain["interval"]
    assert low < gain["value"] < high and low > 0.9 and "12 consecutive moments" in gain["method"]
    world.forecasts = {"kept": world.forecasts["left"], "left": world.forecasts["kept"]}
    assert measure_gain(world, rows)["value"] == pytest.approx(-gain["value"])


def test_raw_files_are_lent_to_the_store_of_a_simulation(store: Store, tmp_path: Path) -> None:
    (source,) = problem.sources
    key = f"sources/{source.sha256}/{source.file_name}"
    store.put_bytes(key, b"months", kind="raw")
    other = open_store(tmp_path / "other")
    lend_sources(problem, store, other)
    found = other.find(key, kind="raw")
    assert found and other.read_bytes(found) == b"months"
