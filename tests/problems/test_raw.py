"""Raw files: good ones are read, and bad ones say what is wrong with them and where."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.outline.raw import BadInput, extract_archive, read_csv, read_npz

COLUMNS = {"rooms": "float64", "tax": "int64", "town": "str", "river": "bool", "sold": "date"}
HEADER = "rooms,tax,town,river,sold\n"
ROW = "6.5,300,Lynn,true,2024-01-31\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "houses.csv"


def complaint(file: Path, content: str | bytes, columns: dict[str, str] = COLUMNS) -> str:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadInput) as failure:
        read_csv(file, columns)
    assert str(file) in str(failure.value)
    assert "next" in str(failure.value)
    return str(failure.value)


def test_declared_columns_are_read_with_their_types_and_in_their_order(file: Path) -> None:
    file.write_text("extra,sold,river,town,tax,rooms\n1,2024-01-31,no,Lynn,300,6.5\n")
    frame = read_csv(file, COLUMNS)
    assert frame.columns.tolist() == list(COLUMNS)
    assert [str(kind) for kind in frame.dtypes] == ["float64", "int64", "str", "bool", "datetime64[us]"]
    assert frame.iloc[0].tolist() == [6.5, 300, "Lynn", False, pd.Timestamp("2024-01-31")]
    assert frame.attrs["extra_columns"] == ["extra"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + (HEADER + ROW).encode(),
        (HEADER + ROW).encode("utf-16"),
        (HEADER + ROW).replace("\n", "\r\n").encode(),
        (HEADER + ROW).replace(",", ";").encode(),
        (HEADER + ROW).replace(",", "\t").encode(),
        (HEADER + ROW).replace(",", "|").encode(),
        (HEADER + ROW).rstrip("\n").encode(),
        b" rooms , tax,town,river,sold\n" + ROW.encode(),
    ],
    ids=["BOM", "UTF-16", "CRLF", "semicolon", "tab", "bar", "no last line end", "spaces in the header"],
)
def test_common_variants_are_read_as_the_same(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert read_csv(file, COLUMNS).iloc[0].tolist() == [6.5, 300, "Lynn", True, pd.Timestamp("2024-01-31")]


def test_another_delimiter_is_noted(file: Path) -> None:
    file.write_text((HEADER + ROW).replace(",", ";"))
    assert read_csv(file, COLUMNS).attrs["notes"] == ["fields are separated by semicolon, not by comma"]


def test_floats_are_read_to_the_last_bit(file: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    file.write_text("rooms\n" + "\n".join(map(repr, values.tolist())))
    assert (read_csv(file, {"rooms": "float64"})["rooms"].to_numpy() == values).all()


def test_text_may_hold_quotes_delimiters_and_line_ends(file: Path) -> None:
    file.write_text('town,tax\n"Lynn, ""east""\nside",300\n')
    assert read_csv(file, {"town": "str", "tax": "int64"})["town"].tolist() == ['Lynn, "east"\nside']


def test_missing_values_are_left_to_the_expectations(file: Path) -> None:
    file.write_text(HEADER + ",,,,\n" + "?,?,?,?,?\n" + ROW)
    frame = read_csv(file, COLUMNS, missing_values=("", "?"))
    assert frame.isna().sum().tolist() == [2] * 5
    assert frame["tax"].dtype == np.float64
    assert frame["tax"][2] == 300


def test_an_optional_column_may_be_absent(file: Path) -> None:
    file.write_text(HEADER.replace("town,", "") + ROW.replace("Lynn,", ""))
    frame = read_csv(file, COLUMNS, optional=["town"])
    assert "town" not in frame.columns
    assert frame.attrs["absent_columns"] == ["town"]


def test_a_file_in_a_declared_encoding_is_read(file: Path) -> None:
    file.write_bytes("town\nOrléans\n".encode("latin-1"))
    assert read_csv(file, {"town": "str"}, encoding="latin-1")["town"].tolist() == ["Orléans"]


def test_a_renamed_column_is_missing_and_its_new_name_is_suggested(file: Path) -> None:
    assert "town (is it 'Towns'?)" in complaint(file, HEADER.replace("town", "Towns") + ROW)


def test_a_file_without_a_header_is_told_so(file: Path) -> None:
    assert "the first line looks like data" in complaint(file, ROW + ROW)


def test_a_column_that_comes_twice_is_refused(file: Path) -> None:
    assert "more than one column called tax" in complaint(file, HEADER.replace("rooms", "tax") + ROW)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ROW.replace("6.5", "six"), "rooms: 1 values, row 1 (line 3): 'six'"),
        (ROW.replace("6.5", "6_5"), "rooms: 1 values, row 1 (line 3): '6_5'"),
        (ROW.replace("6.5", '"6,5"'), "rooms: 1 values, row 1 (line 3): '6,5'"),
        (ROW.replace("300", "300.5"), "tax: 1 values, row 1 (line 3): '300.5'"),
        (ROW.replace("300", str(2**63)), "tax: 1 values, row 1 (line 3): '9223372036854775808'"),
        (ROW.replace("true", "maybe"), "river: 1 values, row 1 (line 3): 'maybe'"),
        (ROW.replace("2024-01-31", "31/01/2024"), "sold: 1 values, row 1 (line 3): '31/01/2024'"),
        (ROW.replace("2024-01-31", "2024-01-31T10:00:00Z"), "sold: 1 values, row 1 (line 3): '2024-01-31T10:00:00Z'"),
    ],
)
def test_a_value_of_another_type_is_named_with_column_row_and_line(file: Path, wrong: str, told: str) -> None:
    assert told in complaint(file, HEADER + ROW + wrong + ROW)


def test_only_the_first_few_wrong_values_are_shown_and_all_are_counted(file: Path) -> None:
    message = complaint(file, HEADER + ROW.replace("6.5", "six") * 40)
    assert "rooms: 40 values" in message
    assert message.count("'six'") == 5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (HEADER + ROW + "6.5,300,Ly", "line 3 (the last)"),
        (HEADER + "6.5,300\n" + ROW, "wrong number of fields"),
        (HEADER + ROW.replace("\n", ",7\n") + ROW, "wrong number of fields"),
        ('town\nLynn\n"Salem\n', "ends inside a quoted value"),
        (HEADER, "no rows"),
        ("", "an empty file (0 bytes)"),
        ("\n\n", "an empty file (2 bytes)"),
    ],
    ids=["cut short", "short line", "long line", "open quote", "no rows", "empty", "blank"],
)
def test_a_file_of_the_wrong_form_is_refused(file: Path, content: str, told: str) -> None:
    columns = {"town": "str"} if content.startswith("town") else COLUMNS
    assert told in complaint(file, content, columns)


def test_another_encoding_is_told_with_its_line(file: Path) -> None:
    message = complaint(file, (HEADER + ROW + ROW.replace("Lynn", "Orléans")).encode("latin-1"))
    assert "not in utf-8" in message
    assert "line 3" in message


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (gzip.compress(HEADER.encode(), mtime=0), "a gzip file"),
        (b"  <!DOCTYPE html><html>404", "an HTML page"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b'{"rooms": 6}', "a JSON document"),
        (bytes(range(256)), "binary data"),
    ],
)
def test_a_file_that_is_no_csv_is_called_what_it_looks_like(file: Path, content: bytes, looks: str) -> None:
    assert looks in complaint(file, content)


def test_a_folder_and_nothing_are_no_files(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "a folder"), (tmp_path / "none.csv", "nothing")):
        with pytest.raises(BadInput, match="not there") as failure:
            read_csv(path, COLUMNS)
        assert told in str(failure.value)


def test_an_unknown_type_is_refused_before_the_file_is_opened(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="types that are not known"):
        read_csv(tmp_path / "none.csv", {"rooms": "number"})


def ragged(*sequences: list[int]) -> np.ndarray:
    array = np.empty(len(sequences), dtype=object)
    array[:] = sequences
    return array


def test_plain_arrays_are_read_and_their_dtypes_checked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "digits.npz", x=np.arange(6, dtype=np.uint8).reshape(2, 3), y=np.array(["a", "b"]))
    arrays = read_npz(tmp_path / "digits.npz", {"x": "uint8"})
    np.testing.assert_array_equal(arrays["x"], [[0, 1, 2], [3, 4, 5]])
    assert read_npz(tmp_path / "digits.npz", ["y"])["y"].tolist() == ["a", "b"]
    with pytest.raises(BadInput, match="another dtype: x"):
        read_npz(tmp_path / "digits.npz", {"x": "float32"})


def test_a_missing_array_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", x=np.zeros(3))
    with pytest.raises(BadInput, match="missing: y") as failure:
        read_npz(tmp_path / "digits.npz", ["x", "y"])
    assert "received x" in str(failure.value)


def test_object_arrays_are_read_only_when_asked_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "reviews.npz", x=ragged([1, 14, 22], [1, 194], []))
    with pytest.raises(BadInput, match="stored as a pickle"):
        read_npz(tmp_path / "reviews.npz", ["x"])
    assert read_npz(tmp_path / "reviews.npz", ["x"], object_arrays=True)["x"].tolist() == [[1, 14, 22], [1, 194], []]


class Attack:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch attacked",)


def test_an_object_array_cannot_run_code_even_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.empty(1, dtype=object)
    array[0] = Attack()
    np.savez(tmp_path / "reviews.npz", x=array)
    with pytest.raises(BadInput, match="cannot be unpacked") as failure:
        read_npz(tmp_path / "reviews.npz", ["x"], object_arrays=True)
    assert "system" in str(failure.value)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_an_npz_that_is_cut_short_is_refused(tmp_path: Path, keep: float) -> None:
    np.savez(tmp_path / "whole.npz", x=np.arange(1000))
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BadInput, match="cannot be unpacked"):
        read_npz(tmp_path / "cut.npz", ["x"])


def test_an_npz_with_an_altered_byte_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", x=np.arange(1000))
    content = bytearray((tmp_path / "digits.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be unpacked"):
        read_npz(tmp_path / "digits.npz", ["x"])


FILES = {"data/a.csv": b"rooms\n6\n", "b.txt": b"x" * 1000}


def make_zip(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes] = FILES, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_zip(path / "data.zip"),
        lambda path: make_tar(path / "data.tar", mode="w"),
        lambda path: make_tar(path / "data.tar.gz"),
        lambda path: make_tar(path / "data.tar.xz", mode="w:xz"),
    ],
    ids=["zip", "tar", "tar.gz", "tar.xz"],
)
def test_an_archive_is_unpacked_into_its_folder(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    paths = extract_archive(make(tmp_path), tmp_path / "raw", max_bytes=10_000, max_files=5)
    assert {path.relative_to(tmp_path / "raw").as_posix(): path.read_bytes() for path in paths} == FILES


def refused(archive: Path, *, max_bytes: int = 10_000, max_files: int = 5) -> str:
    """What was said; and that nothing was left behind, neither in the folder nor outside."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(BadInput) as failure:
        extract_archive(archive, archive.parent / "raw", max_bytes=max_bytes, max_files=max_files)
    assert sorted(archive.parent.rglob("*")) == before
    return str(failure.value)


@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/modelkeep-out.txt", "a/../../out.txt", "..\\out.txt", "C:out.txt"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_entry_that_would_leave_the_folder_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    assert "not safe" in refused(make(tmp_path / "archive", {"fine.txt": b"x", name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "../secret"
        archive.addfile(member)
    assert "a link or a device" in refused(tmp_path / "data.tar")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "../secret")
    assert "a link or a device" in refused(tmp_path / "data.zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_past_its_limits_is_refused(tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]) -> None:
    bomb = make(tmp_path / "archive", {"zeros": bytes(5_000_000)})
    assert bomb.stat().st_size < 50_000
    assert "at most 10,000 bytes" in refused(bomb)
    many = make(tmp_path / "many", {str(number): b"" for number in range(6)})
    assert "at most 5 files" in refused(many)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "archive")
    path.write_bytes(path.read_bytes()[:-40])
    assert "cannot be unpacked" in refused(path)


def test_a_page_instead_of_an_archive_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_text("<html>not found</html>")
    assert "an HTML page" in refused(tmp_path / "data.zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_file_that_is_also_a_folder_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    assert "another entry" in refused(make(tmp_path / "archive", {"a": b"1", "a/b": b"2"}))


def test_an_entry_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert "not safe" in refused(tmp_path / "data.zip")


def test_a_folder_with_files_is_never_extracted_into(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "data.zip")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "kept").write_text("mine")
    assert "not empty" in refused(archive)
    assert (tmp_path / "raw" / "kept").read_text() == "mine"
