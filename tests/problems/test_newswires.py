"""Newswires: the split that Keras takes, and a model for many topics of which some are rare."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from problems.newswires import NUM_WORDS, TOPICS, expectations, problem
from problems.outline import Examples, Files
from problems.outline.raw import BadInput
from store.steps import StepRecord
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.steps import Run
from tests.training_store import RunMaker

# Supports of the classes in keras.datasets.reuters' test part, as published classification reports show them.
PUBLISHED_SUPPORT = {"earn": 813, "acq": 474, "money-fx": 133, "grain": 105, "crude": 99, "hog": 5, "lead": 1}


def make_sample(folder: Path, num_newswires: int = 720) -> Path:
    """Newswires about 12 of the topics, each with words of its own; the first topics are more frequent."""
    random = np.random.default_rng(0)
    lines = ["words,label,part"]
    for number in range(num_newswires):
        label = min(random.integers(12), random.integers(12))
        common = random.integers(1, 200, random.integers(20, 60))
        own = 300 + 10 * label + random.integers(0, 10, 6)
        rare = random.integers(NUM_WORDS, 30_980, 2)
        ranks = random.permutation(np.concatenate([common, own, rare]))
        lines.append(f"{' '.join(map(str, ranks))},{label},{'test' if number % 5 == 4 else 'train'}")
    path = folder / "newswires.csv"
    path.write_text("\n".join(lines))
    return path


def train(run: Run) -> tuple[Examples, StepRecord]:
    """The examples, and the judged evaluation."""
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    fitted = fit.fn(run, ingested, prepared)
    return load_examples(run.open_store(), ingested), evaluate.fn(run, ingested, prepared, [], fitted)


def test_a_model_of_the_sample_tells_the_topics_apart(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run("newswires", {"batch_size": 32, "units": 32, "second_units": 32}, data=str(make_sample(tmp_path)))
    _, judged = train(run)
    assert judged.facts["metrics"]["accuracy"] > 0.8
    assert judged.facts["metrics"]["macro_f1"] is not None


def test_the_sample_meets_what_is_expected_and_an_unknown_topic_does_not(tmp_path: Path) -> None:
    from validation.gate import validate

    path = make_sample(tmp_path, 200)
    frame = problem.read(Files({"reuters.npz": path})).frame
    assert validate(frame, expectations(), name="sample").success
    words, _, part = path.read_text().splitlines()[1].split(",")
    path.write_text(path.read_text() + f"\n{words} 3,46,{part}\n")
    result = validate(problem.read(Files({"reuters.npz": path})).frame, expectations(), name="sample")
    assert [failure.subject for failure in result.failures] == ["label"]


def test_pickled_arrays_are_read_only_from_a_file_whose_digest_was_verified(tmp_path: Path) -> None:
    path = tmp_path / "reuters.npz"
    newswires = np.empty(10, object)
    newswires[:] = [[1, number + 2] for number in range(10)]
    np.savez(path, x=newswires, y=np.arange(10))
    examples = problem.read(Files({"reuters.npz": path}, verified=frozenset({"reuters.npz"})))
    assert examples.frame["label"].tolist() == list(TOPICS[:10])
    assert examples.frame["part"].value_counts().to_dict() == {"train": 8, "test": 2}
    with pytest.raises(BadInput, match="Python objects"):
        problem.read(Files({"reuters.npz": path}))


def test_there_are_46_topics_of_different_names() -> None:
    assert len(TOPICS) == len(set(TOPICS)) == 46


@pytest.mark.data
def test_the_real_newswires_train_to_the_books_accuracy_on_keras_own_split(make_run: RunMaker) -> None:
    examples, judged = train(make_run("newswires", mirror=os.environ["MODELKEEP_MIRROR"]))
    test = examples.frame[examples.frame["part"] == "test"]
    support = test["label"].value_counts()
    assert {topic: int(support[topic]) for topic in PUBLISHED_SUPPORT} == PUBLISHED_SUPPORT
    assert len(test) == 2_246
    assert judged.facts["metrics"]["accuracy"] >= 0.79
    assert judged.facts["metrics"]["macro_f1"] >= 0.45
