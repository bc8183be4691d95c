"""The whole life of a model with its artifacts in S3, over HTTP, on a server on loopback."""

from __future__ import annotations

import pytest

from flows.server import ServerAddress
from flows.train import train
from store.artifacts import Store
from store.registry import Registry
from tasks.requests import Request, find_answer

pytestmark = pytest.mark.server


def test_training_works_in_s3_as_on_disk_and_a_second_one_has_nothing_to_do(
    prefect_server: ServerAddress, s3_store: Store
) -> None:
    trained = train("housing", {"epochs": 15}, store=s3_store.uri)
    champion = Registry(s3_store).champion("housing")
    assert champion is not None and champion.run == trained.run
    keys = {info.key for info in s3_store.list(f"runs/housing/{trained.run}")}
    names = ("manifest.json", "report.html", "fit/model.keras")
    assert {f"runs/housing/{trained.run}/{name}" for name in names} <= keys
    answer = find_answer(Request("housing", {"epochs": 15}, store=s3_store.uri))
    assert answer is not None and answer.manifest["run"] == trained.run
