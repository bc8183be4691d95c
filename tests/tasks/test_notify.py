"""What a webhook is told, and that one which does not answer costs a warning and gives no secret away."""

from __future__ import annotations

import logging

import pytest

from tasks.notify import notify
from tasks.settings import load_settings
from tests.webhook import TOKEN, Webhook


def test_a_webhook_gets_a_small_json_that_chats_can_show(webhook: Webhook) -> None:
    notify("modelkeep.model.promoted", "churn", "version 2 is champion", version=2)
    (told,) = webhook.told
    assert told.pop("when").endswith("+00:00")
    assert told == {
        "event": "modelkeep.model.promoted",
        "problem": "churn",
        "text": "churn: version 2 is champion",
        "version": 2,
    }


def test_without_an_address_nothing_is_sent() -> None:
    notify("modelkeep.model.promoted", "churn", "version 2 is champion")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:9/hidden-token", "cannot be reached (ConnectionRefusedError)"),
        ("file:///etc/hidden-token", "cannot be reached (ValueError)"),
        ("hidden-token", "cannot be reached (ValueError)"),
        ("http://[hidden-token/", "cannot be reached (ValueError)"),
    ],
)
def test_one_that_cannot_be_reached_costs_a_warning_without_its_address(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELKEEP_WEBHOOK", address)
    with caplog.at_level(logging.DEBUG):
        notify("modelkeep.run.failed", "churn", "the run failed")
    assert said in caplog.text and "the run failed" in caplog.text and TOKEN not in caplog.text
    assert TOKEN not in repr(load_settings())


def test_one_that_refuses_costs_a_warning(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status = 503
    with caplog.at_level(logging.DEBUG):
        notify("modelkeep.run.failed", "churn", "the run failed")
    assert "answered 503" in caplog.text and TOKEN not in caplog.text
