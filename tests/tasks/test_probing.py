"""Probing: a model is asked about changed rows, and what it does is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline import Binary, Direction, Examples, Hyperparameters, Invariant, KFold, Problem, Regression
from problems.outline.objectives import Objective
from tasks import probing
from tasks.probing import measure_importance, probe_behaviours

NUM_ROWS = 120
WEIGHTS = (3.0, -1.0, 0.0)


def problem_with(objective: Objective | None = None, **parts: Any) -> Problem:
    def read(files: Any) -> Examples:
        raise NotImplementedError

    return Problem(
        name="prices", objective=objective or Regression(unit="k$"), sources=(), read=read, expectations=list,
        split=KFold(4, 0.2), build=read, hyperparameters=Hyperparameters, **parts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    """3 × rooms - crime, whatever the age."""
    import keras

    table = keras.Input((3,), name="table")
    unit = keras.layers.Dense(1, use_bias=False)
    built = keras.Model({"table": table}, unit(table))
    unit.set_weights([np.array(WEIGHTS, np.float32)[:, None]])
    return built


@pytest.fixture
def examples() -> Examples:
    """The feature `unused` is none of the model's inputs."""
    table = np.random.default_rng(0).normal(size=(NUM_ROWS, 3)).astype(np.float32)
    features = {"table": table, "unused": np.arange(NUM_ROWS)}
    return Examples(features, table @ np.array(WEIGHTS), pd.DataFrame(index=range(NUM_ROWS)))


def plus(column: int, amount: float) -> Any:
    def change(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        table = features["table"].copy()
        table[:, column] += amount
        return {"table": table}

    return change


TEST_ROWS = np.arange(20, NUM_ROWS)


def test_each_behaviour_is_judged_by_what_the_model_does(model: Any, examples: Examples) -> None:
    behaviours = (
        Direction("a room more", plus(0, 1), sign=1, at_least=0.9),
        Direction("more crime", plus(1, 1), sign=1, at_least=0.9),
        Invariant("a year older", plus(2, 1), at_most=0.0),
        Invariant("a little crime", plus(1, 0.5), at_most=0.0, within=0.4),
        Invariant("a little less crime", plus(1, -0.5), at_most=0.0, within=0.6),
    )
    found = probe_behaviours(problem_with(behaviours=behaviours), model, examples, TEST_ROWS)
    assert [(one["kind"], one["share"], one["passed"]) for one in found] == [
        ("direction", 1.0, True),
        ("direction", 0.0, False),
        ("invariant", 1.0, True),
        ("invariant", 0.0, False),
        ("invariant", 1.0, True),
    ]
    assert {one["rows"] for one in found} == {100}
    assert "more crime: the prediction does not fall for 0.0 % of 100 rows" in found[1]["reason"]


def test_many_rows_are_asked_by_a_thousand_of_them(
    model: Any, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "MOST_BEHAVING", 7)
    seen: list[np.ndarray] = []

    def change(features: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        seen.append(features["table"])
        return features

    problem = problem_with(behaviours=(Invariant("nothing", change, at_most=0.0),))
    [found] = probe_behaviours(problem, model, examples, TEST_ROWS)
    assert found["rows"] == 7 and found["passed"]
    np.testing.assert_array_equal(seen[0][[0, -1]], examples.features["table"][[20, NUM_ROWS - 1]])


def test_a_change_that_loses_rows_is_refused(model: Any, examples: Examples) -> None:
    def change(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"table": features["table"][1:]}

    with pytest.raises(ModelkeepError, match="do not line up"):
        probe_behaviours(problem_with(behaviours=(Invariant("lost", change, at_most=1.0),)), model, examples, TEST_ROWS)


def test_without_behaviours_the_model_is_not_asked(examples: Examples) -> None:
    assert probe_behaviours(problem_with(), None, examples, TEST_ROWS) == []  # type: ignore[arg-type]


COLUMNS = {"table": ("rooms", "crime", "age")}


def test_columns_matter_as_much_as_the_model_uses_them(model: Any, examples: Examples) -> None:
    found = measure_importance(problem_with(columns=COLUMNS), model, examples, TEST_ROWS, seed=0)
    assert found is not None
    assert list(found["columns"]) == ["rooms", "crime", "age"]
    assert found["columns"]["age"]["values"] == pytest.approx([0] * 5, abs=1e-6)
    ratio = found["columns"]["rooms"]["mean"] / found["columns"]["crime"]["mean"]
    assert ratio == pytest.approx(3, rel=0.3)
    assert (found["metric"], found["rows"], found["value"]) == ("mae", 100, pytest.approx(0, abs=1e-5))


def test_the_same_seed_deals_the_same_and_no_example_is_changed(model: Any, examples: Examples) -> None:
    before = examples.features["table"].copy()
    first, second, other = (
        measure_importance(problem_with(columns=COLUMNS), model, examples, TEST_ROWS, seed=seed) for seed in (0, 0, 1)
    )
    assert first == second != other
    np.testing.assert_array_equal(examples.features["table"], before)


def test_of_many_rows_each_class_is_there_as_often(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_PERMUTED", 10)
    target = np.array([1] * 8 + [0] * 92)
    places = probing._draw(Binary(), target, np.random.default_rng(0))
    assert target[places].sum() == 5 and len(set(places.tolist())) == 10


def test_names_that_do_not_fit_the_table_are_refused(model: Any, examples: Examples) -> None:
    with pytest.raises(ModelkeepError, match="names of the columns"):
        measure_importance(problem_with(columns={"table": ("rooms",)}), model, examples, TEST_ROWS, seed=0)


def test_without_named_columns_that_the_model_takes_nothing_is_dealt_out(model: Any, examples: Examples) -> None:
    for columns in ({}, {"unused": ("number",)}):
        assert measure_importance(problem_with(columns=columns), model, examples, TEST_ROWS, seed=0) is None
