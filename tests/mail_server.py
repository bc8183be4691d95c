"""A mail server on loopback that remembers what it was given."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest


class MailServer:
    """`mails` are those that were delivered. It knows what a client must say (RFC 5321 §4.5.1), and no more."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        mails = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.answer(b"220 here")
                while line := self.rfile.readline():
                    command = line[:4].upper()
                    if command == b"DATA":
                        self.answer(b"354 go on")
                        mails.append(
                            message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n")), policy=policy.default)
                        )
                    self.answer(b"221 bye" if command == b"QUIT" else b"250 well")

            def answer(self, line: bytes) -> None:
                self.wfile.write(line + b"\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.close()
