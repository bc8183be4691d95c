"""A demonstration: the model of house prices is kept alive for some minutes, in a folder of its own.

python -m deployments.demonstration                 ends with everything stopped and removed
python -m deployments.demonstration --folder DEMO   keeps what it has made in a new folder
python -m deployments.demonstration --keep          leaves all running, so that the Prefect UI can be looked at

A scheduled training makes the first champion. Then the world moves, in data: the same census tracts with higher taxes,
fuller schools, worse air and dearer houses. `monitor` finds that, its event starts `retrain`, and in the middle of that
training its process and the worker's are killed; what is left goes on, and ends with another champion. It needs no
network and about five minutes on two cores, and touches no other server, store or process than its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

PROBLEM = "housing"
NUM_AT_ONCE = 2
DUE_SECONDS = 15
LIMIT_SECONDS = 300.0  # of one step, on a machine that has other work too

Found = TypeVar("Found")


class DemonstrationStuck(ModelkeepError):
    """A step of the demonstration did not end as it should."""


@dataclass(frozen=True)
class Place:
    """Where the demonstration happens; `told` prints a line with the seconds since the beginning."""

    folder: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def tell(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began:4.0f} s] {line}", flush=True)

    def wait(self, what: str, look: Callable[[], Found | None]) -> Found:
        """What `look` returns once it is true. Raises DemonstrationStuck."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (found := look()):
            if time.monotonic() > deadline:
                raise DemonstrationStuck(
                    f"The demonstration waited {LIMIT_SECONDS:.0f} s in vain.",
                    expected=what,
                    next_step=f"see the logs in {self.folder / 'prefect' / 'modelkeep-server'} (--folder keeps them)",
                )
            time.sleep(0.5)
        return found


def set_surroundings(folder: Path) -> None:
    """A server, a store and a folder of its own: no setting of the user's is used, and none is changed."""
    for name in [name for name in os.environ if name.startswith(("MODELKEEP_", "PREFECT_"))]:
        del os.environ[name]
    os.environ |= {
        "MODELKEEP_STORE": str(folder / "store"),
        "MODELKEEP_CHECKPOINT_SECONDS": "0.5",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_API_PORT": "0",  # any that is free
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",  # else it sees a new schedule within a minute
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    os.chdir(folder)


# What happens ------------------------------------------------------------------------------------------------------


def show(place: Place) -> None:
    """All steps, one after the other. Raises DemonstrationStuck, ServerUnavailable, DeploymentFailed."""
    bring_up_again(place)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        train_by_schedule(place, client)
        retraining = feed_moved_world(place, client)
        kill_in_the_middle(place, client, retraining)
        show_recovery(place, client, retraining)


def bring_up_again(place: Place) -> None:
    """As `modelkeep up` does."""
    from deployments.deploy import declare
    from deployments.up import bring_up, describe

    bring_up(declare([PROBLEM]), place.folder, NUM_AT_ONCE, lambda line: place.tell(f"  {line}"))
    place.tell(f"  the Prefect UI is at {describe()['ui']}")


def train_by_schedule(place: Place, client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule

    deployment = client.read_deployment_by_name(f"train/{PROBLEM}")
    due = datetime.now(UTC) + timedelta(seconds=DUE_SECONDS)
    schedule = IntervalSchedule(interval=timedelta(days=1), anchor_date=due)
    create = DeploymentScheduleCreate(schedule=schedule, slug="demonstration")
    client.create_deployment_schedules(deployment.id, [create])
    place.tell(f"train/{PROBLEM} is scheduled for Mondays at 3; now also for {due.astimezone():%H:%M:%S}")
    run = place.wait(
        "a scheduled run that a worker has taken", lambda: newest_run(client, f"train/{PROBLEM}", "RUNNING")
    )
    place.tell(f"a worker has taken the scheduled run {run.name!r}")
    wait_for_end(place, client, run)
    place.tell(f"version {champion(place)} is champion: {metrics(place)}")


def feed_moved_world(place: Place, client: SyncPrefectClient) -> FlowRun:
    """Returns the run of `retrain` that the event has started."""
    window, labels = write_moved_world(place.folder)
    place.tell(f"the world moves: {window.name} has tracts with higher taxes, {labels.name} what they are worth now")
    deployment = client.read_deployment_by_name(f"monitor/{PROBLEM}")
    asked = {"data": str(window), "labels": str(labels)}
    run = client.create_flow_run_from_deployment(deployment.id, parameters=asked)
    wait_for_end(place, client, run)
    from store import open_store
    from tasks.verdicts import read_verdicts

    verdict = read_verdicts(open_store(str(place.store)), PROBLEM)[-1]
    place.tell(f"monitor: {verdict.sentence}")
    place.tell(f"  the page is at {place.store / verdict.folder / 'drift.html'}")
    retraining = place.wait("a run of retrain", lambda: newest_run(client, f"retrain/{PROBLEM}"))
    starter = retraining.created_by.display_value if retraining.created_by else "nobody"
    place.tell(f"the event modelkeep.drift.detected went out, and the automation {starter!r} started retrain/{PROBLEM}")
    return retraining


def kill_in_the_middle(place: Place, client: SyncPrefectClient, retraining: FlowRun) -> None:
    from flows.workers import find_workers

    for pause_seconds in (0, 1):  # the second time it has learnt something
        since = time.time() + pause_seconds
        place.wait("a checkpoint of the challenger", lambda since=since: has_checkpoint(place.store, since))  # type: ignore[misc]
    processes = [worker.process for worker in find_workers()]
    processes += [process for run in unfinished_runs(client) if (process := process_of(run))]
    for process in processes:
        kill(process)
    state = client.read_flow_run(retraining.id).state_name
    place.tell(f"killed with -9, in the middle of fit: the worker and its runs; Prefect shows the run as {state}")


def show_recovery(place: Place, client: SyncPrefectClient, retraining: FlowRun) -> None:
    before = champion(place)
    place.tell("`modelkeep up` again; without it a worker elsewhere would take over in two minutes:")
    bring_up_again(place)
    wait_for_end(place, client, retraining)
    ended = client.read_flow_run(retraining.id)
    steps = resumed_steps(place)
    place.tell(f"{ended.name!r} was begun {ended.run_count} times; {steps:,} training steps were not made again")
    if champion(place) == before:
        raise DemonstrationStuck("The challenger did not become champion.", received=f"version {before} still is")
    place.tell(f"version {champion(place)} is champion, version {before} was: {metrics(place)}")


# What is looked at -------------------------------------------------------------------------------------------------


def newest_run(client: SyncPrefectClient, deployment: str, *states: str) -> FlowRun | None:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    wanted: dict[str, Any] = {"deployment_id": {"any_": [client.read_deployment_by_name(deployment).id]}}
    if states:
        wanted["state"] = {"type": {"any_": list(states)}}
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(wanted), sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
    )
    return runs[0] if runs else None


def unfinished_runs(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter

    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}})
    return client.read_flow_runs(flow_run_filter=wanted)


def wait_for_end(place: Place, client: SyncPrefectClient, run: FlowRun) -> None:
    """Raises DemonstrationStuck where it does not end well."""

    def final_state() -> Any:
        state = client.read_flow_run(run.id).state
        is_over = state and state.is_final() and not state.is_crashed()  # a crashed one is taken up again
        return state if is_over else None

    state = place.wait(f"the end of {run.name}", final_state)
    if not state.is_completed():
        raise DemonstrationStuck(f"The run {run.name} ended as {state.name}.", received=state.message or "")


def process_of(run: FlowRun) -> str:
    from flows.run_tags import PROCESS

    return next((tag.removeprefix(PROCESS) for tag in run.tags if tag.startswith(PROCESS)), "")


def kill(process: str) -> None:
    """By its mark, so that no other process can be hit that has got the same number meanwhile."""
    from flows.background import is_running
    from store.processes import ProcessMark

    mark = ProcessMark.parse(process)
    if mark and is_running(process):
        with suppress(ProcessLookupError):
            os.kill(mark.pid, signal.SIGKILL)


def has_checkpoint(store: Path, since: float) -> bool:
    for path in store.rglob("*checkpoint-*.npz"):
        with suppress(FileNotFoundError):  # the next one has taken its place
            if path.stat().st_mtime > since:
                return True
    return False


def champion(place: Place) -> int:
    from store import open_store
    from store.registry import Registry

    found = Registry(open_store(str(place.store))).champion(PROBLEM)
    return found.number if found else 0


def metrics(place: Place) -> str:
    from store import open_store
    from store.registry import Registry

    found = Registry(open_store(str(place.store))).champion(PROBLEM)
    return f"mean absolute error {found.metrics['mae']:.2f} k$ on its test rows" if found else "none"


def resumed_steps(place: Place) -> int:
    """How many steps of gradient descent the champion's run has taken over from checkpoints of a killed one."""
    from store import open_store
    from store.registry import Registry
    from store.steps import find_step

    store = open_store(str(place.store))
    found = Registry(store).champion(PROBLEM)
    steps = json.loads(store.read_bytes(found.manifest))["steps"] if found else {}
    records = [find_step(store, PROBLEM, name, step["key"]) for name, step in steps.items()]
    return sum(int(str(record.facts.get("resumed_steps", 0))) for record in records if record)


def write_moved_world(folder: Path) -> tuple[Path, Path]:
    """The real tracts in another order, moved within what is expected of such data; and their prices, row by row."""
    import pandas as pd

    from problems.outline.catalogue import load_problem
    from problems.outline.problem import Rows
    from store import open_store
    from tasks.ingest import read_sources

    problem = load_problem(PROBLEM)
    with tempfile.TemporaryDirectory() as links:
        known = read_sources(problem, open_store(str(folder / "store")), "", "", links).frame
    moved = known.sample(frac=1, random_state=0, ignore_index=True)
    moved = moved.assign(
        TAX=moved["TAX"] + 80,
        PTRATIO=(moved["PTRATIO"] + 2).round(1),
        NOX=(moved["NOX"] * 1.12).round(3),
        MEDV=(moved["MEDV"] + 6).clip(upper=50).round(1),
    )
    assert isinstance(problem.rows, Rows)
    window, labels = folder / "tracts.csv", folder / "prices.csv"
    moved[list(problem.rows.columns)].to_csv(window, index=False)
    pd.DataFrame({"row": moved.index, "target": moved["MEDV"]}).to_csv(labels, index=False)
    return window, labels


# The command -------------------------------------------------------------------------------------------------------


def take_all_down(place: Place) -> None:
    """Also what an `up` that was interrupted has begun; in this PREFECT_HOME all of it is the demonstration's."""
    from deployments.up import take_down
    from flows.server import stop_server

    take_down(place.tell)
    if stop_server():
        place.tell("stopped the Prefect server")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.demonstration", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="a new folder for all that is made; it stays")
    parser.add_argument("--keep", action="store_true", help="leave server and worker running at the end")
    options = parser.parse_args(arguments)
    if options.folder and options.folder.exists():
        parser.error(f"{options.folder} is there already; name a new folder")
    place = Place(make_folder(options.folder))
    set_surroundings(place.folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        show(place)
        code = 0
    except (ModelkeepError, KeyboardInterrupt) as fault:
        print(fault if isinstance(fault, ModelkeepError) else "interrupted", file=sys.stderr)
        code = getattr(fault, "exit_code", 130)
    if options.keep and code == 0:
        place.tell(
            f"all of it goes on in {place.folder}; this ends it: PREFECT_HOME={place.folder}/prefect modelkeep down"
        )
        return code
    take_all_down(place)
    if not options.folder:
        shutil.rmtree(place.folder, ignore_errors=True)
    return code


def make_folder(asked: Path | None) -> Path:
    if asked is None:
        return Path(tempfile.mkdtemp(prefix="modelkeep-demonstration-"))
    asked.mkdir(parents=True)
    return asked.resolve()


if __name__ == "__main__":
    sys.exit(main())
