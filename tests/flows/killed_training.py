"""Trains housing and kills itself with -9 at a stated place: `python killed_training.py STORE PLACE [LEASE_SECONDS]`.

Places: `<step>` dies just before the step publishes what it made; `checkpoint` just after the second checkpoint of the
last fit; `manifest` before the manifest is written; `register` and `promote` before these are done; `never` lives.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
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


if __name__ == "__main__":
    die_at(sys.argv[2])
    if len(sys.argv) > 3:
        steps.claim_step = partial(steps.claim_step, lease_seconds=float(sys.argv[3]))
    from flows.train import train

    train("housing", {"epochs": 12}, store=sys.argv[1])
