"""Images and sequences as rows of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from modelkeep.errors import ModelkeepError
from validation import summaries
from validation.summaries import summarise_images, summarise_sequences


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 4, 3)])
def test_images_are_summarised_exactly_whatever_the_size_of_a_chunk(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[2] = 0
    whole = summarise_images(images)
    monkeypatch.setattr(summaries, "CHUNK_VALUES", 3 * images[0].size)
    chunked = summarise_images(images)
    flat = images.reshape(len(images), -1).astype(np.float64)
    np.testing.assert_allclose(whole["mean"], flat.mean(axis=1))
    np.testing.assert_allclose(whole["std"], flat.std(axis=1), atol=1e-9)
    np.testing.assert_array_equal(whole["min"], flat.min(axis=1))
    np.testing.assert_array_equal(whole["max"], flat.max(axis=1))
    np.testing.assert_allclose(whole["zero_share"], (flat == 0).mean(axis=1))
    assert chunked.equals(whole)


def test_sums_of_large_bright_images_do_not_overflow() -> None:
    images = np.full((1, 300, 300), 255, dtype=np.uint8)
    images[:, :150] = 205
    assert summarise_images(images).loc[0, ["mean", "std"]].tolist() == [230.0, 25.0]


def test_copies_share_a_digest_that_is_the_same_everywhere() -> None:
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2)
    images[2] = images[0]
    digests = summarise_images(images)["digest"].tolist()
    assert digests[0] == digests[2] != digests[1]
    assert digests[0] == "fa898ba1ee4ec998"  # printf '\000\001\002\003' | b2sum -l 64


def test_images_that_are_not_contiguous_in_memory_are_read_as_they_look() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6), dtype=np.uint8)
    view = images[:, ::2, ::-1]
    assert summarise_images(view).equals(summarise_images(view.copy()))


def test_no_images_give_no_rows() -> None:
    summary = summarise_images(np.empty((0, 28, 28), np.uint8))
    assert summary.shape == (0, 6)


def test_images_that_were_scaled_already_are_refused() -> None:
    with pytest.raises(ModelkeepError, match="not raw images") as failure:
        summarise_images(np.zeros((2, 3, 3), np.float32))
    assert "float32 of shape (2, 3, 3)" in str(failure.value)


def test_sequences_are_summarised_with_empty_ones_at_every_place() -> None:
    values = np.array([5, 1, 9, 7], dtype=np.int16)
    summary = summarise_sequences(values, np.array([0, 0, 3, 3, 4, 4]))
    assert summary["length"].tolist() == [0, 3, 0, 1, 0]
    np.testing.assert_array_equal(summary["min"], [np.nan, 1, np.nan, 7, np.nan])
    np.testing.assert_array_equal(summary["max"], [np.nan, 9, np.nan, 7, np.nan])
    assert summary["digest"].nunique() == 3


def test_a_sequence_has_the_same_digest_in_any_dtype_and_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values, offsets = np.array([5, 1, 9, 7, 5, 1], dtype=np.int16), np.array([0, 2, 4, 6])
    narrow = summarise_sequences(values, offsets)
    monkeypatch.setattr(summaries, "CHUNK_VALUES", 1)
    wide = summarise_sequences(values.astype(np.int64), offsets)
    assert narrow["digest"].tolist() == wide["digest"].tolist()
    assert narrow["digest"][0] == narrow["digest"][2] != narrow["digest"][1]
    assert narrow["min"].dtype == np.int16


@pytest.mark.parametrize("offsets", [[0, 3, 2, 4], [1, 4], [0, 3], []])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ModelkeepError, match="not ragged sequences"):
        summarise_sequences(np.arange(4), np.array(offsets, dtype=np.int64))


def test_no_sequences_give_no_rows() -> None:
    assert len(summarise_sequences(np.empty(0, np.int32), np.array([0]))) == 0
