"""A training that is killed with -9, wherever, is started again and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.server import ServerAddress
from store import open_store
from store.registry import Registry
from store.steps import find_step

pytestmark = pytest.mark.server

SCRIPT = Path(__file__).with_name("killed_training.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


def start(store: Path, place: str, *lease_seconds: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MODELKEEP_CHECKPOINT_SECONDS": "0"}
    command = [sys.executable, str(SCRIPT), str(store), place, *lease_seconds]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


def manifest_of(store: Path) -> dict[str, Any]:
    champion = Registry(open_store(store)).champion("housing")
    assert champion is not None
    return json.loads((store / "runs" / "housing" / champion.run / "manifest.json").read_text())


def test_a_training_that_is_killed_at_every_step_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
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


def test_two_trainings_at_once_train_once_and_the_second_says_whom_it_waits_for(tmp_path: Path) -> None:
    first, second = start(tmp_path, "never"), start(tmp_path, "never")
    assert finish(first) == finish(second) == 0
    assert {document["number"] for _, document in _step_documents(tmp_path)} == {1}
    assert len(Registry(open_store(tmp_path)).versions("housing")) == 1


def test_a_training_that_was_taken_for_dead_and_lives_on_publishes_nothing(tmp_path: Path) -> None:
    """The first is frozen during the fit until its lease has run out and another has taken its place."""
    first = start(tmp_path, "never", "2")
    _wait_for(lambda: "held" in [document["state"] for key, document in _step_documents(tmp_path) if "/fit/" in key])
    os.kill(first.pid, signal.SIGSTOP)
    try:
        assert finish(start(tmp_path, "never", "2")) == 0
        published = manifest_of(tmp_path)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    _, errors = first.communicate(timeout=300)
    assert first.returncode != 0 and "LeaseLost" in errors
    assert manifest_of(tmp_path) == published
    assert len(Registry(open_store(tmp_path)).versions("housing")) == 1


def _step_documents(store: Path) -> list[tuple[str, dict[str, Any]]]:
    kept = open_store(store)
    keys = [info.key for info in kept.list("steps/housing") if info.key.endswith(".json")]
    documents = [(key, kept.read_document(key)) for key in keys if key.count("/") == 3]
    return [(key, json.loads(document.data)) for key, document in documents if document]


def _wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
