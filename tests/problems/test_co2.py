"""Carbon dioxide a year ahead: windows of months, and months that were not measured or are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.co2 import FILE, HORIZON, LENGTH, expectations, problem
from problems.outline import Examples, Files
from validation.gate import ValidationFailed, require, validate

NUM_MONTHS = 200


def make_months(num_months: int = NUM_MONTHS) -> pd.DataFrame:
    """A season on a growing level, one month of it not measured."""
    months = np.arange(num_months)
    value = (
        340 + 0.12 * months + 3 * np.sin(2 * np.pi * months / 12) + np.random.default_rng(0).normal(0, 0.2, len(months))
    )
    average = value.copy()
    average[20] = -99.99
    dates = pd.date_range("1980-01-01", periods=num_months, freq="MS").strftime("%Y-%m-%d")
    return pd.DataFrame({"Date": dates, "Average": average.round(2), "Interpolated": value.round(2)})


def write(folder: Path, months: pd.DataFrame) -> Path:
    path = folder / "co2.csv"
    months.to_csv(path, index=False)
    return path


def make_sample(folder: Path) -> Path:
    return write(folder, make_months())


def read(folder: Path, months: pd.DataFrame) -> Examples:
    return problem.read(Files({FILE: write(folder, months)}))


def test_the_target_is_a_year_after_the_window_and_the_baseline_a_year_before_the_target(tmp_path: Path) -> None:
    months = make_months()
    examples = read(tmp_path, months)
    assert len(examples) == NUM_MONTHS - LENGTH - HORIZON + 1
    assert examples.target == pytest.approx(months["Interpolated"][LENGTH + HORIZON - 1 :].to_numpy(), abs=1e-3)
    assert examples.frame["last_year"].to_numpy() == pytest.approx(examples.features["window"][:, -1])
    before = months.set_index("Date")["Interpolated"]
    row = examples.frame.iloc[5]
    assert row["last_year"] == pytest.approx(before[f"{row['month'].year - 1}-{row['month'].month:02d}-01"], abs=1e-3)


def test_no_value_of_a_later_month_changes_a_window(tmp_path: Path) -> None:
    months = make_months()
    later = months.assign(Interpolated=months["Interpolated"] + np.where(months.index >= 100, 5, 0))
    first, second = read(tmp_path, months), read(tmp_path, later)
    known_then = (first.frame["month"] - pd.DateOffset(months=HORIZON)) < pd.to_datetime(months["Date"][100])
    assert 0 < known_then.sum() < len(first)
    for examples in (first, second):
        assert len(examples) == len(first)
    assert np.array_equal(first.features["window"][known_then], second.features["window"][known_then])


def test_sound_months_pass_and_a_month_that_is_there_twice_is_found(tmp_path: Path) -> None:
    months = make_months()
    require(validate(read(tmp_path, months).frame, expectations(), name="co2"))
    twice = pd.concat([months, months.iloc[[90]]])
    with pytest.raises(ValidationFailed):
        require(validate(read(tmp_path, twice).frame, expectations(), name="co2"))


def test_values_in_another_unit_are_found(tmp_path: Path) -> None:
    months = make_months()
    wrong_unit = months.assign(Interpolated=months["Interpolated"] * 1000)
    with pytest.raises(ValidationFailed):
        require(validate(read(tmp_path, wrong_unit).frame, expectations(), name="co2"))


def test_windows_over_a_month_without_a_value_are_left_out(tmp_path: Path) -> None:
    months = make_months()
    marked = months.assign(Interpolated=months["Interpolated"].where(months.index != 120, -99.99))
    missing = months.drop(index=120)
    for frame in (marked, missing):
        examples = read(tmp_path, frame)
        assert len(examples) == NUM_MONTHS - LENGTH - HORIZON + 1 - LENGTH - 1
        assert examples.features["window"].min() > 300
