"""Score: what the champion says of a window, a table or pictures, in pieces, so that its size does not matter."""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from problems.outline.objectives import Multiclass
from problems.outline.problem import Stack
from problems.outline.raw import BadInput
from store import open_store
from store.artifacts import Store
from tasks.champion import find_objective
from tasks.contact_sheet import MOST_ON_PAGE, Shown, draw_sheet, render_sheet, small_jpeg
from tasks.kept_windows import KeptWindow
from tasks.parts import write_reasons
from tasks.publish import show_scores
from tasks.score_rows import FILE, hand_out, score_rows
from tasks.tables import ROW
from tasks.windows import (
    SetAside,
    Window,
    choose_outputs,
    choose_table_outputs,
    is_table,
    open_window,
    read_picture,
)

if TYPE_CHECKING:
    import pandas as pd

    from problems.outline.objectives import Objective
    from problems.outline.problem import Problem

logger = logging.getLogger("modelkeep")

TOP = 5
_PIECE = 4096


@dataclass(frozen=True)
class Scored:
    """What `predict` ends with: who scored how many, and the files; `sentence` tells it.

    `page` and `picture` are "" for a table; `window` is where the scores are kept in the store.
    """

    problem: str
    version: int
    run: str
    num_scored: int
    num_set_aside: int
    sentence: str
    scores: str
    rejected: str
    window: str
    page: str = ""
    picture: str = ""


@task(name="score", cache_policy=NO_CACHE, task_run_name="score {problem}")
def score(problem: str, window: str, output: str, store: str) -> Scored:
    """Score every row of a table or picture of a folder; the files appear when all is done, and whole.

    Raises NoChampion, WindowInvalid, OutputInvalid, ArtifactCorrupt, and what `score_rows` raises.
    """
    found = load_problem(problem)
    scored = _score_table if is_table(found, window) else _score_folder
    told = scored(found, window, output, open_store(store))
    logger.info("score     %s", told.sentence, extra={"is_answer": True})
    show_scores(asdict(told))
    return told


def _score_table(problem: Problem, window: str, output: str, store: Store) -> Scored:
    outputs = choose_table_outputs(output, window)
    kept = score_rows(problem, window, outputs, store)
    hand_out(store, kept, outputs)
    return _describe(store, kept, kept.num_set_aside, ("row", "row"), outputs.scores, outputs.rejected)


def _score_folder(problem: Problem, window: str, output: str, store: Store) -> Scored:
    pictures = open_window(problem, window)
    outputs = choose_outputs(output, pictures)
    kept = score_rows(problem, window, outputs, store)
    places = (outputs.scores, outputs.rejected, outputs.page, outputs.picture)
    aside = _read_set_aside(store.local_path(kept.artifacts["rejected"]))
    scored = _describe(store, kept, len(aside), ("picture", "file"), *places)
    _write(_likeliest(problem, store, kept), pictures, problem, aside, scored)
    return scored


def _read_set_aside(path: Path) -> list[SetAside]:
    import pandas as pd

    return [SetAside(*row) for row in pd.read_csv(path, dtype="str", na_filter=False).itertuples(index=False)]


def _likeliest(problem: Problem, store: Store, kept: KeptWindow) -> pd.DataFrame:
    """Row, file, what `answer` makes of the predictions, version and run; a piece at a time, as the predictions of many
    classes are large."""
    import pandas as pd
    import pyarrow.parquet as pq

    objective = find_objective(problem, store, kept.run)
    with pq.ParquetFile(store.local_path(kept.artifacts["scores"])) as file:
        pieces = [batch.to_pandas() for batch in file.iter_batches(_PIECE)]
    first, last = [ROW, FILE], ["version", "run"]
    told = [
        pd.concat([piece[first], answer(objective, piece.drop(columns=first + last)), piece[last]], axis=1)
        for piece in pieces
    ]
    return pd.concat(told, ignore_index=True)


def answer(objective: Objective, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions (n) as they are; of several classes the likeliest five: label_1, probability_1 (float32), …"""
    import numpy as np
    import pandas as pd

    if not isinstance(objective, Multiclass):
        return predictions
    probabilities = objective.probabilities(predictions).astype(np.float32)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    names = pd.Index(objective.classes)
    columns: dict[str, object] = {}
    for place, numbers in enumerate(best.T, start=1):
        columns[f"label_{place}"] = pd.Categorical.from_codes(numbers, categories=names)
        columns[f"probability_{place}"] = probabilities[np.arange(len(numbers)), numbers]
    return pd.DataFrame(columns)


def _shown(problem: Problem, pictures: Window, answers: pd.DataFrame) -> list[Shown]:
    """As many of the pictures as there is room for, read again; without those that went away meanwhile."""
    assert isinstance(problem.rows, Stack)  # `open_window` saw to it
    shown = []
    answers = answers.head(MOST_ON_PAGE)
    for row, file, told in zip(answers[ROW], answers[FILE], _told(answers), strict=True):
        with suppress(OSError, BadInput):
            shown.append(Shown(file, small_jpeg(read_picture(pictures, problem.rows, row)), told))
    return shown


def _told(answers: pd.DataFrame) -> list[list[tuple[str, float]]]:
    """The labels of each row with their probabilities, the likeliest first."""
    names = [name for name in answers if str(name).startswith(("label", "predicted"))]
    shares = [name for name in answers if str(name).startswith("probability")]
    rows = zip(answers[names].to_numpy(object), answers[shares].to_numpy(float), strict=True)
    return [[(str(label), float(share)) for label, share in zip(*row, strict=True)] for row in rows]


def _describe(store: Store, kept: KeptWindow, num_aside: int, nouns: tuple[str, str], *places: Path) -> Scored:
    """`places` are those of scores and rejected, and of pictures those of page and picture."""
    counts = kept.num_scored, num_aside
    sentence = _sentence(kept.problem, kept.version, *counts, nouns)
    window = f"{store.uri}/{kept.prefix}"
    scores, rejected, *sheets = map(str, places)
    return Scored(kept.problem, kept.version, kept.run, *counts, sentence, scores, rejected, window, *sheets)


def _sentence(problem: str, version: int, num_scored: int, num_aside: int, nouns: tuple[str, str]) -> str:
    """`nouns`: one of what is scored, and one of what is set aside."""
    scored, aside = nouns
    begin = f"1 {scored} was" if num_scored == 1 else f"{num_scored:,} {scored}s were"
    end = "nothing was" if not num_aside else f"1 {aside} was" if num_aside == 1 else f"{num_aside:,} {aside}s were"
    return f"{begin} scored by {problem} version {version}, and {end} set aside."


def _write(answers: pd.DataFrame, pictures: Window, problem: Problem, aside: list[SetAside], scored: Scored) -> None:
    """All files, first in a folder beside their places. Who scored is in the table's `attrs`."""
    answers.attrs = {"problem": scored.problem, "version": scored.version, "run": scored.run}
    shown = _shown(problem, pictures, answers)
    title = read_card(scored.problem)["title"]
    place = Path(scored.scores).parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=place) as folder:
        partial = Path(folder)
        answers.to_parquet(partial / "scores", index=False)
        rows = ((one.file, one.reason) for one in aside)
        write_reasons(partial / "rejected", rows, (FILE, "reason"))
        page = render_sheet(title, scored.sentence, shown, scored.num_scored, aside)
        (partial / "page").write_text(page, encoding="utf-8")
        (partial / "picture").write_bytes(draw_sheet(shown))
        for name in ("scores", "rejected", "page", "picture"):
            (partial / name).replace(getattr(scored, name))
