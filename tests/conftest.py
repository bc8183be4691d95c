"""What every test can rely on: no settings of the surroundings, and TensorFlow quiet."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("DO_NOT_TRACK", "1")

# Fixtures of a module are made before those of a test, so what the surroundings set goes before all of them.
MIRROR = os.environ.get("MODELKEEP_MIRROR", "")
for name in [name for name in os.environ if name.startswith("MODELKEEP_") and name != "MODELKEEP_TEST_NETWORK"]:
    del os.environ[name]

pytest_plugins = ["tests.prefect_server", "tests.training_store", "tests.stores", "tests.webhook", "tests.mail_server"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def no_settings_of_the_surroundings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A test that wants a mirror or a store says so; those marked `data` have the mirror."""
    if request.node.get_closest_marker("data"):
        monkeypatch.setenv("MODELKEEP_MIRROR", MIRROR)


@pytest.fixture(autouse=True)
def no_log_lines_of_tests_before() -> Iterator[None]:
    """A command that runs in this process shows its log lines on the standard error of its test, and of that alone."""
    logger = logging.getLogger("modelkeep")
    before = logger.handlers[:]
    yield
    for handler in logger.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            logger.removeHandler(handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot do."""
    reasons = {
        "data": "" if _has_mirror() else "set MODELKEEP_MIRROR to a directory with the real data sets",
        "browser": "" if CHROMIUM else "Chromium is not installed (Debian: apt-get install chromium)",
        "network": ""
        if os.environ.get("MODELKEEP_TEST_NETWORK")
        else "set MODELKEEP_TEST_NETWORK=1 to use the internet",
        "dask": "" if find_spec("prefect_dask") else "prefect-dask is not installed: pip install 'modelkeep[dask]'",
        "ray": "" if find_spec("prefect_ray") else "prefect-ray is not installed: pip install 'modelkeep[ray]'",
        "gpu": "" if Path("/proc/driver/nvidia").exists() else "there is no GPU",
    }
    for item in items:
        for mark, reason in reasons.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_mirror() -> bool:
    return Path(MIRROR, "mnist.npz").is_file()
