from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
import pytest

from flows.server import ServerAddress
from tasks import devices
from tasks.devices import (
    CPU,
    Device,
    DevicesUnavailable,
    NoGpu,
    gpu_slots,
    held_device,
    held_devices,
    num_gpus,
    num_sharing,
    settle_gpu,
)
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import prepare
from tests.training_store import RunMaker

ROOT = Path(__file__).resolve().parents[2]
HOST = os.uname().nodename
TWO = [Device("gpu:0", "first"), Device("gpu:1", "second")]


@pytest.mark.parametrize(
    ("visible", "slots"),
    [
        (None, ["gpu0", "gpu1"]),
        ("0", ["gpu0"]),
        ("1", ["gpu1"]),
        ("1, 0", ["gpu1", "gpu0"]),
        ("", []),
        ("-1", []),
        ("1,-1,0", ["gpu1"]),
        ("0,1,2", ["gpu0", "gpu1"]),
        ("7,0", []),
        ("1,1", ["gpu1"]),
        ("GPU-5e", ["gpuGPU-5e"]),
    ],
)
def test_a_process_may_use_the_devices_that_are_there_and_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, slots: list[str]
) -> None:
    """And two processes call the same device by the same name, whatever its number is in each."""
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(devices, "_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert num_gpus() == len(slots)
    assert gpu_slots(num_gpus()) == [f"{slot}.{HOST}" for slot in slots]


def test_without_a_driver_there_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert num_gpus() == 0 and gpu_slots(num_gpus()) == []


# --- require, prefer, never ----------------------------------------------------------------------------------------


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: [])


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the backend saw two. TensorFlow puts on the CPU what it is to put on one that is not there."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "usable_gpus", lambda: TWO)


def test_a_gpu_that_is_required_and_not_there_is_told_at_once(no_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(NoGpu, match="A GPU is required") as error:
        settle_gpu("require")
    assert error.value.exit_code == 2
    for told in (f"KERAS_BACKEND={keras.backend.backend()}", "CUDA_VISIBLE_DEVICES='7'", "modelkeep[gpu]", "`prefer`"):
        assert told in str(error.value)


def test_a_gpu_that_is_required_and_there_is_fine(two_gpus: None) -> None:
    settle_gpu("require")


def test_a_command_without_a_gpu_refuses_before_it_starts_a_server_or_reads_data(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.command_line", "train", "linear_houses", "--gpu", "require"]
    answer = subprocess.run(
        [*command, "--store", str(tmp_path / "store")], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 2 and answer.stderr.startswith("modelkeep: A GPU is required")
    assert not list(tmp_path.iterdir())


def test_devices_that_are_never_to_be_used_are_hidden_before_a_backend_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    settle_gpu("prefer")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    settle_gpu("never")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


# --- whose turn it is ----------------------------------------------------------------------------------------------


def test_on_a_cpu_nobody_is_asked(no_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody is there
    with held_device("prefer") as device:
        assert device == CPU


def test_a_device_that_a_backend_has_found_is_not_used_where_it_never_is_to_be(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with held_device("never") as device:
        assert device == CPU
        assert "CPU" in str(keras.Variable([0.0]).value.device).upper()


@contextmanager
def occupied(slots: list[str]) -> Iterator[None]:
    from prefect.concurrency.sync import concurrency

    with concurrency(slots, strict=True):
        yield


def num_held(slot: str) -> int:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(slot).active_slots


@pytest.mark.server
def test_each_training_has_a_device_of_its_own_and_gives_it_back(prefect_server: ServerAddress, two_gpus: None) -> None:
    first, second = gpu_slots(2)
    with held_device("prefer") as device:
        assert device == TWO[0] and (num_held(first), num_held(second)) == (1, 0)
    with pytest.raises(RuntimeError, match="the training failed"), held_device("prefer"):
        raise RuntimeError("the training failed")
    assert (num_held(first), num_held(second)) == (0, 0)


@pytest.mark.server
def test_a_training_takes_the_device_that_is_free(
    prefect_server: ServerAddress, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_TRY_SECONDS", 0.5)
    with held_device("prefer"):  # makes the limits
        pass
    with occupied([gpu_slots(2)[0]]), held_device("require") as device:
        assert device == TWO[1]


@pytest.mark.server
@pytest.mark.parametrize("num", [1, 2])
def test_a_training_waits_until_a_device_is_free(
    prefect_server: ServerAddress, two_gpus: None, monkeypatch: pytest.MonkeyPatch, num: int
) -> None:
    monkeypatch.setattr(devices, "_TRY_SECONDS", 0.5)
    monkeypatch.setattr(devices, "usable_gpus", lambda: TWO[:num])
    got = threading.Event()

    def train() -> None:
        with held_device("prefer"):
            got.set()

    waiting = threading.Thread(target=train)
    with ExitStack() as stack:
        for _ in range(num):
            stack.enter_context(held_device("prefer"))
        waiting.start()
        assert not got.wait(3)
    assert got.wait(60)
    waiting.join()
    assert [num_held(slot) for slot in gpu_slots(num)] == [0] * num


@pytest.mark.server
def test_a_limit_that_somebody_has_changed_stays_as_it_is(prefect_server: ServerAddress, two_gpus: None) -> None:
    from prefect.client.orchestration import get_client

    slot = gpu_slots(2)[0]
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(slot, 2)
        try:
            with held_device("prefer"), held_device("prefer") as device:
                assert device == TWO[0]
        finally:
            client.upsert_global_concurrency_limit_by_name(slot, 1)


# --- several devices for one training ------------------------------------------------------------------------------


def test_two_devices_train_the_model_that_one_trains(make_run: RunMaker, tmp_path: Path) -> None:
    """And a training that was interrupted on them goes on to the same weights."""
    run = make_run("housing", {"epochs": 5, "units": 16})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.tasks.two_devices", json.dumps(vars(run))]
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    one, two = told["one"], told["two"]
    assert (one["device"], two["device"]) == ("cpu", "2 × cpu")
    assert one["key"] != two["key"]
    assert one["weights_digest"] != two["weights_digest"]  # sums in another order: both devices had a share
    assert told["difference"] < 1e-4
    assert told["resumed"] == two["weights_digest"]


@pytest.mark.parametrize("wanted", ["2", "3"])
def test_more_devices_than_there_are_is_told_at_once(
    no_gpus: None, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("MODELKEEP_DEVICES", wanted)
    with pytest.raises(DevicesUnavailable, match=f"MODELKEEP_DEVICES={wanted}"):
        settle_gpu("prefer")


def test_all_devices_of_a_machine_with_one_are_one(no_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKEEP_DEVICES", "all")
    assert num_sharing("prefer") == 1
    with held_devices("prefer") as device:
        assert device == CPU


def test_batches_must_be_shared_evenly(two_gpus: None, make_run: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKEEP_DEVICES", "2")
    run = make_run("housing", {"batch_size": 15})
    ingested = ingest.fn(run)
    with pytest.raises(DevicesUnavailable, match="Batches of 15 examples"):
        fit.fn(run, ingested, prepare.fn(run, ingested))


@pytest.mark.gpu
def test_a_gpu_is_found_and_trains(prefect_server: ServerAddress) -> None:
    settle_gpu("require")
    with held_device("require") as device:
        assert device.address == "gpu:0" and device.title
        assert "CPU" not in str(keras.Variable([0.0]).value.device).upper()
