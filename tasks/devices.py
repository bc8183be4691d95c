"""The graphics processors of this machine, told without importing a library that would take hold of them."""

from __future__ import annotations

import os
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")


def gpu_slots() -> list[str]:
    """The names of the concurrency limits that let one training at a time have a device of this machine."""
    return [f"gpu{number}.{os.uname().nodename}" for number in range(num_gpus())]


def num_gpus() -> int:
    """How many NVIDIA devices this process may use: those of the driver that CUDA_VISIBLE_DEVICES leaves."""
    present = len(list(_DRIVER.iterdir())) if _DRIVER.is_dir() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    # As CUDA reads it: what follows a number that is no device's does not count.
    named = [name.strip() for name in visible.split(",")]
    wrong = next((place for place, name in enumerate(named) if name in ("", "-1")), len(named))
    return min(present, wrong)
