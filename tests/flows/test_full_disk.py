"""The disk of the store is full in the middle of a run."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from flows.server import ServerAddress
from flows.train import train
from store import open_store
from store.errors import StoreUnavailable
from store.registry import Registry

pytestmark = pytest.mark.server


def test_a_run_on_a_full_disk_says_so_leaves_nothing_half_written_and_goes_on_when_there_is_room(
    prefect_server: ServerAddress, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(small_disk / "store")
    with pytest.raises(StoreUnavailable, match="The disk of the store is full") as error:
        train("perceptron", store=store.uri)
    assert "modelkeep gc" in str(error.value) and str(small_disk) in error.value.where
    assert Registry(store).versions("perceptron") == []
    assert list(store.list_unfinished()) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with caplog.at_level(logging.INFO, logger="modelkeep"):
        assert train("perceptron", store=store.uri).champion
    assert "ingest    unchanged" in caplog.text and "prepare   unchanged" in caplog.text
