"""Scoring of tables: every row gets an answer or a reason, whatever the format, the size and the interruptions."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from modelkeep.errors import ModelkeepError
from problems import bakery
from problems.outline.catalogue import load_problem
from problems.outline.problem import Examples, Problem, Rows, Stack
from store import open_store
from store.artifacts import Store
from store.registry import Registry
from tasks import score_rows as scoring
from tasks.forms import FormIncomplete
from tasks.ingest import read_sources
from tasks.kept_windows import keep_labels, labelled_windows
from tasks.parts import OutputBusy, open_parts
from tasks.recent import RECENT, append_windows
from tasks.score import Scored, score
from tasks.windows import WindowInvalid
from tests.problems import (
    test_bakery,
    test_churn,
    test_climate,
    test_co2,
    test_fake_articles,
    test_fake_news,
    test_fraud,
    test_movie_reviews,
    test_newswires,
)
from tests.training_store import crown
from validation.gate import validate
from validation.windows import ask_of_source

if TYPE_CHECKING:
    import keras

SAMPLES: dict[str, Callable[[Path], Path]] = {
    "churn": test_churn.make_sample,
    "fraud": test_fraud.make_sample,
    "fake_news": test_fake_news.make_sample,
    "fake_articles": test_fake_articles.make_sample,
    "movie_reviews": test_movie_reviews.make_sample,
    "newswires": test_newswires.make_sample,
}


def read_problem(name: str, folder: Path) -> tuple[Problem, Examples]:
    problem = load_problem(name)
    data = str(SAMPLES[name](folder)) if name in SAMPLES else ""
    with_links = folder / "raw"
    with_links.mkdir()
    return problem, read_sources(problem, open_store(str(folder / "store")), "", data, str(with_links))


def make_champion(problem: Problem, examples: Examples, folder: Path) -> keras.Model:
    import keras

    keras.utils.set_random_seed(0)
    model = problem.build(problem.hyperparameters.from_settings({}), examples)
    crown(open_store(str(folder / "store")), problem.name, model)
    return model


@pytest.fixture
def houses(tmp_path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Houses without their prices, and what a champion in tmp_path/store says of them."""
    problem, examples = read_problem("housing", tmp_path)
    model = make_champion(problem, examples, tmp_path)
    outputs = model.predict({"attributes": examples.features["attributes"]}, verbose=0)[:, 0]
    assert problem.rows is not None and not isinstance(problem.rows, Stack)
    return examples.frame[[*problem.rows.columns, "B"]], outputs


def scored(folder: Path, window: Path | str, output: str = "out", problem: str = "housing") -> Scored:
    return score.fn(problem, str(window), str(folder / output), str(folder / "store"))


def scores_of(told: Scored) -> pd.DataFrame:
    return pd.read_parquet(told.scores)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_file_of_many_chunks_gets_what_the_model_predicts(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 100)
    table, expected = houses
    table.to_csv(tmp_path / "may.csv", index=False)
    told = scored(tmp_path, tmp_path / "may.csv")
    scores = scores_of(told)
    assert scores["row"].tolist() == list(range(506)) and told.num_scored == 506 and told.num_set_aside == 0
    np.testing.assert_allclose(scores["prediction"], expected, rtol=1e-5, atol=1e-5)
    assert set(scores["version"]) == {1} and set(scores["run"]) == {told.run}
    assert scores.attrs == {"problem": "housing", "version": 1, "run": told.run}
    assert left_in(tmp_path / "out") == ["predictions.parquet", "predictions.rejected.csv"]
    assert Path(told.rejected).read_text() == "row,reason\n"
    assert told.sentence == "506 rows were scored by housing version 1, and nothing was set aside."


def test_every_format_gets_the_same_scores(houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path) -> None:
    table, _ = houses
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True, double_precision=15)
    np.savez(tmp_path / "t.npz", **{name: table[name].to_numpy() for name in table})
    found = [scores_of(scored(tmp_path, tmp_path / f"t.{name}", name)) for name in ("csv", "parquet", "jsonl", "npz")]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_exact=True)


NAMES = ["churn", "fraud", "fake_news", "fake_articles", "perceptron", "linear_houses"]


def check_learning_from(problem: Problem, examples: Examples, rows: np.ndarray, told: Scored, folder: Path) -> None:
    """The second half of these rows, as a window whose truth has come, behind the first half: the same examples again,
    which break no rule that the source keeps."""
    store, half = open_store(str(folder / "store")), len(rows) // 2
    window = told.window.rpartition("/")[2]
    assert problem.rows and problem.rows.truth
    column, dtype = problem.rows.truth.column, np.int64 if problem.rows.truth.words else np.float64
    known = examples.frame[column] if dtype == np.float64 else examples.target
    keep_labels(store, problem.name, window, pd.Series(np.asarray(known)[rows[half:]].astype(dtype), index=rows[half:]))
    (labelled,) = labelled_windows(store, problem.name)
    found = append_windows(
        problem, store, examples.take(rows[:half]).only(examples.features), [(window, labelled.labels)]
    )
    for name, array in examples.features.items():
        np.testing.assert_array_equal(found.features[name][:], array[rows])
    assert found.target.dtype == examples.target.dtype
    np.testing.assert_array_equal(found.target, examples.target[rows])
    known = found.frame[column].notna()
    assert found.frame[column][known].tolist() == examples.frame[column].iloc[rows][known.to_numpy()].tolist()
    assert known.all() or problem.name == "fake_news"  # of six verdicts, a class does not say which
    before = validate(examples.frame, problem.expectations(), name="before")
    after = validate(found.frame, ask_of_source(problem.expectations(), found.frame, RECENT), name="after")
    assert {check.subject for check in after.failures} <= {check.subject for check in before.failures}


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_their_target_get_what_the_model_says_of_the_training_data_and_teach_when_their_truth_comes(
    name: str, tmp_path: Path
) -> None:
    problem, examples = read_problem(name, tmp_path)
    model = make_champion(problem, examples, tmp_path)
    rows = problem.rows
    assert rows is not None and not isinstance(rows, Stack)
    table = pd.read_csv(SAMPLES[name](tmp_path), dtype="str") if name in SAMPLES else examples.frame
    path = tmp_path / "window.csv"
    table[[*rows.ids, *rows.columns]].to_csv(path, index=False)
    features = {key: examples.features[key][np.arange(len(examples))] for key in model.input}
    expected = problem.objective.predictions(model.predict(features, verbose=0))
    told = scored(tmp_path, path, problem=name)
    scores = scores_of(told)
    assert scores["row"].tolist() == list(range(len(examples)))
    assert [*scores.columns] == ["row", *rows.ids, *expected.columns, "version", "run"]
    for column in expected.select_dtypes("number"):
        np.testing.assert_allclose(scores[column], expected[column], rtol=1e-5, atol=1e-5)
    check_learning_from(problem, examples, np.arange(len(examples)), told, tmp_path)


@pytest.mark.parametrize("name", ["movie_reviews", "newswires"])
def test_raw_texts_are_read_with_the_word_index_that_the_version_was_trained_with(name: str, tmp_path: Path) -> None:
    problem, examples = read_problem(name, tmp_path)
    make_champion(problem, examples, tmp_path)
    assert isinstance(problem.rows, Rows)
    (column,), (file,), store = problem.rows.columns, problem.rows.files, open_store(str(tmp_path / "store"))
    ranks = pd.read_csv(SAMPLES[name](tmp_path))["words"]
    texts = ranks.str.replace(r"(\d+)", r"w\1", regex=True)
    texts[3] = "no known word"
    pd.DataFrame({column: texts}).to_csv(tmp_path / "window.csv", index=False)
    with pytest.raises(FormIncomplete, match=f"trained without {file}"):
        scored(tmp_path, tmp_path / "window.csv", problem=name)

    index = json.dumps({f"w{rank}": rank for rank in range(1, 90_000)}).encode()
    model = problem.build(problem.hyperparameters.from_settings({}), examples)
    crown(store, name, model, sources={file: store.put_bytes(f"sources/test/{file}", index, kind="raw")})
    told = scored(tmp_path, tmp_path / "window.csv", problem=name)
    rejected = pd.read_csv(told.rejected)
    assert rejected["row"].tolist() == [3] and "length" in rejected.loc[0, "reason"]
    kept = np.delete(np.arange(len(examples)), 3)
    features = {key: examples.features[key][kept] for key in model.input}
    expected = problem.objective.predictions(model.predict(features, verbose=0)).select_dtypes("number")
    np.testing.assert_allclose(scores_of(told)[list(expected)], expected, rtol=1e-5, atol=1e-5)
    check_learning_from(problem, examples, kept, told, tmp_path)


SERIES: dict[str, tuple[Callable[[Path], Path], Callable[[pd.DataFrame], pd.DataFrame], list[str]]] = {
    "co2": (
        test_co2.make_sample,
        lambda table: pd.DataFrame({"month": table["Date"], "value": table["Interpolated"]}),
        ["month"],
    ),
    "climate": (
        test_climate.make_sample,
        lambda table: pd.DataFrame({"month": table["Year"] + "-01", "anomaly": table["Mean"]})[
            table["Source"] == "gcag"
        ],
        ["month"],
    ),
    "bakery": (
        test_bakery.make_sample,
        lambda table: pd.DataFrame(
            {
                "date": table["Datum"],
                "group": table["Warengruppe"].map(bakery.GROUPS),
                "turnover": table["Umsatz"],
                **dict.fromkeys(("clouds", "temperature", "wind", "rain"), float("nan")),
                "festival": False,
            }
        ),
        ["date", "group"],
    ),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_series_is_forecast_from_its_own_past_in_any_order_and_into_the_future(name: str, tmp_path: Path) -> None:
    make_sample, to_window, shown = SERIES[name]
    problem, path, store = load_problem(name), make_sample(tmp_path), open_store(str(tmp_path / "store"))
    (tmp_path / "raw").mkdir()
    examples = read_sources(problem, store, "", str(path), str(tmp_path / "raw"))
    model = make_champion(problem, examples, tmp_path)
    features = {key: examples.features[key] for key in model.input}
    expected = model.predict(features, verbose=0)[:, 0]
    window = to_window(pd.read_csv(path)).sample(frac=1, random_state=0)
    last = window[shown[0]].max()
    ahead = (pd.Timestamp(last) + (pd.DateOffset(days=1) if name == "bakery" else pd.DateOffset(months=12))).strftime(
        "%Y-%m-%d"
    )
    value = next(column for column in ("value", "anomaly", "turnover") if column in window)
    future = window[window[shown[0]] == last].assign(**{shown[0]: ahead, value: np.nan})
    too_far = future.assign(**{shown[0]: str(pd.Timestamp(last) + pd.DateOffset(years=2))[:10]})
    pd.concat([window, future, too_far]).to_csv(tmp_path / "window.csv", index=False)
    scores = scores_of(told := scored(tmp_path, tmp_path / "window.csv", problem=name))
    assert [*scores.columns][: 1 + len(shown)] == ["row", *shown]
    known = examples.frame[shown].assign(expected=expected)
    found = scores.merge(known, on=shown, how="left")
    is_known = found["expected"].notna()
    assert is_known.sum() == len(examples)
    np.testing.assert_allclose(found["prediction"][is_known], found["expected"][is_known], rtol=1e-4, atol=1e-4)
    forecast = found[found[shown[0]] == ahead]
    assert len(forecast) == len(future) and forecast["prediction"].notna().all()
    assert not (found[shown[0]] > ahead).any()
    reasons = pd.read_csv(told.rejected).set_index("row")["reason"]
    assert set(range(len(window) + len(future), len(window) + 2 * len(future))) <= set(reasons.index)
    assert len(reasons) + len(scores) == len(window) + 2 * len(future)
    assert reasons.iloc[-1].startswith("days_since" if name == "bakery" else "num_known")


def bakery_champion(folder: Path) -> pd.DataFrame:
    """The window of the sample's days; the store has a champion."""
    problem, path = load_problem("bakery"), test_bakery.make_sample(folder)
    (folder / "raw").mkdir()
    make_champion(
        problem, read_sources(problem, open_store(str(folder / "store")), "", str(path), str(folder / "raw")), folder
    )
    return SERIES["bakery"][1](pd.read_csv(path))


def test_days_that_are_mistakes_spoil_no_other_row(tmp_path: Path) -> None:
    window = bakery_champion(tmp_path)
    window.to_csv(tmp_path / "good.csv", index=False)
    good = scores_of(scored(tmp_path, tmp_path / "good.csv", problem="bakery")).set_index("row")["prediction"]
    last = window.tail(1)
    mistakes = pd.concat(
        [
            last.assign(date="9999-01-01"),
            last.assign(date=None),
            last.assign(group=None),
            last.assign(group="beer"),
            last.assign(festival=None),
            last.assign(clouds=np.inf),
        ]
    )
    odd = last.assign(date="2016-10-31", turnover=np.inf)
    pd.concat([window, mistakes, odd]).to_csv(tmp_path / "bad.csv", index=False)
    told = scored(tmp_path, tmp_path / "bad.csv", "bad", problem="bakery")
    found = scores_of(told).set_index("row")["prediction"]
    np.testing.assert_allclose(found.loc[good.index], good, rtol=1e-5)
    aside = pd.read_csv(told.rejected).set_index("row")["reason"]
    numbers = range(len(window), len(window) + len(mistakes) + 1)
    assert set(numbers) <= set(aside.index) and not set(numbers) & set(found.index)
    assert "group" in aside[len(window) + 2] and "festival" in aside[len(window) + 4]
    window.tail(3).assign(date=None).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(WindowInvalid, match="None of the rows"):
        scored(tmp_path, tmp_path / "none.csv", "none", problem="bakery")


def test_a_series_whose_last_row_cannot_be_read_is_not_too_long(tmp_path: Path) -> None:
    problem, path, store = load_problem("co2"), test_co2.make_sample(tmp_path), open_store(str(tmp_path / "store"))
    (tmp_path / "raw").mkdir()
    make_champion(problem, read_sources(problem, store, "", str(path), str(tmp_path / "raw")), tmp_path)
    months = SERIES["co2"][1](pd.read_csv(path)).to_csv(index=False)
    (tmp_path / "window.csv").write_text(months + "2017-01-01,1,2,3\n")
    told = scored(tmp_path, tmp_path / "window.csv", problem="co2")
    assert told.num_scored > 100 and "fields" in pd.read_csv(told.rejected)["reason"].iloc[-1]


def test_a_series_longer_than_can_be_taken_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SERIES_ROWS", 100)
    problem, path, store = load_problem("co2"), test_co2.make_sample(tmp_path), open_store(str(tmp_path / "store"))
    (tmp_path / "raw").mkdir()
    make_champion(problem, read_sources(problem, store, "", str(path), str(tmp_path / "raw")), tmp_path)
    SERIES["co2"][1](pd.read_csv(path)).to_csv(tmp_path / "window.csv", index=False)
    with pytest.raises(WindowInvalid, match="100 rows at most"):
        scored(tmp_path, tmp_path / "window.csv", problem="co2")
    assert left_in(tmp_path / "out") == []


def test_pictures_in_an_array_are_scored_in_chunks_and_one_on_grey_ground_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK_BYTES", 28 * 28 * 40)
    problem, examples = read_problem("digits", tmp_path)
    few = examples.take(np.arange(0, 5000, 40))
    model = make_champion(problem, few, tmp_path)
    images = few.features["image"][..., 0].copy()
    images[7] = images[7] // 2 + 9
    np.savez_compressed(tmp_path / "w.npz", image=images)
    told = scored(tmp_path, tmp_path / "w.npz", problem="digits")
    scores = scores_of(told)
    kept = np.delete(np.arange(125), 7)
    assert scores["row"].tolist() == kept.tolist()
    expected = problem.objective.predictions(model.predict({"image": images[kept][..., None]}, verbose=0))
    assert scores["predicted"].tolist() == expected["predicted"].tolist()
    shares = expected.select_dtypes("number")
    np.testing.assert_allclose(scores[list(shares)], shares, rtol=1e-5, atol=1e-5)
    rejected = pd.read_csv(told.rejected)
    assert rejected["row"].tolist() == [7] and "min: 9" in rejected.loc[0, "reason"]
    check_learning_from(problem, few, kept, told, tmp_path)


def test_rows_that_break_a_rule_are_set_aside_with_the_reason_and_the_others_keep_their_scores(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 100)
    table, expected = houses
    bad = table.astype(object)
    bad.loc[5, "CHAS"] = 2
    bad.loc[150, "RM"] = None
    bad.loc[151, "RM"] = "six"
    bad.loc[152, "TAX"] = -1
    bad.loc[152, "RM"] = 99
    path = tmp_path / "may.csv"
    bad.to_csv(path, index=False)
    lines = path.read_text().splitlines()
    lines[301] += ",1"
    path.write_text("\n".join(lines))
    told = scored(tmp_path, path)
    rejected = pd.read_csv(told.rejected).set_index("row")["reason"]
    assert rejected.index.tolist() == [5, 150, 151, 152, 300]
    assert rejected[5] == "CHAS: 2.0, expected one of 0, 1"
    assert rejected[150] == "RM: missing, expected never missing"
    assert rejected[151] == "RM: 'six', expected a number with a decimal point"
    assert "RM: 99.0, expected between 3 and 10" in rejected[152] and "TAX: -1.0" in rejected[152]
    assert "fields where the header has 13" in rejected[300]
    scores = scores_of(told)
    assert scores["row"].tolist() == np.delete(np.arange(506), rejected.index).tolist()
    np.testing.assert_allclose(scores["prediction"], expected[scores["row"]], rtol=1e-5, atol=1e-5)
    assert (told.num_scored, told.num_set_aside) == (501, 5)


@pytest.mark.parametrize("change", [{"columns": "RM"}, {"index": range(506)}])
def test_a_file_of_another_schema_stops_before_anything_is_scored(
    change: dict[str, object],
    houses: tuple[pd.DataFrame, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "predict_in_batches", None)  # would fail if it were called
    houses[0].drop(**change).to_csv(tmp_path / "may.csv", index=False)  # type: ignore[call-overload]
    with pytest.raises(ModelkeepError, match=r"missing: RM|None of the rows"):
        scored(tmp_path, tmp_path / "may.csv")
    assert left_in(tmp_path / "out") == []


def test_if_no_row_can_be_scored_nothing_is_written_and_an_earlier_answer_stays(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    houses[0].to_csv(tmp_path / "may.csv", index=False)
    before = Path(scored(tmp_path, tmp_path / "may.csv").scores).read_bytes()
    houses[0].assign(RM=99).to_csv(tmp_path / "june.csv", index=False)
    with pytest.raises(WindowInvalid, match="row 0: RM: 99"):
        scored(tmp_path, tmp_path / "june.csv")
    assert Path(tmp_path / "out" / "predictions.parquet").read_bytes() == before
    assert left_in(tmp_path / "out") == ["predictions.parquet", "predictions.rejected.csv"]


KILLED = """
import os, signal, sys
from tasks import score_rows
from tasks.parts import Parts
from tasks.score import score
score_rows.CHUNK_ROWS = 100
add = Parts.add
def add_and_die(parts, *arguments):
    add(parts, *arguments)
    if len(parts) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Parts.add = add_and_die
score.fn("housing", *sys.argv[1:])
"""


def test_a_killed_scoring_goes_on_after_the_last_chunk_and_ends_with_the_same_bytes(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 100)
    table = houses[0].copy()
    table.loc[[50, 250, 450], "RM"] = 99.0
    table.to_csv(tmp_path / "may.csv", index=False)
    places = [str(tmp_path / name) for name in ("may.csv", "out", "store")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *places], capture_output=True, timeout=300)
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert left_in(tmp_path / "out") == [".predictions.parts"]

    asked: list[int] = []
    predict = scoring.predict_in_batches
    monkeypatch.setattr(
        scoring, "predict_in_batches", lambda call, features, size: (asked.append(1), predict(call, features, size))[1]
    )
    resumed = scored(tmp_path, tmp_path / "may.csv")
    assert len(asked) == 3 and left_in(tmp_path / "out") == ["predictions.parquet", "predictions.rejected.csv"]

    (tmp_path / "store" / "windows").rename(tmp_path / "windows before")
    whole = scored(tmp_path, tmp_path / "may.csv", "other")
    assert len(asked) == 3 + 6
    for one, other in ((resumed.scores, whole.scores), (resumed.rejected, whole.rejected)):
        assert Path(one).read_bytes() == Path(other).read_bytes()
    assert pd.read_csv(resumed.rejected)["row"].tolist() == [50, 250, 450]


def test_where_nothing_was_done_no_folder_is_left_behind(tmp_path: Path) -> None:
    with open_parts(tmp_path / "new" / "scores.parquet", "a"):
        pass
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with open_parts(tmp_path / "old" / "scores.parquet", "a"):
        pass
    assert list((tmp_path / "old").iterdir()) == []


def test_parts_of_another_input_are_thrown_away_and_no_two_write_to_one_output(tmp_path: Path) -> None:
    import pyarrow as pa

    output = tmp_path / "predictions.parquet"
    with open_parts(output, "a") as parts:
        parts.add({"scores": pa.table({"row": [1]})}, {0: "bad"})
        with pytest.raises(OutputBusy), open_parts(output, "a"):
            pass
    with open_parts(output, "a") as parts:
        assert (len(parts), parts.num_rows(), list(parts.set_aside())) == (1, 1, [(0, "bad")])
    with open_parts(output, "b") as parts:
        assert len(parts) == 0
    assert left_in(tmp_path) == []


def test_the_window_is_kept_for_monitoring_and_not_scored_twice(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    houses[0].assign(RM=houses[0]["RM"].where(houses[0].index != 3, 99.0)).to_csv(tmp_path / "may.csv", index=False)
    told = scored(tmp_path, tmp_path / "may.csv")
    kept = json.loads(Path(told.window, "manifest.json").read_text())
    assert (kept["version"], kept["num_scored"], kept["num_set_aside"]) == (1, 505, 1)
    assert kept["input"]["name"] == "may.csv" and len(kept["input"]["sha256"]) == 64
    frame = pd.read_parquet(Path(told.window, "frame.parquet"))
    assert frame["row"].tolist() == scores_of(told)["row"].tolist() and frame["RM"].max() < 10
    assert Path(told.window, "scores.parquet").read_bytes() == Path(told.scores).read_bytes()

    monkeypatch.setattr(scoring, "load_champion", None)  # would fail if it were called
    again = scored(tmp_path, tmp_path / "may.csv", "again")
    assert Path(again.scores).read_bytes() == Path(told.scores).read_bytes()
    assert again.sentence == told.sentence


def test_another_version_scores_the_window_anew(houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path) -> None:
    houses[0].to_csv(tmp_path / "may.csv", index=False)
    first = scored(tmp_path, tmp_path / "may.csv")
    problem, store = load_problem("housing"), open_store(str(tmp_path / "store"))
    crown(store, "housing", problem.build(problem.hyperparameters.from_settings({}), Examples(
        {"attributes": houses[0].drop(columns="B").to_numpy("float32")}, houses[1], houses[0])))  # fmt: skip
    second = scored(tmp_path, tmp_path / "may.csv", "second")
    assert (first.version, second.version) == (1, 2) and first.window != second.window
    Registry(store).rollback("housing", actor="test", reason="worse")
    assert scored(tmp_path, tmp_path / "may.csv", "third").window == first.window


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """An HTTP server of this test's folder, on loopback."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_at_an_address_is_scored_like_a_local_one(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, address: str
) -> None:
    houses[0].head(50).to_parquet(tmp_path / "may.parquet")
    told = scored(tmp_path, f"{address}/may.parquet")
    assert told.num_scored == 50
    with pytest.raises(ModelkeepError, match="answered 404"):
        scored(tmp_path, f"{address}/june.parquet")


def test_scores_of_churn_keep_the_id_and_both_outcomes_of_a_blank_total(tmp_path: Path) -> None:
    problem, examples = read_problem("churn", tmp_path)
    make_champion(problem, examples, tmp_path)
    table = test_churn.make_table().drop(columns="Churn")
    table.loc[7, "TotalCharges"] = " "  # not a new customer
    path = tmp_path / "may.csv"
    table.to_csv(path, index=False)
    told = scored(tmp_path, path, problem="churn")
    assert pd.read_csv(told.rejected)["row"].tolist() == [7]
    assert scores_of(told)["customerID"].tolist() == np.delete(table["customerID"].to_numpy(), 7).tolist()
    table.drop(columns="customerID").to_csv(path, index=False)
    assert "customerID" not in scores_of(scored(tmp_path, path, problem="churn"))


def test_scores_carry_the_interval_that_was_fitted_with_the_version(
    houses: tuple[pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    table, _ = houses
    interval = {"level": 0.9, "reach": 89.0, "is_relative": False, "rows": 99, "source": "validation rows"}
    judge(open_store(str(tmp_path / "store")), "housing", {"calibration": None, "intervals": interval})
    table.to_csv(tmp_path / "may.csv", index=False)
    told = scored(tmp_path, tmp_path / "may.csv")
    scores = scores_of(told)
    np.testing.assert_allclose(scores["upper"] - scores["prediction"], 89, rtol=1e-4)
    np.testing.assert_allclose(scores["prediction"] - scores["lower"], 89, rtol=1e-4)
    said = json.loads(pq.read_schema(told.scores).metadata[b"interval"])
    assert (said["level"], said["reach"], said["rows"]) == (0.9, 89.0, 99)


def test_probabilities_are_calibrated_where_a_temperature_was_kept_and_the_class_stays(tmp_path: Path) -> None:
    make_champion(*read_problem("churn", tmp_path), tmp_path)
    path, store = tmp_path / "may.csv", open_store(str(tmp_path / "store"))
    test_churn.make_table().drop(columns="Churn").to_csv(path, index=False)
    plain = scores_of(scored(tmp_path, path, problem="churn"))
    judge(store, "churn", {"calibration": {"temperature": {"value": 2.0, "helps": True}}, "intervals": None})
    calm = scores_of(scored(tmp_path, path, problem="churn"))
    odds = plain["probability"].astype(float) / (1 - plain["probability"].astype(float))
    np.testing.assert_allclose(calm["probability"], np.sqrt(odds) / (1 + np.sqrt(odds)), rtol=1e-4)
    assert calm["predicted"].tolist() == plain["predicted"].tolist()
    judge(store, "churn", {"calibration": {"temperature": {"value": 2.0, "helps": False}}, "intervals": None})
    np.testing.assert_array_equal(
        scores_of(scored(tmp_path, path, problem="churn"))["probability"], plain["probability"]
    )


def judge(store: Store, problem: str, evaluation: dict[str, Any]) -> None:
    """Make the champion anew, as if its run had been evaluated so."""
    registry = Registry(store)
    before = registry.champion(problem)
    assert before is not None
    number = len(registry.versions(problem)) + 1
    run = f"{problem}-20260102T000000-{number:06d}"
    artifacts = json.loads(store.read_bytes(before.manifest))["artifacts"]
    judged = json.dumps({"evaluation": evaluation}).encode()
    kept = store.put_bytes(f"runs/{problem}/{run}/evaluate.json", judged, kind="json")
    page = {"artifacts": {**artifacts, "evaluate/evaluation.json": kept.to_dict()}}
    manifest = store.put_bytes(f"runs/{problem}/{run}/manifest.json", json.dumps(page).encode(), kind="json")
    told: Any = {"actor": "test", "reason": "test", "run": run}
    registry.register(problem, manifest=manifest, metrics={}, weights=f"weights {number}", **told)
    registry.promote(problem, number, expected=before.number, **told)
