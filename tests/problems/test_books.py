"""Books: who is tested was trained on, what was rated is not recommended, and readers of a kind are told apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.books import BOOKS, RATINGS, BooksHyperparameters, problem, read_together
from problems.outline import Files
from tasks.evaluate import _predict as predict_test_rows
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit, load_model, outputs_of
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker
from validation.gate import ValidationFailed, require, validate

NUM_USERS, NUM_BOOKS, READ = 24, 40, 20


def make_table() -> pd.DataFrame:
    """Two kinds of readers, each of whom reads half of the books, those of his kind four times as often and with more
    pleasure."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(NUM_USERS):
        of_kind = np.arange(NUM_BOOKS) % 2 == user % 2
        chances = np.where(of_kind, 4.0, 1.0)
        for book in random.choice(NUM_BOOKS, READ, replace=False, p=chances / chances.sum()):
            stars = random.choice([4, 5] if of_kind[book] else [1, 2, 3, 4])
            rows.append((100 + user, 1 + book, stars, f"Volume {1 + book}"))
    return pd.DataFrame(rows, columns=["user_id", "book_id", "rating", "title"])


def make_sample(folder: Path) -> Path:
    path = folder / "ratings_of_my_own.csv"
    make_table().to_csv(path, index=False)
    return path


def refusal(table: pd.DataFrame, folder: Path) -> str:
    path = folder / "ratings.csv"
    table.to_csv(path, index=False)
    with pytest.raises(ValidationFailed) as refused:
        require(validate(problem.read(Files({RATINGS: path})).frame, problem.expectations(), name="books"))
    return str(refused.value)


def test_titles_come_from_the_list_of_books_else_from_the_file_else_from_the_number(tmp_path: Path) -> None:
    ratings, books = make_sample(tmp_path), tmp_path / BOOKS
    assert problem.read(Files({RATINGS: ratings})).frame["title"][0].startswith("Volume ")
    make_table().drop(columns="title").to_csv(ratings, index=False)
    assert problem.read(Files({RATINGS: ratings})).frame["title"][0].startswith("book ")
    listed = pd.DataFrame({"book_id": range(1, 41), "title": [f" Tome {n} " for n in range(1, 41)], "authors": "Ada"})
    listed.to_csv(books, index=False)
    frame = problem.read(Files({RATINGS: ratings, BOOKS: books})).frame
    assert frame["title"].tolist() == [f"Tome {number}" for number in make_table()["book_id"]]
    assert set(frame["authors"]) == {"Ada"}


def test_the_sample_meets_what_is_expected(tmp_path: Path) -> None:
    examples = problem.read(Files({RATINGS: make_sample(tmp_path)}))
    require(validate(examples.frame, problem.expectations(), name="books"))


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (7, "rating", 6, "rating"),
        (7, "rating", 0, "row 7"),
        (7, "user_id", -3, "user_id"),
        (7, "title", None, "title"),
        (1, "book_id", int(make_table()["book_id"][0]), "user_id, book_id"),
    ],
)
def test_a_rating_that_cannot_be_is_refused_by_name(
    row: int, column: str, value: Any, said: str, tmp_path: Path
) -> None:
    table = make_table()
    table.loc[row, column] = value
    assert said in refusal(table, tmp_path)


def test_many_who_rate_everything_alike_are_refused(tmp_path: Path) -> None:
    table = make_table()
    table.loc[table["user_id"] < 105, "rating"] = 5
    assert "user_spread" in refusal(table, tmp_path)


def test_books_that_the_same_people_like_have_vectors_of_the_same_direction() -> None:
    table = make_table()
    hyperparameters = BooksHyperparameters(width=2, damping=0.4)
    readers, shelves = read_together(
        table["user_id"].to_numpy() - 100, table["book_id"].to_numpy() - 1, table["rating"].to_numpy(), hyperparameters
    )
    assert readers.shape == (NUM_USERS + 1, 2) and shelves.shape == (NUM_BOOKS + 1, 2)
    scores = readers[1:] @ shelves[1:].T
    same_kind = np.arange(NUM_USERS)[:, None] % 2 == np.arange(NUM_BOOKS) % 2
    assert scores[same_kind].mean() > 2 * scores[~same_kind].mean()


def test_an_unknown_user_gets_the_mean_reader_and_an_unknown_book_no_vector(tmp_path: Path) -> None:
    examples = problem.read(Files({RATINGS: make_sample(tmp_path)}))
    width = 3
    model = problem.build(BooksHyperparameters(width=width), examples)
    numbers = {"user_id": [100, 7, 2_000_000_000], "book_id": [0, 5, 41]}
    stars, readers, shelves = np.split(
        outputs_of(model, {name: np.array(value, np.int32) for name, value in numbers.items()}), [1, 1 + width], axis=1
    )
    assert stars[:, 0] == pytest.approx(examples.target.mean())
    assert readers[1] == pytest.approx(readers[2]) and not np.allclose(readers[0], readers[1])
    assert (shelves[[0, 2]] == 0).all() and shelves[1].any()


def test_a_training_recommends_what_is_unread_and_keeps_what_the_commands_need(
    make_run: RunMaker, tmp_path: Path
) -> None:
    run = make_run("books", {"epochs": 20, "width": 2, "batch_size": 32}, data=str(make_sample(tmp_path)))
    store, ingested = run.open_store(), ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    fitted = fit.fn(run, ingested, prepared)
    judged = evaluate.fn(run, ingested, prepared, [], fitted)
    predictions = pd.read_parquet(store.local_path(fitted.products["predictions"])).query("part == 'test'")
    table = make_table()
    read = set(zip(table["user_id"], table["book_id"], strict=True))
    test_pairs = set(zip(predictions["user"], predictions["item"], strict=True))
    first = predictions[[f"first_{place}" for place in range(1, 11)]]
    shown = set(
        first.assign(user=predictions["user"]).melt("user")[["user", "value"]].itertuples(index=False, name=None)
    )
    assert not (shown & read) - test_pairs
    assert shown & test_pairs
    suggestions = pd.read_parquet(store.local_path(fitted.products["suggestions"]))
    assert not set(zip(suggestions["user"], suggestions["item"], strict=True)) & read
    assert suggestions["rating"].between(1, 5).all()
    catalogue = pd.read_parquet(store.local_path(fitted.products["catalogue"]))
    assert catalogue["title"].str.startswith("Volume ").all() and len(catalogue) == NUM_BOOKS
    assert judged.facts["metrics"]["ndcg_at_10"] > 0 and judged.facts["metrics"]["coverage_at_10"] > 0.25
    model = load_model(store.local_path(fitted.products["model"]))
    again = predict_test_rows(problem, model, load_examples(store, ingested), load_rows(store, prepared))
    kept = predictions[list(again)].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, kept, check_dtype=False, atol=1e-5)


@pytest.mark.data
def test_on_the_published_ratings_it_ranks_better_than_popularity_and_rates_better_than_the_mean(
    make_run: RunMaker,
) -> None:
    run = make_run("books", mirror=os.environ["MODELKEEP_MIRROR"])
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    judged = evaluate.fn(run, ingested, prepared, [], fit.fn(run, ingested, prepared))
    assert judged.facts["accepted"], judged.facts["reason"]
