"""What a webhook is told, and that one which does not answer costs a warning and gives no secret away."""

from __future__ import annotations

import logging

import pytest

from flows.server import ServerAddress
from tasks.notify import notify
from tasks.settings import load_settings
from tests.mail_server import MailServer
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


@pytest.mark.server
def test_a_secret_of_prefect_that_holds_the_address_of_a_mailbox_sends_mail(
    prefect_server: ServerAddress, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.blocks.system import Secret

    who = "from=modelkeep@example.org&to=team@example.org&mode=insecure&smtp=127.0.0.1&format=text"
    Secret(value=f"mailto://127.0.0.1:{mail_server.port}?{who}").save("ops-mail", overwrite=True)
    monkeypatch.setenv("MODELKEEP_NOTIFY", "secret/ops-mail")
    notify("modelkeep.model.promoted", "churn", "version 2 is champion", version=2)
    (mail,) = mail_server.mails
    assert mail["To"] == "team@example.org" and mail["Subject"] == "modelkeep: churn, modelkeep.model.promoted"
    body = mail.get_body(("plain",))
    assert body is not None and body.get_content().splitlines()[0] == "churn: version 2 is champion"
    assert "version: 2" in body.get_content()


@pytest.mark.server
def test_a_notification_block_is_told_beside_the_webhook(
    prefect_server: ServerAddress, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    block = CustomWebhookNotificationBlock(name="chat", url=webhook.address, json_data={"said": "{{body}}"})
    block.save("chat", overwrite=True)
    monkeypatch.setenv("MODELKEEP_NOTIFY", "custom-webhook/chat")
    notify("modelkeep.model.promoted", "churn", "version 2 is champion")
    first, second = webhook.told
    assert first["event"] == "modelkeep.model.promoted" and second["said"].startswith("churn: version 2 is champion")


@pytest.mark.server
def test_a_block_that_is_not_there_or_cannot_deliver_costs_a_warning_without_its_secret(
    prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.blocks.system import Secret

    Secret(value=f"mailto://ada:{TOKEN}@127.0.0.1:9?from=a@example.org&to=b@example.org&mode=insecure").save(
        "dead", overwrite=True
    )
    with caplog.at_level(logging.DEBUG, logger="modelkeep"):
        for name in ("secret/dead", "slack-webhook/none"):
            monkeypatch.setenv("MODELKEEP_NOTIFY", name)
            notify("modelkeep.run.failed", "churn", "the run failed")
            assert f"the block {name} cannot be used" in caplog.text
    assert "the run failed" in caplog.text and TOKEN not in caplog.text
