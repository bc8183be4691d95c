"""A training that is killed with -9, wherever, is started again and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from flows.server import ServerAddress
from store import open_store
from store.registry import Registry
from store.steps import find_step
from tests.flows.killed_training import start_training
from tests.prefect_server import wait_for

pytestmark = pytest.mark.server

Start = Callable[..., ForkServerProcess]
Finish = Callable[[ForkServerProcess], int]


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What the trainings have written to their standard error."""
    return tmp_path / "said"


@pytest.fixture
def start(said: Path) -> Iterator[Start]:
    started: list[ForkServerProcess] = []

    def begin(store: Path, place: str, lease_seconds: float | None = None) -> ForkServerProcess:
        started.append(start_training(store, place, said, lease_seconds))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def finish(said: Path) -> Finish:
    """Waits for the end of a training; its exit code."""

    def end(process: ForkServerProcess) -> int:
        process.join(300)
        assert process.exitcode in (0, -signal.SIGKILL), said.read_text()
        return process.exitcode

    return end


def manifest_of(store: Path) -> dict[str, Any]:
    champion = Registry(open_store(store)).champion("housing")
    assert champion is not None
    return json.loads((store / "runs" / "housing" / champion.run / "manifest.json").read_text())


def test_a_training_that_is_killed_at_every_step_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, start: Start, finish: Finish
) -> None:
    assert finish(start(tmp_path / "calm", "never")) == 0
    expected = manifest_of(tmp_path / "calm")
    troubled = tmp_path / "troubled"
    places = (
        "ingest",
        "validate",
        "prepare",
        "fold-2",
        "checkpoint",
        "fit",
        "evaluate",
        "manifest",
        "register",
        "promote",
    )
    for place in places:
        assert finish(start(troubled, place)) == -signal.SIGKILL, place
        assert Registry(open_store(troubled)).champion("housing") is None
    assert finish(start(troubled, "never")) == 0
    survived = manifest_of(troubled)
    assert survived["weights_digest"] == expected["weights_digest"]
    assert survived["metrics"] == expected["metrics"]
    assert len(Registry(open_store(troubled)).versions("housing")) == 1
    fit = find_step(open_store(troubled), "housing", "fit", survived["steps"]["fit"]["key"])
    assert fit is not None and isinstance(fit.facts["resumed_steps"], int) and fit.facts["resumed_steps"] > 0
    unfinished = [path.name for path in troubled.rglob("*") if path.name.startswith(".tmp")]
    assert unfinished == []


def test_two_trainings_at_once_train_once_and_the_second_says_whom_it_waits_for(
    tmp_path: Path, start: Start, finish: Finish
) -> None:
    store = tmp_path / "store"
    first, second = start(store, "never"), start(store, "never")
    assert finish(first) == finish(second) == 0
    assert {document["number"] for _, document in _step_documents(store)} == {1}
    assert len(Registry(open_store(store)).versions("housing")) == 1


def test_a_training_that_was_taken_for_dead_and_lives_on_publishes_nothing(
    tmp_path: Path, start: Start, finish: Finish, said: Path
) -> None:
    """The first is frozen during the fit until its lease has run out and another has taken its place."""
    store = tmp_path / "store"
    first = start(store, "never", 2)
    assert wait_for(
        lambda: "held" in [document["state"] for key, document in _step_documents(store) if "/fit/" in key],
        pause_seconds=0.01,
    )
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    try:
        assert finish(start(store, "never", 2)) == 0
        published = manifest_of(store)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.join(300)
    assert first.exitcode and "LeaseLost" in said.read_text()
    assert manifest_of(store) == published
    assert len(Registry(open_store(store)).versions("housing")) == 1


def _step_documents(store: Path) -> list[tuple[str, dict[str, Any]]]:
    kept = open_store(store)
    keys = [info.key for info in kept.list("steps/housing") if info.key.endswith(".json")]
    documents = [(key, kept.read_document(key)) for key in keys if key.count("/") == 3]
    return [(key, json.loads(document.data)) for key, document in documents if document]
