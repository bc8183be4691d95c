"""The graphics processors (NVIDIA GPUs) of this machine: which there are, whether a training may have one, and whose
turn it is.

The device is part of no step's key: whoever asks for a model gets the one that is there, wherever it was trained, and
its manifest says where that was. Only where devices change the arithmetic, by mixed precision or by sharing each batch,
is `fit` done anew.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from modelkeep.errors import ModelkeepError

logger = logging.getLogger("modelkeep")

Gpu = Literal["require", "prefer", "never"]

_DRIVER = Path("/proc/driver/nvidia/gpus")
_TRY_SECONDS = 15.0


class NoGpu(ModelkeepError):
    """A GPU is required, and the Keras backend can use none."""


class DevicesUnavailable(ModelkeepError):
    """MODELKEEP_DEVICES asks for more devices than there are, or for what the Keras backend cannot do with them."""


@dataclass(frozen=True)
class Device:
    """What trains: `address` as Keras has it, such as gpu:0; `title`, "cpu" or the device's own name; and whether it
    reckons in bfloat16, as GPUs of compute capability 8.0 or more do."""

    address: str
    title: str
    has_bfloat16: bool = False


CPU = Device("cpu:0", "cpu")


def num_gpus() -> int:
    """How many devices of the driver CUDA_VISIBLE_DEVICES leaves this process, told without importing a library that
    would take hold of them."""
    present = len(list(_DRIVER.iterdir())) if _DRIVER.is_dir() else 0
    named = _named()
    if named is None:
        return present
    # As CUDA reads it: from a name on that is no device's, or was there before, none counts.
    devices = {str(number) for number in range(present)}

    def is_device(place: int) -> bool:
        name = named[place]
        return (name in devices or name.startswith(("GPU-", "MIG-"))) and name not in named[:place]

    return min(present, sum(1 for _ in itertools.takewhile(is_device, range(len(named)))))


def gpu_slots(num: int) -> list[str]:
    """The concurrency limits that let one training at a time have a device, for the first `num` that are visible.

    A device has the same name in every process of a machine: CUDA_VISIBLE_DEVICES=1 leaves the slot gpu1.HOST.
    """
    names = (_named() or [str(number) for number in range(num)])[:num]
    return [f"gpu{name}.{os.uname().nodename}" for name in names]


def _named() -> list[str] | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else [name.strip() for name in visible.split(",")]


def settle_gpu(gpu: Gpu) -> None:
    """Before anything is done: hide all devices from a process that is to `never` use one, and refuse what cannot be
    had. Raises NoGpu, DevicesUnavailable."""
    if gpu == "never":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # backends read it when they look for devices the first time
    elif gpu == "require" and not usable_gpus():
        import keras

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise NoGpu(
            "A GPU is required, and there is none that the Keras backend can use.",
            expected=f"a GPU for KERAS_BACKEND={keras.backend.backend()}",
            received=f"{num_gpus()} visible to the driver, none to the backend"
            + (f", with CUDA_VISIBLE_DEVICES={visible!r}" if visible is not None else ""),
            next_step="see `nvidia-smi`, and pip install 'modelkeep[gpu]' for TensorFlow on CUDA; or ask for the GPU "
            "with `prefer`, which trains on the CPU where there is none",
        )
    num_sharing(gpu)


def num_sharing(gpu: Gpu) -> int:
    """How many devices share each batch of a training, as MODELKEEP_DEVICES says. Raises DevicesUnavailable."""
    from tasks.settings import load_settings

    wanted = load_settings().devices
    if wanted == 1:
        return 1
    import keras

    found = len(_devices_to_share(gpu))
    num, backend = found if wanted == "all" else wanted, keras.backend.backend()
    if num > found or (num > 1 and backend != "tensorflow"):
        raise DevicesUnavailable(
            "A training cannot share its batches between so many devices here.",
            where=f"MODELKEEP_DEVICES={wanted}",
            expected=f"{num} devices, and KERAS_BACKEND=tensorflow",
            received=f"{found} that can be used, and KERAS_BACKEND={backend}",
            next_step="see `nvidia-smi` and CUDA_VISIBLE_DEVICES, or leave MODELKEEP_DEVICES out",
        )
    return num


def _devices_to_share(gpu: Gpu) -> list[Device]:
    """The GPUs, and where none is to be used the CPUs, of which TensorFlow sees one unless it was told to make more."""
    import keras

    found = usable_gpus() if gpu != "never" else []
    if found or keras.backend.backend() != "tensorflow":
        return found or [CPU]
    import tensorflow as tf

    return [Device(f"cpu:{number}", "cpu") for number in range(len(tf.config.list_logical_devices("CPU")))]


def usable_gpus() -> list[Device]:
    """The devices that the Keras backend can train on, in its order. Imports the backend."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
        told = [(each.get("device_name", "gpu"), each.get("compute_capability", (0, 0))) for each in details]
    elif keras.backend.backend() == "jax":
        import jax

        found = [device for device in jax.devices() if device.platform == "gpu"]
        told = [(device.device_kind, tuple(map(int, device.compute_capability.split(".")))) for device in found]
    else:
        import torch

        numbers = range(torch.cuda.device_count())
        told = [(torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)) for number in numbers]
    return [Device(f"gpu:{place}", str(title), able >= (8, 0)) for place, (title, able) in enumerate(told)]


@contextmanager
def held_devices(gpu: Gpu) -> Iterator[Device]:
    """What a training is to use: one device, or as many as MODELKEEP_DEVICES says, told as one. Raises
    DevicesUnavailable."""
    num = num_sharing(gpu)
    with held_device(gpu) if num == 1 else _held_together(_devices_to_share(gpu), num) as device:
        yield device


@contextmanager
def _held_together(devices: Sequence[Device], num: int) -> Iterator[Device]:
    """The first `num` devices, all of them waited for; what Keras makes meanwhile is on each of them."""
    from prefect.concurrency.sync import concurrency

    chosen = devices[:num]
    with ExitStack() as stack:
        if chosen[0].address.startswith("gpu"):
            slots = gpu_slots(num)
            _make_limits(slots)
            stack.enter_context(concurrency(slots, strict=True, raise_on_lease_renewal_failure=False))
        stack.enter_context(_strategy(tuple(device.address for device in chosen)).scope())
        yield Device(chosen[0].address, f"{num} × {chosen[0].title}", chosen[0].has_bfloat16)


@cache
def _strategy(addresses: tuple[str, ...]) -> Any:
    """The same one for each training, so that an engine can be handed on from one fold to the next."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(addresses)


@contextmanager
def held_device(gpu: Gpu) -> Iterator[Device]:
    """The device to train on, for as long as that takes: what Keras makes meanwhile is made there.

    A GPU is waited for until its slot is free. Where the backend sees none, nobody is asked.
    """
    found = usable_gpus()
    if not found:
        yield CPU
        return
    import keras

    with ExitStack() as stack:
        # Those of a process in which a backend found them before they were to be hidden are still there.
        device = CPU if gpu == "never" else stack.enter_context(_turn_on(found))
        stack.enter_context(keras.device(device.address))
        yield device


@contextmanager
def _turn_on(devices: Sequence[Device]) -> Iterator[Device]:
    """The first device whose slot is free."""
    from prefect.concurrency.sync import concurrency

    slots = gpu_slots(len(devices))
    _make_limits(slots)
    patience = _TRY_SECONDS if len(slots) > 1 else None  # Prefect logs an error for each time that is up
    for attempt, (slot, device) in enumerate(itertools.cycle(zip(slots, devices, strict=True))):
        with ExitStack() as stack:
            # A server that is away for a while must not end a training.
            turn = concurrency(slot, strict=True, timeout_seconds=patience, raise_on_lease_renewal_failure=False)
            try:
                stack.enter_context(turn)
            except TimeoutError:
                if attempt == 0:
                    logger.info("fit       waits for a GPU: %s", ", ".join(slots))
                continue
            yield device
            return


def _make_limits(slots: Sequence[str]) -> None:
    """A limit of one training for each slot; one that is there keeps the number that it was given."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for slot in slots:
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=slot, limit=1))
