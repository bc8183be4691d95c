"""The flow `simulate`: what a champion that is kept alive would have been worth, by the days that have been.

python -m flows.simulate bakery            the same as `modelkeep simulate bakery`
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.run_tags import note_process
from flows.train import begin_run, go_through
from modelkeep.errors import GateFailed
from problems.outline.catalogue import ProblemName, load_problem
from store import open_store
from store.steps import StepRecord
from tasks.ingest import ingest
from tasks.recent import check_simulation
from tasks.settings import load_settings
from tasks.simulate import (
    World,
    choose_cause,
    follow_champion,
    lend_sources,
    live_through,
    open_calendar,
)
from tasks.simulation import tell_simulation
from tasks.steps import Run
from tasks.worn import open_worn

logger = logging.getLogger("modelkeep")


@flow(name="simulate", flow_run_name="simulate {problem}", log_prints=False, on_running=[note_process])
def simulate(
    problem: Annotated[ProblemName, Field(description="Whose data is lived through once more")],
    start: Annotated[str, Field(description="When the first period may begin; empty for after a third of all")] = "",
    every: Annotated[int, Field(ge=0, description="Retrain each so many periods, whatever is found; 0 for not")] = 0,
    hyperparameters: Annotated[dict[str, Any], Field(description="Settings that differ from the problem's own")] = {},  # noqa: B006
    variant: Annotated[str, Field(description="A named setting of the problem; empty for its default")] = "",
    seed: Annotated[int, Field(ge=0, description="Of every training")] = 0,
    store: Annotated[str, Field(description="Where the page is kept; empty for MODELKEEP_STORE")] = "",
) -> dict[str, Any]:
    """Train on what was known at the start, and live through the rest: forecast, monitor, retrain.

    A forecast goes by the calendar, in weeks or years; pictures come in windows of which each is worse than the one
    before. Versions and windows are made in a store of the simulation's own, which goes with it; the page stays. The
    result is that of `tasks.simulation.tell_simulation`. Raises ValidationFailed, AcceptanceFailed, SourceUnavailable.
    """
    begun, place, found = time.monotonic(), store or load_settings().store, load_problem(str(problem))
    check_simulation(found, start)
    with TemporaryDirectory(prefix="modelkeep-") as folder:
        run = begin_run(str(problem), hyperparameters, variant, seed, None, "", False, f"{folder}/store")
        lend_sources(found, open_store(place), run.open_store())
        world = open_world(run, ingest(run), start, Path(folder))
        train_on(world.known(0), run)
        follow_champion(world, 0, run.open_store())
        for number in range(len(world.periods)):
            verdict = live_through(world, number, run.open_store())
            if cause := choose_cause(world, verdict, number, every):
                retrain_after(world, run, number, cause)
        return tell_simulation(run, world, every, time.monotonic() - begun, place)


def open_world(run: Run, ingested: StepRecord, start: str, folder: Path) -> World:
    problem, store = load_problem(run.problem), run.open_store()
    return (
        open_worn(problem, store, ingested, folder) if problem.wear else open_calendar(problem, store, ingested, start)
    )


def train_on(known: dict[str, str], run: Run, cause: str = "") -> tuple[bool, str]:
    """Train on what had come, as `World.known` has it. Whether there is a new champion, and why or why not."""
    again = begin_run(
        run.problem,
        dict(run.hyperparameters),
        "",
        run.seed,
        None,
        known.get("data", ""),
        False,
        run.store,
        until=known.get("until", ""),
        cause=cause,
        is_replay=True,
    )
    trained = go_through(again)
    return trained.champion, trained.reason


def retrain_after(world: World, run: Run, number: int, cause: str) -> None:
    """Its champion, if there is a new one, forecasts from the next period on."""
    begun, known = time.monotonic(), world.known(number + 1)
    logger.info("simulate  after %s of %s: retrains because of %s", world.unit, world.periods[number].name, cause)
    try:
        promoted, sentence = train_on(known, run, cause)
        outcome = "promoted" if promoted else "kept"
    except GateFailed as refusal:
        outcome, sentence = "refused", refusal.received or refusal.what
    if outcome == "promoted":
        follow_champion(world, number + 1, run.open_store())
    done = {"after": number, "period": world.periods[number].name, "until": known.get("until", ""), "cause": cause}
    seconds = round(time.monotonic() - begun, 1)
    version = world.champion.number if world.champion and outcome == "promoted" else None
    world.retrainings.append({**done, "outcome": outcome, "version": version, "sentence": sentence, "seconds": seconds})


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["simulate", *sys.argv[1:]]))
