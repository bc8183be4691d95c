"""Simulate: the past once more, period by period, with a champion that is kept alive and one that is left alone.

It happens in a store of its own, so that the real registry, windows and webhook know nothing of it. A model is trained
on what had come by then, and both champions forecast the same rows.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.problem import Examples, Problem
from store.artifacts import Store
from store.registry import Version
from store.steps import StepRecord
from tasks.champion import load_champion
from tasks.examples import load_examples
from tasks.inference import predict_in_batches
from tasks.kept_windows import KeptWindow, keep_window
from tasks.monitor import check_window, judge, measure_window
from tasks.recent import time_column
from tasks.score_rows import batch_size
from tasks.tables import ROW
from tasks.verdicts import Verdict, read_verdicts, record_verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.metrics import Metric

logger = logging.getLogger("modelkeep")

KNOWN_SHARE = 1 / 3  # of the moments come before the first period, where no start is given
COOLDOWN_PERIODS = 4
_DAILY = 3.5  # days between two moments, at most


@dataclass(frozen=True)
class Period:
    """A week of what comes daily, a year of what comes more slowly, or a window; `rows` are its places among the
    examples."""

    name: str
    rows: np.ndarray


@dataclass
class World(ABC):
    """What there is to live through, and what has happened so far.

    `examples`     in the order in which they come; each of the `periods` is called a `unit`
    `forecasts`    of `kept`, `left` and `baseline`: the objective's columns, one row per example. Those of `kept` are
                   of the champion of the time
    `across`       what a chart has from left to right, "" for the calendar
    `champion`     the version that is kept alive, since period `since`
    `told`         what there is to tell of each period, and `retrainings` of each of these
    """

    problem: Problem
    examples: Examples
    unit: str
    periods: list[Period]
    forecasts: dict[str, pd.DataFrame] = field(default_factory=dict)
    champion: Version | None = None
    since: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    retrainings: list[dict[str, Any]] = field(default_factory=list)
    across: str = field(default="", kw_only=True)

    @property
    def metric(self) -> Metric:
        return self.problem.objective.metric(self.problem.objective.main_metric)

    @abstractmethod
    def begin(self, number: int) -> Any:
        """Where a chart has the beginning of period `number`."""

    @abstractmethod
    def known(self, number: int) -> dict[str, str]:
        """What had come when period `number` began: `until` or `data` of a Run."""

    @abstractmethod
    def span(self) -> tuple[str, str]:
        """Where all of this begins and ends, in words."""

    def lived(self, end: int, begin: int = 0) -> np.ndarray:
        """The places of all rows of the periods from `begin` on, up to but without `end`."""
        import numpy as np

        return np.concatenate([period.rows for period in self.periods[begin:end]])

    def measure(self, contender: str, rows: np.ndarray) -> float | None:
        """The main metric of what was forecast of these rows; None where it is undefined."""
        import numpy as np

        value = float(self.metric.compute(self.examples.target[rows], self.forecasts[contender].iloc[rows], None)[0])
        return value if np.isfinite(value) else None


@dataclass
class Calendar(World):
    """The days or months that have been.

    `moments`  (m,) all that there are
    `gap`      how many of them before a period are not learnt from, as forecasts are made that far ahead
    """

    moments: np.ndarray = field(kw_only=True)
    gap: int = field(kw_only=True)

    def begin(self, number: int) -> Any:
        """Its first moment."""
        return self.examples.frame[time_column(self.problem)].iloc[self.periods[number].rows[0]]

    def known(self, number: int) -> dict[str, str]:
        place = int(self.moments.searchsorted(self.begin(number).to_datetime64()))
        return {"until": day(self.moments[place - 1 - self.gap])}

    def span(self) -> tuple[str, str]:
        return day(self.begin(0)), day(self.moments[-1])


def day(moment: Any) -> str:
    return str(moment)[:10]


# --- the beginning -------------------------------------------------------------------------------------------------


def lend_sources(problem: Problem, owner: Store, store: Store) -> None:
    """The raw files that one store has, for another one."""
    for source in problem.sources:
        key = f"sources/{source.sha256}/{source.file_name}"
        if ref := owner.find(key, kind="raw"):
            store.put_file(key, owner.local_path(ref), kind="raw")


def open_calendar(problem: Problem, store: Store, ingested: StepRecord, start: str) -> Calendar:
    """`start` (ISO 8601): when the first period may begin, "" for after a third of the moments. Raises
    ModelkeepError."""
    import numpy as np

    examples = load_examples(store, ingested)
    column = time_column(problem)
    examples = examples.take(np.argsort(examples.frame[column].to_numpy(), kind="stable"))
    moments, gap = np.unique(examples.frame[column].to_numpy()), int(getattr(problem.split, "gap", 0))
    first = _parse(start) if start else moments[int(len(moments) * KNOWN_SHARE)]
    unit = "week" if np.median(np.diff(moments)) < np.timedelta64(int(24 * _DAILY), "h") else "year"
    periods = list(_periods(examples.frame[column], unit, first))
    world = Calendar(problem, examples, unit, periods, moments=moments, gap=gap)
    if not world.periods or moments.searchsorted(world.begin(0).to_datetime64()) <= gap:
        raise ModelkeepError(
            "There is nothing to live through, or nothing is known before it.",
            expected=f"a start between {day(moments[gap + 1])} and {day(moments[-1])}",
            received=start,
            next_step="choose another --start",
        )
    return world


def _periods(times: pd.Series, unit: str, first: Any) -> Iterator[Period]:
    import numpy as np

    named = times.dt.to_period({"week": "W", "year": "Y"}[unit])
    for one in named.unique():
        if one.start_time >= first:
            name = day(one.start_time) if unit == "week" else str(one.year)
            yield Period(name, np.flatnonzero(named == one))


def _parse(start: str) -> Any:
    import pandas as pd

    try:
        return pd.Timestamp(start)
    except ValueError:
        raise ModelkeepError("The start cannot be read.", expected="such as 2015-07-01", received=start) from None


# --- a period ------------------------------------------------------------------------------------------------------


def follow_champion(world: World, number: int, store: Store) -> None:
    """From period `number` on, forecasts are those of the champion of now; the first one is also left alone."""
    import numpy as np

    loaded = load_champion(world.problem, store)
    features = {name: np.asarray(world.examples.features[name]) for name in loaded.bulk_engine.inputs}
    outputs = predict_in_batches(loaded.bulk_engine, features, batch_size(features))
    said = loaded.objective.predictions(outputs)
    if not world.forecasts:
        baseline = world.problem.objective.baseline(world.examples.target, world.examples.frame)
        world.forecasts = {"kept": said.copy(), "left": said, "baseline": baseline}
    rows = world.lived(len(world.periods), number)
    world.forecasts["kept"].iloc[rows] = said.iloc[rows]
    world.champion, world.since = loaded.version, number


def live_through(world: World, number: int, store: Store) -> Verdict:
    """What was forecast of period `number`, what came, and what `monitor` says of the champion that is kept alive.

    It is watched on the rows since it became champion, of which the newest are taken: so many as a window needs.
    """
    assert world.champion
    period = world.periods[number]
    rows = world.lived(number + 1, world.since)[-world.problem.drift.least_rows :]
    with _hushed():
        verdict = _monitor(world, rows, number, store)
    values = {name: world.measure(name, period.rows) for name in world.forecasts}
    facts = {"period": period.name, "num_rows": len(period.rows), "version": world.champion.number}
    world.told.append({**facts, **values, "level": verdict.level, "retrain": verdict.retrain})
    return verdict


def _monitor(world: World, rows: np.ndarray, number: int, store: Store) -> Verdict:
    """As the flow `monitor` does it, without page and event."""
    import pandas as pd

    with TemporaryDirectory(prefix="modelkeep-") as folder:
        window, labels = _keep(world, rows, number, store, Path(folder)), Path(folder, "labels.parquet")
        pd.DataFrame({ROW: rows, "target": world.examples.target[rows]}).to_parquet(labels)
        checks = check_window.fn(window, store.uri)
        found = measure_window.fn(window, str(labels), store.uri) if checks["success"] else None
    verdict = judge(world.problem, window, checks, found, read_verdicts(store, world.problem.name), True)
    record_verdict(store, world.problem.name, verdict)
    return verdict


def _keep(world: World, rows: np.ndarray, number: int, store: Store, folder: Path) -> KeptWindow:
    """The rows as a window that `predict` has scored and kept."""
    assert world.champion
    name = f"{world.unit}-{number:04d}"
    tables = {"scores": world.forecasts["kept"], "frame": world.examples.frame}
    files = {part: folder / f"{part}.parquet" for part in tables}
    for part, table in tables.items():
        table.iloc[rows].assign(**{ROW: rows}).to_parquet(files[part], index=False)
    return keep_window(
        store,
        files,
        window=name,
        problem=world.problem.name,
        input={"name": name, "sha256": name},
        version=world.champion.number,
        run=world.champion.run,
        num_scored=len(rows),
        num_set_aside=0,
    )


@contextmanager
def _hushed() -> Iterator[None]:
    """There are hundreds of windows, and what is found of each is in the page."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def choose_cause(world: World, verdict: Verdict, number: int, every: int) -> str:
    """Why to retrain after period `number`, "" for not: the schedule (each so many periods, 0 for none) or what
    `monitor` says, that one at least four periods after the last retraining."""
    if number + 1 == len(world.periods):
        return ""
    waited = number - max((one["after"] for one in world.retrainings), default=-1)
    if every and waited >= every:
        return f"the schedule, each {world.unit}" if every == 1 else f"the schedule, each {every} {world.unit}s"
    return verdict.retrain if waited >= COOLDOWN_PERIODS or not world.retrainings else ""
