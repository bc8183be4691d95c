from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.server_process import AskAgainWhenLocked, Message, describe_database, is_prepared


class LockedAtFirst:
    """An application that answers like Prefect: 503 and then an exception, `times` times, and then what it was sent."""

    def __init__(self, times: int) -> None:
        self.times, self.bodies = times, []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        self.bodies.append(body + message["body"])
        locked = len(self.bodies) <= self.times
        await send({"type": "http.response.start", "status": 503 if locked else 201, "headers": []})
        await send({"type": "http.response.body", "body": self.bodies[-1]})
        if locked:
            raise RuntimeError("database is locked")


def ask(application: LockedAtFirst, method: str = "POST") -> list[Message]:
    parts = [
        {"type": "http.request", "body": b"first, ", "more_body": True},
        {"type": "http.request", "body": b"second", "more_body": False},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(AskAgainWhenLocked(application)({"type": "http", "method": method}, receive, send))
    return sent


def test_a_request_that_met_a_locked_database_is_repeated_whole_and_answered_once() -> None:
    application = LockedAtFirst(times=3)
    sent = ask(application)
    assert [message.get("status") for message in sent] == [201, None]
    assert application.bodies == [b"first, second"] * 4


def test_a_database_that_stays_locked_is_reported_as_before() -> None:
    application = LockedAtFirst(times=100)
    with pytest.raises(RuntimeError, match="locked"):
        ask(application)
    assert len(application.bodies) == len(AskAgainWhenLocked.PAUSES_SECONDS) + 1


def test_a_fault_that_is_not_a_lock_is_not_repeated() -> None:
    calls = []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        calls.append(await receive())
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        ask(broken)  # type: ignore[arg-type]
    assert len(calls) == 1


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc123')")
        connection.commit()
    return path


def write_marker(database: Path, **changed: object) -> Path:
    marker = database.with_name("prepared.json")
    marker.write_text(json.dumps(describe_database(f"sqlite+aiosqlite:///{database}") | changed))
    return marker


def test_a_database_is_not_migrated_twice_by_the_same_prefect(database: Path) -> None:
    assert is_prepared(f"sqlite+aiosqlite:///{database}", write_marker(database))


def test_another_prefect_migrates_again(database: Path) -> None:
    marker = write_marker(database, prefect=["prefect-3.0.0.dist-info"])
    assert not is_prepared(f"sqlite+aiosqlite:///{database}", marker)


def test_a_database_of_another_revision_is_migrated(database: Path) -> None:
    assert not is_prepared(f"sqlite+aiosqlite:///{database}", write_marker(database, revision="older"))


def test_a_database_that_was_deleted_is_made_again(database: Path) -> None:
    marker = write_marker(database)
    database.unlink()
    assert not is_prepared(f"sqlite+aiosqlite:///{database}", marker)
    write_marker(database)
    assert not is_prepared(f"sqlite+aiosqlite:///{database}", marker)


def test_a_database_on_a_server_is_left_to_prefect(database: Path) -> None:
    marker = write_marker(database)
    assert not is_prepared("postgresql+asyncpg://me@127.0.0.1/prefect", marker)
