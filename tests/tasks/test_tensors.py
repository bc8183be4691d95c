"""Tensors of the Open Inference Protocol: read as the model takes them, or refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.online import TensorSpec
from tasks.tensors import TensorInvalid, read_tensors, write_tensor

SPECS = {"levels": TensorSpec("int32", (2,)), "amounts": TensorSpec("float32", ()), "text": TensorSpec("string", ())}


def given(name: str, shape: list[int], datatype: str, data: list[Any]) -> Any:
    return SimpleNamespace(name=name, shape=shape, datatype=datatype, data=data)


LEVELS = given("levels", [2, 2], "INT32", [1, 2, 3, -4])
AMOUNTS = given("amounts", [2], "FP32", [1, 2.5])
TEXT = given("text", [2], "BYTES", ["a", "b" * 1000])


@pytest.mark.parametrize("data", [[1, 2, 3, -4], [[1, 2], [3, -4]]])
def test_values_are_read_flat_or_in_their_shape(data: list[Any]) -> None:
    arrays = read_tensors([AMOUNTS, given("levels", [2, 2], "INT32", data), TEXT], SPECS, 10)
    assert arrays["levels"].tolist() == [[1, 2], [3, -4]] and arrays["levels"].dtype == np.int32
    assert arrays["amounts"].tolist() == [1, 2.5] and arrays["amounts"].dtype == np.float32
    assert arrays["text"].tolist() == ["a", "b" * 1000]


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        (given("levels", [2, 2], "INT64", [1, 2, 3, 4]), "INT32"),
        (given("levels", [2, 3], "INT32", [1] * 6), "-1, 2"),
        (given("levels", [2], "INT32", [1] * 2), "-1, 2"),
        (given("levels", [2, 2], "INT32", [1, 2, 3]), "4 values"),
        (given("levels", [2, 2], "INT32", [[1, 2, 3], [4]]), "unequal"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, 0.5]), "float"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, True]), "bool"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, "4"]), "text"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, None]), "null"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, 2**31]), "fit into INT32"),
        (given("levels", [2, 2], "INT32", [1, 2, 3, -(10**400)]), "fit into INT32"),
        (given("levels", [1, 2], "INT32", [1, 2]), "as many in each"),
        (given("level", [2, 2], "INT32", [1, 2, 3, 4]), "unknown: level"),
    ],
)
def test_what_the_model_does_not_take_is_refused_with_its_name(levels: Any, said: str) -> None:
    with pytest.raises(TensorInvalid) as refused:
        read_tensors([levels, AMOUNTS, TEXT], SPECS, 10)
    assert said in str(refused.value) and "levels" in str(refused.value)


@pytest.mark.parametrize("data", [[1.0, 1e39], [1.0, float("nan")], [1.0, float("inf")], [1.0, 10**400]])
def test_numbers_that_are_not_finite_are_refused(data: list[Any]) -> None:
    with pytest.raises(TensorInvalid, match="amounts"):
        read_tensors([LEVELS, given("amounts", [2], "FP32", data), TEXT], SPECS, 10)


@pytest.mark.parametrize("inputs", [[LEVELS, AMOUNTS], [LEVELS, LEVELS, AMOUNTS, TEXT], []])
def test_every_input_is_given_once(inputs: list[Any]) -> None:
    with pytest.raises(TensorInvalid, match="not those of the model"):
        read_tensors(inputs, SPECS, 10)


def test_no_rows_and_too_many_are_refused() -> None:
    spec = {"amounts": SPECS["amounts"]}
    with pytest.raises(TensorInvalid, match="number of rows"):
        read_tensors([given("amounts", [0], "FP32", [])], spec, 10)
    with pytest.raises(TensorInvalid, match="number of rows"):
        read_tensors([AMOUNTS], spec, 1)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TensorInvalid, match="text"):
        read_tensors([LEVELS, AMOUNTS, given("text", [2], "BYTES", ["a", "\ud800"])], SPECS, 10)


def test_an_array_is_written_flat_with_its_shape() -> None:
    told = write_tensor("p", np.array([[0.25, 0.75]], np.float32))
    assert told == {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}
    assert write_tensor("label", np.array(["a"], object))["datatype"] == "BYTES"
