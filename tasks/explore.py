"""Explore: the page that shows what a problem's data looks like, in the store and in the Prefect UI."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from store.steps import Lease, StepRecord
from tasks.examples import load_examples
from tasks.prepare import load_rows
from tasks.publish import show_exploration, show_link
from tasks.report import source_origins
from tasks.report_page import render_page, thumbnail
from tasks.steps import Products, Run, digests, do_once

if TYPE_CHECKING:
    from problems.outline.problem import Examples

logger = logging.getLogger("modelkeep")

NUM_SHOWN = 12
_MOST_COLUMNS = 10
_MOST_LETTERS = 240


@task(name="explore", cache_policy=NO_CACHE, task_run_name="explore {run.problem}")
def explore(run: Run, examples: StepRecord, prepared: StepRecord) -> dict[str, Any]:
    """What `tasks.exploration.explore` tells, with the name of the exploration and where its page is."""
    record = do_once(
        run,
        "explore",
        lambda lease: _explore(run, examples, prepared, lease),
        module=__name__,
        inputs=[*digests(examples), *digests(prepared)],
    )
    store = run.open_store()
    place = f"explorations/{run.problem}/{run.run_id}"
    kept = {name: store.copy(ref, f"{place}/{ref.name}") for name, ref in record.products.items()}
    page = f"{run.store.rstrip('/')}/{place}/{kept['page'].name}"
    told: dict[str, Any] = json.loads(store.read_bytes(kept["exploration"]))
    show_exploration(run, told)
    show_link(run, "exploration-page", page, "What the data looks like")
    return {"exploration": run.run_id, "page": page, **told}


def _explore(run: Run, ingested: StepRecord, prepared: StepRecord, lease: Lease) -> Products:
    from tasks.exploration import explore as look

    problem, store = load_problem(run.problem), run.open_store()
    examples, rows = load_examples(store, ingested), load_rows(store, prepared)
    told = look(examples, rows, problem.objective.named(examples.classes) if examples.classes else problem.objective)
    page = render_page(
        "exploration.html.j2",
        problem=run.problem,
        told=told,
        card=read_card(run.problem),
        sources=source_origins(ingested),
        shown=_show_some(examples, [one["name"] for one in told["columns"] if one["is_target"]]),
    )
    logger.info(
        "explore   %s examples, %d columns, %d notes", f"{len(examples):,}", len(told["columns"]), len(told["notes"])
    )
    data = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False).encode()
    return Products(
        {
            "exploration": lease.put_bytes("exploration.json", data, kind="json"),
            "page": lease.put_bytes("exploration.html", page.encode(), kind="html"),
        },
        {},
    )


def _show_some(examples: Examples, first: list[str]) -> list[dict[str, Any]]:
    """Examples drawn at random, where there are classes evenly over them: {row, values, picture}.

    Of a wide frame the first columns are shown, those named in `first` before them.
    """
    import numpy as np
    import pandas as pd

    frame = examples.frame
    target = pd.Series(np.asarray(examples.target).reshape(len(frame), -1)[:, 0])
    shuffled = pd.Series(np.random.default_rng(0).permutation(len(frame)))
    if np.issubdtype(np.asarray(examples.target).dtype, np.integer):
        turn = shuffled.groupby(target.iloc[shuffled].to_numpy()).cumcount()
        shuffled = shuffled.iloc[np.argsort(turn, kind="stable")]
    pictures = next((one for one in examples.features.values() if one.ndim == 4 and one.dtype == np.uint8), None)
    columns = [*first, *(name for name in frame if name not in first)][:_MOST_COLUMNS]
    return [
        {
            "row": int(row),
            "values": {name: _short(frame[name].iloc[row]) for name in columns},
            "picture": "" if pictures is None else thumbnail(np.asarray(pictures[row])),
        }
        for row in shuffled.head(NUM_SHOWN)
    ]


def _short(value: Any) -> Any:
    """A value as JSON knows it; long texts are cut."""
    import numpy as np
    import pandas as pd

    if pd.isna(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    text = str(value)
    return value if isinstance(value, bool | int | float) else text[:_MOST_LETTERS] + "…" * (len(text) > _MOST_LETTERS)
