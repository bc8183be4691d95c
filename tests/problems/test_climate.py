"""Temperature anomalies a year ahead: one of the series of the file, by month."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.climate import FILE, HORIZON, LENGTH, expectations, problem
from problems.outline import Examples, Files
from problems.outline.raw import BadInput
from validation.gate import ValidationFailed, require, validate

NUM_MONTHS = 240


def make_months(num_months: int = NUM_MONTHS) -> pd.DataFrame:
    """Slow waves and a rise, and a second series that is something else."""
    random, months = np.random.default_rng(0), np.arange(num_months)
    slow = np.convolve(random.normal(0, 0.3, num_months + 11), np.ones(12) / 12, mode="valid")
    anomaly = slow + months / 400 + random.normal(0, 0.05, num_months)
    dates = pd.date_range("1900-01-01", periods=num_months, freq="MS").strftime("%Y-%m")
    own = pd.DataFrame({"Source": "gcag", "Year": dates, "Mean": anomaly.round(4)})
    return pd.concat([own, own.assign(Source="GISTEMP", Mean=9.0)], ignore_index=True)


def write(folder: Path, months: pd.DataFrame) -> Path:
    path = folder / "temperatures.csv"
    months.to_csv(path, index=False)
    return path


def make_sample(folder: Path) -> Path:
    return write(folder, make_months())


def read(folder: Path, months: pd.DataFrame) -> Examples:
    return problem.read(Files({FILE: write(folder, months)}))


def test_only_the_one_series_is_read_and_in_the_order_of_time(tmp_path: Path) -> None:
    months = make_months()
    examples = read(tmp_path, months.iloc[::-1])
    expected = months["Mean"][LENGTH + HORIZON - 1 : NUM_MONTHS].to_numpy()
    assert examples.target == pytest.approx(expected, abs=1e-4)
    assert examples.frame["last_year"].to_numpy() == pytest.approx(examples.features["window"][:, -1])


def test_a_file_without_the_series_or_with_other_dates_says_so(tmp_path: Path) -> None:
    months = make_months()
    with pytest.raises(BadInput, match=r"received *none"):
        read(tmp_path, months[months["Source"] == "GISTEMP"])
    with pytest.raises(BadInput, match=r"received *the Year '1900'"):
        read(tmp_path, months.assign(Year="1900"))


def test_sound_months_pass_and_hundredths_of_a_degree_are_found(tmp_path: Path) -> None:
    months = make_months()
    require(validate(read(tmp_path, months).frame, expectations(), name="climate"))
    with pytest.raises(ValidationFailed):
        require(
            validate(read(tmp_path, months.assign(Mean=months["Mean"] * 100)).frame, expectations(), name="climate")
        )
