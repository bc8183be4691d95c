"""Occlusion: what an answer hangs on, for models of which it is known."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from problems.outline import Binary, Examples, Multiclass, Regression
from problems.outline.objectives import Objective
from problems.outline.problem import Problem
from problems.outline.ragged import Ragged
from problems.outline.words import ALL_RARE, SHIFT, WordsByPlace, WordsByRank, encode_ranks
from tasks.occlusion import NUM_PATCHES, explain_examples
from tasks.report_page import heat
from tests.tasks.test_probing import problem_with


def no_file(name: str) -> None:
    return None


def problem_of(objective: Objective, **parts: Any) -> Problem:
    return problem_with(objective, **parts)


@pytest.fixture(scope="module")
def corner_model() -> Any:
    """Says "bright" where the upper left patch of a 28 × 21 picture is bright."""
    import keras

    picture = keras.Input((28, 21, 1), name="picture")
    corner = keras.layers.Cropping2D(((0, 24), (0, 18)))(keras.layers.Rescaling(1 / 255)(picture))
    mean = keras.layers.GlobalAveragePooling2D()(corner)
    unit = keras.layers.Dense(1, activation="sigmoid")
    built = keras.Model({"picture": picture}, unit(mean))
    unit.set_weights([np.array([[8.0]], np.float32), np.array([-4.0], np.float32)])
    return built


def test_an_answer_about_a_picture_hangs_on_the_patch_that_the_model_looks_at(corner_model: Any) -> None:
    pictures = np.zeros((3, 28, 21, 1), np.uint8)
    pictures[1, :4, :3] = 255
    examples = Examples({"picture": pictures}, np.zeros(3), pd.DataFrame(index=range(3)))
    found = explain_examples(
        problem_of(Binary(positive="bright", negative="dark")), corner_model, examples, [1], no_file
    )
    assert found is not None and found["kind"] == "picture"
    told = found["examples"]["1"]
    drops = np.array(told["drops"])
    assert told["predicted"] == "bright" and told["probability"] == pytest.approx(0.982, abs=1e-3)
    assert drops.shape == (NUM_PATCHES, NUM_PATCHES)
    assert drops[0, 0] > 0.9 and np.abs(np.delete(drops.ravel(), 0)).max() == 0


@pytest.fixture(scope="module")
def word_model() -> Any:
    """Of three classes: the word 7 speaks for the second, the word 9 against it."""
    import keras

    words = keras.Input((4,), name="words", dtype="int32")
    embedding = keras.layers.Embedding(10, 3)
    built = keras.Model(
        {"words": words}, keras.layers.Softmax()(keras.layers.GlobalAveragePooling1D()(embedding(words)))
    )
    table = np.zeros((10, 3), np.float32)
    table[7, 1], table[9, 1] = 12, -2
    embedding.set_weights([table])
    return built


def test_an_answer_about_a_text_hangs_on_its_words_the_weightiest_first(word_model: Any) -> None:
    frame = pd.DataFrame({"text": ["never seen", "cut off fine film bad film"]})
    words = np.array([[1, 2, 0, 0], [7, 3, 9, 3]], np.int32)  # the last four words: fine film bad film
    examples = Examples({"words": words}, np.zeros(2), frame)
    split = WordsByPlace(lambda table: [text.split() for text in table["text"]])
    problem = problem_of(Multiclass(classes=("a", "b", "c")), words={"words": split})
    found = explain_examples(problem, word_model, examples, [1], no_file)
    assert found is not None and found["kind"] == "words"
    told = found["examples"]["1"]
    assert told["predicted"] == "b"
    drops = dict(told["drops"])
    assert next(iter(drops)) == "fine" and set(drops) == {"fine", "film", "bad"}
    assert drops["fine"] > 0.3 and drops["bad"] < 0 and drops["film"] == 0


RANKS = np.array([2, 7, 9, 7, 3, 7, 500])
TEXTS = encode_ranks(RANKS, np.array([0, 2, 7]), num_words=20)


@pytest.fixture
def word_index(tmp_path: Path) -> Path:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"the": 2, "film": 3, "fine": 7, "bad": 9, "palimpsest": 500}))
    return path


@pytest.mark.parametrize("form", ["multi_hot", "padded"])
def test_words_that_a_model_sees_as_ranks_have_their_names_from_the_index(form: Any, word_index: Path) -> None:
    width = 20 if form == "multi_hot" else 6
    examples = Examples({"words": Ragged(*TEXTS, width, form)}, np.zeros(2), pd.DataFrame(index=range(2)))
    by_rank = {"words": WordsByRank("index.json")}
    problem = problem_of(Binary(positive="good", negative="bad"), words=by_rank)
    found = explain_examples(problem, rank_model(form, width), examples, [1], {"index.json": word_index}.get)
    assert found is not None and found["kind"] == "words"
    drops = dict(found["examples"]["1"]["drops"])
    assert next(iter(drops)) == "fine" and set(drops) == {"fine", "bad", "film", ALL_RARE}
    assert drops["fine"] > 0.2 and drops["bad"] < 0 and drops["film"] == drops[ALL_RARE] == 0
    assert explain_examples(problem, rank_model(form, width), examples, [1], no_file) is None


@pytest.mark.parametrize(("form", "width", "places"), [("multi_hot", 20, [12, 6]), ("padded", 6, [1, 3])])
def test_words_that_the_index_does_not_name_are_left_out_together(
    form: Any, width: int, places: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"fine": 7}))
    examples = Examples({"words": Ragged(*TEXTS, width, form)}, np.zeros(2), pd.DataFrame(index=range(2)))
    found = WordsByRank("index.json").find(examples, "words", {"index.json": path}.get)
    assert found is not None and found[1]["?"] == places


def rank_model(form: str, width: int) -> Any:
    """Binary: the word of rank 7 speaks for "good", that of rank 9 against it, wherever they stand."""
    import keras

    seen = keras.Input((width,), name="words", dtype="uint8" if form == "multi_hot" else "int32")
    unit = keras.layers.Dense(1, activation="sigmoid")
    table = np.zeros((20, 1), np.float32)
    table[7 + SHIFT], table[9 + SHIFT] = 3, -1
    if form == "multi_hot":
        built = keras.Model({"words": seen}, unit(seen))
        unit.set_weights([table, np.zeros(1, np.float32)])
        return built
    embedding = keras.layers.Embedding(20, 1)
    built = keras.Model({"words": seen}, unit(keras.layers.GlobalAveragePooling1D()(embedding(seen))))
    embedding.set_weights([table])
    unit.set_weights([np.array([[4.0]], np.float32), np.zeros(1, np.float32)])
    return built


def test_numbers_and_tables_are_not_explained_so(corner_model: Any) -> None:
    pictures = np.zeros((1, 28, 21, 1), np.uint8)
    examples = Examples({"picture": pictures}, np.zeros(1), pd.DataFrame(index=range(1)))
    assert explain_examples(problem_of(Regression(unit="k$")), corner_model, examples, [0], no_file) is None
    table = Examples({"picture": pictures.astype(np.float32)}, np.zeros(1), pd.DataFrame(index=range(1)))
    assert explain_examples(problem_of(Binary(positive="a", negative="b")), corner_model, table, [0], no_file) is None


def test_the_picture_shows_what_speaks_for_and_against() -> None:
    uri = heat(np.full((28, 28, 1), 128, np.uint8), [[0.5, 0.0], [0.0, -0.5]])
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
    first, last, other = pixels[5, 5], pixels[-5, -5], pixels[5, -5]
    assert first[0] > first[2] + 50 and last[2] > last[0] + 50 and len(set(other.tolist())) == 1
