"""Parts: what is done of a long piece of work on a table, in a folder beside the output, so that it can go on."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError
from tasks.tables import ROW

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

BYTES = "bytes"


class OutputBusy(ModelkeepError):
    """Another process writes to the same output."""


class Parts:
    """Each part is some tables and what was set aside; it counts once its .json, written last, is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __len__(self) -> int:
        """How many are done; they are made in their order."""
        return len(list(self._folder.glob("*.json")))

    def add(self, tables: Mapping[str, pa.Table], set_aside: Mapping[int, str]) -> None:
        """The next part. Tables without rows are left out."""
        import pyarrow as pa

        stem = f"{len(self):06d}"
        for name, table in tables.items():
            if len(table):
                # It is read once and thrown away: what makes files small would take longer than the model.
                with pa.ipc.new_file(self._folder / f"{stem}.{name}.arrow", table.schema) as file:
                    file.write_table(table)
        done = {"rows": max((len(table) for table in tables.values()), default=0), "set_aside": list(set_aside.items())}
        partial = self._folder / f"{stem}.partial"
        partial.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
        partial.replace(self._folder / f"{stem}.json")

    def num_rows(self) -> int:
        return sum(done["rows"] for done in self._done())

    def set_aside(self) -> Iterator[tuple[int, str]]:
        """Row and reason, in the order of the rows."""
        for done in self._done():
            yield from ((row, reason) for row, reason in done["set_aside"])

    def _done(self) -> Iterator[dict]:
        for path in sorted(self._folder.glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def names(self) -> list[str]:
        """Of the tables, sorted."""
        return sorted({path.name.split(".")[1] for path in self._folder.glob("??????.*.arrow")})

    def join(self, name: str, path: Path, metadata: Mapping[str, str]) -> None:
        """The tables of that name as one Parquet file, a part at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = sorted(self._folder.glob(f"??????.{name}.arrow"))
        # A column of whole numbers is one of floats in a part where a value is missing.
        schema = pa.unify_schemas([_read(part).schema for part in paths], promote_options="permissive")
        schema = schema.with_metadata(dict(metadata))
        repeated = [field.name for field in schema if field.name != ROW and not pa.types.is_floating(field.type)]
        # No row number is there twice: told by how much it grows, it takes a tenth of the room and half of the time.
        growing = {ROW: "DELTA_BINARY_PACKED"} if ROW in schema.names else None
        with pq.ParquetWriter(path, schema, use_dictionary=repeated, column_encoding=growing) as writer:
            for part in paths:
                writer.write_table(_read(part).cast(writer.schema))

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(part: Path) -> pa.Table:
    """Not copied into memory until it is looked at."""
    import pyarrow as pa

    with pa.memory_map(str(part)) as file:
        return pa.ipc.open_file(file).read_all()


@contextmanager
def open_parts(output: Path, key: str) -> Iterator[Parts]:
    """The parts of this output that were made under the same key; those of another key are thrown away.

    They stay where the work is interrupted, unless none is done; then no folder stays either. Raises OutputBusy.
    """
    folder, is_new = output.with_name(f".{output.stem}.parts"), not output.parent.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # the system lets go of it when the process ends, however it does
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputBusy(
                "Another process is writing to this output.",
                where=str(output),
                next_step="wait for it, or choose another --output",
            ) from None
        _begin(folder, key)
        parts = Parts(folder)
        try:
            yield parts
        finally:
            if not len(parts):
                parts.discard()
                if is_new:
                    with suppress(OSError):  # somebody else has put something into it
                        output.parent.rmdir()


def _begin(folder: Path, key: str) -> None:
    mark = folder / "key"
    if mark.is_file() and mark.read_text() == key:
        return
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()
    mark.write_text(key)


def to_table(frame: pd.DataFrame) -> pa.Table:
    """Without the notes that pandas adds, which differ from part to part."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def pack_rows(array: np.ndarray) -> pa.Table:
    """An array (n, …) as a table with the bytes of each row."""
    import numpy as np
    import pyarrow as pa

    packed = np.ascontiguousarray(array).reshape(len(array), -1)
    width = packed.nbytes // len(packed) if len(packed) else 0
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(packed), [None, pa.py_buffer(packed)])
    return pa.table({BYTES: rows})


def take_rows(path: Path, choose: Callable[[int], np.ndarray]) -> pa.Table:
    """The rows of a Parquet file that are chosen by their number, ascending; a row group at a time, since the file may
    be larger than memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        chosen, start, pieces = choose(file.metadata.num_rows), 0, []
        for number in range(file.num_row_groups):
            end = start + file.metadata.row_group(number).num_rows
            here = chosen[(chosen >= start) & (chosen < end)] - start
            if len(here):
                pieces.append(file.read_row_group(number).take(pa.array(here)))
            start = end
        return pa.concat_tables(pieces) if pieces else file.schema_arrow.empty_table()


def unpack_rows(table: pa.Table, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """What `pack_rows` has packed: an array (n, *shape)."""
    import numpy as np

    rows = b"".join(table[BYTES].to_pylist())
    return np.frombuffer(rows, dtype).reshape(len(table), *shape)


def write_reasons(path: Path, rows: Iterator[tuple[int | str, str]], header: Sequence[str]) -> int:
    """A CSV of rows, by number or name, and reasons; how many there are."""
    import csv

    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for count, row in enumerate(rows, start=1):  # noqa: B007
            writer.writerow(row)
    return count
