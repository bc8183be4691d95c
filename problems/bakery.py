"""Bakery: what will each group of goods of a bakery in Kiel turn over on the next day?  (forecast, by time)

Source    opencampus.sh: 9,334 turnovers by day and group, July 2013 to July 2018, with the weather and Kieler Woche
Book      none; the course asks for a lower percentage error than the same weekday of the week before
Measured  MAPE 15.3 % (15.2 to 15.3 over seeds 0-2), linear 16.0 %, the week before 22.1 %; 7-14 s with 3 folds, 0.9 GB,
          2 CPU cores, 2026-11-21: modelkeep train bakery --seed 0
Caution   the weather is the one that came, as if its forecast had been perfect; all else was known the evening before.
          Unit and licence are not stated. The model misses New Year's Eve, when cake sells five times as much
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from problems.outline import (
    Above,
    Backtest,
    BeatsBaseline,
    Below,
    Examples,
    Files,
    Forecast,
    Hyperparameters,
    Inputs,
    Problem,
    Rows,
    Source,
    search,
)

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

SALES, WEATHER, FESTIVAL = "umsatzdaten_gekuerzt.csv", "wetter.csv", "kiwo.csv"
GROUPS = {1: "bread", 2: "rolls", 3: "croissants", 4: "confectionery", 5: "cake", 6: "seasonal bread"}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PAST_DAYS = 28
MOST_TURNOVER = 5_000
MOST_DAYS = 10_000  # between a date and the median one


class BakeryHyperparameters(Hyperparameters):
    """`network` linear has no hidden layer; `l2` keeps its weights small."""

    network: Literal["dense", "linear"] = "dense"
    units: int = search(64, low=16, high=128)
    dropout: float = search(0.2, low=0.0, high=0.5)
    l2: float = search(1e-4, low=1e-6, high=1e-2, log=True)
    epochs: int = search(20, low=10, high=100)
    batch_size: int = search(64, choices=(32, 64, 128))
    optimizer: str = "adam"


def read(files: Files) -> Examples:
    """A row for each day and group with a turnover but a group's first; float32 all:

    level     (n, 1) mean turnover of the known ones of the last 28 days
    past      (n, 28) logarithm of each of these days' turnover over the level, oldest first; 0 where there was none
    year_ago  (n, 2) the same for the same date and for the same weekday a year ago
    day       (n, 21) group, weekday, season, festival and holidays
    weather   (n, 4) clouds (eighths), temperature (°C), wind (as published), rain (0 or 1)
    """
    import numpy as np
    import pandas as pd

    sales = _read_sales(files)
    turnover = sales.pivot_table(index="date", columns="number", values="turnover", aggfunc="last").asfreq("D")
    known = _look_back(turnover)
    dates = pd.DatetimeIndex(turnover.index)
    days = _read_days(dates, files).join(describe_days(dates))
    place, group = np.nonzero(np.isfinite(turnover.to_numpy()) & np.isfinite(known["last_week"]))
    numbers = turnover.columns.to_numpy()[group]
    frame = days.iloc[place].reset_index(names="date")
    frame = frame.assign(
        turnover=turnover.to_numpy()[place, group],
        group=[GROUPS.get(number, str(number)) for number in numbers.tolist()],
        copies=sales.drop_duplicates(["date", "number"])
        .set_index(["date", "number"])["copies"]
        .loc[list(zip(frame["date"], numbers, strict=True))]
        .to_numpy(),
    )
    inputs = _describe(frame, {name: values[place, group] for name, values in known.items()})
    return inputs.with_target(frame["turnover"].to_numpy(np.float32))


def inputs(table: pd.DataFrame) -> Inputs:
    """As `read` makes them, of days and groups in any order; those to come stand too, with an empty turnover."""
    import numpy as np
    import pandas as pd

    dates = table["date"].dt.normalize()
    days = _days_around(dates)
    table = table.assign(date=dates, turnover=table["turnover"].where(table["turnover"].between(0, MOST_TURNOVER)))
    turnover = table.pivot_table(index="date", columns="group", values="turnover", aggfunc="last")
    turnover = turnover.reindex(days, columns=list(GROUPS.values()))
    place = turnover.index.get_indexer(pd.Index(dates))
    group = turnover.columns.get_indexer(pd.Index(table["group"]))
    known = {name: values[place, group] for name, values in _look_back(turnover).items()}
    # Of a row without a day or group that is known nothing is said: its rules set it aside.
    known["last_week"] = np.where((place < 0) | (group < 0), np.nan, known["last_week"])
    calendar = describe_days(days).iloc[place].reset_index(drop=True)
    return _describe(table.drop(columns="turnover").join(calendar), known)


def _days_around(dates: pd.Series) -> pd.DatetimeIndex:
    """From the first to the last date, but for those that are decades away from most of them, which are mistakes."""
    import pandas as pd

    known = dates.dropna()
    if not len(known):
        return pd.date_range("2000-01-01", periods=1)
    near = known[(known - known.median()).abs() <= pd.Timedelta(days=MOST_DAYS)]
    return pd.date_range(near.min(), near.max())


def _describe(frame: pd.DataFrame, known: Mapping[str, np.ndarray]) -> Inputs:
    """`frame` has date, group, calendar and weather of n rows; `known` what `_look_back` tells of them."""
    import numpy as np

    weather = frame.sort_values("date", kind="stable")[["clouds", "temperature", "wind", "rain"]]
    weather = weather.where(np.isfinite(weather)).ffill().fillna(0)
    features = {
        "level": known["level"][:, None],
        "past": known["past"],
        "year_ago": known["year_ago"],
        "day": _encode_days(frame),
        "weather": weather.loc[frame.index].to_numpy(),
    }
    frame = frame.assign(last_week=known["last_week"], days_since=known["days_since"])
    return Inputs({name: values.astype(np.float32) for name, values in features.items()}, frame)


def _read_sales(files: Files) -> pd.DataFrame:
    """Columns date, number (of the group), turnover, and copies: how often day and group are in the file."""
    from problems.outline.raw import read_csv

    table = read_csv(files[SALES], {"Datum": "date", "Warengruppe": "int64", "Umsatz": "float64"})
    table = table.rename(columns={"Datum": "date", "Warengruppe": "number", "Umsatz": "turnover"})
    return table.assign(copies=table.groupby(["date", "number"])["turnover"].transform("size"))


def _look_back(turnover: pd.DataFrame) -> dict[str, np.ndarray]:
    """What was known of each day and group the evening before, from turnovers (days, groups), NaN where closed.

    level and last_week (days, groups), past (days, groups, 28), year_ago (days, groups, 2); days_since (days, groups),
    how many days before any group had a turnover. last_week is the turnover of the same weekday, up to four weeks ago,
    else of the last day that had any.
    """
    import numpy as np
    import pandas as pd

    values = turnover.where(turnover > 0)
    before = np.concatenate([np.full((PAST_DAYS, values.shape[1]), np.nan), values.to_numpy()])
    past = np.lib.stride_tricks.sliding_window_view(before, PAST_DAYS, axis=0)[:-1]
    last_day = values.ffill().shift(1)
    last_week = values.shift(7).fillna(values.shift(14)).fillna(values.shift(21)).fillna(values.shift(28))
    known = np.isfinite(past)
    count = known.sum(axis=2)
    mean = np.where(known, past, 0).sum(axis=2) / np.maximum(count, 1)
    level = np.where(count > 0, mean, last_day)
    relative = np.nan_to_num(np.log(values.to_numpy() / level))
    a_year_ago = pd.DatetimeIndex(turnover.index) - pd.DateOffset(years=1)
    places = [turnover.index.get_indexer(a_year_ago), np.arange(len(turnover)) - 364]
    year_ago = [np.where(place[:, None] >= 0, relative[np.maximum(place, 0)], 0) for place in places]
    day = pd.Series(np.arange(len(values)), values.index)
    days_since = day - day.where(values.notna().any(axis=1)).ffill().shift(1)
    return {
        "days_since": np.repeat(days_since.to_numpy()[:, None], values.shape[1], axis=1),
        "level": level,
        "last_week": last_week.fillna(last_day).to_numpy(),
        "past": np.nan_to_num(np.log(past / level[:, :, None])),
        "year_ago": np.stack(year_ago, axis=2),
    }


def _read_days(dates: pd.DatetimeIndex, files: Files) -> pd.DataFrame:
    """By date: festival (of Kiel) and the weather, NaN where it is not known; rain is 1 for the weather codes from 50
    on (WMO 4677: drizzle and worse)."""
    import pandas as pd

    from problems.outline.raw import read_csv

    festival = pd.DatetimeIndex([])
    if FESTIVAL in files:
        festival = pd.DatetimeIndex(read_csv(files[FESTIVAL], {"Datum": "date", "KielerWoche": "int64"})["Datum"])
    days = pd.DataFrame({"festival": dates.isin(festival)}, index=dates)
    columns = {"Bewoelkung": "clouds", "Temperatur": "temperature", "Windgeschwindigkeit": "wind", "Wettercode": "code"}
    if WEATHER not in files:
        return days.assign(**dict.fromkeys(["clouds", "temperature", "wind", "rain"], float("nan")))
    weather = read_csv(files[WEATHER], {"Datum": "date", **dict.fromkeys(columns, "float64")})
    weather = weather.drop_duplicates("Datum", keep="last").set_index("Datum").rename(columns=columns).reindex(dates)
    rain = (weather["code"] >= 50).astype(float).where(weather["code"].notna())
    return days.join(weather.drop(columns="code")).assign(rain=rain)


def describe_days(dates: pd.DatetimeIndex) -> pd.DataFrame:
    """By date: weekday, holiday, eve (of a holiday) and new_years_eve."""
    import pandas as pd

    holidays = pd.DatetimeIndex([day for year in sorted(set(dates.year)) for day in public_holidays(year)])
    return pd.DataFrame(
        {
            "weekday": dates.day_name(),
            "holiday": dates.isin(holidays),
            "eve": dates.isin(holidays - pd.Timedelta(days=1)),
            "new_years_eve": (dates.month == 12) & (dates.day == 31),
        },
        index=dates,
    )


def public_holidays(year: int) -> list[pd.Timestamp]:
    """Those of Schleswig-Holstein; Reformation Day since 2017."""
    import pandas as pd

    easter = pd.Timestamp(year, 1, 1) + pd.offsets.Easter()
    fixed = [(1, 1), (5, 1), (10, 3), (12, 25), (12, 26), *([(10, 31)] if year >= 2017 else [])]
    movable = [-2, 0, 1, 39, 49, 50]  # Good Friday, Easter, Easter Monday, Ascension, Whit Sunday, Whit Monday
    days = [pd.Timestamp(year, month, day) for month, day in fixed]
    return sorted([*days, *(easter + pd.Timedelta(days=offset) for offset in movable)])


def _encode_days(frame: pd.DataFrame) -> np.ndarray:
    """(n, 21): 6 groups, 7 weekdays, 4 of the season (two waves a year), festival, holiday, eve, New Year's Eve."""
    import numpy as np

    groups = frame["group"].to_numpy(object)[:, None] == np.array(list(GROUPS.values()), object)
    weekdays = frame["weekday"].to_numpy()[:, None] == np.array(WEEKDAYS)
    turn = 2 * np.pi * frame["date"].dt.dayofyear.to_numpy()[:, None] / 365.25
    season = [np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)]
    flags = frame[["festival", "holiday", "eve", "new_years_eve"]].to_numpy()
    return np.concatenate([groups, weekdays, *season, flags], axis=1)


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=300, max_value=1_000_000),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name)
            for name in ("date", "group", "turnover", "last_week", "festival")
        ),
        gxe.ExpectColumnValuesToBeInSet(column="copies", value_set=[1]),
        # The shop is closed for two days at most; what is further ahead was not learnt.
        gxe.ExpectColumnValuesToBeBetween(column="days_since", min_value=1, max_value=4),
        gxe.ExpectColumnValuesToBeInSet(column="group", value_set=list(GROUPS.values())),
        gxe.ExpectColumnValuesToBeBetween(column="turnover", min_value=0, strict_min=True, max_value=MOST_TURNOVER),
        # Beyond it lie New Year's Eves and a few days of summer.
        gxe.ExpectColumnValuesToBeBetween(column="turnover", max_value=700, mostly=0.97),
        gxe.ExpectColumnMeanToBeBetween(column="turnover", min_value=50, max_value=500),
        gxe.ExpectColumnValuesToBeBetween(column="clouds", min_value=0, max_value=9),
        gxe.ExpectColumnValuesToBeBetween(column="temperature", min_value=-25, max_value=42),
        gxe.ExpectColumnValuesToBeBetween(column="wind", min_value=0, max_value=60),
        gxe.ExpectColumnValuesToNotBeNull(column="temperature", mostly=0.99, severity="warning"),
        # A quarter of the days have no weather code: rain is not known then.
        gxe.ExpectColumnValuesToNotBeNull(column="rain", mostly=0.7, severity="warning"),
    ]


def build(hyperparameters: BakeryHyperparameters, train: Examples) -> keras.Model:
    """The level of the last weeks times a factor that a network learns; training begins with the factor 1."""
    import keras
    from keras import layers

    inputs = {name: keras.Input(array.shape[1:], name=name) for name, array in train.features.items()}
    normalise = layers.Normalization()
    normalise.adapt(train.features["weather"])
    parts = [inputs["past"], inputs["year_ago"], inputs["day"], normalise(inputs["weather"])]
    hidden = layers.Concatenate()(parts)
    small = keras.regularizers.L2(hyperparameters.l2)
    if hyperparameters.network == "dense":
        for _ in range(2):
            hidden = layers.Dense(hyperparameters.units, activation="relu", kernel_regularizer=small)(hidden)
            hidden = layers.Dropout(hyperparameters.dropout)(hidden)
    last = layers.Dense(1, activation="exponential", kernel_initializer="zeros", kernel_regularizer=small)
    return keras.Model(inputs, layers.Multiply()([inputs["level"], last(hidden)]))


ADDRESS = "https://raw.githubusercontent.com/opencampus-sh/einfuehrung-in-data-science-und-ml/main"
LICENCE = "none stated; published for a course by opencampus.sh"

problem = Problem(
    name="bakery",
    objective=Forecast(
        time="date",
        naive="last_week",
        naive_name="the same weekday of the week before",
        block=14,
        main_metric="mape",
    ),
    sources=(
        Source(
            name=SALES,
            url=f"{ADDRESS}/{SALES}",
            sha256="099a2e609d3ef7286a465f34cb0e62ffb572ca4b454b22aa887c42ad3952dd62",
            size=353_811,
            licence=LICENCE,
        ),
        Source(
            name=WEATHER,
            url=f"{ADDRESS}/{WEATHER}",
            sha256="0bec07027638fcf0164ad00628d75f73d8b05c827b6e5800a31f593abf1271a8",
            size=65_739,
            licence=LICENCE,
            optional=True,
        ),
        Source(
            name=FESTIVAL,
            url=f"{ADDRESS}/{FESTIVAL}",
            sha256="80a2e3e587061c4a632fd2ee849ec65d37c6a6fb9721f2d6a7db4b7c9587fef8",
            size=1_027,
            licence=LICENCE,
            optional=True,
        ),
    ),
    read=read,
    rows=Rows(
        columns={
            "date": "date",
            "group": "str",
            "turnover": "float64",
            "festival": "bool",
            **dict.fromkeys(("clouds", "temperature", "wind", "rain"), "float64"),
        },
        inputs=inputs,
        shown=("date", "group"),
        is_series=True,
    ),
    expectations=expectations,
    split=Backtest(column="date", origins=3, test=0.2),
    build=build,
    hyperparameters=BakeryHyperparameters,
    slices=("group", "weekday", "festival", "holiday"),
    acceptance=(Below("mape", 0.17), Above("coverage", 0.85), BeatsBaseline()),
    variants={"dense": {"network": "dense"}, "linear": {"network": "linear"}},
)
