"""Trains housing in a process of its own, which kills itself with -9 at a stated place.

Such a process is forked from one that has imported what a training needs, as importing takes longer than training.
Places: `<step>` dies just before the step publishes what it made; `checkpoint` just after the second checkpoint of the
last fit; `manifest` before the manifest is written; `register` and `promote` before these are done; `never` lives.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from store.registry import Registry
from store.steps import Lease
from tasks import steps


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner: type, name: str, applies: Callable[..., bool]) -> None:
    original = getattr(owner, name)

    def killer(*arguments: Any, **named: Any) -> Any:
        if applies(*arguments):
            die()
        return original(*arguments, **named)

    setattr(owner, name, killer)


def die_at(place: str) -> None:
    if place == "checkpoint":
        original, seen = Lease.save_checkpoint, []

        def count(lease: Lease, *arguments: Any) -> None:
            original(lease, *arguments)
            seen.append(lease)
            if "/fit/" in lease._path and sum("/fit/" in one._path for one in seen) == 2:
                die()

        Lease.save_checkpoint = count  # type: ignore[method-assign]
    elif place == "manifest":
        from store.local import LocalStore

        die_before(LocalStore, "put_bytes", lambda store, key, *_: key.endswith("/manifest.json"))
    elif place in ("register", "promote"):
        die_before(Registry, place, lambda *_: True)
    elif place != "never":
        die_before(Lease, "publish", lambda lease, *_: f"/{place}/" in lease._path)


def start_training(store: Path, place: str, said: Path, lease_seconds: float | None = None) -> ForkServerProcess:
    """What the process writes to its standard error goes to the file `said`."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["great_expectations", "keras", "matplotlib.pyplot", "flows.train", __name__])
    process = server.Process(target=_train, args=(str(store), place, str(said), lease_seconds))
    process.start()
    return process


def _train(store: str, place: str, said: str, lease_seconds: float | None) -> None:
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ["MODELKEEP_CHECKPOINT_SECONDS"] = "0"
    die_at(place)
    if lease_seconds:
        steps.claim_step = partial(steps.claim_step, lease_seconds=lease_seconds)
    from flows.train import train

    train("housing", {"epochs": 12}, store=store)
