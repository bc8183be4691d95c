"""Climate: how far will the world's temperature be from its 20th century mean in a year?  (forecast, series)

Source    NOAA Climate at a Glance (gcag), monthly anomalies in °C, January 1850 to July 2024, by DataHub global-temp
Book      none; DLWP 2nd ed. §10.2 compares dense, convolution and LSTM on temperatures with the same time a day before
Measured  MAE 0.129 °C (0.128 to 0.129 over seeds 0-2), LSTM 0.119 (0.116 to 0.121), linear 0.121, convolution 0.143
          (not accepted), the year before 0.147; 8-35 s with 4 folds (LSTM 57-124 s), 0.9 GB, 2 CPU cores, 2026-11-21:
          modelkeep train climate --seed 0
Caution   the address holds a file that grows: these 2,095 months are a copy as published in 2024. The months before
          1880 rest on few stations. The second series of the file, GISTEMP, has another base period and is not used
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

FILE = "global-temp-monthly.csv"
SERIES = "gcag"
LENGTH, HORIZON = 36, 12  # months


def read(files: Files) -> Examples:
    """Windows of 36 months in °C, float32 (n, 36), and the anomaly 12 months after the last, float32 (n,)."""
    return read_by_month(_read_months(files), "anomaly", length=LENGTH, horizon=HORIZON)


def inputs(table: pd.DataFrame) -> Inputs:
    return inputs_by_month(table, "anomaly", length=LENGTH, horizon=HORIZON)


def _read_months(files: Files) -> pd.DataFrame:
    """One row a month, those between that are not in the file too: month, anomaly (°C, NaN where unknown), copies (how
    often the month is in the file), and change from the month before (°C)."""
    import pandas as pd

    from problems.outline.raw import BadInput, read_csv

    table = read_csv(files[FILE], {"Source": "str", "Year": "str", "Mean": "float64"})
    table = table[table["Source"].str.lower() == SERIES]
    month = pd.to_datetime(table["Year"], format="%Y-%m", errors="coerce")
    if not len(table) or month.isna().any():
        raise BadInput(
            f"The file holds no series {SERIES!r} by month.",
            where=str(files[FILE]),
            expected=f"rows whose Source is {SERIES} and whose Year is such as 1850-01",
            received="none" if not len(table) else f"the Year {table['Year'][month.isna()].iloc[0]!r}",
            next_step="give a file of the layout that DataHub's global-temp has had since 2024",
        )
    table = table.assign(month=month, anomaly=table["Mean"], copies=month.groupby(month).transform("size"))
    months = table.drop_duplicates("month", keep="last").set_index("month").sort_index().asfreq("MS").reset_index()
    return months.assign(copies=months["copies"].fillna(0), change=months["anomaly"].diff())[
        ["month", "anomaly", "copies", "change"]
    ]


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=120, max_value=5_000),
        gxe.ExpectColumnValuesToBeUnique(column="month"),
        gxe.ExpectColumnValuesToBeInSet(column="copies", value_set=[1]),
        gxe.ExpectColumnValuesToBeBetween(column="num_known", min_value=LENGTH, max_value=LENGTH),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("anomaly", "last_year")),
        # Hundredths of a degree, or temperatures in place of anomalies, would be far outside.
        *(
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-3, max_value=3)
            for name in ("anomaly", "lowest", "highest")
        ),
        gxe.ExpectColumnStdevToBeBetween(column="anomaly", min_value=0.1, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="change", min_value=-1, max_value=1),
    ]


problem = Problem(
    name="climate",
    objective=Forecast(
        unit="°C",
        time="month",
        naive="last_year",
        naive_name="the same month of the year before",
        block=24,
        is_ratio=False,
    ),
    sources=(
        Source(
            name=FILE,
            url="https://datahub.io/core/global-temp/r/monthly.csv",
            sha256="b21c8bfd6a775b04f1c42cc70c91e95246b06570391a8f5dec0b9f31888658f1",
            size=83_924,
            licence="PDDL 1.0",
        ),
    ),
    read=read,
    rows=Rows(columns={"month": "date", "anomaly": "float64"}, inputs=inputs, shown=("month",), is_series=True),
    expectations=expectations,
    split=Backtest(column="month", origins=4, test=0.2, gap=HORIZON - 1),
    build=build_window_model,
    hyperparameters=WindowHyperparameters,
    slices=("decade",),
    acceptance=(Below("mae", 0.14), Above("coverage", 0.8), BeatsBaseline()),
    variants={name: {"network": name} for name in ("linear", "dense", "convolution", "lstm")},
)
