"""Rows as JSON: checked strictly, and read to the same columns as a file of them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from problems.outline.problem import Inputs, Rows, Stack
from tasks.row_fields import ids_of, row_type, to_content
from tasks.tables import read_chunks

ROWS = Rows(
    columns={"size": "float64", "rooms": "int64", "kind": "str", "new": "bool", "sold on": "date"},
    inputs=lambda table: Inputs({}, table),
    ids=("key",),
    missing_values=("", "?"),
)
GOOD = {"size": 1.5, "rooms": 3, "kind": "flat", "new": True, "sold on": "2024-12-31"}
ADAPTER: TypeAdapter[Any] = TypeAdapter(row_type("houses", ROWS))


@pytest.mark.parametrize(
    "rows",
    [
        [GOOD, {**GOOD, "size": 2, "rooms": 4.0, "kind": "?"}],
        [GOOD, {**GOOD, "size": None, "rooms": None, "new": None, "sold on": None}],
        [{**GOOD, "kind": None}, {**GOOD, "kind": ""}],
    ],
)
def test_rows_become_the_columns_that_a_file_of_them_has(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (chunk,) = read_chunks(path, ROWS, 10)
    assert not chunk.faults
    content = to_content(ROWS, [ADAPTER.validate_python(row) for row in rows])
    # Texts are in Python's form there, and in Arrow's here, be they values or names.
    content = content.astype({"kind": "str"}).set_axis(pd.Index(list(content)), axis=1)
    pd.testing.assert_frame_equal(content, chunk.content)
    assert pd.api.types.is_string_dtype(content["kind"].dtype)  # elsewhere in memory


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "1.5"),
        ("size", True),
        ("size", float("nan")),
        ("size", 10**400),
        ("rooms", 3.5),
        ("rooms", 2**63),
        ("kind", 3),
        ("kind", "\ud800"),
        ("new", 1),
        ("new", "yes"),
        ("sold on", "yesterday"),
        ("sold on", "2024-12-31T00:00:00Z"),
        ("sold on", 20241231),
        ("key", 7),
    ],
)
def test_a_value_of_another_type_is_refused_and_its_field_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        ADAPTER.validate_python({**GOOD, field: value})
    assert refused.value.errors()[0]["loc"][0] == field


def test_no_field_may_be_left_out_but_ids_and_fields_of_no_meaning_are_ignored() -> None:
    for field in GOOD:
        with pytest.raises(ValidationError, match="Field required"):
            ADAPTER.validate_python({name: value for name, value in GOOD.items() if name != field})
    row = ADAPTER.validate_python({**GOOD, "colour": "red"})
    assert row["sold on"] == datetime.datetime(2024, 12, 31) and "colour" not in row
    assert ids_of(ROWS, [row]) == {}
    assert ids_of(ROWS, [row, {**row, "key": "a"}]) == {"key": [None, "a"]}


def test_the_schema_names_every_field_with_its_type() -> None:
    schema = ADAPTER.json_schema()
    assert set(schema["required"]) == set(GOOD) and {"key", *GOOD} == set(schema["properties"])
    assert schema["properties"]["size"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert "2024-12-31" in schema["properties"]["sold on"]["description"]


STACK = Stack(name="image", dtype="uint8", shape=(2, 3), inputs=lambda images: Inputs({}, pd.DataFrame()))


def test_an_array_is_read_from_lists_of_its_shape_and_no_other() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(row_type("images", STACK))
    row = adapter.validate_python({"image": [[1, 2, 3], [4, 5, 255]]})
    content = to_content(STACK, [row, row])
    assert content.dtype == np.uint8 and content.shape == (2, 2, 3) and content[1, 1, 2] == 255
    for wrong in ([[1, 2, 3]], [[1, 2], [3, 4]], [[1, 2, 3], [4, 5, 256]], [[1, 2, 3], [4, 5, 0.5]], [1, 2], "image"):
        with pytest.raises(ValidationError):
            adapter.validate_python({"image": wrong})
