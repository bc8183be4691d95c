"""Score rows: what the champion says of each row of a table or picture of a folder, chunk by chunk, so that a window
may be larger than memory.

A chunk is held against the rules of the training data and scored while the next is read and the one before is put down.
Work that was interrupted goes on after the last chunk that was put down, and ends with the same tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.addresses import without_secrets
from problems.outline.problem import Inputs, Problem, Rows, Stack
from problems.outline.ragged import Ragged
from store.artifacts import Store
from store.registry import Version
from tasks.beside import ahead, behind
from tasks.champion import LoadedChampion, find_champion, load_champion
from tasks.code_digest import code_digest
from tasks.inference import predict_in_batches
from tasks.ingest import fetch_window, file_digest
from tasks.kept_windows import KeptWindow, find_window, keep_window, note_last
from tasks.parts import Parts, open_parts, pack_rows, to_table, write_reasons
from tasks.tables import ROW, Chunk, read_chunks
from tasks.training import Pace
from tasks.windows import (
    Outputs,
    SetAside,
    WindowInvalid,
    is_table,
    open_window,
    read_pictures,
    readable,
    window_digest,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from great_expectations.expectations import Expectation

logger = logging.getLogger("modelkeep")

FILE = "file"
CHUNK_ROWS = 65_536
SERIES_ROWS = 1_000_000
CHUNK_BYTES = 64 << 20  # of an array
_BATCH, _LEAST_BATCH = 4096, 8
_BATCH_BYTES = 256 << 10  # of inputs; what layers make of pictures is a hundred times as much
_LINE_SECONDS = 10.0


def score_rows(problem: Problem, place: str, outputs: Outputs, store: Store) -> KeptWindow:
    """Score each row of a file, or picture of a folder, and keep the window; what is done meanwhile lies beside the
    output.

    The same window is not scored twice by the same version: what was kept in the store is found again.
    Raises NoChampion, SourceUnavailable, BadInput, WindowInvalid, OutputBusy, ArtifactCorrupt.
    """
    version = find_champion(store, problem.name)
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        source = _open(problem, place, Path(folder))
        key = _key(problem, version, source.told["sha256"])
        kept = find_window(store, problem.name, key[:16])
        if kept:
            logger.info("score     the store has the scores of this window already")
            note_last(store, kept)
        else:
            with open_parts(outputs.scores, key) as parts:
                champion = load_champion(problem, store)
                _score_chunks(_Scorer(problem, champion, source.names), source, parts)
                kept = _keep(problem, store, champion, parts, window=key[:16], source=source, place=outputs)
                parts.discard()
    return kept


@dataclass(frozen=True)
class _Source:
    """What is scored: `told` of it are name, SHA-256 and size; `chunks` leaves some out at the beginning. Of pictures
    also the names of the files, and what is none."""

    place: str
    told: Mapping[str, Any]
    chunks: Callable[[int], Iterator[Chunk]]
    names: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()

    def reasons(self, of_rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int | str, str]]:
        """By row; or by name, in the order of names."""
        if not self.names:
            return iter(of_rows)
        by_name = [(self.names[row], reason) for row, reason in of_rows]
        return iter(sorted([*by_name, *((one.file, one.reason) for one in self.set_aside)]))


def _open(problem: Problem, place: str, folder: Path) -> _Source:
    """A copy of a file at an address lies in `folder`."""
    assert problem.rows is not None  # `plan_outputs` saw to it
    form, size = problem.rows, chunk_rows(problem.rows)
    if is_table(problem, place):
        path = fetch_window(place, folder)
        told = {"name": Path(without_secrets(place)).name, "sha256": file_digest(path), "size": path.stat().st_size}
        return _Source(str(path), told, lambda skip: read_chunks(path, form, size, skip=skip))
    assert isinstance(form, Stack)
    window = open_window(problem, place)
    told = {"name": Path(place).resolve().name, "sha256": window_digest(window), "size": len(window.files)}
    names = tuple(readable(Path(name).as_posix()) for name in window.files)
    return _Source(place, told, lambda skip: read_pictures(window, form, size, skip=skip), names, window.set_aside)


def _key(problem: Problem, version: Version, digest: str) -> str:
    """Of all that scores depend on."""
    code = code_digest("tasks.score_rows", f"problems.{problem.name}")
    said = [digest, version.manifest.sha256, code, CHUNK_ROWS, CHUNK_BYTES]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def chunk_rows(form: Rows | Stack) -> int:
    """How many rows are read at a time."""
    import numpy as np

    if isinstance(form, Rows):
        return SERIES_ROWS if form.is_series else CHUNK_ROWS
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // (math.prod(form.shape) * np.dtype(form.dtype).itemsize)))


def batch_size(features: Mapping[str, Any]) -> int:
    """How many rows the model is asked about at a time: fewer of large ones, whose layers take much memory."""
    bytes_of_one = sum(array[:1].nbytes for array in features.values())
    return max(_LEAST_BATCH, min(_BATCH, _BATCH_BYTES // max(1, bytes_of_one)))


def _score_chunks(scorer: _Scorer, source: _Source, parts: Parts) -> None:
    """Raises WindowInvalid where no row can be scored."""
    pace, num_done = Pace(_LINE_SECONDS), len(parts)
    if num_done:
        logger.info("score     goes on after %d parts, %d rows", num_done, parts.num_rows())
    is_series, is_long = isinstance(scorer.form, Rows) and scorer.form.is_series, False
    with ahead(source.chunks(num_done)) as chunks, behind() as put_down:
        for chunk in chunks:
            is_long = is_series and chunk.number > 0 and len(chunk.rows) > 0
            if is_long:
                break
            scored = scorer.score(chunk)
            put_down(partial(parts.add, scored.tables, scored.set_aside))
            if pace.is_due():
                logger.info("score     %d rows", parts.num_rows())
    if is_long:
        parts.discard()
        raise WindowInvalid(
            "The window is too long for a series, which is taken whole.",
            where=source.place,
            expected=f"{SERIES_ROWS:,} rows at most",
            next_step="leave out the oldest rows",
        )
    if parts.num_rows() == 0:
        of, word = ("pictures", "") if source.names else ("rows", "row ")
        reasons = [f"{word}{row}: {reason}" for row, reason in islice(source.reasons(parts.set_aside()), 3)]
        parts.discard()
        raise WindowInvalid(
            f"None of the {of} can be scored.",
            where=source.place,
            expected="rows that keep the rules of the training data",
            received="; ".join(reasons) or "no rows",
            next_step="mend the rows, or find out what changed at their source",
        )


@dataclass(frozen=True)
class _ScoredChunk:
    """`tables` are the scores, the frame and, of arrays whose truth may come, the rows themselves."""

    tables: Mapping[str, pa.Table]
    set_aside: Mapping[int, str]


class _Scorer:
    """The champion with all that is the same for every chunk. `names` are those of files, where rows are pictures."""

    def __init__(self, problem: Problem, champion: LoadedChampion, names: tuple[str, ...]) -> None:
        assert champion.form is not None  # `plan_outputs` saw to it
        self.form, self._names = champion.form, names
        self._champion = champion
        self._expectations = problem.expectations()
        self._rules: list[Expectation] | None = None
        self._engine = champion.bulk_engine
        logger.info("score     %s version %d by %s", problem.name, champion.version.number, self._engine.name)

    def score(self, chunk: Chunk) -> _ScoredChunk:
        if not len(chunk.rows):
            return _ScoredChunk({}, chunk.faults)
        inputs = self.form.inputs(chunk.content)
        offending = self._find_offending(inputs.frame)
        set_aside = dict(chunk.faults) | {int(chunk.rows[place]): reason for place, reason in offending.items()}
        good = _all_but(len(chunk.rows), offending)
        frame = _taken(inputs.frame, good).reset_index(drop=True)
        frame.insert(0, ROW, chunk.rows[good])
        scores = self._ask(inputs, good, frame) if len(good) else frame.iloc[:0]
        tables = {"scores": to_table(scores), "frame": to_table(frame)}
        if isinstance(self.form, Stack) and self.form.truth:
            tables["array"] = pack_rows(_taken(chunk.content, good))
        return _ScoredChunk(tables, dict(sorted(set_aside.items())))

    def _find_offending(self, frame: pd.DataFrame) -> dict[int, str]:
        from validation.rows import find_offending_rows, rules_of_one_row

        if self._rules is None:
            self._rules = rules_of_one_row(self._expectations, [str(column) for column in frame])
        return find_offending_rows(frame, self._rules)

    def _ask(self, inputs: Inputs, good: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """Row number, file or ids, what the champion says, and which version it is."""
        import numpy as np
        import pandas as pd

        champion = self._champion
        features = {name: _taken(inputs.features[name], good) for name in self._engine.inputs}
        outputs = predict_in_batches(self._engine, features, batch_size(features))
        predictions = champion.predictions(outputs)
        wanted = (*self.form.ids, *self.form.shown) if isinstance(self.form, Rows) else ()
        ids = [name for name in wanted if name in frame]
        run = pd.Categorical.from_codes(np.zeros(len(frame), np.int8), pd.Index([champion.version.run]))
        table = pd.concat([frame[[ROW, *ids]], predictions], axis=1)
        if self._names:
            table.insert(1, FILE, pd.Series([self._names[row] for row in frame[ROW]], dtype="str"))
        return table.assign(version=champion.version.number, run=run)


def _taken(of_all: Any, rows: np.ndarray) -> Any:
    """These rows of an array or a frame, ascending; itself where these are all. What is ragged stays so: a chunk of it
    would be large."""
    import pandas as pd

    if len(rows) == len(of_all):
        return of_all
    if isinstance(of_all, Ragged):
        return of_all.take(rows)
    return of_all.iloc[rows] if isinstance(of_all, pd.DataFrame) else of_all[rows]


def _all_but(count: int, positions: Mapping[int, str]) -> np.ndarray:
    import numpy as np

    return np.delete(np.arange(count), list(positions))


def _keep(
    problem: Problem,
    store: Store,
    champion: LoadedChampion,
    parts: Parts,
    *,
    window: str,
    source: _Source,
    place: Outputs,
) -> KeptWindow:
    version = champion.version
    attrs = {"problem": problem.name, "version": version.number, "run": version.run}
    metadata = {"PANDAS_ATTRS": json.dumps(attrs)}  # pandas reads them into `attrs`
    if champion.interval:
        metadata["interval"] = json.dumps({key: champion.interval[key] for key in ("level", "reach", "rows", "source")})
    if champion.temperature:
        metadata["temperature"] = json.dumps(champion.temperature)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=place.scores.parent) as name:
        files = {kind: Path(name, f"{kind}.parquet") for kind in parts.names()}
        with ThreadPoolExecutor() as pool:
            told = [metadata if kind == "scores" else {} for kind in files]
            list(pool.map(parts.join, files, files.values(), told))
        files["rejected"] = Path(name, "rejected.csv")
        header = (FILE if source.names else ROW, "reason")
        write_reasons(files["rejected"], source.reasons(parts.set_aside()), header)
        return keep_window(
            store,
            files,
            window=window,
            problem=problem.name,
            input=dict(source.told),
            version=version.number,
            run=version.run,
            num_scored=parts.num_rows(),
            num_set_aside=sum(1 for _ in parts.set_aside()),  # what was never a picture makes no window worse
        )


def hand_out(store: Store, kept: KeptWindow, outputs: Outputs) -> None:
    """The scores and what was set aside, each first under another name beside its place."""
    outputs.scores.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=outputs.scores.parent) as folder:
        for name, path in (("scores", outputs.scores), ("rejected", outputs.rejected)):
            copy = Path(folder, path.name)
            shutil.copyfile(store.local_path(kept.artifacts[name]), copy)
            copy.replace(path)
