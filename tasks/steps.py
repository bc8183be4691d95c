"""One step of a run: found in the store when its product is there and whole, else done once, by whoever claims it."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from store import open_store
from store.artifacts import ArtifactRef, Store, digest_of
from store.steps import Lease, StepRecord, claim_step, find_step
from tasks.code_digest import code_digest
from tasks.devices import Gpu

logger = logging.getLogger("modelkeep")


@dataclass(frozen=True)
class Run:
    """One execution of `train`: what was asked for, in full. Tasks pass it on; it is small and plain.

    `hyperparameters` are complete (defaults included); `sample` is a number of examples or None for all of them;
    `data` is the user's own file in place of the source, "" for none; `full` refuses a package's partial copy;
    `request` is the key of what was asked for; `started` is ISO 8601 in UTC; `again` is "" but for a run that does
    every step anew, whose own name it holds then; `versions` are those of other problems to begin from, by their
    names, where it is not to be their champions.
    `windows` are trained on too, in this order: their ids, each with the SHA-256 of its labels. `until` (ISO 8601)
    leaves out the examples whose moment is later; "" for none. `cause` is "" or why the model is trained again. What
    comes of a `is_replay` of the past is no news to anybody.
    """

    run_id: str
    problem: str
    store: str
    mirror: str
    hyperparameters: Mapping[str, Any]
    variant: str
    seed: int
    sample: int | None
    data: str
    full: bool
    backend: str
    request: str
    started: str
    flow_run: str
    checkpoint_seconds: float
    again: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)
    windows: tuple[tuple[str, str], ...] = ()
    until: str = ""
    cause: str = ""
    is_replay: bool = False
    gpu: Gpu = "prefer"

    def open_store(self) -> Store:
        return open_store(self.store)

    @property
    def prefix(self) -> str:
        """Where everything that this run made is kept together."""
        return f"runs/{self.problem}/{self.run_id}"


@dataclass(frozen=True)
class Products:
    """What a step made: artifacts by name, and facts small enough to stand beside them as JSON."""

    artifacts: Mapping[str, ArtifactRef]
    facts: Mapping[str, Any]


def do_once(
    run: Run,
    step: str,
    compute: Callable[[Lease], Products],
    *,
    module: str,
    inputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> StepRecord:
    """The step's record: from the store if nothing that it depends on has changed, else by calling `compute`.

    The key is made of `inputs` (digests of what goes in), `parameters`, and the source of `module` and of the
    problem with all that they import from this project. While another process works on the same key this one waits.
    `compute` writes through its lease, so that a process taken for dead cannot publish over its successor.
    """
    store = run.open_store()
    key = digest_of(
        {
            "code": code_digest(module, f"problems.{run.problem}"),
            "inputs": list(inputs),
            "parameters": dict(parameters or {}),
            "again": run.again,
        }
    )
    found = find_step(store, run.problem, step, key)
    if found:
        logger.info("%-9s unchanged", step)
        return found
    claim = claim_step(
        store,
        run.problem,
        step,
        key,
        holder={"run": run.run_id},
        on_wait=lambda text: logger.info("%-9s %s", step, text),
    )
    if isinstance(claim, StepRecord):
        logger.info("%-9s done by another process", step)
        return claim
    with claim as lease:
        begin = time.perf_counter()
        products = compute(lease)
        seconds = round(time.perf_counter() - begin, 3)
        return lease.publish(dict(products.artifacts), {**products.facts, "seconds": seconds})


def digests(record: StepRecord) -> list[str]:
    """The SHA-256 of each product, in the order of their names: what a later step's key is made of."""
    return [record.products[name].sha256 for name in sorted(record.products)]


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what is learnt."""
    names = ("modelkeep", "keras", "tensorflow", "jax", "torch", "numpy", "pandas", "scikit-learn", "prefect")
    found = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
