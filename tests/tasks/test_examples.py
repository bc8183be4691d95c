"""Examples come back from the store as they went in, memory-mapped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.outline import Examples
from problems.outline.ragged import Ragged, flatten
from store import open_store
from store.steps import StepRecord, claim_step
from tasks.examples import load_examples, save_examples


def there_and_back(examples: Examples, folder: Path) -> tuple[StepRecord, Examples]:
    store = open_store(folder / "store")
    claim = claim_step(store, "tiny", "ingest", "key", holder={})
    assert not isinstance(claim, StepRecord)
    with claim as lease:
        record = lease.publish(save_examples(examples, lease), {})
    return record, load_examples(store, record)


@pytest.fixture
def examples() -> Examples:
    values, offsets = flatten([[1, 2], [], [3, 1, 1]], "int16")
    features = {
        "words": Ragged(values, offsets, 4, "multi_hot"),
        "sequence": Ragged(values, offsets, 2, "padded"),
        "image": np.arange(12, dtype="uint8").reshape(3, 2, 2, 1),
    }
    return Examples(features, np.array([0, 1, 1], "int8"), pd.DataFrame({"label": ["no", "yes", "yes"]}))


def test_examples_come_back_as_they_were(examples: Examples, tmp_path: Path) -> None:
    _, loaded = there_and_back(examples, tmp_path)
    assert set(loaded.features) == set(examples.features)
    for name, feature in examples.features.items():
        found = loaded.features[name]
        assert (found.dtype, found.shape) == (feature.dtype, feature.shape)
        assert np.array_equal(found[:], feature[:])
    assert np.array_equal(loaded.target, examples.target) and loaded.frame.equals(examples.frame)


def test_ragged_features_stay_flat_on_disk_are_mapped_and_share_what_they_have_in_common(
    examples: Examples, tmp_path: Path
) -> None:
    record, loaded = there_and_back(examples, tmp_path)
    assert [name for name in record.products if "values" in name] == ["ragged.words.values"]
    words, sequence = loaded.features["words"], loaded.features["sequence"]
    assert isinstance(words, Ragged) and isinstance(words.values, np.memmap)
    assert words.values is sequence.values and words.offsets is sequence.offsets


def test_another_width_is_another_product(examples: Examples, tmp_path: Path) -> None:
    wider = dict(examples.features) | {"sequence": Ragged(*flatten([[1, 2], [], [3, 1, 1]], "int16"), 3, "padded")}
    first, _ = there_and_back(examples, tmp_path / "first")
    second, _ = there_and_back(Examples(wider, examples.target, examples.frame), tmp_path / "second")
    assert first.products["feature.words"].sha256 == second.products["feature.words"].sha256
    assert first.products["feature.sequence"].sha256 != second.products["feature.sequence"].sha256


def test_the_names_of_classes_come_along(examples: Examples, tmp_path: Path) -> None:
    named = replace(examples, classes=("nein", "jä"))
    record, loaded = there_and_back(named, tmp_path)
    assert loaded.classes == loaded.take(np.array([1])).classes == loaded.only(["image"]).classes == ("nein", "jä")
    assert "classes" in record.products
    plain, without = there_and_back(examples, tmp_path / "without")
    assert "classes" not in plain.products and without.classes == ()
