"""Movie reviews: from ranks of words to a model that scores raw English."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from problems.movie_reviews import NUM_LAST_WORDS, NUM_WORDS, WORD_INDEX, expectations, inputs, problem
from problems.outline import Examples, Files
from problems.outline.ragged import Ragged
from problems.outline.raw import BadInput
from store.artifacts import Store
from store.steps import StepRecord
from tasks.examples import load_examples
from tasks.fit import fit, load_model
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tasks.steps import Run
from tests.training_store import RunMaker

GOOD_RANKS, BAD_RANKS = range(500, 510), range(600, 610)
INDEX = {f"word{rank}": rank for rank in range(1, 201)} | {"superb": 500, "dreadful": 600}


def make_sample(folder: Path, num_reviews: int = 600) -> Path:
    """Reviews of common words with some rare ones, and five words that give the verdict away."""
    random = np.random.default_rng(0)
    lines = ["words,label,part"]
    for number in range(num_reviews):
        label = number % 2
        common = random.integers(1, 200, random.integers(30, 90))
        rare = random.integers(NUM_WORDS, 88_585, max(1, len(common) // 20))
        verdict = random.choice(GOOD_RANKS if label else BAD_RANKS, 5)
        ranks = random.permutation(np.concatenate([common, rare, verdict]))
        lines.append(f"{' '.join(map(str, ranks))},{label},{'test' if number % 4 > 1 else 'train'}")
    path = folder / "reviews.csv"
    path.write_text("\n".join(lines))
    return path


def write_index(folder: Path, index: Mapping[str, int]) -> dict[str, Path]:
    path = folder / WORD_INDEX
    path.write_text(json.dumps(index))
    return {WORD_INDEX: path}


def score_reviews(model: keras.Model, texts: list[str], files: Mapping[str, Path]) -> np.ndarray:
    features = inputs(pd.DataFrame({"review": texts}), files).features
    scores: np.ndarray = model.predict({name: features[name][:] for name in model.input}, verbose=0)[:, 0]
    return scores


def train(run: Run) -> tuple[Store, Examples, StepRecord, StepRecord]:
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    store = run.open_store()
    return store, load_examples(store, ingested), prepared, fit.fn(run, ingested, prepared)


def read_sample(path: Path) -> Examples:
    return problem.read(Files({"imdb.npz": path}))


def test_reviews_are_kept_as_flat_ids_that_both_forms_share(tmp_path: Path) -> None:
    examples = read_sample(make_sample(tmp_path, 120))
    words, sequence = examples.features["words"], examples.features["sequence"]
    assert isinstance(words, Ragged) and words.values is sequence.values and words.values.dtype == "int16"
    assert words.shape == (120, NUM_WORDS) and sequence.shape == (120, NUM_LAST_WORDS)
    assert set(examples.target) == {0, 1} and set(examples.frame["label"]) == {"negative", "positive"}
    assert words.nbytes < 120 * NUM_WORDS / 50


def test_pickled_arrays_are_read_only_from_a_file_whose_digest_was_verified(tmp_path: Path) -> None:
    path = tmp_path / "imdb.npz"
    reviews = np.empty(2, object)
    reviews[:] = [[1, 14, 12_000], [2, 7]]
    np.savez(path, x_train=reviews, y_train=np.array([1, 0]), x_test=reviews[::-1], y_test=np.array([0, 1]))
    examples = problem.read(Files({"imdb.npz": path}, verified=frozenset({"imdb.npz"})))
    assert examples.frame["part"].tolist() == ["train", "train", "test", "test"]
    ids = examples.features["sequence"][:][:, :5].tolist()
    assert ids == [[1, 4, 17, 2, 0], [1, 5, 10, 0, 0], [1, 5, 10, 0, 0], [1, 4, 17, 2, 0]]
    assert examples.target.tolist() == [1, 0, 0, 1]
    with pytest.raises(BadInput, match="Python objects"):
        problem.read(Files({"imdb.npz": path}))


@pytest.mark.parametrize(
    ("defect", "subject"),
    [
        ("a third class", "label"),
        ("ids in place of ranks", "rare_share"),
        ("a word beyond the index", "max"),
        ("an empty review", "length"),
        ("test reviews copied from training", "part"),
        ("a copy with the other label", "label"),
    ],
)
def test_defects_are_caught_before_training(tmp_path: Path, defect: str, subject: str) -> None:
    from validation.gate import validate

    path = make_sample(tmp_path, 120)
    header, *lines = path.read_text().splitlines()
    assert validate(read_sample(path).frame, expectations(), name="sample").success
    words, label, part = lines[0].split(",")
    train_words = lines[0].split(",")[0]
    changes = {
        "a third class": [f"{words},2,{part}", *lines[1:]],
        "ids in place of ranks": [
            f"{' '.join(rank for rank in line.split(',')[0].split() if int(rank) < 9_000)},{line.split(',', 1)[1]}"
            for line in lines
        ],
        "a word beyond the index": [f"{words} 88585,{label},{part}", *lines[1:]],
        "an empty review": [f",{label},{part}", *lines[1:]],
        "test reviews copied from training": [*lines, *[line.replace("train", "test") for line in lines[:8:4]]],
        "a copy with the other label": [*lines, f"{train_words},1,{part}"],
    }
    path.write_text("\n".join([header, *changes[defect]]))
    result = validate(read_sample(path).frame, expectations(), name="sample")
    assert any(subject in failure.subject for failure in result.failures), result.failures


def test_a_model_of_the_sample_scores_raw_english(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run("movie_reviews", {"epochs": 6, "batch_size": 32}, data=str(make_sample(tmp_path)))
    store, _, _, fitted = train(run)
    model = load_model(store.local_path(fitted.products["model"]))
    texts = ["Superb, word1 word2: SUPERB!", "word1<br />dreadful... unheard-of"]
    good, bad = score_reviews(model, texts, write_index(tmp_path, INDEX))
    assert good > 0.5 > bad


def test_a_review_is_encoded_by_the_published_word_index(tmp_path: Path) -> None:
    index = write_index(tmp_path, {"the": 1, "film": 19, "unusual": 9_996, "usual": 9_997})
    made = inputs(pd.DataFrame({"review": ["The film: <b>unusual</b>, usual, nonesuch", None]}), index)
    assert made.features["sequence"][:][:, :6].tolist() == [[1, 4, 22, 9_999, 2, 0], [1, 0, 0, 0, 0, 0]]
    assert made.frame["length"].tolist() == [4, 0] and made.frame["rare_share"].tolist() == [0.25, 0]


def test_rows_of_a_window_are_described_as_those_of_training_are(tmp_path: Path) -> None:
    trained = read_sample(make_sample(tmp_path)).frame
    made = inputs(pd.DataFrame({"review": ["word1 superb"]}), write_index(tmp_path, INDEX)).frame
    assert set(made) - {"review"} < set(trained)
    assert {"length", "rare_share", "min", "max"} <= set(made)


@pytest.mark.parametrize("network", ["convnet", "lstm"])
def test_networks_over_the_order_of_words_train_on_the_sequences_alone(
    make_run: RunMaker, tmp_path: Path, network: str
) -> None:
    settings = {"network": network, "epochs": 1, "units": 4, "batch_size": 64}
    run = make_run("movie_reviews", settings, data=str(make_sample(tmp_path, 160)))
    store, examples, prepared, fitted = train(run)
    model = load_model(store.local_path(fitted.products["model"]))
    assert list(model.input) == ["sequence"] and set(examples.features) == {"words", "sequence"}
    assert score_reviews(model, ["word1 superb"], write_index(tmp_path, INDEX)).shape == (1,)
    assert len(load_rows(store, prepared).test) == 80


@pytest.mark.data
def test_the_real_reviews_train_to_the_books_accuracy_and_score_raw_english(make_run: RunMaker) -> None:
    mirror = os.environ["MODELKEEP_MIRROR"]
    store, examples, prepared, fitted = train(make_run("movie_reviews", mirror=mirror))
    frame = examples.frame
    assert frame["part"].value_counts().to_dict() == {"train": 25_000, "test": 25_000}
    assert frame["text"][0].startswith("bromwell high is a cartoon comedy it ran at the same time")
    assert examples.features["words"].nbytes < 25e6
    predictions = pd.read_parquet(store.local_path(fitted.products["predictions"]))
    test = predictions[predictions["part"] == "test"]
    assert ((test["probability"] >= 0.5) == test["target"]).mean() >= 0.875
    assert len(test) == len(load_rows(store, prepared).test)

    index = {WORD_INDEX: Path(mirror, WORD_INDEX)}
    model = load_model(store.local_path(fitted.products["model"]))
    texts = [
        "A wonderful film. The acting is superb, the story is moving, and I loved every minute. Highly recommended!",
        "What a waste of time: boring, badly acted, with the worst script I've ever seen. Awful, just avoid it.",
    ]
    good, bad = score_reviews(model, texts, index)
    assert good > 0.8 and bad < 0.2


def test_a_word_is_added_to_a_review_in_both_of_its_forms() -> None:
    awful, wonderful = (behaviour.change for behaviour in problem.behaviours)
    words, sequence = np.zeros((2, NUM_WORDS), np.uint8), np.array([[1, 7, 8, 0], [1, 0, 0, 0]], np.int16)
    assert awful({"words": words})["words"].sum() == 2 and not words.any()
    number = 370 + 3
    assert awful({"words": words})["words"][:, number].tolist() == [1, 1]
    number = 386 + 3
    assert wonderful({"sequence": sequence})["sequence"].tolist() == [[1, 7, number, 0], [number, 0, 0, 0]]
