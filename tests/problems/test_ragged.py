"""Ragged sequences: rows become dense as the plain loops of the book would make them, and nothing else is held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.outline import Examples
from problems.outline.ragged import Form, NumberOutOfRange, Ragged, flatten

SEQUENCES = [[3, 1, 3], [], [5], [2, 4, 6, 1, 0, 7], [1, 2]]


def make_ragged(width: int, form: Form) -> Ragged:
    return Ragged(*flatten(SEQUENCES, "int16"), width, form)


def pad(sequence: list[int], width: int) -> list[int]:
    last = sequence[-width:]
    return last + [0] * (width - len(last))


def mark(sequence: list[int], width: int) -> list[int]:
    return [int(place in sequence) for place in range(width)]


@pytest.mark.parametrize("rows", [[3, 0, 3], [1], [], [-1], slice(1, 4), slice(None), np.array([1, 0, 1, 0, 0], bool)])
@pytest.mark.parametrize(("form", "width", "plain"), [("padded", 4, pad), ("padded", 8, pad), ("multi_hot", 8, mark)])
def test_rows_are_what_plain_loops_make_of_the_sequences(form: Form, width: int, plain: Any, rows: Any) -> None:
    wanted = np.arange(len(SEQUENCES))[np.asarray(rows, int) if isinstance(rows, list) else rows]
    dense = make_ragged(width, form)[np.asarray(rows, int) if isinstance(rows, list) else rows]
    assert dense.tolist() == [plain(SEQUENCES[row], width) for row in wanted]
    assert dense.shape == (len(wanted), width)
    assert dense.dtype == ("uint8" if form == "multi_hot" else "int16")


def test_a_single_row_has_one_dimension() -> None:
    assert make_ragged(4, "padded")[3].tolist() == [6, 1, 0, 7]


def test_it_looks_like_an_array_and_holds_only_the_flat_numbers() -> None:
    ragged = make_ragged(10_000, "multi_hot")
    assert (len(ragged), ragged.shape, ragged.ndim, ragged.dtype) == (5, (5, 10_000), 2, np.dtype("uint8"))
    assert ragged.nbytes == 12 * 2 + 6 * 8


@pytest.mark.parametrize("width", [7, 3])
def test_a_number_without_a_place_in_the_multi_hot_form_is_refused(width: int) -> None:
    with pytest.raises(NumberOutOfRange, match="no place") as error:
        make_ragged(width, "multi_hot")[[3]]
    assert f"0 to {width - 1}" in str(error.value) and "0 to 7" in str(error.value)


def test_a_negative_number_does_not_mark_a_place_from_the_end() -> None:
    with pytest.raises(NumberOutOfRange):
        Ragged(*flatten([[-1]], "int16"), 8, "multi_hot")[:]


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        make_ragged(4, "padded")[[5]]


def test_some_of_the_sequences_are_still_ragged() -> None:
    taken = make_ragged(8, "multi_hot").take(np.array([3, 1, 0]))
    assert np.split(taken.values, taken.offsets[1:-1])[0].tolist() == SEQUENCES[3]
    assert taken[:].tolist() == [mark(SEQUENCES[row], 8) for row in (3, 1, 0)]


def test_training_rows_of_examples_stay_ragged_so_that_build_does_not_fill_the_memory() -> None:
    examples = Examples({"words": make_ragged(10_000, "multi_hot")}, np.zeros(5), pd.DataFrame({"row": range(5)}))
    words = examples.take(np.array([0, 4])).features["words"]
    assert isinstance(words, Ragged) and words.nbytes == 5 * 2 + 3 * 8


def test_a_number_that_does_not_fit_is_not_wrapped_round() -> None:
    with pytest.raises(OverflowError):
        flatten([[70_000]], "int16")
