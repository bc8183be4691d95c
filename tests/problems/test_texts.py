"""Raw texts: words by number, and copies found."""

from __future__ import annotations

import numpy as np

from problems.outline.texts import frequent_words, group_copies, number_words
from problems.outline.words import split_words


def test_a_words_number_is_the_same_for_ever_and_never_that_of_filling() -> None:
    words = number_words([["tax", "cuts"], [], ["tax"]], 64)
    assert words.shape == (3, 64) and words.dtype == np.int32
    assert words[0][:3].tolist() == [201515118, 1638010020, 0]
    assert words[2][0] == words[0][0] and not words[1].any()


def test_texts_that_are_nearly_alike_are_of_one_group() -> None:
    texts = [
        "Says Romney flip-flopped on abortion.",
        "says Romney flip flopped on abortion",
        "Says Mitt Romney flip-flopped on abortion.",
        "The state's debt has doubled.",
        "Taxes",
        "taxes!",
    ]
    groups = group_copies([split_words(text) for text in texts])
    assert groups[0] == groups[1] == groups[2] and groups[4] == groups[5]
    assert len({groups[0], groups[3], groups[4]}) == 3


def test_long_copies_are_found_by_a_part_of_their_runs() -> None:
    random = np.random.default_rng(0)
    texts = [random.choice(["a", "b", "c", "d", "e", "f"], 400).tolist() for _ in range(20)]
    copies = [[*words[:200], "new", *words[200:], "end"] for words in texts]
    groups = group_copies(texts + copies, length=6, every=8)
    assert groups[:20].tolist() == groups[20:].tolist()
    assert len(set(groups.tolist())) == 20


def test_a_word_counts_once_in_a_text() -> None:
    words = number_words([["a", "a", "a"], ["a", "b"], ["b", "c"]], 8)
    common = frequent_words(words, least_count=2)
    assert set(common) == {words[1][0], words[1][1]} and common.tolist() == sorted(common.tolist())
    assert len(frequent_words(words, least_count=9)) == 3
