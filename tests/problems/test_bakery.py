"""The bakery: what was known the evening before, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.bakery import FESTIVAL, SALES, WEATHER, expectations, problem, public_holidays
from problems.outline import Examples, Files
from validation.gate import ValidationFailed, require, validate

NUM_DAYS = 120


def make_sales(num_days: int = NUM_DAYS) -> pd.DataFrame:
    """Six groups with a week's rhythm; closed on the tenth day, and the last group begins in the fifth week."""
    random, days = np.random.default_rng(0), pd.date_range("2016-11-01", periods=num_days)
    parts = []
    for number in range(1, 7):
        value = 40 * number * (1 + 0.4 * (days.dayofweek >= 5)) * np.exp(random.normal(0, 0.1, num_days))
        sales = pd.DataFrame({"Datum": days.strftime("%Y-%m-%d"), "Warengruppe": number, "Umsatz": value})
        parts.append(sales.drop(index=10).iloc[28 if number == 6 else 0 :])
    return pd.concat(parts, ignore_index=True)


def make_weather(num_days: int = NUM_DAYS) -> pd.DataFrame:
    days, random = pd.date_range("2016-11-01", periods=num_days), np.random.default_rng(1)
    return pd.DataFrame(
        {
            "Datum": days.strftime("%Y-%m-%d"),
            "Bewoelkung": random.integers(0, 9, num_days),
            "Temperatur": random.normal(5, 4, num_days).round(1),
            "Windgeschwindigkeit": random.integers(0, 20, num_days),
            "Wettercode": np.where(np.arange(num_days) % 4 == 0, np.nan, random.integers(0, 96, num_days)),
        }
    )


def make_sample(folder: Path) -> Path:
    path = folder / "sales.csv"
    make_sales().to_csv(path, index=False)
    return path


def read(folder: Path, sales: pd.DataFrame, weather: pd.DataFrame | None = None, festival: str = "") -> Examples:
    tables = {SALES: sales, WEATHER: make_weather() if weather is None else weather}
    tables |= {FESTIVAL: pd.DataFrame({"Datum": [festival], "KielerWoche": [1]})} if festival else {}
    for name, table in tables.items():
        table.to_csv(folder / name, index=False)
    return problem.read(Files({name: folder / name for name in tables}))


def test_no_value_of_a_later_day_changes_what_is_known_of_an_earlier_one(tmp_path: Path) -> None:
    sales, weather = make_sales(), make_weather()
    changed_day = "2017-01-20"
    louder = sales.assign(Umsatz=sales["Umsatz"] * np.where(sales["Datum"] >= changed_day, 3.0, 1.0))
    stormy = weather.assign(
        Temperatur=weather["Temperatur"].where(weather["Datum"] <= changed_day, -20),
        Bewoelkung=weather["Bewoelkung"].where(weather["Datum"] <= changed_day),
    )
    first, second = read(tmp_path, sales, weather), read(tmp_path, louder, stormy, festival="2017-02-01")
    until = (first.frame["date"] <= changed_day).to_numpy()
    assert len(first) == len(second) and 0 < until.sum() < len(first)
    for name, array in first.features.items():
        assert np.array_equal(array[until], second.features[name][until]), name
        assert not np.array_equal(array, second.features[name]) or name == "year_ago", name
    assert np.array_equal(first.frame["last_week"][until], second.frame["last_week"][until])


def test_the_last_days_of_the_past_are_yesterday_and_the_day_before(tmp_path: Path) -> None:
    sales = make_sales()
    examples = read(tmp_path, sales)
    row = np.flatnonzero((examples.frame["date"] == "2017-01-10") & (examples.frame["group"] == "rolls"))[0]
    known = sales[sales["Warengruppe"] == 2].set_index("Datum")["Umsatz"]
    days = pd.date_range("2016-12-13", "2017-01-09").strftime("%Y-%m-%d")
    level, past = examples.features["level"][row, 0], examples.features["past"][row]
    assert level == pytest.approx(known[days].mean(), rel=1e-5)
    assert level * np.exp(past) == pytest.approx(known[days].to_numpy(), rel=1e-4)
    assert examples.frame["last_week"][row] == pytest.approx(known["2017-01-03"])
    assert examples.target[row] == pytest.approx(known["2017-01-10"], rel=1e-5)


def test_where_the_shop_was_closed_a_week_ago_the_week_before_it_counts(tmp_path: Path) -> None:
    sales = make_sales()
    frame = read(tmp_path, sales).frame
    # The 11th of November was closed, so the 18th looks back to the 4th.
    row = frame[(frame["date"] == "2016-11-18") & (frame["group"] == "bread")].iloc[0]
    known = sales[sales["Warengruppe"] == 1].set_index("Datum")["Umsatz"]
    assert row["last_week"] == pytest.approx(known["2016-11-04"])


def test_the_same_date_a_year_ago_is_seen(tmp_path: Path) -> None:
    sales = make_sales(430)
    cake = (sales["Warengruppe"] == 5) & (sales["Datum"] == "2016-12-31")
    examples = read(tmp_path, sales.assign(Umsatz=sales["Umsatz"].where(~cake, 2_000)))
    row = np.flatnonzero((examples.frame["date"] == "2017-12-31") & (examples.frame["group"] == "cake"))[0]
    assert examples.features["year_ago"][row, 0] > 1.5
    assert examples.features["year_ago"][row, 1] < 1.5


def test_weather_may_be_unknown_and_is_then_that_of_the_day_before(tmp_path: Path) -> None:
    weather = make_weather()
    gap = weather.assign(Temperatur=weather["Temperatur"].where(weather["Datum"] != "2017-01-10"))
    examples = read(tmp_path, make_sales(), gap)
    by_day = pd.Series(examples.features["weather"][:, 1], index=examples.frame["date"])
    assert by_day["2017-01-10"].tolist() == by_day["2017-01-09"].tolist()
    assert examples.frame["temperature"][examples.frame["date"] == "2017-01-10"].isna().all()
    own = problem.read(Files({SALES: tmp_path / SALES}))
    assert (own.features["weather"] == 0).all() and len(own) == len(examples)


def test_holidays_are_those_of_the_calendar() -> None:
    days = [f"{day:%m-%d}" for day in public_holidays(2018)]
    easter = ["03-30", "04-01", "04-02"]
    assert days == ["01-01", *easter, "05-01", "05-10", "05-20", "05-21", "10-03", "10-31", "12-25", "12-26"]


def test_sound_sales_pass_and_days_that_are_there_twice_or_below_zero_are_found(tmp_path: Path) -> None:
    sales = make_sales()
    require(validate(read(tmp_path, sales).frame, expectations(), name="bakery"))
    for broken in (
        pd.concat([sales, sales.iloc[[300]]]),
        sales.assign(Umsatz=sales["Umsatz"].where(sales.index != 300, -5)),
    ):
        with pytest.raises(ValidationFailed):
            require(validate(read(tmp_path, broken).frame, expectations(), name="bakery"))
