"""What image and text data sets need beyond Great Expectations' own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from validation.expectations import (
    ExpectClassShareToBeBetween,
    ExpectNoDuplicateExamples,
    ExpectOneLabelPerExample,
    ExpectPartsToBeDisjoint,
)
from validation.gate import Check, validate

EXAMPLES = pd.DataFrame(
    {
        "digest": ["a", "b", "c", "d", "e", "f"],
        "label": [0, 1, 0, 1, 0, 1],
        "part": ["train"] * 4 + ["test"] * 2,
    }
)


def check(frame: pd.DataFrame, expectation: object) -> Check:
    return validate(frame, [expectation], name="examples").checks[0]


@pytest.mark.parametrize(
    "expectation",
    [
        ExpectNoDuplicateExamples(),
        ExpectPartsToBeDisjoint(),
        ExpectOneLabelPerExample(),
        ExpectClassShareToBeBetween(classes=[0, 1], min_value=0.4, max_value=0.6),
    ],
    ids=lambda expectation: type(expectation).__name__,
)
def test_good_examples_pass(expectation: object) -> None:
    assert check(EXAMPLES, expectation).success


def test_only_the_copies_of_an_example_are_counted() -> None:
    found = check(EXAMPLES.assign(digest=["a", "b", "a", "d", "a", "f"]), ExpectNoDuplicateExamples())
    assert not found.success
    assert [example.row for example in found.examples] == [2, 4]


def test_a_few_copies_can_be_tolerated() -> None:
    assert check(EXAMPLES.assign(digest=["a", "b", "a", "d", "e", "f"]), ExpectNoDuplicateExamples(mostly=0.8)).success


def test_an_example_of_train_that_is_also_in_test_is_found_at_both_places() -> None:
    found = check(EXAMPLES.assign(digest=["a", "b", "a", "d", "b", "f"]), ExpectPartsToBeDisjoint())
    assert found.unexpected_count == 2
    assert [example.row for example in found.examples] == [1, 4]
    assert found.subject == "digest, part"


def test_copies_inside_one_part_are_not_a_leak() -> None:
    assert check(EXAMPLES.assign(digest=["a", "a", "a", "d", "e", "e"]), ExpectPartsToBeDisjoint()).success


def test_groups_can_be_kept_apart_like_examples() -> None:
    frame = EXAMPLES.assign(user=[1, 1, 2, 2, 2, 3])
    found = check(frame, ExpectPartsToBeDisjoint(column_A="user"))
    assert found.unexpected_count == 3


def test_copies_with_two_labels_are_found() -> None:
    found = check(EXAMPLES.assign(digest=["a", "a", "c", "d", "c", "f"]), ExpectOneLabelPerExample())
    assert [example.value for example in found.examples] == [["a", 0], ["a", 1]]


@pytest.mark.parametrize(
    ("labels", "observed"),
    [
        ([0, 0, 0, 0, 0, 0], {"0": 1.0, "1": 0.0}),
        ([0, 1, 0, 1, 0, 2], {"1": 0.333333, "2": 0.166667}),
        ([0, 1, np.nan, np.nan, np.nan, np.nan], None),
    ],
    ids=["a class is not there", "another class, and one is rare", "missing labels are for another rule"],
)
def test_class_shares_are_bounded(labels: list[float], observed: dict[str, float] | None) -> None:
    found = check(
        EXAMPLES.assign(label=labels), ExpectClassShareToBeBetween(classes=[0, 1], min_value=0.4, max_value=0.6)
    )
    assert found.success == (observed is None)
    assert {int(float(name)): share for name, share in (found.observed or {}).items()} == {
        int(name): share for name, share in (observed or {}).items()
    }
