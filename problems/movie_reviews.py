"""Movie reviews: does a review speak well of the film?  (binary, text)

Source    IMDB, Maas et al. 2011; 25,000 + 25,000 reviews, half of each positive, as ranks of 88,584 words
Book      DLWP 2nd ed. §4.1: test accuracy about 0.88
Measured  accuracy 0.887 (0.883 to 0.889 over seeds 0, 1, 2), 6 to 8 s of training on 2 CPU cores, at most 1.27 GB in
          all, of which the libraries take 0.95, 2026-11-21: `modelkeep train movie_reviews --seed 0`, on the arrays
          as published in a rebuilt file. Variants with seed 0: dropout 0.889, l2 0.887, large 0.887, small 0.882,
          lstm 0.869 and convnet 0.868, which see the last 250 words only
Caution   the reviews are outspoken ones (at most 4 or at least 7 of 10 stars), what lies between was never seen;
          123 test reviews are in the training part word for word (the slice `repeated`)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from problems.outline import (
    Above,
    BeatsBaseline,
    Binary,
    Direction,
    Examples,
    Files,
    Hyperparameters,
    Inputs,
    Official,
    Problem,
    Rows,
    Source,
    Truth,
    search,
)
from problems.outline.ragged import Ragged, flatten
from problems.outline.words import (
    SHIFT,
    WordsByRank,
    describe_texts,
    encode_ranks,
    read_ranks_csv,
    read_raw_texts,
    read_word_index,
)

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

NUM_WORDS = 10_000
NUM_LAST_WORDS = 250
CLASSES = ("negative", "positive")
WORD_INDEX = "imdb_word_index.json"
AWFUL, WONDERFUL = 370, 386  # ranks in the word index
PUBLISHER = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"


class MovieReviewsHyperparameters(Hyperparameters):
    """`l2` and `dropout` act on the hidden layers of the mlp."""

    network: Literal["mlp", "convnet", "lstm"] = "mlp"
    units: int = search(16, low=4, high=64, log=True)
    l2: float = search(0.0, low=0.0, high=0.01)
    dropout: float = search(0.0, low=0.0, high=0.6)
    epochs: int = 10
    batch_size: int = search(512, choices=(128, 256, 512))
    patience: int | None = 2


def read(files: Files) -> Examples:
    """Reviews as ragged int16 ids in two forms: `words`, which of the 10,000 most frequent ones occur, and `sequence`,
    the last 250 in their order. The target is int8, 1 for a positive review."""
    import numpy as np

    told, ranks, offsets = _read_ranks(files)
    index = files.get(WORD_INDEX)
    frame = describe_texts(ranks, offsets, NUM_WORDS, read_word_index(index) if index else None)
    frame = frame.assign(label=told["label"].map(dict(enumerate(CLASSES))), part=told["part"])
    return Examples(_features(*encode_ranks(ranks, offsets, NUM_WORDS)), told["label"].to_numpy(np.int8), frame)


def _read_ranks(files: Files) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Label (0 or 1) and part of each review, and the ranks of its words, flat, with offsets."""
    import numpy as np
    import pandas as pd

    from problems.outline.raw import read_npz

    path = files["imdb.npz"]
    if path.suffix != ".npz":
        return read_ranks_csv(path)
    verified = "imdb.npz" in files.verified
    labels, ranks, lengths = {}, [], [np.zeros(1, np.int64)]
    for part in ("train", "test"):  # one after the other: as Python's lists a part takes 250 MB
        arrays = read_npz(path, (f"x_{part}", f"y_{part}"), object_arrays=verified)
        values, offsets = flatten(arrays.pop(f"x_{part}"), "int32")
        labels[part] = arrays[f"y_{part}"]
        ranks.append(values)
        lengths.append(np.diff(offsets))
    told = pd.concat([pd.DataFrame({"label": labels[part], "part": part}) for part in labels], ignore_index=True)
    return told, np.concatenate(ranks), np.cumsum(np.concatenate(lengths))


def _features(ids: np.ndarray, offsets: np.ndarray) -> dict[str, Ragged]:
    return {
        "words": Ragged(ids, offsets, NUM_WORDS, "multi_hot"),
        "sequence": Ragged(ids, offsets, NUM_LAST_WORDS, "padded"),
    }


def inputs(table: pd.DataFrame, files: Mapping[str, Path]) -> Inputs:
    """As `read` makes them, of raw English reviews."""
    ids, offsets, frame = read_raw_texts(table, "review", read_word_index(files[WORD_INDEX]), NUM_WORDS)
    return Inputs(_features(ids, offsets), frame)


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    from validation.expectations import (
        ExpectClassShareToBeBetween,
        ExpectNoDuplicateExamples,
        ExpectOneLabelPerExample,
        ExpectPartsToBeDisjoint,
    )

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=100, max_value=1_000_000),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        ExpectClassShareToBeBetween(column="label", classes=list(CLASSES), min_value=0.3, max_value=0.7),
        gxe.ExpectColumnValuesToNotBeNull(column="part"),
        gxe.ExpectColumnValuesToBeInSet(column="part", value_set=["train", "test"]),
        # The shortest of the published reviews has 6 words, the longest 2,493.
        gxe.ExpectColumnValuesToBeBetween(column="length", min_value=1, max_value=10_000),
        gxe.ExpectColumnValuesToBeBetween(column="length", min_value=20, mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="min", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="max", max_value=88_584),
        # 5.5 % of all words are rare; with another word index, or ids in place of ranks, it is another share.
        gxe.ExpectColumnMeanToBeBetween(column="rare_share", min_value=0.02, max_value=0.12),
        # 420 of the 50,000 are copies; no copy has another label.
        ExpectNoDuplicateExamples(mostly=0.98),
        ExpectPartsToBeDisjoint(mostly=0.99),
        ExpectOneLabelPerExample(),
    ]


def build(hyperparameters: MovieReviewsHyperparameters, train: Examples) -> keras.Model:
    """The book's two hidden layers (§4.1.3) over which words occur, or a small network over the last 250 words."""
    import keras
    from keras import layers

    network, units = hyperparameters.network, hyperparameters.units
    if network == "mlp":
        inputs = {"words": keras.Input((NUM_WORDS,), name="words", dtype="uint8")}
        penalty = keras.regularizers.L2(hyperparameters.l2)
        hidden = inputs["words"]
        for _ in range(2):
            hidden = layers.Dense(units, activation="relu", kernel_regularizer=penalty)(hidden)
            hidden = layers.Dropout(hyperparameters.dropout)(hidden)
        return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden))
    inputs = {"sequence": keras.Input((NUM_LAST_WORDS,), name="sequence", dtype="int16")}
    embedded = layers.Embedding(NUM_WORDS, 2 * units, mask_zero=network == "lstm")(inputs["sequence"])
    if network == "lstm":
        hidden = layers.LSTM(2 * units)(embedded)
    else:
        hidden = layers.GlobalMaxPooling1D()(layers.Conv1D(4 * units, 5, activation="relu")(embedded))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(hidden)))


def _with_word(features: Mapping[str, np.ndarray], rank: int) -> dict[str, np.ndarray]:
    """The word occurs, and stands in place of the last one."""
    import numpy as np

    changed = {name: array.copy() for name, array in features.items()}
    if "words" in changed:
        changed["words"][:, rank + SHIFT] = 1
    if "sequence" in changed:
        last = np.maximum(np.count_nonzero(changed["sequence"], axis=1) - 1, 0)
        changed["sequence"][np.arange(len(last)), last] = rank + SHIFT
    return changed


problem = Problem(
    name="movie_reviews",
    objective=Binary(positive="positive", negative="negative", main_metric="accuracy"),
    sources=(
        Source(
            name="imdb.npz",
            url=f"{PUBLISHER}/imdb.npz",
            sha256="69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
            size=17_464_789,
            licence="none stated; published for research by Maas et al. 2011",
        ),
        Source(
            name=WORD_INDEX,
            url=f"{PUBLISHER}/{WORD_INDEX}",
            sha256="027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
            size=1_641_221,
            licence="none stated; made from the same reviews",
            optional=True,
        ),
    ),
    read=read,
    rows=Rows(
        columns={"review": "str"},
        inputs=inputs,
        files=(WORD_INDEX,),
        truth=Truth(column="label", words={name: number for number, name in enumerate(CLASSES)}),
    ),
    expectations=expectations,
    split=Official(validation=0.1),
    build=build,
    mixed_precision=True,
    hyperparameters=MovieReviewsHyperparameters,
    slices=("length", "repeated"),
    acceptance=(Above("accuracy", 0.875), BeatsBaseline()),
    # Measured: all with the mlp, 99.7 and 97.1 % with the convnet (seed 0).
    behaviours=(
        Direction("the word “awful” in it", partial(_with_word, rank=AWFUL), sign=-1, at_least=0.9),
        Direction("the word “wonderful” in it", partial(_with_word, rank=WONDERFUL), sign=1, at_least=0.9),
    ),
    words={"words": WordsByRank(WORD_INDEX), "sequence": WordsByRank(WORD_INDEX)},
    variants={
        "mlp": {},
        "small": {"units": 4},
        "large": {"units": 512},
        "l2": {"l2": 0.002},
        "dropout": {"dropout": 0.5},
        "convnet": {"network": "convnet", "batch_size": 128, "optimizer": "adam"},
        "lstm": {"network": "lstm", "batch_size": 128, "optimizer": "adam"},
    },
)
