"""Carbon dioxide: how much of it will be in the air over Mauna Loa a year from now?  (forecast, series)

Source    NOAA and Scripps, Mauna Loa Observatory, monthly means in ppm, March 1958 to December 2016, by DataHub co2-ppm
Book      none; DLWP 2nd ed. §10.2 compares dense, convolution and LSTM on temperatures with the same time a day before
Measured  MAE 0.79 ppm (0.78 to 0.79 over seeds 0-2), linear 0.76, convolution 0.82 (0.75 to 0.86), LSTM 0.84, the year
          before 2.22; 7-17 s with 4 folds (LSTM 32-47 s), 0.9 GB, 2 CPU cores, 2026-11-21:
          modelkeep train co2 --seed 0. Without a network, going on by the mean growth of the last two years has
          0.55 on the same 132 months: it grew by 2.2 ppm a year then and by 1.4 in the years that were trained on, and
          every network forecasts too little
Caution   the address holds a file that grows, and whose columns are shifted in later states: these 706 months are an
          older one. Seven months to 1984 were not measured and are NOAA's interpolation, which knew later months
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from problems.outline import (
    Above,
    Backtest,
    BeatsBaseline,
    Below,
    Examples,
    Files,
    Forecast,
    Inputs,
    Problem,
    Rows,
    Source,
)
from problems.outline.windows import WindowHyperparameters, build_window_model, inputs_by_month, read_by_month

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations import Expectation

FILE = "co2-mm-mlo_2017_wellformed.csv"
LENGTH, HORIZON = 36, 12  # months


def read(files: Files) -> Examples:
    """Windows of 36 months in ppm, float32 (n, 36), and the value 12 months after the last of them, float32 (n,)."""
    return read_by_month(_read_months(files), "value", length=LENGTH, horizon=HORIZON)


def inputs(table: pd.DataFrame) -> Inputs:
    return inputs_by_month(table, "value", length=LENGTH, horizon=HORIZON)


def _read_months(files: Files) -> pd.DataFrame:
    """One row a month, those between that are not in the file too: month, value (ppm, NaN where unknown), copies (how
    often the month is in the file), measured, and change from the month before (ppm)."""
    from problems.outline.raw import read_csv

    table = read_csv(files[FILE], {"Date": "date", "Average": "float64", "Interpolated": "float64"})
    # The columns hold -99.99 where there is nothing.
    table = table.assign(month=table["Date"], value=table["Interpolated"].where(table["Interpolated"] > 0))
    table = table.assign(
        measured=table["Average"] > 0, copies=table.groupby("month")["month"].transform("size").astype("int64")
    )
    months = table.drop_duplicates("month", keep="last").set_index("month").sort_index().asfreq("MS").reset_index()
    return months.assign(
        measured=months["measured"].eq(True), copies=months["copies"].fillna(0), change=months["value"].diff()
    )[["month", "value", "copies", "measured", "change"]]


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=120, max_value=2_000),
        gxe.ExpectColumnValuesToBeUnique(column="month"),
        gxe.ExpectColumnValuesToBeInSet(column="copies", value_set=[1]),
        gxe.ExpectColumnValuesToBeBetween(column="num_known", min_value=LENGTH, max_value=LENGTH),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("value", "last_year")),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=300, max_value=600)
            for name in ("value", "lowest", "highest")
        ),
        # The season moves it by up to 2.5 ppm a month: more is another unit, or a shifted column.
        gxe.ExpectColumnValuesToBeBetween(column="change", min_value=-4, max_value=4),
        gxe.ExpectColumnMeanToBeBetween(column="change", min_value=0.0, max_value=0.5),
        gxe.ExpectColumnValuesToBeInSet(column="measured", value_set=[True], mostly=0.97),
    ]


problem = Problem(
    name="co2",
    objective=Forecast(
        unit="ppm", time="month", naive="last_year", naive_name="the same month of the year before", block=12
    ),
    sources=(
        Source(
            name=FILE,
            url="https://datahub.io/core/co2-ppm/r/co2-mm-mlo.csv",
            sha256="a45e4555982ca202a95a64e62d027ab75b4999eee0228f328a6bfc88aa9e5351",
            size=31_121,
            licence="PDDL 1.0",
        ),
    ),
    read=read,
    rows=Rows(columns={"month": "date", "value": "float64"}, inputs=inputs, shown=("month",), is_series=True),
    expectations=expectations,
    split=Backtest(column="month", origins=4, test=0.2, gap=HORIZON - 1),
    build=build_window_model,
    hyperparameters=WindowHyperparameters,
    slices=("decade",),
    acceptance=(Below("mae", 0.95), Above("coverage", 0.7), BeatsBaseline()),
    variants={name: {"network": name} for name in ("linear", "dense", "convolution", "lstm")},
)
