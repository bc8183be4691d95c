"""Windows that are trained on: their rows behind the source's, divided so that no champion is tested on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.churn import problem
from problems.outline import Backtest, Examples, KFold, Stratified
from problems.outline.catalogue import load_problem, problem_names
from problems.outline.problem import Rows
from problems.outline.splits import Split
from store import open_store
from store.artifacts import Store
from store.errors import ArtifactMissing
from tasks.examples import load_examples
from tasks.ingest import ingest
from tasks.kept_windows import find_window, keep_labels, keep_window, labelled_windows
from tasks.prepare import load_rows, prepare
from tasks.recent import (
    RECENT,
    append_windows,
    can_learn_from_windows,
    divide,
    has_rows,
    leave_out_later,
    time_column,
)
from tasks.requests import Request
from tests.drift_champion import make_customers, read_customers
from tests.training_store import RunMaker

RUN = "churn-20260101T000000-000001"


def keep_customers(store: Store, table: pd.DataFrame, window: str, folder: Path, sha256: str = "") -> None:
    """As `predict` keeps a window of these customers; each third row was set aside."""
    frame = problem.rows.inputs(_typed(table)).frame.drop(columns="Churn")  # type: ignore[union-attr, arg-type]
    frame.insert(0, "row", range(len(table)))
    frame = frame[frame["row"] % 3 > 0]
    frame.to_parquet(folder / "frame.parquet")
    store.put_bytes(f"runs/churn/{RUN}/manifest.json", b'{"artifacts": {}}', kind="json")
    told = {"problem": "churn", "input": {"sha256": sha256 or window}, "version": 1, "run": RUN}
    keep_window(
        store, {"frame": folder / "frame.parquet"}, window=window, num_scored=len(frame), num_set_aside=9, **told
    )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        TotalCharges=pd.to_numeric(table["TotalCharges"], errors="coerce"), tenure=table["tenure"].astype(float)
    )


def label(store: Store, window: str, rows: list[int], target: list[int]) -> str:
    keep_labels(store, "churn", window, pd.Series(target, index=rows))
    return next(one.labels for one in labelled_windows(store, "churn") if one.window == window)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


# Labels


def test_labels_are_kept_in_the_order_in_which_they_came_and_the_newest_count(store: Store, tmp_path: Path) -> None:
    for window in ("b", "a"):
        keep_customers(store, make_customers(30, 1), window, tmp_path)
        label(store, window, [1, 2], [0, 1])
    first = labelled_windows(store, "churn")
    assert [(one.window, one.num_rows) for one in first] == [("b", 2), ("a", 2)]
    label(store, "b", [1, 2, 4], [1, 1, 1])
    again = labelled_windows(store, "churn")
    assert [(one.window, one.num_rows) for one in again] == [("b", 3), ("a", 2)]
    assert again[0].since == first[0].since and again[0].labels != first[0].labels


# Examples


def test_a_window_gives_the_examples_that_a_file_with_its_truth_would_have_given(store: Store, tmp_path: Path) -> None:
    source, table = read_customers(make_customers(50, 1)), make_customers(40, 2)
    keep_customers(store, table, "w", tmp_path)
    rows = [1, 2, 4, 38]
    digest = label(store, "w", rows, [int(table["Churn"][row] == "Yes") for row in rows])
    found = append_windows(problem, store, source, [("w", digest)])
    expected = read_customers(table).take(np.array(rows))
    assert found.frame[RECENT].tolist() == [False] * 50 + [True] * 4
    for name, array in found.features.items():
        np.testing.assert_array_equal(array[:50], source.features[name])
        np.testing.assert_array_equal(array[50:], expected.features[name])
    assert found.target.dtype == source.target.dtype and found.target[50:].tolist() == expected.target.tolist()
    assert found.frame["Churn"][50:].tolist() == expected.frame["Churn"].tolist()
    assert list(found.frame) == [*source.frame, RECENT]


def test_labels_that_are_gone_or_others_by_now_are_not_trained_on(store: Store, tmp_path: Path) -> None:
    keep_customers(store, make_customers(30, 1), "w", tmp_path)
    label(store, "w", [1, 2], [0, 1])
    with pytest.raises(ArtifactMissing, match="The window w of churn cannot be trained on"):
        append_windows(problem, store, read_customers(make_customers(50, 2)), [("w", "0" * 64)])


@pytest.mark.parametrize("name", [name for name in problem_names() if isinstance(load_problem(name).rows, Rows)])
def test_every_problem_whose_windows_are_tables_learns_from_them_when_their_truth_has_come(name: str) -> None:
    """A series brings its truth by itself, in the next file."""
    rows = load_problem(name).rows
    assert isinstance(rows, Rows) and can_learn_from_windows(load_problem(name)) == (not rows.is_series)


def test_an_array_whose_rows_were_not_kept_cannot_be_learnt_from(store: Store, tmp_path: Path) -> None:
    keep_customers(store, make_customers(30, 1), "w", tmp_path)
    kept = find_window(store, "churn", "w")
    assert kept is not None
    assert has_rows(problem, kept) and not has_rows(load_problem("digits"), kept)


# Parts


def make_examples_of(num_source: int, num_recent: int) -> Examples:
    count = num_source + num_recent
    frame = pd.DataFrame({"moment": np.arange(count), RECENT: np.arange(count) >= num_source})
    return Examples({"x": np.zeros((count, 1))}, np.arange(count) % 2, frame)


def without_recent(num_source: int) -> Examples:
    examples = make_examples_of(num_source, 0)
    return replace(examples, frame=examples.frame.drop(columns=RECENT))


SPLITS = [Stratified(test=0.2, validation=0.1), KFold(4, test=0.2), Backtest(column="moment", origins=3, test=0.2)]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)
def test_windows_change_nothing_about_the_parts_of_the_source(split: Split) -> None:
    before, after = divide(split, without_recent(200), 0), divide(split, make_examples_of(200, 50), 0)
    for part in ("train", "validation", "test"):
        now = getattr(after, part)
        np.testing.assert_array_equal(now[now < 200], getattr(before, part))
    assert after.test[after.test >= 200].tolist() == list(range(240, 250))  # the last fifth
    everything = np.concatenate([after.train, after.validation, after.test])
    assert sorted(everything.tolist()) == sorted(set(everything.tolist())) and (everything >= 200).sum() == 50
    for (fitted, held_out), (fitted_before, held_out_before) in zip(after.folds, before.folds, strict=True):
        np.testing.assert_array_equal(fitted[fitted < 200], fitted_before)
        np.testing.assert_array_equal(held_out[held_out < 200], held_out_before)
        assert not set(fitted) & set(held_out)
    held_out_of_all = [row for _, held_out in after.folds for row in held_out if row >= 200]
    assert not after.folds or sorted(held_out_of_all) == list(range(200, 240))


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)
def test_what_was_trained_on_is_never_tested_when_more_windows_have_come(split: Split) -> None:
    trained: set[int] = set()
    for num_recent in (1, 7, 50, 51, 400):
        rows = divide(split, make_examples_of(200, num_recent), 0)
        assert not trained & set(rows.test.tolist())
        trained |= {*rows.train.tolist(), *rows.validation.tolist()}


def test_recent_rows_validate_in_the_proportion_of_the_source() -> None:
    rows = divide(Stratified(test=0.2, validation=0.1), make_examples_of(200, 100), 0)
    assert (rows.validation >= 200).sum() == 10 and (rows.train >= 200).sum() == 70


# Moments


def test_examples_after_a_date_are_left_out_by_the_moment_that_is_forecast() -> None:
    co2 = load_problem("co2")
    months = pd.date_range("2000-01-01", periods=5, freq="MS")
    examples = Examples({"window": np.arange(5)[:, None]}, np.arange(5), pd.DataFrame({"month": months}))
    left = leave_out_later(co2, examples, "2000-03-01")
    assert left.target.tolist() == [0, 1, 2] and left.features["window"].tolist() == [[0], [1], [2]]
    assert time_column(co2) == "month"
    with pytest.raises(ModelkeepError, match="have no moments"):
        leave_out_later(problem, examples, "2000-03-01")


# Keys


def test_a_request_without_windows_and_date_has_the_key_that_it_had_before_there_were_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.requests.code_digest", lambda *modules: "code")
    monkeypatch.setattr("tasks.requests.backend_name", lambda: "tensorflow")
    asked = Request("housing", {"epochs": 3}, seed=2)
    assert asked.key() == "ee3d74a9afbb4a8389f03b2e418773cee846462acaec77bb9919959d35bdf116"
    assert replace(asked, windows=(("w", "0" * 64),)).key() != asked.key() != replace(asked, until="2000-01-01").key()


def test_ingest_keeps_its_key_and_takes_windows_and_a_date_into_account(
    store: Store, make_run: RunMaker, tmp_path: Path
) -> None:
    make_customers(300, 1).to_csv(tmp_path / "customers.csv", index=False)
    keep_customers(store, make_customers(60, 2), "w", tmp_path)
    digest = label(store, "w", [1, 2, 4, 5, 7], [0, 1, 0, 1, 0])
    plain = make_run("churn", data=str(tmp_path / "customers.csv"))
    windowed = replace(plain, windows=(("w", digest),))
    records = [ingest.fn(run) for run in (plain, windowed)]
    assert [record.facts["num_examples"] for record in records] == [300, 305]
    assert records[0].key != records[1].key
    examples = load_examples(store, records[1])
    rows = load_rows(store, prepare.fn(windowed, records[1]))
    assert examples.frame[RECENT].sum() == 5 and rows.test.max() == 304
