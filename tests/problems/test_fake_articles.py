"""Fake articles: the marks of the publishers are out, and no article is on both sides."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.fake_articles import FAKE, TRUE, problem, split_articles
from problems.outline import Files
from problems.outline.raw import BadInput
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker

NAMES = [f"subject{letter}{other}" for letter in "abcdefghij" for other in "abcdefghij"]


def make_table(num_rows: int = 400) -> pd.DataFrame:
    """Articles of 120 random words, with one more that gives them away for the most part."""
    random = np.random.default_rng(0)
    label = random.choice(["fake", "true"], num_rows)
    told = np.where(random.random(num_rows) < 0.9, label == "fake", label == "true")
    words = random.choice(NAMES, (num_rows, 120))
    hints = np.where(told, "just", "said")
    return pd.DataFrame(
        {
            "title": [f"About {row[0]}" for row in words],
            "text": [f"{hint} {' '.join(row)}." for hint, row in zip(hints, words, strict=True)],
            "label": label,
        }
    )


def make_sample(folder: Path) -> Path:
    path = folder / "articles.csv"
    make_table().to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("article", "words"),
    [
        ("WASHINGTON (Reuters) - The Senate voted. Reuters could not verify.", "the senate voted could not verify"),
        ("SACRAMENTO, Calif. (Reuters) - A court ruled.", "court ruled"),
        ("He couldn t and Trump s team won’t.Featured image via M. / Getty Images", "he couldn and trump team won"),
        ("Read it at https://t.co/x1 or pic.twitter.com/JsI says @NewsHour.", "read it at or says"),
        ("Trump Was Tweeting Again (DETAILS) [VIDEO]", "trump was tweeting again"),
    ],
)  # fmt: skip
def test_what_tells_the_publisher_and_not_the_story_is_taken_out(article: str, words: str) -> None:
    assert split_articles(pd.Series([article])) == [words.split()]


def test_both_files_are_read_and_told_apart_by_nothing_but_their_name(tmp_path: Path) -> None:
    pd.DataFrame({"title": ["A"], "text": ["Just so it is."], "subject": ["x"], "date": ["y"]}).to_csv(
        tmp_path / "Fake.csv", index=False
    )
    pd.DataFrame({"title": ["B"], "text": ["ROME (Reuters) - It is."], "subject": ["x"], "date": ["y"]}).to_csv(
        tmp_path / "True.csv", index=False
    )
    files = Files({FAKE: tmp_path / "Fake.csv", TRUE: tmp_path / "True.csv"}, verified=frozenset([FAKE, TRUE]))
    examples = problem.read(files)
    assert examples.target.tolist() == [1, 0]
    assert list(examples.features) == ["words"]
    assert examples.frame["dateline"].tolist() == [False, True]


def test_one_file_without_the_other_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Fake.csv").write_text("title,text\nA,B\n")
    with pytest.raises(BadInput, match="only the fake ones"):
        problem.read(Files({FAKE: tmp_path / "Fake.csv"}, verified=frozenset([FAKE])))


def test_an_article_that_was_printed_twice_is_in_one_part(tmp_path: Path) -> None:
    table = make_table(200)
    again = table.assign(text="WASHINGTON (Reuters) - " + table["text"] + " An update follows.")
    path = tmp_path / "own.csv"
    pd.concat([table, again]).to_csv(path, index=False)
    rows = problem.split.divide(problem.read(Files({FAKE: path})), 0)
    part_of = dict.fromkeys(rows.train, "train") | dict.fromkeys(rows.validation, "validation")
    assert all(part_of.get(row) == part_of.get(row + 200) for row in range(200))
    assert min(len(rows.train), len(rows.validation), len(rows.test)) > 0


@pytest.mark.data
def test_published_articles_are_told_apart_without_the_marks(make_run: RunMaker) -> None:
    run = make_run("fake_articles", mirror=os.environ["MODELKEEP_MIRROR"])
    ingested = ingest.fn(run)
    examples = load_examples(run.open_store(), ingested)
    prepared = prepare.fn(run, ingested)
    rows, group = load_rows(run.open_store(), prepared), examples.frame["group"]
    assert len(examples) == 2_402 and examples.target.sum() == 1_413
    assert not set(group[rows.test]) & set(group[np.concatenate([rows.train, rows.validation])])
    judged = evaluate.fn(run, ingested, prepared, [], fit.fn(run, ingested, prepared))
    assert judged.facts["accepted"]
