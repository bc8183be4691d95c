"""Tensors of the Open Inference Protocol: read as the model takes them, or refused by name."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.online import TensorSpec
from tasks.tensors import TensorInvalid, join_binary, read_tensors, write_tensor

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


def binary(*tensors: tuple[str, bytes], size: int | None = None) -> tuple[bytes, int]:
    """A body whose tensors of these types follow the JSON, and how long the JSON is."""
    inputs = [
        {
            "name": datatype,
            "datatype": datatype,
            "parameters": {"binary_data_size": len(data) if size is None else size},
        }
        for datatype, data in tensors
    ]
    head = json.dumps({"inputs": inputs}).encode()
    return head + b"".join(data for _, data in tensors), len(head)


def test_tensors_that_follow_the_json_are_put_into_it() -> None:
    text = b"".join(len(word).to_bytes(4, "little") + word for word in ("é".encode(), b"", b"b"))
    body, length = binary(("FP32", np.array([1.5, 2], "<f4").tobytes()), ("BYTES", text), ("BOOL", b"\x01\x00"))
    assert [given["data"] for given in join_binary(body, length)["inputs"]] == [
        [1.5, 2.0],
        ["é", "", "b"],
        [True, False],
    ]


@pytest.mark.parametrize(
    ("body", "length"),
    [
        binary(("FP32", b"\0" * 7)),
        binary(("FP32", b"\0" * 4), size=8),
        binary(("FP32", b"\0" * 8), size=4),
        binary(("FP32", b"\0" * 8), size=-4),
        binary(("FP9", b"\0" * 4)),
        binary(("BYTES", b"\xff\xff\xff\xff")),
        binary(("BYTES", b"\1\0\0\0\xff")),
        (b"{}", 10),
        (b"[1]xx", 3),
    ],
)
def test_tensors_that_do_not_fill_their_bytes_are_refused(body: bytes, length: int) -> None:
    with pytest.raises(TensorInvalid):
        join_binary(body, length)
