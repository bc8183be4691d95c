"""A proxy on loopback that spoils the traffic of an S3 client on request."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_BUSY = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>made by a test</Message></Error>"


@dataclass
class Fault:
    """What to do to the next `times` requests whose method and path contain `method` and `part`."""

    kind: str  # status, cut_request, cut_answer, lose_answer, delay, unconditional
    times: int = 1
    method: str = ""
    part: str = ""
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 0
    before: Callable[[], object] = field(default=lambda: None)  # what to do after the server did its part


class FaultyProxy:
    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self.target = (address.hostname or "", address.port or 80)
        self.faults: list[Fault] = []
        self.met: list[str] = []  # kinds of the faults that were met
        self.requests: list[str] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times > 0 and fault.method in method and fault.part in path:
                    fault.times -= 1
                    self.met.append(fault.kind)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        fault = self.proxy.fault_for(self.command, self.path)
        kind = "" if fault is None else fault.kind
        length = int(self.headers.get("Content-Length", 0))
        if kind == "cut_request":
            self.rfile.read(length // 2)
            return self._cut()
        body = self.rfile.read(length)
        if fault is not None and kind == "status":
            return self._answer(fault.status, {"Content-Type": "application/xml"}, _BUSY % fault.code.encode())
        if fault is not None and kind == "delay":
            time.sleep(fault.seconds)
        status, headers, answer = self._forward(body, conditional=kind != "unconditional")
        if fault is not None:
            fault.before()
        if kind == "lose_answer":
            return self._cut()
        return self._answer(status, headers, answer, cut=kind == "cut_answer")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _forward(self, body: bytes, *, conditional: bool) -> tuple[int, dict[str, str], bytes]:
        unwanted = {"expect", "connection"} | (set() if conditional else {"if-match", "if-none-match"})
        headers = {name: value for name, value in self.headers.items() if name.lower() not in unwanted}
        connection = http.client.HTTPConnection(*self.proxy.target, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        headers = {name.lower(): value for name, value in headers.items()}
        length = headers.pop("content-length", len(body)) if self.command == "HEAD" else len(body)
        for name, value in headers.items():
            if name not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._cut()

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
