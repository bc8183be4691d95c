"""Score: what the champion says of a window, a table or pictures, in pieces, so that its size does not matter."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from problems.outline.objectives import Multiclass
from store import open_store
from store.artifacts import Store
from tasks.champion import LoadedChampion, load_champion
from tasks.contact_sheet import MOST_ON_PAGE, Shown, draw_sheet, render_sheet, small_jpeg
from tasks.publish import show_scores
from tasks.score_rows import score_rows
from tasks.training import Pace
from tasks.windows import (
    Batch,
    Outputs,
    SetAside,
    Window,
    WindowInvalid,
    choose_outputs,
    choose_table_outputs,
    is_table,
    open_window,
    read_batches,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from problems.outline.objectives import Objective
    from problems.outline.problem import Problem

logger = logging.getLogger("modelkeep")

TOP = 5
_BATCH = 16
_LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Scored:
    """What `predict` ends with: who scored how many, and the files; `sentence` tells it.

    `page` and `picture` are "" for a table; `window` is where a table's scores are kept in the store.
    """

    problem: str
    version: int
    run: str
    num_scored: int
    num_set_aside: int
    sentence: str
    scores: str
    rejected: str
    page: str = ""
    picture: str = ""
    window: str = ""


@dataclass(frozen=True)
class Scores:
    """A row of answers per picture, the first pictures to be shown, and what was set aside."""

    table: pd.DataFrame
    shown: list[Shown]
    set_aside: list[SetAside]


@task(name="score", cache_policy=NO_CACHE, task_run_name="score {problem}")
def score(problem: str, window: str, output: str, store: str) -> Scored:
    """Score every row of a table or picture of a folder; the files appear when all is done, and whole.

    Raises NoChampion, WindowInvalid, OutputInvalid, ArtifactCorrupt, and what `score_rows` raises.
    """
    found = load_problem(problem)
    scored = _score_table if is_table(found, window) else _score_folder
    told = scored(found, window, output, open_store(store))
    logger.info("score     %s", told.sentence)
    show_scores(asdict(told))
    return told


def _score_table(problem: Problem, window: str, output: str, store: Store) -> Scored:
    outputs = choose_table_outputs(output, window)
    kept = score_rows(problem, window, outputs, store)
    return Scored(
        problem.name,
        kept.version,
        kept.run,
        kept.num_scored,
        kept.num_set_aside,
        _sentence(problem.name, kept.version, kept.num_scored, kept.num_set_aside, ("row", "row")),
        str(outputs.scores),
        str(outputs.rejected),
        window=f"{store.uri}/{kept.prefix}",
    )


def _score_folder(problem: Problem, window: str, output: str, store: Store) -> Scored:
    pictures = open_window(problem, window)
    outputs = choose_outputs(output, pictures)
    champion = load_champion(problem, store)
    scores = score_pictures(champion, problem, pictures)
    scored = _describe(problem.name, champion, scores, outputs)
    _write(scores, scored, outputs)
    return scored


def score_pictures(champion: LoadedChampion, problem: Problem, window: Window) -> Scores:
    """Raises WindowInvalid where no picture could be read."""
    import pandas as pd

    tables: list[pd.DataFrame] = []
    shown: list[Shown] = []
    set_aside = list(window.set_aside)
    pace = Pace(_LINE_SECONDS)
    for number, batch in enumerate(read_batches(problem, window, _BATCH)):
        set_aside += batch.set_aside
        if batch.files:
            answers = answer(champion.objective, champion.ask(batch.examples, _BATCH))
            answers.insert(0, "file", pd.Series(batch.files, dtype="str"))
            tables.append(answers)
            shown += _show(batch, answers, MOST_ON_PAGE - len(shown))
        if pace.is_due():
            logger.info("score     %d of %d pictures", min((number + 1) * _BATCH, len(window.files)), len(window.files))
    if not tables:
        raise WindowInvalid(
            "None of the pictures can be read.",
            where=str(window.root),
            received="; ".join(f"{one.file}: {one.reason}" for one in set_aside[:5]),
            next_step="get the files again",
        )
    return Scores(pd.concat(tables, ignore_index=True), shown, sorted(set_aside, key=lambda one: one.file))


def answer(objective: Objective, outputs: np.ndarray) -> pd.DataFrame:
    """The model's outputs (n, …) as columns. Of several classes the likeliest five: label_1, probability_1 (float32), …

    Raises PredictionsInvalid.
    """
    import numpy as np
    import pandas as pd

    predictions = objective.predictions(outputs)
    if not isinstance(objective, Multiclass):
        return predictions
    probabilities = predictions.drop(columns="predicted").to_numpy(np.float32)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    names = pd.Index(objective.classes)
    columns: dict[str, object] = {}
    for place, numbers in enumerate(best.T, start=1):
        columns[f"label_{place}"] = pd.Categorical.from_codes(numbers, categories=names)
        columns[f"probability_{place}"] = probabilities[np.arange(len(numbers)), numbers]
    return pd.DataFrame(columns)


def _show(batch: Batch, answers: pd.DataFrame, room: int) -> list[Shown]:
    """As many of the batch's pictures as there is room for."""
    first = zip(batch.files[:room], batch.examples[:room], _told(answers.head(room)), strict=True)
    return [Shown(file, small_jpeg(image), told) for file, image, told in first]


def _told(answers: pd.DataFrame) -> list[list[tuple[str, float]]]:
    """The labels of each row with their probabilities, the likeliest first."""
    names = [name for name in answers if str(name).startswith(("label", "predicted"))]
    shares = [name for name in answers if str(name).startswith("probability")]
    rows = zip(answers[names].to_numpy(object), answers[shares].to_numpy(float), strict=True)
    return [[(str(label), float(share)) for label, share in zip(*row, strict=True)] for row in rows]


def _describe(problem: str, champion: LoadedChampion, scores: Scores, outputs: Outputs) -> Scored:
    version, num_scored, num_aside = champion.version, len(scores.table), len(scores.set_aside)
    sentence = _sentence(problem, version.number, num_scored, num_aside, ("picture", "file"))
    places = (str(path) for path in (outputs.scores, outputs.rejected, outputs.page, outputs.picture))
    return Scored(problem, version.number, version.run, num_scored, num_aside, sentence, *places)


def _sentence(problem: str, version: int, num_scored: int, num_aside: int, nouns: tuple[str, str]) -> str:
    """`nouns`: one of what is scored, and one of what is set aside."""
    scored, aside = nouns
    begin = f"1 {scored} was" if num_scored == 1 else f"{num_scored:,} {scored}s were"
    end = "nothing was" if not num_aside else f"1 {aside} was" if num_aside == 1 else f"{num_aside:,} {aside}s were"
    return f"{begin} scored by {problem} version {version}, and {end} set aside."


def _write(scores: Scores, scored: Scored, outputs: Outputs) -> None:
    """All files, first in a folder beside their places. Who scored is in the table's `attrs`."""
    table = scores.table.copy(deep=False)
    table.attrs = {"problem": scored.problem, "version": scored.version, "run": scored.run}
    outputs.scores.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=outputs.scores.parent) as folder:
        partial = Path(folder)
        table.to_parquet(partial / outputs.scores.name, index=False)
        _set_aside_table(scores.set_aside).to_csv(partial / outputs.rejected.name, index=False)
        title = read_card(scored.problem)["title"]
        page = render_sheet(title, scored.sentence, scores.shown, scored.num_scored, scores.set_aside)
        (partial / outputs.page.name).write_text(page, encoding="utf-8")
        (partial / outputs.picture.name).write_bytes(draw_sheet(scores.shown))
        for path in (outputs.scores, outputs.rejected, outputs.page, outputs.picture):
            (partial / path.name).replace(path)


def _set_aside_table(set_aside: Sequence[SetAside]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(one) for one in set_aside], columns=["file", "reason"])
