"""What goes away and comes back while a model is trained: the Prefect server, and S3."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import server
from store import open_store
from store.registry import Registry
from tests.prefect_server import HomeMaker
from tests.store.faulty_proxy import Fault, FaultyProxy

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("--set", "epochs=25")


@pytest.fixture
def home(make_home: HomeMaker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PREFECT_HOME of this test, whose server is stopped at the end."""
    folder = make_home("faults")
    monkeypatch.setenv("PREFECT_HOME", str(folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    yield folder
    server.stop_server()


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a training of houses in a process of its own, whose log can be read while it runs."""
    started: list[subprocess.Popen[str]] = []

    def begin(store: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.command_line", "train", "housing", *SETTINGS, "--store", store]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the training ended without saying {text!r}")


def test_a_training_survives_a_prefect_server_that_is_killed_and_started_again(
    home: Path, tmp_path: Path, train: Callable[[str], subprocess.Popen[str]]
) -> None:
    address = server.ensure_server()
    training = train(str(tmp_path / "store"))
    wait_for_line(training, "fold 1")
    found = server.find_server()
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    time.sleep(5)
    assert server.ensure_server() == address  # where the training looks for it
    _, said = training.communicate(timeout=300)
    assert training.returncode == 0, said
    assert Registry(open_store(str(tmp_path / "store"))).champion("housing") is not None


def test_a_training_survives_s3_that_is_out_of_order_for_a_while(
    home: Path, bucket: str, proxy: FaultyProxy, train: Callable[[str], subprocess.Popen[str]]
) -> None:
    server.ensure_server()
    store = f"s3://{bucket}/models"
    training = train(store)
    wait_for_line(training, "fold 1")
    proxy.faults = [Fault("status", times=10_000, status=503, code="ServiceUnavailable")]
    time.sleep(10)
    refused = len(proxy.met)
    proxy.faults = [Fault("cut_request", times=3), Fault("delay", times=5, seconds=1)]
    _, said = training.communicate(timeout=300)
    assert refused and training.returncode == 0, said
    assert Registry(open_store(store)).champion("housing") is not None


def test_a_training_whose_server_stays_away_says_so_and_goes_on_later(
    home: Path, tmp_path: Path, train: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    server.ensure_server()
    training = train(str(tmp_path / "store"))
    wait_for_line(training, "fold 1")
    server.stop_server()
    _, said = training.communicate(timeout=300)
    assert training.returncode == 2, said
    assert "The Prefect server went away" in said and "goes on where it stopped" in said
    assert json.loads((home / "modelkeep-server" / "port").read_text())
    monkeypatch.delenv("PREFECT_CLIENT_MAX_RETRIES")
    again = train(str(tmp_path / "store"))
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0 and "prepare   unchanged" in said, said
