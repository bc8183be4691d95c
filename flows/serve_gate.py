"""What every request to `modelkeep serve` passes: the token, the size and time of its body, and the counting of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.serve_app import Limits
from tasks.serving_metrics import ServingMetrics

logger = logging.getLogger("modelkeep")

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
UPLOAD_SECONDS = 30.0


class Refused(Exception):
    """Of code, reason and headers."""

    def __init__(self, code: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.code, self.headers = code, headers or {}


class Gate:
    """Wraps an app. Without a `token` everybody is let in; health is open in any case."""

    def __init__(self, app: ASGIApp, metrics: ServingMetrics, limits: Limits, token: str = "") -> None:
        self._app, self._metrics, self._limits, self._token = app, metrics, limits, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        code = 500

        async def send_counted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._require_token(scope["path"], headers)
            body = await self._read_body(headers, receive)
            await self._app(scope, _replay(body, receive), send_counted)
        except Refused as refused:
            await _answer(send_counted, refused)
        except Exception:  # it was answered with 500 already
            logger.exception("serve     %s %s failed", scope["method"], scope["path"])
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count_request(route, code, time.perf_counter() - begin)

    def _require_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        if not self._token or path in OPEN_PATHS:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            raise Refused(
                401, "A bearer token is expected, and this request has none or another.", {"www-authenticate": "Bearer"}
            )

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body. Raises Refused for one that is too large, or that takes too long to arrive."""
        most = self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise Refused(413, f"The body may have {most:,} bytes; this one has {int(length):,}.")
        body, is_whole = bytearray(), False
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                while not is_whole:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "The body ends too early.")
                    body += message.get("body", b"")
                    is_whole = not message.get("more_body")
                    if len(body) > most:
                        raise Refused(413, f"The body may have {most:,} bytes; this one has more.")
        except TimeoutError:
            raise Refused(408, f"The body did not arrive within {UPLOAD_SECONDS:g} s.") from None
        return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"error": str(refused)}).encode()
    headers: dict[str, Any] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    told = [(name.encode(), value.encode()) for name, value in (headers | refused.headers).items()]
    await send({"type": "http.response.start", "status": refused.code, "headers": told})
    await send({"type": "http.response.body", "body": body})
