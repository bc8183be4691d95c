"""House prices: what is read, what is never a feature, and what the checks catch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.housing import COLUMNS, FEATURES, TARGET, problem
from problems.outline.problem import Files
from validation.gate import ValidationFailed, require, validate


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    from mlxtend.data import boston_housing_data

    attributes, target = boston_housing_data()
    return pd.DataFrame(attributes, columns=list(COLUMNS)).assign(**{TARGET: target})


def read(path: Path) -> pd.DataFrame:
    return problem.read(Files({"boston_housing.npz": path})).frame


def test_the_column_that_encodes_race_is_never_a_feature(prices: pd.DataFrame, tmp_path: Path) -> None:
    prices.to_csv(tmp_path / "own.csv", index=False)
    examples = problem.read(Files({"boston_housing.npz": tmp_path / "own.csv"}))
    assert "B" not in FEATURES and examples.features["attributes"].shape == (506, 12)
    changed = prices.assign(B=0.0)
    changed.to_csv(tmp_path / "changed.csv", index=False)
    again = problem.read(Files({"boston_housing.npz": tmp_path / "changed.csv"}))
    np.testing.assert_array_equal(examples.features["attributes"], again.features["attributes"])


def test_the_packages_file_keras_file_and_a_csv_with_names_read_alike(prices: pd.DataFrame, tmp_path: Path) -> None:
    prices.to_csv(tmp_path / "own.csv", index=False)
    prices.to_csv(tmp_path / "boston_housing.csv", index=False, header=False)
    values = prices.to_numpy()
    np.savez(tmp_path / "boston_housing.npz", x=values[:, :-1], y=values[:, -1])
    frames = [read(tmp_path / name) for name in ("own.csv", "boston_housing.npz")]
    packaged = Files({"boston_housing.npz": tmp_path / "boston_housing.csv"}, frozenset({"boston_housing.npz"}))
    frames.append(problem.read(packaged).frame)
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


@pytest.mark.parametrize(
    "write", [{"sep": ";"}, {"encoding": "utf-8-sig"}, {"sep": "\t"}], ids=["semicolon", "BOM", "tab"]
)
def test_another_delimiter_or_a_byte_order_mark_is_understood(
    prices: pd.DataFrame, tmp_path: Path, write: dict[str, str]
) -> None:
    prices.to_csv(tmp_path / "own.csv", index=False, **write)
    require(validate(read(tmp_path / "own.csv"), problem.expectations(), name="housing"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda table: table.drop(columns="RM"), "RM"),
        (lambda table: table.rename(columns={"RM": "ROOMS"}), "RM"),
        (lambda table: table.assign(RM=table["RM"].astype(str) + " rooms"), "RM"),
        (lambda table: table.iloc[:0], "no rows"),
    ],
    ids=["missing column", "renamed column", "text for numbers", "zero rows"],
)
def test_a_file_of_another_form_is_refused_with_the_column(
    prices: pd.DataFrame, tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    spoil(prices).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(ModelkeepError) as refusal:
        read(tmp_path / "own.csv")
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda table: table.assign(NOX=table["NOX"] * 1000), "NOX"),
        (lambda table: table.assign(MEDV=table["MEDV"] * 1000), "MEDV"),
        (lambda table: table.assign(CHAS=2.0), "CHAS"),
        (lambda table: table.assign(LSTAT=table["LSTAT"].where(table.index != 7)), "LSTAT"),
        (lambda table: pd.concat([table, table.head(3)]), "no combination twice"),
        (lambda table: table.head(20), "rows"),
    ],
    ids=["unit of a feature", "unit of the target", "unknown category", "missing value", "duplicate rows", "few rows"],
)
def test_the_checks_catch(
    prices: pd.DataFrame, tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    spoil(prices).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(ValidationFailed) as refusal:
        require(validate(read(tmp_path / "own.csv"), problem.expectations(), name="housing"))
    assert told in str(refusal.value)


def test_what_is_learnt_from_data_is_learnt_from_training_rows_only(prices: pd.DataFrame, tmp_path: Path) -> None:
    """The normalisation inside the model holds the mean of the training rows, whatever the others are."""
    prices.to_csv(tmp_path / "own.csv", index=False)
    examples = problem.read(Files({"boston_housing.npz": tmp_path / "own.csv"}))
    rows = problem.split.divide(examples, 0)
    model = problem.build(problem.hyperparameters(), examples.take(rows.train))
    (normalise,) = [layer for layer in model.layers if layer.__class__.__name__ == "Normalization"]
    expected = examples.features["attributes"][rows.train].mean(axis=0)
    np.testing.assert_allclose(np.asarray(normalise.mean).ravel(), expected, rtol=1e-4)


def test_half_a_room_more_changes_nothing_but_the_rooms() -> None:
    [behaviour] = problem.behaviours
    attributes = np.zeros((3, len(FEATURES)), np.float32)
    changed = behaviour.change({"attributes": attributes})["attributes"]
    assert not attributes.any()
    np.testing.assert_array_equal(changed.sum(axis=0), [1.5 if name == "RM" else 0 for name in FEATURES])
