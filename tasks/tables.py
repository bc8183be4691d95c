"""Tables as windows: CSV, Parquet, JSON Lines and .npz files in chunks of rows, so that their size does not matter.

Rows are counted from 0. What cannot be read of a row is told with its number; the others have the types that the
problem declares, whichever of the formats they come from.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from problems.outline.problem import Rows, Stack
from problems.outline.raw import EXPECTED, PARSERS, BadInput, looks_like, read_csv_pieces, readable_archive

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    Faults = dict[int, str]
    Pieces = Iterator["pa.Table"]

ROW = "row"


@dataclass(frozen=True)
class Chunk:
    """Some rows (n) by their numbers (int64, ascending), and what is wrong with those that cannot be read.

    `content` is a frame with the declared columns and index 0 … n-1, or an array (n, …).
    """

    number: int
    rows: np.ndarray
    content: Any
    faults: Mapping[int, str]


def read_chunks(path: Path, form: Rows | Stack, size: int, *, skip: int = 0) -> Iterator[Chunk]:
    """The rows of a file, `size` at a time, without the first `skip` chunks.

    Raises BadInput for a file that does not hold what `form` names, be it in its first chunk only.
    """
    return _stack_chunks(path, form, size, skip) if isinstance(form, Stack) else _row_chunks(path, form, size, skip)


def _row_chunks(path: Path, form: Rows, size: int, skip: int) -> Iterator[Chunk]:
    faults: Faults = {}
    number = -1
    for number, table in enumerate(_regroup(_numbered(_open(path, form, size, faults), faults), size)):
        rows = table[ROW].to_numpy()
        told = _take(faults, rows[-1])
        if number >= skip:
            yield _typed(path, form, number, rows, table.drop_columns(ROW), told)
    if faults and number + 1 >= skip:
        yield _nothing(number + 1, _take(faults, max(faults)))


def _take(faults: Faults, last: int) -> Faults:
    """What is known of the rows up to `last`; it is forgotten there."""
    return {row: faults.pop(row) for row in sorted(faults) if row <= last}


def _nothing(number: int, faults: Faults) -> Chunk:
    import numpy as np

    return Chunk(number, np.empty(0, np.int64), None, faults)


def _numbered(pieces: Pieces, faults: Faults) -> Pieces:
    """With a column of row numbers, which leave out the rows that could not be read."""
    import numpy as np

    start = 0
    for piece in pieces:
        unread = [row for row in list(faults) if row >= start]
        rows = np.arange(start, start + len(piece) + len(unread))
        if unread:
            rows = np.setdiff1d(rows, unread)[: len(piece)]
        if len(piece):
            yield piece.append_column(ROW, [rows])
            start = int(rows[-1]) + 1


def _regroup(pieces: Pieces, size: int) -> Pieces:
    """The same rows, `size` at a time; fewer at the end."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for piece in pieces:
        held.append(piece)
        while sum(map(len, held)) >= size:
            table = pa.concat_tables(held)
            yield table.slice(0, size)
            held = [table.slice(size)]
    if sum(map(len, held)):
        yield pa.concat_tables(held)


# --- formats -------------------------------------------------------------------------------------------------------


def _open(path: Path, form: Rows, size: int, faults: Faults) -> Pieces:
    readers: dict[str, Callable[[Path, Rows, int, Faults], Pieces]] = {
        ".parquet": _parquet,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".npz": _npz,
    }
    return readers.get(path.suffix.lower(), _csv)(path, form, size, faults)


def _csv(path: Path, form: Rows, size: int, faults: Faults) -> Pieces:
    return read_csv_pieces(path, form.columns, faults.__setitem__, optional=form.ids)


def _parquet(path: Path, form: Rows, size: int, faults: Faults) -> Pieces:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _present(path, form, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=size, columns=names):
                yield pa.Table.from_batches([batch]).select(names)
    except (pa.ArrowException, OSError) as fault:
        raise _unreadable(path, "a Parquet file", str(fault)) from None


def _json_lines(path: Path, form: Rows, size: int, faults: Faults) -> Pieces:
    names: list[str] | None = None
    wanted = (*form.columns, *form.ids)
    with path.open("rb") as file:
        for records in _record_groups(file, wanted, size, faults):
            if names is None:
                if not records:
                    continue
                names = _present(path, form, list(dict.fromkeys(name for record in records for name in record)))
            yield _json_table(records, names, form)
    if names is None and faults:
        first = min(faults)
        raise _unreadable(path, "a JSON object on each line", f"row {first}: {faults[first]}")


def _record_groups(file: IO[bytes], wanted: Sequence[str], size: int, faults: Faults) -> Iterator[list[dict[str, Any]]]:
    """The objects of so many lines at a time; blank lines do not count."""
    records: list[dict[str, Any]] = []
    row = 0
    for line in file:
        if not (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
            continue
        try:
            records.append(_record(text, wanted))
        except (ValueError, RecursionError) as fault:
            faults[row] = f"cannot be read: {fault}"
        row += 1
        if len(records) == size:
            yield records
            records = []
    yield records


def _record(text: bytes, wanted: Sequence[str]) -> dict[str, Any]:
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"a JSON object is expected, not {text[:60].decode(errors='replace')}")
    nested = [name for name in wanted if isinstance(record.get(name), (dict, list))]
    if nested:
        raise ValueError(f"{', '.join(nested)} holds a list or an object")
    return record


def _json_table(records: list[dict[str, Any]], names: Sequence[str], form: Rows) -> pa.Table:
    import pyarrow as pa

    def column(name: str) -> pa.Array:
        values = [record.get(name) for record in records]
        try:
            return pa.array(values, _arrow_types()[_kind(form, name)])
        except (pa.ArrowException, TypeError, OverflowError):
            return pa.array([_as_text(value) for value in values], pa.string())

    return pa.table({name: column(name) for name in names})


def _as_text(value: object) -> str | None:
    if value is None or value != value:  # Python's JSON knows NaN
        return None
    return value if isinstance(value, str) else json.dumps(value)


def _npz(path: Path, form: Rows, size: int, faults: Faults) -> Pieces:
    import pyarrow as pa

    with readable_archive(path, "a whole .npz file"), zipfile.ZipFile(path) as archive, ExitStack() as opened:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        arrays = {
            name: _ArrayReader(opened.enter_context(archive.open(f"{name}.npy")), name, path)
            for name in _present(path, form, held)
        }
        _require_one_shape(path, {name: array.shape for name, array in arrays.items()})
        while len(piece := pa.table({name: pa.array(array.take(size)) for name, array in arrays.items()})):
            yield piece


def _stack_chunks(path: Path, form: Stack, size: int, skip: int) -> Iterator[Chunk]:
    import numpy as np

    if path.suffix.lower() != ".npz":
        raise _unreadable(path, f"a .npz file with the array {form.name!r}", f"a file ending in {path.suffix}")
    with readable_archive(path, "a whole .npz file"), zipfile.ZipFile(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        _require_names(path, [form.name], held)
        with archive.open(f"{form.name}.npy") as file:
            array = _ArrayReader(file, form.name, path)
            if (array.shape[1:], str(array.dtype)) != (form.shape, form.dtype):
                raise _unreadable(
                    path,
                    f"{form.dtype} of shape {(0, *form.shape)}".replace("(0", "(n"),
                    f"{array.dtype} {array.shape}",
                )
            number = start = 0
            while len(part := array.take(size)):
                if number >= skip:
                    yield Chunk(number, np.arange(start, start + len(part)), part, {})
                number, start = number + 1, start + len(part)


class _ArrayReader:
    """An array inside an open .npz file, read from front to back. Raises BadInput for one that cannot be."""

    def __init__(self, file: IO[bytes], name: str, path: Path) -> None:
        import numpy as np

        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, is_fortran, self.dtype = header(file)
        self._file, self._done = file, 0
        if self.dtype.hasobject or not self.shape or (is_fortran and len(self.shape) > 1):
            kind = (
                "objects" if self.dtype.hasobject else "a number" if not self.shape else "columns one after the other"
            )
            raise _unreadable(path, f"rows of plain values in {name!r}, one after the other", kind)

    def take(self, count: int) -> np.ndarray:
        """The next entries, `count` at most."""
        import numpy as np

        count = min(count, self.shape[0] - self._done)
        self._done += count
        shape = (count, *self.shape[1:])
        data = self._file.read(int(np.prod(shape)) * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(shape)


# --- names ---------------------------------------------------------------------------------------------------------


def _present(path: Path, form: Rows, held: Sequence[str]) -> list[str]:
    """The columns to read: those that are needed, and the ids that are there."""
    _require_names(path, list(form.columns), held)
    return [*form.columns, *(name for name in form.ids if name in held)]


def _require_names(path: Path, needed: Sequence[str], held: Sequence[str]) -> None:
    missing = [name for name in needed if name not in held]
    doubled = [name for name in needed if list(held).count(name) > 1]
    if not missing and not doubled:
        return
    spare = [name for name in held if name not in needed]
    near = {name: get_close_matches(name, spare, n=1) for name in missing}
    told = ", ".join(f"{name} (is it {found[0]!r}?)" if found else name for name, found in near.items())
    raise BadInput(
        f"Columns are missing: {told}" if missing else f"Columns are there twice: {', '.join(doubled)}",
        where=str(path),
        expected=", ".join(needed),
        received=", ".join(held[:40]) or "none",
        next_step="get the file that has these columns",
    )


def _require_one_shape(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise _unreadable(path, "an array of shape (n,) for each column", told)


def _unreadable(path: Path, expected: str, received: str) -> BadInput:
    with path.open("rb") as file:
        looks = looks_like(file.read(1024))
    return BadInput(
        "A file that is to be scored cannot be read.",
        where=str(path),
        expected=expected,
        received=f"{received}{f' (it looks like {looks})' if looks else ''}",
        next_step="get the file again, or check its name: its ending tells its format",
    )


# --- types ---------------------------------------------------------------------------------------------------------


def _arrow_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "int64": pa.int64(),
        "float64": pa.float64(),
        "str": pa.string(),
        "bool": pa.bool_(),
        "date": pa.timestamp("us"),
    }


def _kind(form: Rows, name: str) -> str:
    return form.columns.get(name, "str")


def _typed(path: Path, form: Rows, number: int, rows: np.ndarray, table: pa.Table, faults: Faults) -> Chunk:
    """The chunk in the declared types, without the rows that have a value of another."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    wrong: dict[int, list[str]] = {}
    for name in table.column_names:
        columns[name], bad = _convert(path, table[name], name, form)
        if number == 0 and bad and len(bad) == len(rows) - columns[name].null_count + len(bad):
            first = next(iter(bad.values()))
            raise BadInput(
                f"The column {name} holds values of another type.",
                where=str(path),
                expected=EXPECTED[_kind(form, name)],
                received=f"{first!r} and the like in each of the first {len(rows):,} rows",
                next_step="check that this is the right file",
            )
        for position, text in bad.items():
            told = f"{name}: {text[:60]!r}, expected {EXPECTED[_kind(form, name)]}"
            wrong.setdefault(position, []).append(told)
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    kept = np.delete(np.arange(len(rows)), list(wrong))
    faults |= {int(rows[position]): "; ".join(told) for position, told in wrong.items()}
    return Chunk(number, rows[kept], frame.iloc[kept].reset_index(drop=True) if wrong else frame, faults)


def _convert(path: Path, column: pa.ChunkedArray, name: str, form: Rows) -> tuple[pa.Array, dict[int, str]]:
    """The column in its declared type, and the texts that are not of it by their positions, where it is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = _kind(form, name)
    array = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_nested(array.type):
        raise _unreadable(path, f"{EXPECTED[kind]} in the column {name}", str(array.type))
    try:
        if _is_text(array.type):
            array = array.cast(pa.string())
            array = pc.if_else(pc.is_in(array, pa.array(form.missing_values, pa.string())), None, array)
        return array.cast(_arrow_types()[kind]), {}
    except pa.ArrowException:
        return _convert_one_by_one(array, kind, form.missing_values)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests) or kind == pa.string_view()


def _convert_one_by_one(array: pa.Array, kind: str, missing: Sequence[str]) -> tuple[pa.Array, dict[int, str]]:
    import pyarrow as pa

    values: list[object] = []
    wrong: dict[int, str] = {}
    for position, value in enumerate(array.to_pylist()):
        try:
            text = value.decode() if isinstance(value, bytes) else None if value is None else str(value)
            values.append(None if text is None or text in missing else PARSERS[kind](_trimmed(text, kind)))
        except ValueError:
            values.append(None)
            wrong[position] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return pa.array(values, _arrow_types()[kind]), wrong


def _trimmed(text: str, kind: str) -> str:
    return text if kind == "str" else text.strip()
