"""Score rows: what the champion says of each row of a table, chunk by chunk, so that a file may be larger than memory.

A chunk is read, held against the rules of the training data, scored and put down before the next is read. Work that
was interrupted goes on after the last chunk that was put down, and ends with the same tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.addresses import without_secrets
from problems.outline.problem import Inputs, Problem, Rows, Stack
from store.artifacts import Store
from store.registry import Version
from tasks.champion import LoadedChampion, compiled, find_champion, load_champion, predict_in_batches
from tasks.code_digest import code_digest
from tasks.ingest import fetch_window, file_digest
from tasks.kept_windows import KeptWindow, find_window, keep_window
from tasks.parts import Parts, open_parts, to_table, write_reasons
from tasks.tables import ROW, Chunk, read_chunks
from tasks.training import Pace
from tasks.windows import Outputs, WindowInvalid

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

logger = logging.getLogger("modelkeep")

CHUNK_ROWS = 65_536
CHUNK_BYTES = 64 << 20  # of an array
_BATCH = 4096
_BATCH_BYTES = 256 << 10  # of inputs; what layers make of pictures is a hundred times as much
_LINE_SECONDS = 10.0


def score_rows(problem: Problem, place: str, outputs: Outputs, store: Store) -> KeptWindow:
    """Score each row of a file; scores and what was set aside appear when all is done, and whole.

    The same file is not scored twice by the same version: what was kept in the store is handed out again.
    Raises NoChampion, SourceUnavailable, BadInput, WindowInvalid, OutputBusy, ArtifactCorrupt.
    """
    version = find_champion(store, problem.name)
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = fetch_window(place, Path(folder))
        told: dict[str, Any] = {
            "name": Path(without_secrets(place)).name,
            "sha256": file_digest(path),
            "size": path.stat().st_size,
        }
        key = _key(problem, version, told["sha256"])
        kept = find_window(store, problem.name, key[:16])
        if kept:
            logger.info("score     the store has the scores of this window already")
        else:
            with open_parts(outputs.scores, key) as parts:
                champion = load_champion(problem, store)
                _score_chunks(_Scorer(problem, champion), path, parts)
                kept = _keep(problem, store, champion, parts, window=key[:16], told=told, place=outputs)
                parts.discard()
    _hand_out(store, kept, outputs)
    return kept


def _key(problem: Problem, version: Version, digest: str) -> str:
    """Of all that scores depend on."""
    code = code_digest("tasks.score_rows", f"problems.{problem.name}")
    said = [digest, version.manifest.sha256, code, CHUNK_ROWS, CHUNK_BYTES]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def chunk_rows(form: Rows | Stack) -> int:
    """How many rows are read at a time."""
    import numpy as np

    if isinstance(form, Rows):
        return CHUNK_ROWS
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // (math.prod(form.shape) * np.dtype(form.dtype).itemsize)))


def batch_size(features: Mapping[str, Any]) -> int:
    """How many rows the model is asked about at a time: fewer of large ones, whose layers take much memory."""
    bytes_of_one = sum(array[:1].nbytes for array in features.values())
    return max(1, min(_BATCH, _BATCH_BYTES // max(1, bytes_of_one)))


def _score_chunks(scorer: _Scorer, path: Path, parts: Parts) -> None:
    """Raises WindowInvalid where no row can be scored."""
    pace, num_done = Pace(_LINE_SECONDS), len(parts)
    if num_done:
        logger.info("score     goes on after %d parts, %d rows", num_done, parts.num_rows())
    for chunk in read_chunks(path, scorer.form, chunk_rows(scorer.form), skip=num_done):
        scored = scorer.score(chunk)
        parts.add({"scores": to_table(scored.scores), "frame": to_table(scored.frame)}, scored.set_aside)
        if pace.is_due():
            logger.info("score     %d rows", parts.num_rows())
    if parts.num_rows() == 0:
        reasons = [f"row {row}: {reason}" for row, reason in islice(parts.set_aside(), 3)]
        parts.discard()
        raise WindowInvalid(
            "None of the rows can be scored.",
            where=str(path),
            expected="rows that keep the rules of the training data",
            received="; ".join(reasons) or "no rows",
            next_step="mend the rows, or find out what changed at their source",
        )


@dataclass(frozen=True)
class _ScoredChunk:
    scores: pd.DataFrame
    frame: pd.DataFrame
    set_aside: Mapping[int, str]


class _Scorer:
    """The champion with all that is the same for every chunk."""

    def __init__(self, problem: Problem, champion: LoadedChampion) -> None:
        assert problem.rows is not None  # `is_table` saw to it
        self.form = problem.rows
        self._champion = champion
        self._expectations = problem.expectations()
        self._rules: list[Expectation] | None = None
        self._call = compiled(champion.model)

    def score(self, chunk: Chunk) -> _ScoredChunk:
        import pandas as pd

        if not len(chunk.rows):
            return _ScoredChunk(pd.DataFrame(), pd.DataFrame(), chunk.faults)
        inputs = self.form.inputs(chunk.content)
        offending = self._find_offending(inputs.frame)
        set_aside = dict(chunk.faults) | {int(chunk.rows[place]): reason for place, reason in offending.items()}
        good = _all_but(len(chunk.rows), offending)
        frame = inputs.frame.iloc[good].reset_index(drop=True)
        frame.insert(0, ROW, chunk.rows[good])
        scores = self._ask(inputs, good, frame) if len(good) else frame.iloc[:0]
        return _ScoredChunk(scores, frame, dict(sorted(set_aside.items())))

    def _find_offending(self, frame: pd.DataFrame) -> dict[int, str]:
        from validation.rows import find_offending_rows, rules_of_one_row

        if self._rules is None:
            self._rules = rules_of_one_row(self._expectations, [str(column) for column in frame])
        return find_offending_rows(frame, self._rules)

    def _ask(self, inputs: Inputs, good: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """Row number, ids, what the champion says, and which version it is."""
        import pandas as pd

        champion = self._champion
        features = {name: inputs.features[name][good] for name in champion.model.input}
        outputs = predict_in_batches(self._call, features, batch_size(features))
        predictions = champion.predictions(outputs)
        ids = [name for name in getattr(self.form, "ids", ()) if name in frame]
        run = pd.Categorical([champion.version.run] * len(frame))
        table = frame[[ROW, *ids]].join(predictions)
        return table.assign(version=champion.version.number, run=run)


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
    told: Mapping[str, Any],
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
        files = {"scores": Path(name, "scores.parquet"), "frame": Path(name, "frame.parquet")}
        parts.join("scores", files["scores"], metadata)
        parts.join("frame", files["frame"], {})
        files["rejected"] = Path(name, "rejected.csv")
        num_set_aside = write_reasons(files["rejected"], parts.set_aside(), (ROW, "reason"))
        return keep_window(
            store,
            files,
            window=window,
            problem=problem.name,
            input=dict(told),
            version=version.number,
            run=version.run,
            num_scored=parts.num_rows(),
            num_set_aside=num_set_aside,
        )


def _hand_out(store: Store, kept: KeptWindow, outputs: Outputs) -> None:
    """Both files, each first under another name beside its place."""
    outputs.scores.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=outputs.scores.parent) as folder:
        for name, path in (("scores", outputs.scores), ("rejected", outputs.rejected)):
            copy = Path(folder, path.name)
            shutil.copyfile(store.local_path(kept.artifacts[name]), copy)
            copy.replace(path)
