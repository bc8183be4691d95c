"""Texts as numbers of words, as Keras' text data sets have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from problems.outline.ragged import flatten
from problems.outline.raw import BadInput
from problems.outline.words import (
    describe_texts,
    encode_ranks,
    rank_texts,
    read_ranks_csv,
    read_word_index,
    split_words,
)

INDEX = {"the": 1, "a": 2, "film": 3, "it's": 4, "fine": 5, "br": 6, "rare": 7}


def test_ranks_become_the_ids_that_keras_load_data_makes() -> None:
    texts = [[1, 6, 7, 9000], [], [3]]
    ids, offsets = encode_ranks(*flatten(texts, "int32"), num_words=10)
    # keras.datasets.imdb.load_data(num_words=10): [start_char] + [w + index_from], and oov_char for w >= num_words
    expected = [[1, *(rank + 3 if rank + 3 < 10 else 2 for rank in text)] for text in texts]
    assert [part.tolist() for part in np.split(ids, offsets[1:-1])] == expected
    assert ids.dtype == "int16"


def test_many_words_need_wider_ids() -> None:
    ids, _ = encode_ranks(*flatten([[39_000]], "int32"), num_words=40_000)
    assert ids.tolist() == [1, 39_003] and ids.dtype == "int32"


def test_a_raw_text_becomes_the_ids_of_its_ranks() -> None:
    text = "It's <br />FINE!\nThe unheard-of film; RARE."
    ranks, offsets = rank_texts([text, ""], INDEX)
    assert (ranks.tolist(), offsets.tolist()) == ([4, 6, 5, 1, 3, 7], [0, 6, 6])
    ids, _ = encode_ranks(ranks, offsets, num_words=10)
    assert ids.tolist() == [1, 7, 9, 8, 4, 6, 2, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("It's <br />FINE.", ["it's", "br", "fine"]),
        ("so-so\ttwo\r\nlines", ["so", "so", "two", "lines"]),
        ("señor’s café", ["señor’s", "café"]),
    ],
)
def test_words_are_split_as_those_of_the_index_were(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_texts_are_described_by_length_rare_words_copies_and_their_beginning() -> None:
    ranks, offsets = flatten([[1, 3], [7, 7, 7, 1], [1, 3], []], "int32")
    frame = describe_texts(ranks, offsets, num_words=10, word_index=INDEX)
    assert frame["length"].tolist() == [2, 4, 2, 0]
    assert frame["rare_share"].tolist() == [0, 0.75, 0, 0]
    assert frame["repeated"].tolist() == [True, False, True, False]
    assert frame["text"].tolist() == ["the film", "rare rare rare the", "the film", ""]
    assert "text" not in describe_texts(ranks, offsets, 10, None)


def test_a_long_text_is_shown_by_its_first_words_only() -> None:
    frame = describe_texts(*flatten([[1] * 31, [1] * 30], "int32"), 10, INDEX)
    assert frame["text"].str.split().map(len).tolist() == [31, 30]
    assert frame["text"].str.endswith("…").tolist() == [True, False]


def test_an_own_file_of_ranks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("part,label,words\ntrain,1,1 5 3\ntest,0,\n")
    told, ranks, offsets = read_ranks_csv(path)
    assert told.to_dict("list") == {"label": [1, 0], "part": ["train", "test"]}
    assert (ranks.tolist(), offsets.tolist()) == ([1, 5, 3], [0, 3, 3])


@pytest.mark.parametrize("words", ["1 two 3", "99999999999999"])
def test_an_own_file_with_words_in_place_of_ranks_is_refused(tmp_path: Path, words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"part,label,words\ntrain,1,{words}\n")
    with pytest.raises(BadInput, match="something else than ranks"):
        read_ranks_csv(path)


@pytest.mark.parametrize("content", ["[1, 2]", '{"the": "1"}', "<html>"])
def test_what_is_no_word_index_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(content)
    with pytest.raises(BadInput, match="not a word index"):
        read_word_index(path)
