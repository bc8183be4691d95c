"""Fake news: the vocabulary is in the model and of the training rows, and no statement is on both sides."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.fake_news import (
    PARTS,
    VERDICTS,
    FakeNewsHyperparameters,
    problem,
    score_statements,
)
from problems.outline import Examples, Files
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit, load_model
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker
from validation.gate import ValidationFailed, require, validate

SUBJECTS = [f"subject{letter}{other}" for letter in "abcdefghij" for other in "abcdefghij"]


def make_table(num_rows: int = 600) -> pd.DataFrame:
    """Statements of 14 random words, with one more that gives the verdict away for the most part."""
    random = np.random.default_rng(0)
    numbers = random.integers(0, len(VERDICTS), num_rows)
    told = np.where(random.random(num_rows) < 0.9, numbers < 3, numbers >= 3)
    words = random.choice(SUBJECTS, (num_rows, 14))
    hints = np.where(told, "hoax", "report")
    return pd.DataFrame(
        {
            "statement": [f"{hint.title()}: {' '.join(row)}." for hint, row in zip(hints, words, strict=True)],
            "verdict": np.array(VERDICTS)[numbers],
            "party": random.choice(["republican", "democrat", "none", "green"], num_rows),
        }
    )


def make_sample(folder: Path) -> Path:
    path = folder / "statements.csv"
    make_table().to_csv(path, index=False)
    return path


def read(table: pd.DataFrame, folder: Path) -> Examples:
    path = folder / "own.csv"
    table.to_csv(path, index=False)
    return problem.read(Files({PARTS[0]: path}))


def test_published_files_are_read_with_quotes_as_they_are(tmp_path: Path) -> None:
    lines = [
        '1.json\tfalse\t"He said so.\ttopic\twho\t\tTexas\trepublican\t0\t1\t0\t0\t0\ta mailer',
        '2.json\ttrue\tAnd "she did.\ttopic\twho\t\t\twhig\t0\t1\t0\t0\t0\t',
    ]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    examples = problem.read(Files({PARTS[0]: tmp_path / "train.tsv"}, verified=frozenset(PARTS)))
    assert examples.frame["statement"].tolist() == ['"He said so.', 'And "she did.']
    assert examples.frame["party"].tolist() == ["republican", "other"]
    assert examples.target.tolist() == [1, 0]


def test_no_statement_has_a_copy_in_another_part(tmp_path: Path) -> None:
    table = make_table(300)
    copies = table.assign(statement="Now " + table["statement"].str.lower())
    examples = read(pd.concat([table, copies]), tmp_path)
    rows = problem.split.divide(examples, 0)
    part_of = dict.fromkeys(rows.train, "train") | dict.fromkeys(rows.validation, "validation")
    assert all(part_of.get(row) == part_of.get(row + 300) for row in range(300))
    assert min(len(rows.train), len(rows.validation), len(rows.test)) > 0


def test_a_word_that_only_test_rows_have_is_unknown_to_the_model(tmp_path: Path) -> None:
    examples = read(make_table(200), tmp_path)
    model = problem.build(FakeNewsHyperparameters(least_count=2), examples)
    known, unknown, nothing = score_statements(model, ["hoax", "hoax zyzzyva", "zyzzyva"])
    assert known == unknown != nothing
    assert np.isfinite(nothing)
    assert nothing == score_statements(model, [""])[0]


def test_the_vocabulary_is_of_words_in_enough_statements(tmp_path: Path) -> None:
    table = make_table(200)
    rare = table["statement"].where(table.index != 7, "rare rare rare rare " + table["statement"])
    model = problem.build(FakeNewsHyperparameters(least_count=2), read(table.assign(statement=rare), tmp_path))
    assert score_statements(model, ["rare"])[0] == score_statements(model, [""])[0]


def test_a_kept_model_scores_raw_text(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run("fake_news", {"epochs": 30, "learning_rate": 0.01}, data=str(make_sample(tmp_path)))
    ingested = ingest.fn(run)
    fitted = fit.fn(run, ingested, prepare.fn(run, ingested))
    model = load_model(run.open_store().local_path(fitted.products["model"]))
    hoax, report = score_statements(model, ["HOAX! hoax", "A report."])
    assert hoax > 0.6 > 0.4 > report


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"verdict": "mostly true"}, "verdict"),
        ({"statement": lambda table: table["statement"].mask(table.index == 3)}, "statement"),
        ({"statement": lambda table: table["statement"].str.repeat(9)}, "num_words"),
        ({"statement": "All of them say that one and the same thing again."}, "group"),
    ],
)
def test_statements_that_went_wrong_are_refused(spoil: dict[str, object], said: str, tmp_path: Path) -> None:
    examples = read(make_table().assign(**spoil), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValidationFailed) as refused:
        require(validate(examples.frame, problem.expectations(), name="fake_news"))
    assert said in str(refused.value)


@pytest.mark.data
def test_published_statements_are_told_apart_better_than_by_chance(make_run: RunMaker) -> None:
    run = make_run("fake_news", mirror=os.environ["MODELKEEP_MIRROR"])
    ingested = ingest.fn(run)
    examples = load_examples(run.open_store(), ingested)
    prepared = prepare.fn(run, ingested)
    rows, group = load_rows(run.open_store(), prepared), examples.frame["group"]
    assert len(examples) == 12_836
    assert not set(group[rows.test]) & set(group[np.concatenate([rows.train, rows.validation])])
    judged = evaluate.fn(run, ingested, prepared, [], fit.fn(run, ingested, prepared))
    assert judged.facts["accepted"]
