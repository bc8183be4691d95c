"""Tensors as the Open Inference Protocol v2 writes them in JSON: {name, shape, datatype, data}.

https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from tasks.inference import TensorSpec

if TYPE_CHECKING:
    import numpy as np

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    "object": "BYTES",
}


class TensorInvalid(ModelkeepError):
    """A tensor of a request is not what the model takes; the message names it."""


def join_binary(body: bytes, num_json_bytes: int) -> Any:
    """A request whose tensors follow its JSON as bytes, each as long as its `binary_data_size` says, with the values in
    the JSON's place of them (the protocol's extension for binary tensors). Raises TensorInvalid, JSONDecodeError."""
    request = json.loads(body[:num_json_bytes])
    inputs = request.get("inputs", []) if isinstance(request, dict) else []
    start = num_json_bytes
    for given in inputs if isinstance(inputs, list) else []:
        parameters = given.get("parameters") if isinstance(given, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if isinstance(size, int):
            given["data"] = _unpack(body[start : start + size], size, given)
            start += size
    if start != len(body):
        raise TensorInvalid(
            "The tensors do not end where the body ends.", expected=f"{start:,} bytes", received=f"{len(body):,}"
        )
    return request


def _unpack(data: bytes, size: int, given: Mapping[str, Any]) -> list[Any]:
    """Little-endian numbers; or texts, each after its length in 4 bytes. Raises TensorInvalid."""
    import numpy as np

    dtypes = {datatype: dtype for dtype, datatype in DATATYPES.items() if datatype != "BYTES"}
    try:
        if len(data) != size:
            raise ValueError("the body ends before it")
        if given.get("datatype") != "BYTES":
            dtype = np.dtype(dtypes[str(given.get("datatype"))]).newbyteorder("<")
            values: list[Any] = np.frombuffer(data, dtype).tolist()
            return values
        texts, place = [], 0
        while place < size:
            end = place + 4 + int.from_bytes(data[place : place + 4], "little")
            if end > size:
                raise ValueError("a text is longer than the rest of it")
            texts.append(data[place + 4 : end].decode())
            place = end
        return texts
    except (ValueError, KeyError) as fault:
        raise _invalid(str(given.get("name")), f"{size:,} bytes of {given.get('datatype')}", str(fault)) from None


def read_tensors(inputs: Sequence[Any], specs: Mapping[str, TensorSpec], most_rows: int) -> dict[str, np.ndarray]:
    """The arrays (n, …) of a request, each with `name`, `shape`, `datatype` and `data`. Raises TensorInvalid."""
    names = [given.name for given in inputs]
    missing, unknown = [name for name in specs if name not in names], [name for name in names if name not in specs]
    if missing or unknown or len(set(names)) < len(names):
        told = {"missing": missing, "unknown": unknown, "twice": sorted({n for n in names if names.count(n) > 1})}
        raise TensorInvalid(
            "The inputs are not those of the model.",
            expected=", ".join(specs),
            received="; ".join(f"{word}: {', '.join(which)}" for word, which in told.items() if which),
        )
    arrays = {given.name: _read(given, specs[given.name]) for given in inputs}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1 or not 0 < max(counts.values()) <= most_rows:
        raise TensorInvalid(
            "The first axis of an input is the number of rows.",
            expected=f"1 to {most_rows:,} rows, and as many in each input",
            received=", ".join(f"{name}: {count:,}" for name, count in counts.items()),
        )
    return arrays


def _read(given: Any, spec: TensorSpec) -> np.ndarray:
    datatype = DATATYPES[spec.dtype]
    shape = tuple(given.shape)
    if given.datatype != datatype or shape[1:] != spec.shape or shape[0] < 0:
        raise _invalid(given.name, f"{datatype} {[-1, *spec.shape]}", f"{given.datatype} {list(shape)}")
    values = _values(given.data, given.name, datatype)
    if values.size != _size(shape) or values.shape not in (shape, (values.size,)):
        raise _invalid(given.name, f"{_size(shape):,} values, flat or in the shape {list(shape)}", f"{values.shape}")
    if datatype == "BYTES":
        try:
            "".join(values.ravel().tolist()).encode()
        except UnicodeEncodeError:
            raise _invalid(given.name, "text of whole characters", "half a character") from None
        return values.reshape(shape)
    return _cast(values, given.name, spec.dtype).reshape(shape)


def _values(data: Any, name: str, datatype: str) -> np.ndarray:
    """As objects of Python, so that no text becomes a number in silence."""
    import numpy as np

    wanted: tuple[type, ...] = {"BYTES": (str,), "BOOL": (bool,)}.get(datatype, (int, float))
    if not datatype.startswith("FP") and wanted == (int, float):
        wanted = (int,)
    values = np.array(data, object)
    kinds = set(map(type, values.ravel().tolist()))
    if wrong := kinds - set(wanted):
        words = {"list": "lists of unequal lengths", "dict": "objects", "NoneType": "null", "str": "text"}
        told = sorted(words.get(kind.__name__, kind.__name__) for kind in wrong)
        raise _invalid(name, f"{datatype} values", ", ".join(told))
    return values


def _cast(values: np.ndarray, name: str, dtype: str) -> np.ndarray:
    import numpy as np

    kind = np.dtype(dtype)
    try:
        if kind.kind in "iu" and values.size:
            low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
            if min(values.ravel()) < low or max(values.ravel()) > high:
                raise OverflowError
        with np.errstate(over="raise"):
            cast = values.astype(kind)
    except (OverflowError, FloatingPointError):
        raise _invalid(name, f"values that fit into {DATATYPES[dtype]}", "a larger one") from None
    if kind.kind == "f" and not np.isfinite(cast).all():
        raise _invalid(name, "finite numbers", "NaN or infinity")
    return cast


def _size(shape: Sequence[int]) -> int:
    size = 1
    for one in shape:
        size *= one
    return size


def _invalid(name: str, expected: str, received: str) -> TensorInvalid:
    return TensorInvalid(f"The input {name!r} is not what the model takes.", expected=expected, received=received)


def describe_tensor(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    """As the metadata of a model names it; the first axis is open."""
    return {"name": name, "datatype": DATATYPES[dtype], "shape": [-1, *shape]}


def write_tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    told = describe_tensor(name, str(array.dtype), array.shape[1:])
    return {**told, "shape": list(array.shape), "data": array.ravel().tolist()}
