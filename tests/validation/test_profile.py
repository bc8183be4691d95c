"""A suite drafted from training data accepts that data and refuses what is wrong with later data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from modelkeep.errors import ModelkeepError
from validation.gate import validate
from validation.profile import draft_expectations, draft_source, summarise_frame

RNG = np.random.default_rng(0)
HOUSES = pd.DataFrame(
    {
        "house_id": np.arange(120),
        "rooms": RNG.normal(6, 1, 120).round(3),
        "tax": RNG.integers(180, 700, 120),
        "crime": RNG.lognormal(0, 2, 120),
        "river": RNG.integers(0, 2, 120).astype(float),
        "town": RNG.choice(["Lynn", "Salem", 'Ne"w\n#'], 120),
        "old": RNG.integers(0, 2, 120).astype(bool),
        "age": np.where(np.arange(120) % 10 == 0, np.nan, RNG.uniform(0, 100, 120)),
        "label": RNG.choice(["cheap", "dear"], 120),
        "sold": pd.date_range("2020-01-01", periods=120),
    }
)
SUITE = draft_expectations(HOUSES)


def test_the_training_data_passes() -> None:
    result = validate(HOUSES, SUITE, name="houses")
    assert result.failures == ()


@pytest.mark.parametrize("name", ["load_wine", "load_iris", "load_breast_cancer", "load_diabetes"])
def test_real_data_passes_its_own_draft_and_not_in_other_units(name: str) -> None:
    frame = getattr(datasets, name)(as_frame=True).frame
    suite = draft_expectations(frame)
    assert validate(frame, suite, name=name).failures == ()
    column = frame.columns[0]
    for factor in (1000, 1 / 1000):
        assert not validate(frame.assign(**{column: frame[column] * factor}), suite, name=name).success


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.drop(columns="rooms"),
        lambda frame: frame.rename(columns={"rooms": "Rooms"}),
        lambda frame: frame.assign(rooms=frame["rooms"].where(frame.index != 3)),
        lambda frame: frame.assign(age=np.nan),
        lambda frame: frame.assign(rooms=frame["rooms"] * 1000),
        lambda frame: frame.assign(rooms=frame["rooms"] / 1000),
        lambda frame: frame.assign(tax=frame["tax"] * 1000),
        lambda frame: frame.assign(crime=frame["crime"] / 1000),
        lambda frame: frame.assign(crime=-frame["crime"]),
        lambda frame: frame.assign(rooms=frame["rooms"].where(frame.index != 3, np.inf)),
        lambda frame: frame.assign(town=frame["town"].where(frame.index != 3, "Boston")),
        lambda frame: frame.assign(river=frame["river"].where(frame.index != 3, 2.0)),
        lambda frame: frame.assign(label="cheap"),
        lambda frame: frame.assign(label=frame["label"].where(frame.index != 3, "free")),
        lambda frame: frame.assign(rooms=frame["rooms"].astype(str)),
        lambda frame: pd.concat([frame, frame.iloc[:5]]),
        lambda frame: frame.head(0),
        lambda frame: frame.head(20),
    ],
    ids=[
        "missing column",
        "renamed column",
        "NaN",
        "all NaN",
        "rooms x1000",
        "rooms /1000",
        "whole x1000",
        "skewed /1000",
        "negative",
        "infinite",
        "unseen category",
        "third value of two",
        "one class",
        "unseen class",
        "text",
        "duplicates",
        "no rows",
        "a sixth of the rows",
    ],
)
def test_what_is_wrong_with_later_data_is_found(spoil: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert not validate(spoil(HOUSES), SUITE, name="houses").success


def test_later_data_of_the_same_kind_passes() -> None:
    rows = RNG.permutation(120)[:80]
    later = HOUSES.iloc[rows].assign(rooms=lambda frame: frame["rooms"] + RNG.normal(0, 0.1, 80))
    assert validate(later, SUITE, name="houses").failures == ()


def test_the_source_runs_and_makes_the_same_suite() -> None:
    names: dict[str, Callable[[], list[object]]] = {}
    exec(draft_source(HOUSES, 'a """name"""\nimport os'), names)
    assert names["expectations"]() == SUITE


def test_the_source_keeps_to_the_rules_of_the_code_once_it_is_formatted(tmp_path: Path) -> None:
    file = tmp_path / "draft.py"
    file.write_text("from __future__ import annotations\n\n\n" + draft_source(HOUSES, "houses"))
    ruff = [sys.executable, "-m", "ruff"]
    if subprocess.run([*ruff, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("ruff is not installed")
    subprocess.run([*ruff, "format", "--line-length=120", file], check=True, capture_output=True)
    checked = subprocess.run(
        [*ruff, "check", "--isolated", "--line-length=120", "--select=E,W,I", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_what_is_said_of_many_columns_is_broken_into_lines_and_makes_the_same_suite() -> None:
    many = pd.DataFrame({f"measured at the {number}th place": range(number, number + 5) for number in range(12)})
    source = draft_source(pd.concat([many, many]), "many")
    assert max(map(len, source.splitlines())) <= 120
    names: dict[str, Callable[[], list[object]]] = {}
    exec(source, names)
    assert names["expectations"]() == draft_expectations(pd.concat([many, many]))


def test_the_source_says_what_was_seen() -> None:
    source = draft_source(HOUSES, "houses")
    assert "# age: 12 of 120 missing" in source
    assert "a draft from 120 rows" in source


def test_copies_that_were_there_in_training_are_tolerated() -> None:
    frame = pd.concat([HOUSES.drop(columns="house_id"), HOUSES.drop(columns="house_id").iloc[:4]])
    assert validate(frame, draft_expectations(frame), name="houses").failures == ()


def test_per_example_summaries_get_a_rule_against_copies() -> None:
    frame = pd.DataFrame({"digest": [f"{i:016x}" for i in range(60)], "label": [0, 1, 2] * 20, "mean": RNG.random(60)})
    suite = draft_expectations(frame)
    assert validate(frame, suite, name="images").failures == ()
    failures = validate(
        frame.assign(digest=["0" * 16] * 2 + frame["digest"].tolist()[2:]), suite, name="images"
    ).failures
    assert "expect_no_duplicate_examples" in {check.expectation for check in failures}


ODD = {
    "Int": pd.array([1, None, 3] * 40, dtype="Int64"),
    "truth": pd.array([True, None, False] * 40, dtype="boolean"),
    "float32": np.arange(120, dtype="f4"),
    "category": pd.Categorical(["u", "v"] * 60, categories=["u", "v", "w"]),
    "large": np.array([2**62 + 1, 2**62 + 900] * 60),
    "range": np.arange(120) + 2**62,
    "nan": [np.nan] * 120,
    "inf": [np.inf] + [1.5] * 119,
    "mixed": pd.Series([1, "a"] * 60, dtype=object),
    "duration": pd.to_timedelta(np.arange(120), unit="s"),
    "tiny": np.linspace(1e-310, 3e-310, 120),
    "huge": np.linspace(-1.7e308, 1.7e308, 120) / 3,
    "same": [0.1] * 120,
    "zoned": pd.date_range("2020", periods=120, tz="UTC"),
    "text\n'''\"": [f"{i} words\u2028" for i in range(120)],
}


@pytest.mark.parametrize("name", ODD)
def test_columns_of_any_kind_pass_their_own_draft(name: str) -> None:
    frame = pd.DataFrame({name: ODD[name], "other": np.arange(120.0)})
    names: dict[str, Callable[[], list[object]]] = {}
    exec(draft_source(frame, "odd"), names)
    assert validate(frame, names["expectations"](), name="odd").failures == ()


@pytest.mark.parametrize(
    "frame",
    [HOUSES.head(0), pd.DataFrame({0: [1]}), pd.DataFrame({"tokens": [[1], [2]]})],
    ids=["rows", "names", "lists"],
)
def test_a_frame_that_cannot_be_profiled_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ModelkeepError, match="No expectations can be drafted"):
        draft_expectations(frame)


def test_the_summary_of_a_frame_has_a_row_for_each_column() -> None:
    summary = summarise_frame(HOUSES)
    assert summary.index.tolist() == HOUSES.columns.tolist()
    assert summary.loc["age", "missing"] == 12
    assert summary.loc["rooms", "median"] == pytest.approx(HOUSES["rooms"].median())
    assert pd.isna(summary.loc["town", "mean"])
