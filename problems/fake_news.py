"""Fake news: did fact checkers find a statement rather false?  (binary, raw text)

Source    LIAR, Wang 2017 (ACL): 12,836 short statements, in six degrees of truth by the editors of PolitiFact
Book      none; Wang 2017 reaches 0.27 in six classes (always the most frequent: 0.21), so little can be expected
Measured  area under the ROC curve 0.646 (0.643 to 0.647 over seeds 0-2; 95 % interval of one: 0.62 to 0.67), accuracy
          0.615 (0.613 to 0.617; always rather true: 0.56); 3 s of training, 1.1 GB in all, 2 CPU cores in use by others
          too, 2026-11-21, `modelkeep train fake_news --seed 0` (1, 2)
Caution   a model sees words, not facts: it learns who says what in which years in the United States. It must not
          decide what anybody may read. For research only, as its publisher asks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from problems.outline import (
    Above,
    BeatsBaseline,
    Binary,
    ByGroup,
    Examples,
    Files,
    Hyperparameters,
    Inputs,
    Problem,
    Rows,
    Source,
    Truth,
    search,
)
from problems.outline.texts import frequent_words, group_copies, number_words
from problems.outline.words import WordsByPlace, split_words

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

COPY = "https://raw.githubusercontent.com/nishitpatel01/Fake_News_Detection/76fd9c8a89b0df1e18f1f66d28c1ea1856f1e588"
PARTS = ("liar/train.tsv", "liar/valid.tsv", "liar/test.tsv")
PUBLISHED = ("id", "verdict", "statement", "topics", "speaker", "job", "state", "party")
RATHER_FALSE = ("pants-fire", "false", "barely-true")
VERDICTS = (*RATHER_FALSE, "half-true", "mostly-true", "true")
LARGEST_PARTIES = ("republican", "democrat", "none")
NUM_WORDS = 64


class FakeNewsHyperparameters(Hyperparameters):
    """`least_count`: in how many training statements a word must be, to be in the vocabulary."""

    least_count: int = search(3, low=1, high=20)
    units: int = search(16, low=2, high=64)
    dropout: float = search(0.5, low=0.0, high=0.8)
    epochs: int = search(30, low=5, high=60)
    batch_size: int = search(128, choices=(32, 128, 512))
    optimizer: str = "adam"
    patience: int | None = 3


def read(files: Files) -> Examples:
    """`words`: the last 64 words of each statement, each by a fixed number, ragged int32. The target is uint8, 1 for
    rather false.

    Nothing is learnt here: a word's number is a hash of its letters, and the vocabulary is in the model.
    """
    import numpy as np

    table = _read_table(files)
    return inputs(table).with_target(
        table["verdict"].isin(RATHER_FALSE).to_numpy(np.uint8),
        party=table["party"].where(table["party"].isin(LARGEST_PARTIES), "other"),
        group=group_copies(_split(table)),
    )


def inputs(table: pd.DataFrame) -> Inputs:
    """`words`, ragged int32 (n, 64)."""
    texts = _split(table)
    frame = table.assign(num_words=[len(words) for words in texts])
    return Inputs({"words": number_words(texts, NUM_WORDS)}, frame)


def _split(table: pd.DataFrame) -> list[list[str]]:
    return [split_words(text) for text in table["statement"].fillna("")]


def _read_table(files: Files) -> pd.DataFrame:
    """statement, verdict and party (all str) from the published files, or from a user's CSV with these columns."""
    import csv

    import pandas as pd

    from problems.outline.raw import read_csv

    if PARTS[0] not in files.verified:
        return read_csv(files[PARTS[0]], {"statement": "str", "verdict": "str", "party": "str"})
    parts = [
        pd.read_csv(files[name], sep="\t", header=None, quoting=csv.QUOTE_NONE, dtype="str", keep_default_na=False)
        for name in PARTS
        if name in files
    ]
    table = pd.concat(parts, ignore_index=True).iloc[:, : len(PUBLISHED)].set_axis(list(PUBLISHED), axis=1)
    return table[["statement", "verdict", "party"]]


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    from validation.expectations import ExpectOneLabelPerExample

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=100, max_value=1_000_000),
        gxe.ExpectColumnValuesToNotBeNull(column="statement"),
        gxe.ExpectColumnValuesToNotBeNull(column="verdict"),
        gxe.ExpectColumnValuesToBeInSet(column="verdict", value_set=list(VERDICTS)),
        gxe.ExpectColumnDistinctValuesToContainSet(column="verdict", value_set=["false", "true"]),
        gxe.ExpectColumnValuesToBeBetween(column="num_words", min_value=1),
        # Read with quotes taken for quotes, statements run into each other: up to hundreds of words.
        gxe.ExpectColumnValuesToBeBetween(column="num_words", min_value=3, max_value=NUM_WORDS, mostly=0.99),
        gxe.ExpectColumnMeanToBeBetween(column="num_words", min_value=8, max_value=40),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="group", min_value=50),
        # Some statements were checked twice, and not always to the same end.
        ExpectOneLabelPerExample(column_A="statement", column_B="verdict", mostly=0.99),
    ]


def build(hyperparameters: FakeNewsHyperparameters, train: Examples) -> keras.Model:
    """A mean of the embeddings of the words that are in the vocabulary, and a hidden layer; so the order of words does
    not count. The vocabulary is of the training rows and part of the model; it needs no backend of its own."""
    import keras
    from keras import layers, ops

    vocabulary = frequent_words(train.features["words"], hyperparameters.least_count)
    width = train.features["words"].shape[1]
    words = keras.Input((width,), name="words", dtype="int32")
    flat = ops.reshape(words, (-1,))  # TensorFlow searches for one row of numbers only
    place = ops.minimum(ops.searchsorted(vocabulary, flat), len(vocabulary) - 1)
    is_known = ops.equal(ops.take(vocabulary, place), flat)
    numbers = ops.reshape(ops.where(is_known, place + 1, 0), (-1, width))
    embedded = layers.Embedding(len(vocabulary) + 1, hyperparameters.units)(numbers)
    counted = ops.cast(ops.expand_dims(numbers > 0, -1), embedded.dtype)
    # A mean over nothing would be NaN: of a statement without a known word it is 0.
    mean = ops.sum(embedded * counted, axis=1) / ops.maximum(ops.sum(counted, axis=1), 1)
    hidden = layers.Dropout(hyperparameters.dropout)(mean)
    hidden = layers.Dense(hyperparameters.units, activation="relu")(hidden)
    return keras.Model({"words": words}, layers.Dense(1, activation="sigmoid")(hidden))


def score_statements(model: keras.Model, texts: list[str]) -> np.ndarray:
    """The probability that each raw English statement is rather false, float32 (n,)."""
    import keras

    words = number_words([split_words(text) for text in texts], model.inputs[0].shape[1])
    scores: np.ndarray = keras.ops.convert_to_numpy(model({"words": words[:]}, training=False))[:, 0]
    return scores


def _source(name: str, sha256: str, size: int, *, optional: bool = True) -> Source:
    """The publisher has the files in an archive only; this is a copy of them in their own names."""
    url = f"{COPY}/liar_dataset/{name.removeprefix('liar/')}"
    return Source(name=name, url=url, sha256=sha256, size=size, licence="research use only", optional=optional)


problem = Problem(
    name="fake_news",
    objective=Binary(positive="rather false", negative="rather true"),
    sources=(
        _source(
            PARTS[0], "23ef8cb7ff57b25c941100d0744039cebc595d65a67ea190f72b330a658d8c36", 2_408_165, optional=False
        ),
        _source(PARTS[1], "8dd3d7ed1a11e78ed7df090c9eddb0f91147f895850c78d49dd7b4e88fd09a16", 301_556),
        _source(PARTS[2], "ee41e2c741e0019216952625145af8c4aa8c8d3057ec68284b134267bb845e6f", 301_118),
    ),
    read=read,
    rows=Rows(
        columns={"statement": "str"},
        inputs=inputs,
        truth=Truth(column="verdict", words={verdict: int(verdict in RATHER_FALSE) for verdict in VERDICTS}),
    ),
    expectations=expectations,
    split=ByGroup("group", test=0.2, validation=0.1),
    build=build,
    hyperparameters=FakeNewsHyperparameters,
    slices=("party",),
    words={"words": WordsByPlace(_split)},
    acceptance=(Above("roc_auc", 0.6), BeatsBaseline()),
)
