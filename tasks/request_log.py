"""A log of what was asked online: sampled rows with their scores, kept as windows in the store for `monitor`."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from problems.outline.problem import Problem, Stack
from store.artifacts import Store, sha256_of_file
from tasks.champion import LoadedChampion
from tasks.kept_windows import KeptWindow, keep_window
from tasks.manifest import utc_now
from tasks.online import Scored
from tasks.parts import pack_rows, write_reasons
from tasks.row_fields import Row, ids_of, to_content
from tasks.tables import ROW

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

logger = logging.getLogger("modelkeep")

WINDOW_ROWS = 5_000
WINDOW_BYTES = 64 << 20  # of arrays
WINDOW_SECONDS = 900.0
_MOST_WINDOWS_WAITING = 4


@dataclass
class _Window:
    """What one version was asked, up to now: `num_bytes` of arrays, say. `good` are the numbers of the rows that have
    outputs, each (1, …)."""

    champion: LoadedChampion
    begun: float  # time.monotonic()
    rows: list[Row] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    set_aside: list[tuple[int, str]] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, scored: Scored, positions: Sequence[int]) -> None:
        places = {row: place for place, row in enumerate(scored.good.tolist())}
        for position in positions:
            number = len(self.rows)
            row = scored.rows[position]
            self.rows.append(row)
            self.num_bytes += sum(getattr(value, "nbytes", 0) for value in row.values())
            if position in places:
                self.good.append(number)
                self.outputs.append(scored.outputs[places[position], None])
            else:
                self.set_aside.append((number, scored.set_aside[position]))


class RequestLog:
    """Keeps a share of the rows that are scored. A window ends with its version, or with so many rows, bytes, seconds.

    Nobody waits for the store: where it cannot be reached, the oldest windows are given up, and that is said.
    """

    def __init__(
        self,
        store: Store,
        problem: Problem,
        *,
        share: float = 1.0,
        window_rows: int = WINDOW_ROWS,
        window_bytes: int = WINDOW_BYTES,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._store, self._problem, self._share = store, problem, share
        self._window_rows, self._window_bytes, self._window_seconds = window_rows, window_bytes, window_seconds
        self._random = random.Random()
        self._open: _Window | None = None
        self._ready: list[_Window] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"requests of {problem.name}", daemon=True)
        self._thread.start()

    def add(self, scored: Scored) -> None:
        positions = [position for position in range(len(scored.rows)) if self._random.random() < self._share]
        with self._changed:
            if self._open and self._open.champion is not scored.champion:
                self._end_window()
            if positions:
                self._open = self._open or _Window(scored.champion, time.monotonic())
                self._open.add(scored, positions)
                self._changed.notify()
            if self._open and (len(self._open.rows) >= self._window_rows or self._open.num_bytes >= self._window_bytes):
                self._end_window()

    def close(self) -> None:
        """Keep what is left."""
        with self._changed:
            self._stopping = True
            self._end_window()
        self._thread.join()

    def _end_window(self) -> None:
        if self._open:
            self._ready.append(self._open)
            self._open = None
        if len(self._ready) > _MOST_WINDOWS_WAITING:
            logger.warning(
                "serve     %d logged rows of %s are given up", len(self._ready.pop(0).rows), self._problem.name
            )
        self._changed.notify()

    def _work(self) -> None:
        while windows := self._next_windows():
            for window in windows:
                try:
                    kept = keep(self._store, self._problem, window, self._share)
                    logger.info("serve     %d rows of %s kept in %s", len(window.rows), self._problem.name, kept.prefix)
                except Exception as fault:  # answers matter more than their log
                    logger.warning("serve     requests of %s cannot be kept: %s", self._problem.name, fault)

    def _next_windows(self) -> list[_Window]:
        """Windows to keep; none when the work is over."""
        with self._changed:
            while not self._ready and not self._stopping:
                left = self._open.begun + self._window_seconds - time.monotonic() if self._open else None
                if left is not None and left <= 0:
                    self._end_window()
                else:
                    self._changed.wait(left)
            windows, self._ready = self._ready, []
            return windows


def keep(store: Store, problem: Problem, window: _Window, share: float) -> KeptWindow:
    """Put a window into the store, as those that `predict` has scored. `share` is that of the rows that are kept."""
    import pyarrow.parquet as pq

    version = window.champion.version
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as name:
        scores, frame, array = _tables(problem, window)
        files = {part: Path(name, f"{part}.parquet") for part in ("scores", "frame")}
        scores.to_parquet(files["scores"], index=False)
        frame.to_parquet(files["frame"], index=False)
        if array is not None:
            files["array"] = Path(name, "array.parquet")
            pq.write_table(pack_rows(array), files["array"])
        files["rejected"] = Path(name, "rejected.csv")
        num_set_aside = write_reasons(files["rejected"], iter(window.set_aside), (ROW, "reason"))
        told = {"sha256": sha256_of_file(files["frame"]), "size": files["frame"].stat().st_size}
        moment = utc_now()[:19].replace("-", "").replace(":", "")
        return keep_window(
            store,
            files,
            window=f"served-{moment}-{uuid.uuid4().hex[:8]}",
            problem=problem.name,
            input={"name": "requests to modelkeep serve", "share": share, **told},
            version=version.number,
            run=version.run,
            num_scored=len(scores),
            num_set_aside=num_set_aside,
        )


def _tables(problem: Problem, window: _Window) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray | None]:
    """Of the rows that were scored: scores, what was validated and, of arrays whose truth may come, the rows."""
    import numpy as np
    import pandas as pd

    if not window.good:
        return pd.DataFrame({ROW: np.array([], int)}), pd.DataFrame({ROW: np.array([], int)}), None
    form = window.champion.form
    assert form is not None  # else there are no rows to log
    rows = [window.rows[number] for number in window.good]
    content = to_content(form, rows)
    frame = form.inputs(content).frame
    frame.insert(0, ROW, window.good)
    version = window.champion.version
    predictions = window.champion.predictions(np.concatenate(window.outputs))
    ids = {name: pd.Series(values, dtype="str") for name, values in ids_of(form, rows).items()}
    scores = pd.DataFrame({ROW: window.good, **ids}).join(predictions)
    scores = scores.assign(version=version.number, run=pd.Categorical([version.run] * len(scores)))
    scores.attrs = {"problem": problem.name, "version": version.number, "run": version.run}
    return scores, frame, content if isinstance(form, Stack) and form.truth else None
