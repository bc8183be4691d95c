"""Raw files read safely: CSV with declared columns, .npz without pickle, archives that stay in their folder.

Readers see to form: columns, types, whole files. Whether values make sense (missing, doubled, out of range)
is the business of a problem's expectations.
"""

from __future__ import annotations

import csv
import io
import os
import pickle
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
TYPES = ("int64", "float64", "str", "bool", "date")
TRUE_WORDS = ("true", "True", "TRUE", "yes", "Yes", "1")
FALSE_WORDS = ("false", "False", "FALSE", "no", "No", "0")
NUM_EXAMPLES = 5
DRIVE = re.compile("[A-Za-z]:")  # on Windows such a name leaves the folder
HEAD_BYTES = 1 << 20
BLOCK_BYTES = 1 << 24  # a row longer than this cannot be read

LOOKS = (
    (b"PK\x03\x04", "a zip archive (or an Excel workbook)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype html", "an HTML page (an error page, perhaps)"),
    (b"<html", "an HTML page (an error page, perhaps)"),
    (b"<?xml", "an XML document"),
    (b"{", "a JSON document"),
)


class BadInput(ModelkeepError):
    """A raw file is not what its reader was told to expect."""


def read_csv(
    path: str | os.PathLike[str],
    columns: Mapping[str, str],
    *,
    optional: Iterable[str] = (),
    missing_values: Sequence[str] = ("",),
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """The declared columns of a CSV file with a header, in the declared order.

    `columns` gives each name its type: int64, float64, str, bool (true/false, yes/no, 1/0) or date (ISO 8601,
    read as datetime64). Where values are missing, an int64 column is returned as float64 and a bool column as
    object. Without a `delimiter` the one of comma, semicolon, tab and bar that fits the declared names is taken.

    Columns that were not declared are ignored and named in `frame.attrs["extra_columns"]`, optional ones that are
    not there in `attrs["absent_columns"]`; `attrs["notes"]` says what else was noticed.
    Raises BadInput for anything that is not such a file, with lines and values.
    """
    path = Path(path)
    _require_known_types(columns)
    head, encoding = _read_head(path, encoding)
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    delimiter, notes = (delimiter, []) if delimiter else _sniff_delimiter(text, columns)
    header = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=delimiter), [])]
    absent = _require_columns(path, header, columns, set(optional))
    present = {name: kind for name, kind in columns.items() if name not in absent}
    table = _parse(path, header, present, delimiter, encoding, missing_values)
    _require_closed_quotes(path, delimiter, encoding)
    if table.num_rows == 0:
        raise BadInput(
            "A CSV file has no rows",
            where=str(path),
            expected="at least one row under the header",
            received=f"a header of {len(header)} columns and nothing else",
            next_step="get the file again, or find out why its source is empty",
        )
    frame: pd.DataFrame = table.select(list(present)).to_pandas()
    extra = [name for name in header if name not in columns]
    frame.attrs.update(extra_columns=extra, absent_columns=absent, notes=notes)
    return frame


def read_csv_pieces(
    path: str | os.PathLike[str],
    columns: Iterable[str],
    on_bad_line: Callable[[int, str], None],
    *,
    optional: Iterable[str] = (),
) -> Iterator[pa.Table]:
    """The columns of a CSV file with a header, some MB at a time and in binary as they are written, in their order.

    A line with too many or too few fields is left out and told: its row's number, counted from 0, and what is wrong.
    Raises BadInput for anything that is not a CSV file with these columns; optional ones may be absent.
    """
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    def leave_out(line: Any) -> str:
        fault = f"{line.actual_columns} fields where the header has {line.expected_columns}"
        on_bad_line(line.number - 2, fault)  # counted from 1, which is the header
        return "skip"

    path, names = Path(path), [*columns, *optional]
    head, encoding = _read_head(path, "utf-8")
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    delimiter, _ = _sniff_delimiter(text, dict.fromkeys(names, "str"))
    header = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=delimiter), [])]
    absent = _require_columns(path, header, dict.fromkeys(names, "str"), set(optional))
    _require_closed_quotes(path, delimiter, encoding)
    present = [name for name in names if name not in absent]
    reading = arrow_csv.ReadOptions(
        column_names=header, skip_rows_after_names=1, encoding=encoding, block_size=BLOCK_BYTES, use_threads=False
    )
    parsing = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=leave_out)
    converting = arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.binary()), include_columns=present)
    try:
        with path.open("rb") as file, arrow_csv.open_csv(file, reading, parsing, converting) as batches:
            for batch in batches:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeError) as reason:
        raise _wrong_types(path, {}, {}, {}, reason) from None


def read_npz(
    path: str | os.PathLike[str], names: Sequence[str] | Mapping[str, str], *, object_arrays: bool = False
) -> dict[str, np.ndarray[Any, Any]]:
    """The named arrays of a .npz file. A mapping also gives each the dtype that it must have.

    Object arrays (ragged sequences) are stored as pickles. They are read only if the caller says that the file's
    SHA-256 was verified, and even then nothing but numpy's own arrays and plain Python values is unpickled.
    Raises BadInput for a file that is cut short, damaged or another kind, and for missing arrays and other dtypes.
    """
    path = Path(path)
    _require_file(path)
    with readable_archive(path, "a whole .npz file"), zipfile.ZipFile(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        missing = [name for name in names if name not in held]
        if missing:
            raise BadInput(
                f"Arrays are missing: {', '.join(missing)}",
                where=str(path),
                expected=", ".join(names),
                received=", ".join(held) or "an archive without arrays",
                next_step="check that this is the right file, or read the names that it has",
            )
        arrays = {name: _read_array(archive, name, path, object_arrays) for name in names}
    if isinstance(names, Mapping):
        _require_dtypes(path, arrays, names)
    return arrays


def extract_archive(
    path: str | os.PathLike[str], into: str | os.PathLike[str], *, max_bytes: int, max_files: int
) -> list[Path]:
    """Unpack a zip or tar (plain, gz, bz2, xz) into a new folder; the paths of its files, sorted.

    The folder appears whole or not at all. Raises BadInput for entries that would leave it, for links and devices,
    for more than `max_bytes` (counted while unpacking) or `max_files`, and for damaged archives.
    """
    path, into = Path(path), Path(into)
    _require_file(path)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise BadInput(
            "The folder to extract into is not empty or no folder",
            where=str(into),
            expected="a new or an empty folder",
            received="a folder that holds something" if into.is_dir() else "a file",
            next_step="choose another folder or remove this one",
        )
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    try:
        with readable_archive(path, "a whole zip or tar archive"), _entries(path) as entries:
            _write_entries(entries, partial, path, max_bytes, max_files)
        partial.chmod(0o755)
        partial.replace(into)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(file for file in into.rglob("*") if file.is_file())


def read_archive(path: str | os.PathLike[str], *, max_bytes: int, max_files: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of a zip or tar (plain, gz, bz2, xz), one after the other; nothing is written.

    Raises BadInput for the same archives as `extract_archive`.
    """
    path = Path(path)
    _require_file(path)
    with readable_archive(path, "a whole zip or tar archive"), _entries(path) as entries:
        for name, chunks in _limited(entries, path, max_bytes, max_files):
            yield name, b"".join(chunks)


def read_pickled_arrays(data: bytes, where: str) -> Any:
    """The numpy arrays and plain values of a pickle, be it of Python 2, and nothing else: for files whose SHA-256 was
    verified and that are published in no other form. Raises BadInput."""
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as fault:  # A damaged pickle fails in nearly every way there is.
        raise BadInput(
            "A pickle cannot be read.",
            where=where,
            expected="numpy arrays and plain values",
            received=f"{len(data):,} bytes: {fault}",
            next_step="get the file again",
        ) from None


def _require_known_types(columns: Mapping[str, str]) -> None:
    unknown = {name: kind for name, kind in columns.items() if kind not in TYPES}
    if unknown or not columns:
        raise BadInput(
            "Columns are declared with types that are not known" if unknown else "No columns are declared",
            expected=f"each column with one of {', '.join(TYPES)}",
            received=", ".join(f"{name}: {kind}" for name, kind in unknown.items()) or "nothing",
            next_step="mend the declaration in the problem's read()",
        )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise BadInput(
            "A raw file is not there",
            where=str(path),
            expected="a file",
            received="a folder" if path.is_dir() else "nothing",
            next_step="check the path",
        )


def _read_head(path: Path, encoding: str) -> tuple[bytes, str]:
    """The first bytes of a text file, and its encoding: a byte order mark says more than the caller."""
    _require_file(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head, "utf-16"
    looks = looks_like(head)
    if looks:
        raise BadInput(
            "This is not a CSV file",
            where=str(path),
            expected="lines of text with a header",
            received=looks,
            next_step="get the file itself; unpack it first if it is an archive",
        )
    return head, encoding


def looks_like(head: bytes) -> str:
    """What a file is by its first bytes, in words; "" for what may be text."""
    if not head.strip():
        return f"an empty file ({len(head)} bytes)"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    for magic, description in LOOKS:
        if head.startswith(magic) or start.startswith(magic):
            return description
    return "binary data" if b"\0" in head else ""


def _sniff_delimiter(text: str, columns: Mapping[str, str]) -> tuple[str, list[str]]:
    """The delimiter under which the header has most of the declared names; comma where none is better."""
    line = text.splitlines()[0] if text else ""

    def num_declared(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
        return len(set(names) & set(columns)), len(names)

    best = max(DELIMITERS, key=num_declared)
    return best, [] if best == "," else [f"fields are separated by {DELIMITERS[best]}, not by comma"]


def _require_columns(path: Path, header: list[str], columns: Mapping[str, str], optional: set[str]) -> list[str]:
    """Optional columns that are absent. Raises BadInput for doubled names and for other absent columns."""
    doubled = sorted({name for name in header if header.count(name) > 1})
    absent = [name for name in columns if name not in header]
    missing = [name for name in absent if name not in optional]
    if not doubled and not missing:
        return absent
    hint = "get the file that has these columns, or mend the declaration in the problem's read()"
    if missing and not set(header) & set(columns) and any(map(_is_number, header)):
        hint = "the first line looks like data: put a header with the column names above it"
    spare = [name for name in header if name not in columns]
    raise BadInput(
        f"A CSV file has more than one column called {', '.join(doubled)}"
        if doubled
        else f"Columns are missing: {', '.join(_suggest(name, spare) for name in missing)}",
        where=f"{path}, line 1",
        expected=", ".join(columns),
        received=", ".join(header[:40]) + (f" and {len(header) - 40} more" if len(header) > 40 else ""),
        next_step=hint,
    )


def _suggest(name: str, spare: list[str]) -> str:
    by_lower = {other.lower(): other for other in spare}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return f"{name} (is it {by_lower[near[0]]!r}?)" if near else name


def _parse(
    path: Path,
    header: list[str],
    columns: Mapping[str, str],
    delimiter: str,
    encoding: str,
    missing_values: Sequence[str],
) -> pa.Table:
    """All rows as an Arrow table. Arrow refuses what pandas lets pass: short lines and values of another type."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    types = {"int64": pa.int64(), "float64": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
    types["date"] = pa.timestamp("us")
    try:
        with path.open("rb") as file:
            return arrow_csv.read_csv(
                file,
                arrow_csv.ReadOptions(
                    column_names=header, skip_rows_after_names=1, encoding=encoding, block_size=BLOCK_BYTES
                ),
                arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    column_types={name: types[kind] for name, kind in columns.items()},
                    include_columns=list(columns),
                    null_values=list(missing_values),
                    strings_can_be_null=True,
                    true_values=list(TRUE_WORDS),
                    false_values=list(FALSE_WORDS),
                ),
            )
    except (pa.ArrowException, UnicodeError) as reason:
        raise _diagnose(path, header, columns, delimiter, encoding, missing_values, reason) from None


def _require_closed_quotes(path: Path, delimiter: str, encoding: str) -> None:
    """Arrow takes all that follows a quote that is never closed for one value. An odd number of quotes is the sign."""
    with path.open("rb") as file:
        num_quotes = sum(block.count(b'"') for block in iter(lambda: file.read(HEAD_BYTES), b""))
    if num_quotes % 2 == 0:
        return
    start = 1
    try:
        with path.open(encoding=encoding, newline="") as text:
            rows = csv.reader(text, delimiter=delimiter, strict=True)
            for _ in rows:
                start = rows.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise BadInput(
                "A CSV file ends inside a quoted value",
                where=f"{path}, line {start}",
                expected="a closing quote",
                received="the end of the file",
                next_step="get the file again if it is cut short; otherwise close the quote",
            ) from None


def _diagnose(
    path: Path,
    header: list[str],
    columns: Mapping[str, str],
    delimiter: str,
    encoding: str,
    missing_values: Sequence[str],
    reason: Exception,
) -> BadInput:
    """Find the lines that Arrow would not read. This is slower than reading, and only done to explain."""
    wrong: dict[str, list[str]] = {}
    num_wrong: dict[str, int] = {}
    places = {name: (header.index(name), PARSERS[kind]) for name, kind in columns.items()}
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            next(rows)
            for number, row in enumerate(row for row in rows if row):
                if len(row) != len(header):
                    return _wrong_length(path, rows, row, header)
                for name, (place, parse) in places.items():
                    if row[place] not in missing_values and not _parses(parse, row[place]):
                        num_wrong[name] = num_wrong.get(name, 0) + 1
                        if num_wrong[name] <= NUM_EXAMPLES:
                            shown = f"row {number} (line {rows.line_num}): {row[place][:60]!r}"
                            wrong.setdefault(name, []).append(shown)
    except UnicodeError as error:
        return _wrong_encoding(path, encoding, error)
    except csv.Error as error:
        reason = error
    return _wrong_types(path, columns, wrong, num_wrong, reason)


def _wrong_length(path: Path, rows: Any, row: list[str], header: list[str]) -> BadInput:
    line = rows.line_num
    is_last = next(rows, None) is None
    short = len(row) < len(header)
    return BadInput(
        "A CSV file is cut short" if short and is_last else "A line of a CSV file has the wrong number of fields",
        where=f"{path}, line {line}{' (the last)' if is_last else ''}",
        expected=f"{len(header)} fields, as in the header",
        received=f"{len(row)} fields: {row!r:.200}",
        next_step="get the file again" if short and is_last else "mend the line; quote text that holds the delimiter",
    )


def _wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> BadInput:
    return BadInput(
        f"A CSV file is not in {encoding}",
        where=str(path),
        expected=f"text in {encoding}",
        received=_undecodable_line(path, encoding) or str(error),
        next_step="save it as UTF-8 (iconv -f latin1 -t utf-8 FILE), or tell read_csv its encoding",
    )


def _undecodable_line(path: Path, encoding: str) -> str:
    if encoding == "utf-16":  # its line ends are not single bytes
        return ""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeError as error:
                return f"line {number}: {line.strip()[:60]!r} ({error.reason if hasattr(error, 'reason') else error})"
    return ""


def _wrong_types(
    path: Path, columns: Mapping[str, str], wrong: dict[str, list[str]], num_wrong: dict[str, int], reason: Exception
) -> BadInput:
    if not wrong:
        return BadInput(
            "A CSV file cannot be read",
            where=str(path),
            expected="a CSV file with the declared columns",
            received=str(reason),
            next_step="look at the file; get it again if it is damaged",
        )
    lines = [f"{name}: {num_wrong[name]} values, {'; '.join(examples)}" for name, examples in wrong.items()]
    return BadInput(
        f"Columns hold values of another type: {', '.join(wrong)}",
        where=str(path),
        expected=", ".join(f"{name} as {EXPECTED[columns[name]]}" for name in wrong),
        received="\n           ".join(lines),
        next_step="mend the values, declare them in missing_values if they stand for none, or declare another type",
    )


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    return _parses(float, text)


def _parse_integer(text: str) -> int:
    value = int(text)
    if "_" in text or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _parse_float(text: str) -> float:
    if "_" in text:
        raise ValueError
    return float(text)


def _parse_bool(text: str) -> bool:
    if text not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError
    return text in TRUE_WORDS


def _parse_date(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError
    return value


PARSERS: dict[str, Callable[[str], object]] = {
    "int64": _parse_integer,
    "float64": _parse_float,
    "str": str,
    "bool": _parse_bool,
    "date": _parse_date,
}
EXPECTED = {
    "int64": "a whole number of 64 bits",
    "float64": "a number with a decimal point",
    "str": "text",
    "bool": "true or false",
    "date": "a date such as 2024-12-31 (without a time zone)",
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays of plain Python values, and refuses every other class."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "ndarray",
            "dtype",
            "_reconstruct",
            "scalar",
        ):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _read_array(archive: zipfile.ZipFile, name: str, path: Path, object_arrays: bool) -> np.ndarray[Any, Any]:
    import numpy as np

    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(file)
        if not dtype.hasobject:
            file.seek(0)
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        if not object_arrays:
            raise BadInput(
                f"Array '{name}' holds Python objects, which are stored as a pickle",
                where=str(path),
                expected="arrays of plain numbers or text",
                received=f"dtype {dtype}",
                next_step="verify the file's SHA-256, then pass object_arrays=True",
            )
        return np.asarray(_ArrayUnpickler(file, encoding="latin1").load())


def _require_dtypes(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], dtypes: Mapping[str, str]) -> None:
    other = {name: array.dtype for name, array in arrays.items() if array.dtype != dtypes[name]}
    if other:
        raise BadInput(
            f"Arrays have another dtype: {', '.join(other)}",
            where=str(path),
            expected=", ".join(f"{name}: {dtypes[name]}" for name in other),
            received=", ".join(f"{name}: {dtype}" for name, dtype in other.items()),
            next_step="check that this is the right file, or mend the dtype in the problem's read()",
        )


@contextmanager
def readable_archive(path: Path, expected: str) -> Iterator[None]:
    """Turn the many ways in which damaged archives fail into one."""
    import lzma
    import zlib

    damage = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, pickle.UnpicklingError)
    try:
        yield
    except (*damage, ValueError, RuntimeError, NotImplementedError) as error:
        with path.open("rb") as file:
            looks = looks_like(file.read(HEAD_BYTES))
        raise BadInput(
            "A file cannot be unpacked",
            where=f"{path}, {path.stat().st_size:,} bytes",
            expected=expected,
            received=f"{looks or 'text'}: {error}",
            next_step="get the file again; it is damaged, cut short or another kind",
        ) from error


Entry = tuple[str, Callable[[], IO[bytes]]]


@contextmanager
def _entries(path: Path) -> Iterator[Iterator[Entry]]:
    """The names of an archive's files, and how to open each. Folders are left out; anything else is refused."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _zip_entries(archive, path)
    else:
        with tarfile.open(path) as tar:
            yield _tar_entries(tar, path)


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> Iterator[Entry]:
    for entry in archive.infolist():
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(path, entry.filename, "a link or a device")
        if not entry.is_dir():
            yield entry.filename, lambda entry=entry: archive.open(entry)  # type: ignore[misc]


def _tar_entries(tar: tarfile.TarFile, path: Path) -> Iterator[Entry]:
    for member in tar:
        if not member.isfile() and not member.isdir():
            raise _unsafe(path, member.name, "a link or a device")
        if member.isfile():
            yield member.name, lambda member=member: tar.extractfile(member)  # type: ignore[misc]


def _write_entries(entries: Iterator[Entry], folder: Path, path: Path, max_bytes: int, max_files: int) -> None:
    for name, chunks in _limited(entries, path, max_bytes, max_files):
        with _create(folder.joinpath(*PurePosixPath(name).parts), path, name) as copy:
            for chunk in chunks:
                copy.write(chunk)


def _limited(
    entries: Iterator[Entry], path: Path, max_bytes: int, max_files: int
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Names that stay below a folder, and the bytes of each in pieces, to be read before the next is asked for."""
    left = max_bytes

    def read(name: str, open_entry: Callable[[], IO[bytes]]) -> Iterator[bytes]:
        nonlocal left
        with open_entry() as source:
            while chunk := source.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise _too_large(path, f"at most {max_bytes:,} bytes when unpacked", f"more, at {name!r}")
                yield chunk

    for number, (name, open_entry) in enumerate(entries):
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or DRIVE.match(name) or not parts:
            raise _unsafe(path, name, "a path that leaves the folder")
        if number >= max_files:
            raise _too_large(path, f"at most {max_files:,} files", f"more, at {name!r}")
        yield name, read(name, open_entry)


def _create(target: Path, path: Path, name: str) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise _unsafe(path, name, "a name that another entry has") from None


def _unsafe(path: Path, name: str, what: str) -> BadInput:
    return BadInput(
        "An archive holds an entry that is not safe to unpack",
        where=f"{path}, entry {name!r}",
        expected="plain files below the folder",
        received=what,
        next_step="do not use this archive unless you know who made it",
    )


def _too_large(path: Path, expected: str, received: str) -> BadInput:
    return BadInput(
        "An archive is larger than it may be",
        where=str(path),
        expected=expected,
        received=received,
        next_step="check the archive, and raise the limit in the problem's sources if it is right",
    )
