"""Tables of any format in chunks: the same rows with the same numbers and types, and the reasons for the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.outline.problem import Inputs, Rows, Stack
from problems.outline.raw import BadInput
from tasks.tables import Chunk, read_chunks

FORM = Rows(
    columns={"name": "str", "age": "int64", "height": "float64", "member": "bool"},
    inputs=lambda frame: Inputs({}, frame),
    ids=("id",),
    missing_values=("", "-"),
)
STACK = Stack(name="image", dtype="uint8", shape=(2, 3), inputs=lambda images: Inputs({"image": images}, images))


def people(count: int = 10) -> pd.DataFrame:
    numbers = np.arange(count)
    return pd.DataFrame(
        {
            "unused": "x",
            "height": numbers / 7,
            "name": [f"n, {number}" for number in numbers],
            "id": [f"{number:03d}" for number in numbers],
            "age": numbers * 3,
            "member": numbers % 2 == 0,
        }
    )


def write_jsonl(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))


def write_npz(frame: pd.DataFrame, path: Path) -> None:
    np.savez_compressed(
        path, **{name: frame[name].to_numpy(str if frame[name].dtype == "str" else None) for name in frame}
    )


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "t.csv": lambda frame, path: frame.to_csv(path, index=False),
    "t.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "t.parquet": lambda frame, path: frame.to_parquet(path),
    "t.jsonl": write_jsonl,
    "t.npz": write_npz,
}


def read(path: Path, size: int = 4, **options: int) -> list[Chunk]:
    return list(read_chunks(path, FORM, size, **options))


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_in_full_chunks(name: str, tmp_path: Path) -> None:
    WRITERS[name](people(), tmp_path / name)
    chunks = read(tmp_path / name)
    assert [chunk.rows.tolist() for chunk in chunks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    found = pd.concat([chunk.content for chunk in chunks], ignore_index=True)
    pd.testing.assert_frame_equal(found, people()[["name", "age", "height", "member", "id"]])
    assert not any(chunk.faults for chunk in chunks)


def test_what_was_done_is_skipped_and_the_rest_keeps_its_numbers(tmp_path: Path) -> None:
    people().to_csv(tmp_path / "t.csv", index=False)
    chunks = read(tmp_path / "t.csv", skip=2)
    assert [(chunk.number, chunk.rows.tolist()) for chunk in chunks] == [(2, [8, 9])]


def test_ids_may_be_absent(tmp_path: Path) -> None:
    people().drop(columns="id").to_parquet(tmp_path / "t.parquet")
    assert "id" not in read(tmp_path / "t.parquet")[0].content


def test_a_line_with_other_fields_is_told_and_the_numbers_of_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('name,age,height,member\na,1,1,yes\n\nb,2\n"c\nc",3,3,no\nd,4,4,no,5\ne,5,5,yes\nf,6\n')
    chunks = read(path, size=2)
    assert [chunk.rows.tolist() for chunk in chunks] == [[0, 2], [4], []]
    assert chunks[0].faults == {1: "2 fields where the header has 4"}
    assert chunks[1].faults == {3: "5 fields where the header has 4"}
    assert chunks[2].faults == {5: "2 fields where the header has 4"}
    assert chunks[0].content["name"].tolist() == ["a", "c\nc"]
    assert chunks[0].content["member"].tolist() == [True, False]


def test_numbers_are_right_across_the_blocks_that_a_file_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("problems.outline.raw.BLOCK_BYTES", 64)
    lines = [f"n{row},{row},1.0,no" if row % 7 else "broken" for row in range(200)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["name,age,height,member", *lines]))
    chunks = read(path, size=30)
    good = [row for row in range(200) if row % 7]
    assert [row for chunk in chunks for row in chunk.rows] == good
    assert [age for chunk in chunks for age in chunk.content["age"]] == good
    assert [row for chunk in chunks for row in chunk.faults] == [row for row in range(200) if row % 7 == 0]


def test_a_value_of_another_type_is_told_with_its_row(tmp_path: Path) -> None:
    frame = people(4).astype({"age": object, "height": object})
    frame.loc[1, "age"] = "many"
    frame.loc[2, "height"] = "tall"
    frame.loc[2, "age"] = 2.5
    for name in ("t.csv", "t.jsonl"):
        WRITERS[name](frame, tmp_path / name)
        (chunk,) = read(tmp_path / name)
        assert chunk.rows.tolist() == [0, 3] and chunk.content["age"].tolist() == [0, 9]
        assert chunk.faults[1] == "age: 'many', expected a whole number of 64 bits"
        assert "height: 'tall'" in chunk.faults[2] and "age: '2.5'" in chunk.faults[2]


def test_missing_values_are_the_same_in_every_format(tmp_path: Path) -> None:
    frame = people(3).astype({"height": object})
    frame.loc[1, "height"] = "-"
    frame.loc[2, "name"] = None
    for name in ("t.csv", "t.jsonl"):
        WRITERS[name](frame, tmp_path / name)
        (chunk,) = read(tmp_path / name)
        assert chunk.content["height"].isna().tolist() == [False, True, False]
        assert chunk.content["name"].isna().tolist() == [False, False, True]


def test_a_line_that_is_no_json_object_is_told(tmp_path: Path) -> None:
    good = json.dumps(people(1).to_dict("records")[0])
    nested = good.replace('"n, 0"', '["a"]')
    (tmp_path / "t.jsonl").write_text(f"{good}\n{{oops\n\n[1]\n{nested}\n{good}\n")
    (chunk,) = read(tmp_path / "t.jsonl", size=10)
    assert chunk.rows.tolist() == [0, 4] and list(chunk.faults) == [1, 2, 3]
    assert "JSON object is expected" in chunk.faults[2] and "name holds a list" in chunk.faults[3]


def test_text_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"name,age,height,member\ncaf\xe9,1,1,no\nbar,2,2,no\n")
    (chunk,) = read(tmp_path / "t.csv")
    assert chunk.rows.tolist() == [1] and "caf\ufffd" in chunk.faults[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_without_a_needed_column_is_refused_by_name(name: str, tmp_path: Path) -> None:
    WRITERS[name](people().rename(columns={"height": "heights"}), tmp_path / name)
    with pytest.raises(BadInput, match=r"height \(is it 'heights'\?\)"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_a_column_of_another_type_throughout_is_refused(name: str, tmp_path: Path) -> None:
    WRITERS[name](people().assign(height="tall"), tmp_path / name)
    with pytest.raises(BadInput, match="height holds values of another type"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_cut_short_or_another_kind_is_an_error_and_not_a_traceback(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    with pytest.raises(BadInput):
        read(tmp_path / name)


def test_a_stack_is_read_in_chunks_and_must_have_the_declared_form(tmp_path: Path) -> None:
    images = np.arange(5 * 6, dtype="uint8").reshape(5, 2, 3)
    np.savez_compressed(tmp_path / "t.npz", image=images)
    chunks = list(read_chunks(tmp_path / "t.npz", STACK, 2))
    assert [chunk.rows.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert np.array_equal(np.concatenate([chunk.content for chunk in chunks]), images)
    np.savez(tmp_path / "f.npz", image=images.astype("float32"))
    with pytest.raises(BadInput, match="float32"):
        list(read_chunks(tmp_path / "f.npz", STACK, 2))
    np.savez(tmp_path / "o.npz", image=np.array([{}, None], object))
    with pytest.raises(BadInput, match="objects"):
        list(read_chunks(tmp_path / "o.npz", STACK, 2))
    with pytest.raises(BadInput, match="image"):
        np.savez(tmp_path / "x.npz", x=images)
        list(read_chunks(tmp_path / "x.npz", STACK, 2))
