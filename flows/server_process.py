"""The server's own process: Prefect's API, UI and services on a socket that `flows.server` has opened.

Started as `python -P -m flows.server_process DESCRIPTOR MARKER`. A database that this very Prefect has migrated before
is not migrated again, and its blocks are not registered again; the file MARKER says which database that is.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def main() -> None:
    descriptor, marker = int(sys.argv[1]), Path(sys.argv[2])
    # The imports make a million objects that all stay: looking for garbage among them costs 15 % of the start.
    gc.disable()
    from prefect.settings import get_current_settings

    database = get_current_settings().server.database.connection_url
    url = database.get_secret_value() if database else ""
    serve(socket.socket(fileno=descriptor), url, marker)


def serve(listener: socket.socket, database_url: str, marker: Path) -> None:
    """Serve until SIGTERM or SIGINT; the marker is written when a migration has gone well."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import (
        PREFECT_SERVER_DATABASE_MIGRATE_ON_START,
        PREFECT_SERVER_REGISTER_BLOCKS_ON_START,
        temporary_settings,
    )

    prepared = is_prepared(database_url, marker)
    skipped = {PREFECT_SERVER_DATABASE_MIGRATE_ON_START: False, PREFECT_SERVER_REGISTER_BLOCKS_ON_START: False}

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not prepared:
                marker.write_text(json.dumps(describe_database(database_url)))
            gc.freeze()
            gc.enable()

    async def leave_if_forgotten() -> None:
        server.should_exit = server.should_exit or not is_noted(marker.with_name("server.json"))

    with temporary_settings(skipped if prepared else {}):
        config = uvicorn.Config(
            AskAgainWhenLocked(create_app(final=True)),
            lifespan="on",
            log_level="warning",
            access_log=False,
            callback_notify=leave_if_forgotten,
            timeout_notify=2,
            timeout_graceful_shutdown=2,  # An open page of the UI holds a websocket, which never ends by itself.
        )
        server = Server(config)
        server.run(sockets=[listener])


def is_noted(note: Path) -> bool:
    """Whether `flows.server` still knows this process: one that nobody can find any more must not live on."""
    try:
        return bool(json.loads(note.read_text())["pid"] == os.getpid())
    except (OSError, ValueError, KeyError):
        return False


class AskAgainWhenLocked:
    """Repeats a request that Prefect has refused with 503 because SQLite was locked.

    A transaction that has read before another one wrote is refused at once, whatever the timeout
    (https://www.sqlite.org/rescode.html#busy_snapshot). Prefect leaves it to the client to ask again, and the client
    sleeps for 2 s first, which 4 to 7 of 12 short flows met. Here the same is done after some milliseconds.
    """

    PAUSES_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "GET":
            await self.application(scope, receive, send)
            return
        body = await read_body(receive)
        for pause_seconds in self.PAUSES_SECONDS:
            if await self.is_answered(scope, replay(body, receive), send):
                return
            await asyncio.sleep(pause_seconds)
        await self.application(scope, replay(body, receive), send)

    async def is_answered(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> bool:
        refused = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            refused = refused or (message["type"] == "http.response.start" and message["status"] == 503)
            if not refused:
                await send(message)

        try:
            await self.application(dict(scope), receive, send_unless_refused)
        except Exception:
            # Starlette raises what it has answered, for the server's log.
            if not refused:
                raise
        return not refused


async def read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def is_prepared(database_url: str, marker: Path) -> bool:
    """Whether this Prefect, with these integrations, has brought this database to the revision that it has now."""
    try:
        recorded = json.loads(marker.read_text())
    except (OSError, ValueError):
        return False
    described = describe_database(database_url)
    return described["revision"] is not None and recorded == described


def describe_database(database_url: str) -> dict[str, object]:
    path = database_url.partition(":///")[2]
    is_file = database_url.startswith("sqlite") and Path(path).is_file()
    return {"prefect": installed_prefect(), "revision": read_revision(path) if is_file else None}


def read_revision(path: str) -> str | None:
    """The revision that Alembic has noted in an SQLite file; None where it has noted none."""
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def installed_prefect() -> list[str]:
    """Prefect and its integrations with their versions, by their folders: importing none of them.

    An integration that is added brings block types to register, so it counts as another installation.
    """
    found = importlib.util.find_spec("prefect")
    folders = found.submodule_search_locations if found else None
    return sorted(entry.name for folder in folders or [] for entry in Path(folder).parent.glob("prefect*.dist-info"))


if __name__ == "__main__":
    main()
