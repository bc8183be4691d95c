"""Online scoring: the same answers as in bulk, rules kept, promotions followed, requests logged."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from problems.outline.catalogue import load_problem
from problems.outline.objectives import Binary, Classification, Multiclass
from problems.outline.problem import Rows, Stack
from store import open_store
from store.artifacts import Store
from store.registry import Registry
from tasks import served as serving
from tasks.champion import load_champion
from tasks.ingest import read_sources
from tasks.kept_windows import KeptWindow, find_window
from tasks.online import (
    ChampionChanged,
    OnlineModel,
    RowsAnswered,
    RowsAsked,
    Scored,
    TensorsAnswered,
    TensorsAsked,
    blank_row,
    records,
)
from tasks.parts import unpack_rows
from tasks.recent import has_rows
from tasks.request_log import RequestLog
from tasks.row_fields import to_content
from tasks.score import score
from tasks.served import ChampionWatch, ServedProblem
from tests.problems import test_co2
from tests.tasks.test_score_rows import SAMPLES, make_champion, read_problem
from tests.training_store import crown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a store that has a champion of housing, and the houses as rows.json."""
    folder = tmp_path_factory.mktemp("online")
    problem, examples = read_problem("housing", folder)
    make_champion(problem, examples, folder)
    assert isinstance(problem.rows, Rows)
    examples.frame[list(problem.rows.columns)].head(300).to_json(folder / "rows.json", orient="records")
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(str(folder / "store"))


@pytest.fixture
def rows(folder: Path) -> list[dict[str, float]]:
    houses: list[dict[str, float]] = json.loads((folder / "rows.json").read_text())
    return houses


def another_champion(store: Store, bias: float) -> None:
    """A model of housing that says `bias` of every house."""
    inputs = keras.Input((12,), name="attributes")
    layer = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(bias))
    crown(store, "housing", keras.Model({"attributes": inputs}, layer(inputs)))


def answer(model: OnlineModel, *asked: list[dict[str, Any]]) -> list[list[Any]]:
    answers = model.answer([RowsAsked(rows) for rows in asked])
    return [list(one.rows) for one in answers if isinstance(one, RowsAnswered)]


@pytest.mark.parametrize("name", ["churn", "fraud", "fake_news", "perceptron", "housing"])
def test_rows_get_online_what_they_get_in_a_file(name: str, tmp_path: Path) -> None:
    problem, examples = read_problem(name, tmp_path)
    make_champion(problem, examples, tmp_path)
    form = problem.rows
    assert isinstance(form, Rows)
    table = pd.read_csv(SAMPLES[name](tmp_path), dtype="str") if name in SAMPLES else examples.frame.head(100)
    table[list(form.columns)].to_csv(tmp_path / "window.csv", index=False)
    told = score.fn(name, str(tmp_path / "window.csv"), str(tmp_path / "out"), str(tmp_path / "store"))
    expected = pd.read_parquet(told.scores)
    assert len(expected) == len(table)

    numbers = [column for column, kind in form.columns.items() if kind == "float64"]
    texts = table[list(form.columns)].replace(dict.fromkeys(form.missing_values))
    values = texts.astype(dict.fromkeys(numbers, "float64")).astype(object)
    rows = values.where(values.notna(), None).to_dict("records")
    model = OnlineModel(problem, load_champion(problem, open_store(str(tmp_path / "store"))))
    (answers,) = answer(model, rows)
    if "prediction" in expected:
        said, wanted = [one["prediction"] for one in answers], expected["prediction"]
    else:
        assert isinstance(problem.objective, Binary)
        said, wanted = [one["probabilities"][problem.objective.positive] for one in answers], expected["probability"]
        assert [one["predicted"] for one in answers] == expected["predicted"].tolist()
    np.testing.assert_allclose(said, wanted, rtol=1e-5, atol=1e-5)


def test_each_question_about_a_series_is_answered_from_its_own_past(tmp_path: Path) -> None:
    problem, path, store = load_problem("co2"), test_co2.make_sample(tmp_path), open_store(str(tmp_path / "store"))
    (tmp_path / "raw").mkdir()
    make_champion(problem, read_sources(problem, store, "", str(path), str(tmp_path / "raw")), tmp_path)
    model = OnlineModel(problem, load_champion(problem, store))
    months = pd.date_range("2020-01-01", periods=48, freq="MS").to_pydatetime()
    low, high = ([{"month": month, "value": level} for month in months] for level in (400.0, 420.0))
    first, second = answer(model, low, high)
    assert all("num_known" in one["error"] for one in [*first[:47], *second[:47]])
    assert second[-1]["prediction"] - first[-1]["prediction"] == pytest.approx(20, abs=1e-3)
    assert answer(model, high) == [second]


def test_questions_of_a_batch_get_their_own_rows_and_bad_rows_their_errors(store: Store, rows: list[Any]) -> None:
    model = OnlineModel(load_problem("housing"), load_champion(load_problem("housing"), store))
    ((one,), (other,)) = answer(model, rows[:1]), answer(model, rows[1:2])
    bad = {**rows[0], "RM": 99.0, "CHAS": None}
    first, second, third = answer(model, rows[:1], [bad], [bad, rows[1], bad])
    assert first[0]["prediction"] == pytest.approx(one[0]["prediction"], rel=1e-5)
    assert second == [{"error": "CHAS: missing, expected never missing; RM: 99.0, expected between 3 and 10"}]
    assert third[1]["prediction"] == pytest.approx(other[0]["prediction"], rel=1e-5)
    assert "error" in third[0] and "error" in third[2]


def test_tensors_are_answered_in_the_same_batch_as_rows(store: Store, rows: list[Any]) -> None:
    problem = load_problem("housing")
    model = OnlineModel(problem, load_champion(problem, store))
    features = np.array([list(row.values()) for row in rows], np.float32)
    asked = [TensorsAsked({"attributes": features[:3]}), RowsAsked(rows[:5]), TensorsAsked({"attributes": features})]
    one, two, three = model.answer(asked)
    assert isinstance(one, TensorsAnswered) and isinstance(two, RowsAnswered) and isinstance(three, TensorsAnswered)
    expected = three.tensors["prediction"]
    assert len(expected) == 300 and expected.dtype == np.float32
    np.testing.assert_allclose(one.tensors["prediction"], expected[:3], rtol=1e-5)
    np.testing.assert_allclose([row["prediction"] for row in two.rows], expected[:5], rtol=1e-5)


def test_tensors_that_were_meant_for_another_champion_are_sent_back(store: Store) -> None:
    model = OnlineModel(load_problem("housing"), load_champion(load_problem("housing"), store))
    for features in ({"attributes": np.zeros((1, 13), np.float32)}, {"columns": np.zeros((1, 12), np.float32)}):
        with pytest.raises(ChampionChanged):
            model.answer([TensorsAsked(features)])


def test_no_size_of_batch_is_compiled_while_somebody_waits(store: Store, rows: list[Any]) -> None:
    problem = load_problem("housing")
    champion = load_champion(problem, store)
    traced: list[int] = []
    call = champion.model.call

    def counted(inputs: Any, **kwargs: Any) -> Any:
        traced.append(1)
        return call(inputs, **kwargs)

    champion.model.call = counted
    model = OnlineModel(problem, champion)
    num_traced = len(traced)
    assert num_traced == 9  # 1, 2, 4 … 256
    for count in (1, 2, 3, 5, 100, 256, 300):
        answer(model, rows[:count])
    assert len(traced) == num_traced


def test_pictures_are_rows_of_one_field(tmp_path: Path) -> None:
    problem, examples = read_problem("digits", tmp_path)
    few = examples.take(np.arange(50))
    model = make_champion(problem, few, tmp_path)
    online = OnlineModel(problem, load_champion(problem, open_store(str(tmp_path / "store"))))
    images = few.features["image"][:3, ..., 0]
    (answers,) = answer(online, [{"image": image.tolist()} for image in (*images, images[0] // 2 + 9)])
    expected = model.predict({"image": images[..., None]}, verbose=0)
    np.testing.assert_allclose([list(one["probabilities"].values()) for one in answers[:3]], expected, atol=1e-5)
    assert "min: 9" in answers[3]["error"]


LETTERS = Multiclass(classes=("a", "b", "c"))
OUTPUTS = np.random.default_rng(0).dirichlet([1, 1, 1], 50).astype(np.float32)


@pytest.mark.parametrize("temperature", [None, 1.7])
@pytest.mark.parametrize(("objective", "outputs"), [(LETTERS, OUTPUTS), (Binary(positive="b"), OUTPUTS[:, :1])])
def test_a_row_gets_the_same_probabilities_and_class_as_in_a_table(
    objective: Classification, outputs: np.ndarray, temperature: float | None, store: Store
) -> None:
    champion = replace(load_champion(load_problem("housing"), store), objective=objective, temperature=temperature)
    expected = champion.predictions(outputs)
    said = records(champion, outputs)
    assert [one["predicted"] for one in said] == expected["predicted"].tolist()
    np.testing.assert_array_equal([[*one["probabilities"].values()] for one in said], objective.probabilities(expected))


@pytest.mark.parametrize("name", ["housing", "churn", "fraud", "fake_news", "perceptron", "linear_houses", "digits"])
def test_the_rules_are_known_before_the_first_request(name: str) -> None:
    problem = load_problem(name)
    assert problem.rows is not None
    row = blank_row(problem.rows)
    assert len(problem.rows.inputs(to_content(problem.rows, [row])).frame) == 1


# --- promotions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own_store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    another_champion(store, 1.0)
    return store


@pytest.fixture
def served(own_store: Store) -> Iterator[ServedProblem]:
    served = ServedProblem(load_problem("housing"), own_store)
    yield served
    served.close()


def prediction(served: ServedProblem, row: Any) -> tuple[int, float]:
    answered = served.ask(RowsAsked([row])).result(30)
    assert isinstance(answered, RowsAnswered)
    return answered.version.number, answered.rows[0]["prediction"]


def test_a_promotion_and_a_rollback_are_followed(served: ServedProblem, own_store: Store, rows: list[Any]) -> None:
    assert not served.follow() and prediction(served, rows[0]) == (1, 1.0)
    another_champion(own_store, 2.0)
    assert prediction(served, rows[0]) == (1, 1.0)
    assert served.follow() and prediction(served, rows[0]) == (2, 2.0)
    Registry(own_store).rollback("housing", actor="test", reason="worse")
    assert served.follow() and prediction(served, rows[0]) == (1, 1.0)


def test_a_champion_that_cannot_be_loaded_leaves_the_one_in_use_and_is_not_tried_at_once_again(
    served: ServedProblem, own_store: Store, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_champion(own_store, 2.0)
    (path,) = (tmp_path / "store").glob("runs/housing/*-000002/fit/model.keras")
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    with pytest.raises(Exception, match="not what was written"):
        served.follow()
    assert not served.follow() and prediction(served, rows[0]) == (1, 1.0)
    path.write_bytes(content)
    monkeypatch.setattr(serving, "RETRY_SECONDS", 0)
    assert served.follow() and prediction(served, rows[0]) == (2, 2.0)


def test_under_load_every_question_is_answered_by_one_version_or_the_other(
    served: ServedProblem, own_store: Store, rows: list[Any]
) -> None:
    stop = threading.Event()
    answers: list[tuple[int, float]] = []

    def hammer() -> None:
        while not stop.is_set():
            answers.append(prediction(served, rows[0]))

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    watch = ChampionWatch([served], 0.05)
    for thread in threads:
        thread.start()
    for bias in (2.0, 3.0):
        another_champion(own_store, bias)
        before = len(answers)
        while served.version.number < bias or len(answers) < before + 50:
            assert all(thread.is_alive() for thread in threads)
            stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    watch.close()
    assert set(answers) == {(1, 1.0), (2, 2.0), (3, 3.0)}


# --- the log -------------------------------------------------------------------------------------------------------


def windows(store: Store, problem: str = "housing") -> list[KeptWindow]:
    names = sorted({info.key.split("/")[2] for info in store.list(f"windows/{problem}")})
    return [kept for name in names if (kept := find_window(store, problem, name))]


def test_what_was_asked_is_kept_as_a_window_with_scores_and_reasons(own_store: Store, rows: list[Any]) -> None:
    problem = load_problem("housing")
    log = RequestLog(own_store, problem, window_rows=100)
    model = OnlineModel(problem, load_champion(problem, own_store), log.add)
    for start in range(0, 90, 30):
        answer(model, rows[start : start + 30])
    answer(model, [{**rows[90], "RM": 99.0}, *rows[91:110]])
    answer(model, rows[110:115])
    log.close()
    first, second = sorted(windows(own_store), key=lambda kept: -kept.num_scored)
    assert (first.num_scored, first.num_set_aside, second.num_scored) == (109, 1, 5)
    assert first.version == 1 and len(first.input["sha256"]) == 64
    scores, frame = (pd.read_parquet(own_store.local_path(first.artifacts[name])) for name in ("scores", "frame"))
    assert scores["row"].tolist() == frame["row"].tolist() == [*range(90), *range(91, 110)]
    assert set(scores["prediction"]) == {1.0} and scores.attrs["version"] == 1
    assert frame["RM"].tolist() == [row["RM"] for row in (*rows[:90], *rows[91:110])]
    rejected = pd.read_csv(own_store.local_path(first.artifacts["rejected"]))
    assert rejected["row"].tolist() == [90] and "RM: 99" in rejected.loc[0, "reason"]


def test_pictures_that_were_asked_about_are_kept_so_that_one_can_learn_from_them(tmp_path: Path) -> None:
    problem, examples = read_problem("digits", tmp_path)
    make_champion(problem, examples.take(np.arange(50)), tmp_path)
    store = open_store(str(tmp_path / "store"))
    images = examples.features["image"][:5, ..., 0]
    log = RequestLog(store, problem, window_bytes=3 * images[0].nbytes)
    model = OnlineModel(problem, load_champion(problem, store), log.add)
    answer(model, [{"image": images[0]}, {"image": images[0] // 2 + 9}, {"image": images[1]}])
    answer(model, [{"image": image} for image in images[2:]])
    log.close()
    first, second = sorted(windows(store, "digits"), key=lambda kept: -kept.num_set_aside)
    assert [(one.num_scored, one.num_set_aside) for one in (first, second)] == [(2, 1), (3, 0)]
    assert isinstance(problem.rows, Stack) and has_rows(problem, first)
    for kept, expected in ((first, images[:2]), (second, images[2:])):
        table = pq.read_table(store.local_path(kept.artifacts["array"]))
        np.testing.assert_array_equal(unpack_rows(table, problem.rows.dtype, problem.rows.shape), expected)


def test_a_window_is_of_one_version_and_ends_after_its_time(own_store: Store, rows: list[Any]) -> None:
    problem = load_problem("housing")
    log = RequestLog(own_store, problem, window_seconds=0.1)
    first = load_champion(problem, own_store)
    answer(OnlineModel(problem, first, log.add), rows[:3])
    while len(windows(own_store)) < 1:
        threading.Event().wait(0.02)
    log.close()
    log = RequestLog(own_store, problem)
    another_champion(own_store, 2.0)
    for champion in (first, load_champion(problem, own_store)):
        answer(OnlineModel(problem, champion, log.add), rows[:3])
    log.close()
    assert sorted(kept.version for kept in windows(own_store)) == [1, 1, 2]


def test_a_share_of_the_rows_is_kept_and_of_share_nought_none(own_store: Store, rows: list[Any]) -> None:
    problem, champion = load_problem("housing"), load_champion(load_problem("housing"), own_store)
    for share in (0.0, 0.5):
        log = RequestLog(own_store, problem, share=share)
        answer(OnlineModel(problem, champion, log.add), rows)
        log.close()
    (kept,) = windows(own_store)
    assert 75 < kept.num_scored < 225 and kept.input["share"] == 0.5


def test_a_store_that_fails_does_not_disturb_those_who_ask(
    own_store: Store, rows: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    problem = load_problem("housing")
    log = RequestLog(own_store, problem, window_rows=1)
    model = OnlineModel(problem, load_champion(problem, own_store), log.add)
    monkeypatch.setattr("tasks.request_log.keep_window", fail)
    for _ in range(10):
        assert answer(model, rows[:1])[0][0]["prediction"] == 1.0
    log.close()
    assert "no space left" in caplog.text and windows(own_store) == []


def test_the_log_is_told_of_no_row_twice(own_store: Store, rows: list[Any]) -> None:
    told: list[Scored] = []
    problem = load_problem("housing")
    model = OnlineModel(problem, load_champion(problem, own_store), told.append)
    asked = [RowsAsked(rows[:2]), TensorsAsked({"attributes": np.full((1, 12), np.nan, np.float32)})]
    with pytest.raises(Exception, match="not finite"):
        model.answer(asked)
    assert told == []
