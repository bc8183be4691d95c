"""Texts as numbers of words, the way Keras' text data sets write them.

The raw files hold ranks: 1 is the most frequent word. Models see ids, as `keras.datasets.imdb.load_data` makes them:
0 fills up, 1 begins a text, 2 stands for every rare word, and a rank r that is kept is the id r + 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from problems.outline.ragged import Ragged, flatten
from problems.outline.raw import BadInput, read_csv

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.problem import Examples

START, RARE, SHIFT = 1, 2, 3
NUM_EXCERPT_WORDS = 30
ALL_RARE, UNNAMED = "(all rare words)", "?"

# What keras_preprocessing.text.text_to_word_sequence takes for a gap between words; an apostrophe is part of a word.
_GAPS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r', " "))


FindFile = Callable[[str], Path | None]  # a raw file of the problem by its name


class Words(Protocol):
    """Where the words of a text are in what a model sees of it, so that they can be left out."""

    def find(self, examples: Examples, feature: str, file: FindFile) -> list[dict[str, list[int]]] | None:
        """For each example its different words as they come, and the places of the feature's row (width,) that 0 has to
        be put to if one is left out; None where a raw file that names them is missing."""


@dataclass(frozen=True)
class WordsByPlace:
    """A feature (n, width) numbers the last `width` words of each text, 0 for none. `split`: the frame of n examples →
    the words of each."""

    split: Callable[[pd.DataFrame], list[list[str]]]

    def find(self, examples: Examples, feature: str, file: FindFile) -> list[dict[str, list[int]]]:
        width = examples.features[feature].shape[1]
        return [_places(enumerate(words[-width:])) for words in self.split(examples.frame)]


@dataclass(frozen=True)
class WordsByRank:
    """A feature is Ragged with ids as `encode_ranks` makes them; `index` names the raw file that is the word index."""

    index: str

    def find(self, examples: Examples, feature: str, file: FindFile) -> list[dict[str, list[int]]] | None:
        path = file(self.index)
        if path is None:
            return None
        ragged = examples.features[feature]
        assert isinstance(ragged, Ragged)
        names = {rank + SHIFT: word for word, rank in read_word_index(path).items()} | {RARE: ALL_RARE}
        found = []
        for start, end in zip(ragged.offsets[:-1].tolist(), ragged.offsets[1:].tolist(), strict=True):
            ids = ragged.values[start:end].tolist()
            if ragged.form == "multi_hot":
                seen = [(number, number) for number in dict.fromkeys(ids)]
            else:
                seen = list(enumerate(ids[-ragged.width :]))
            found.append(_places((place, names.get(number, UNNAMED)) for place, number in seen if number > START))
        return found


def _places(words: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, word in words:
        found.setdefault(word, []).append(place)
    return found


def encode_ranks(ranks: np.ndarray, offsets: np.ndarray, num_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids (int16, or int32 beyond 32,767 words) and offsets of flat ranks; every id is below `num_words`."""
    import numpy as np

    longer = offsets + np.arange(len(offsets))  # each text is one longer, for its START
    ids = np.full(longer[-1], START, "int16" if num_words <= np.iinfo(np.int16).max else "int32")
    is_word = np.ones(len(ids), bool)
    is_word[longer[:-1]] = False
    ids[is_word] = np.where(ranks < num_words - SHIFT, ranks + SHIFT, RARE)
    return ids, longer


def rank_texts(texts: Iterable[str], word_index: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (int32) and offsets of raw texts. As in the published test data, a word that the index does not have is
    skipped."""
    return flatten([[word_index[word] for word in split_words(text) if word in word_index] for text in texts], "int32")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case: "It's <br />FINE." → it's, br, fine."""
    return [word for word in text.lower().translate(_GAPS).split(" ") if word]


@lru_cache(maxsize=2)
def read_word_index(path: Path) -> Mapping[str, int]:
    """Rank by word, from a JSON object. A file is read once. Raises BadInput."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        index = str(fault)
    if not isinstance(index, dict) or not all(isinstance(rank, int) for rank in index.values()):
        raise BadInput(
            "This is not a word index.",
            where=str(path),
            expected='a JSON object of words and their ranks, such as {"the": 1}',
            received=str(index)[:80],
            next_step="get the file again",
        )
    return index


def read_ranks_csv(path: Path) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A user's own file: a frame of `label` (int64) and `part` (train or test), and ranks and offsets of its texts.

    Its column `words` holds ranks with spaces between them. Raises BadInput.
    """
    table = read_csv(path, {"words": "str", "label": "int64", "part": "str"})
    try:
        ranks, offsets = flatten([[int(word) for word in text.split()] for text in table["words"].fillna("")], "int32")
    except (ValueError, OverflowError) as fault:
        raise BadInput(
            "The column words holds something else than ranks of words.",
            where=str(path),
            expected='whole numbers with spaces between them, such as "14 22 16"',
            received=str(fault),
            next_step="write each word as its rank in the word index",
        ) from None
    return table[["label", "part"]], ranks, offsets


def describe_texts(
    ranks: np.ndarray, offsets: np.ndarray, num_words: int, word_index: Mapping[str, int] | None
) -> pd.DataFrame:
    """A row per text: length in words, min and max rank, digest; rare_share (of words that become RARE), repeated
    (another text is the same word by word) and, with a word index, the first words as `text`."""
    import numpy as np

    from validation.summaries import summarise_sequences

    frame = summarise_sequences(ranks, offsets)
    num_rare = np.concatenate([[0], np.cumsum(ranks >= num_words - SHIFT)])
    frame = frame.assign(
        rare_share=np.diff(num_rare[offsets]) / np.maximum(frame["length"], 1),
        repeated=frame["digest"].duplicated(keep=False),
    )
    if word_index is not None:
        frame.insert(0, "text", _excerpts(ranks, offsets, word_index))  # first, for those who look at examples
    return frame


def read_raw_texts(
    table: pd.DataFrame, column: str, word_index: Mapping[str, int], num_words: int
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Ids and offsets of the raw texts in a column; and that column with what `describe_texts` says of them, but for
    what depends on the other texts."""
    ranks, offsets = rank_texts(table[column].fillna(""), word_index)
    described = describe_texts(ranks, offsets, num_words, None).drop(columns="repeated")
    return *encode_ranks(ranks, offsets, num_words), table[[column]].join(described)


def _excerpts(ranks: np.ndarray, offsets: np.ndarray, word_index: Mapping[str, int]) -> list[str]:
    words = {rank: word for word, rank in word_index.items()}
    ends = offsets[1:].clip(max=offsets[:-1] + NUM_EXCERPT_WORDS)
    return [
        " ".join([words.get(rank, UNNAMED) for rank in ranks[start:end].tolist()]) + (" …" if end < whole else "")
        for start, end, whole in zip(offsets[:-1].tolist(), ends.tolist(), offsets[1:].tolist(), strict=True)
    ]
