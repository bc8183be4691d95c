"""`modelkeep serve`: champions behind HTTP, until the process is told to stop.

Not a Prefect flow: it does not end, and it answers in milliseconds (docs/decisions/0010).
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from store import open_store
from tasks.champion import needs_keras
from tasks.settings import load_settings

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from flows.serve_app import Limits
    from problems.outline.problem import Problem
    from store.artifacts import Store
    from tasks.online import Scored
    from tasks.served import ServedProblem
    from tasks.serving_metrics import ServingMetrics

logger = logging.getLogger("modelkeep")

POLL_SECONDS = 3.0
STOP_SECONDS = 30
MOST_CONNECTIONS = 1000


def serve(
    names: Sequence[str],
    store_uri: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str = "",
    share: float = 1.0,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Answer until SIGTERM or SIGINT, then finish what is in flight and keep what was logged.

    Raises UnknownProblem, NoChampion, CannotBeServed, ArtifactCorrupt, and ModelkeepError where the port is taken.
    """
    from flows.local_run import import_keras, quiet_libraries

    problems = [load_problem(name) for name in dict.fromkeys(names)]
    if not problems:
        raise ModelkeepError(
            "There is nothing to serve.", expected="names of problems, with commas between them", received="none"
        )
    store = open_store(store_uri)
    # A mistake is told before anything is loaded.
    imports_keras = [needs_keras(store, problem.name, in_bulk=False) for problem in problems]
    quiet_libraries()
    with ExitStack() as stack:
        listener = stack.enter_context(closing(_bind(host, port)))
        if any(imports_keras):
            import_keras()
        from flows.serve_app import build_app
        from flows.serve_gate import Gate
        from tasks.served import ChampionWatch
        from tasks.serving_metrics import ServingMetrics

        metrics, limits = ServingMetrics(), read_limits()
        served = [_open(problem, store, share, metrics, stack) for problem in problems]
        stack.enter_context(closing(ChampionWatch(served, poll_seconds, metrics.count_fault)))
        _say(served, listener, bool(token))
        with _signals_end_the_server():
            make_server(Gate(build_app(served, metrics, limits), metrics, limits, token)).run(sockets=[listener])
    logger.info("serve     stopped")


def _bind(host: str, port: int) -> socket.socket:
    """A port that is ours, on which nobody is heard before everything is loaded."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # With the protocol named, asyncio switches Nagle's algorithm off, which would hold each answer back for 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as fault:
        bound.close()
        raise ModelkeepError(
            f"Nothing can be served at {host}:{port}: {fault.strerror}.",
            next_step="choose another --port (0 finds a free one), or stop what uses this one",
        ) from None
    return bound


def _open(problem: Problem, store: Store, share: float, metrics: ServingMetrics, stack: ExitStack) -> ServedProblem:
    """A problem with its log, which is closed after it."""
    from tasks.request_log import RequestLog
    from tasks.served import ServedProblem

    log = stack.enter_context(closing(RequestLog(store, problem, share=share)))

    def tell(scored: Scored) -> None:
        metrics.count_rows(problem.name, scored)
        if not served.model.is_series:  # what was asked about a series makes no window together
            log.add(scored)

    served = ServedProblem(
        problem, store, on_scored=tell, on_batch=lambda num_rows: metrics.count_batch(problem.name, num_rows),
        most_waiting=load_settings().serve_queue,
    )  # fmt: skip
    metrics.watch(served)
    stack.enter_context(closing(served))
    return served


def make_server(app: ASGIApp) -> uvicorn.Server:
    """It says nothing of its own, and finishes what is in flight before it ends."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )


def _say(served: Sequence[ServedProblem], listener: socket.socket, has_token: bool) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    for one in served:
        name = one.problem.name
        path = f"/{name}/predict" if one.problem.rows else f"/v2/models/{name}/infer"
        logger.info("serve     %s version %d by %s at %s%s", name, one.version.number, one.engine, address, path)
    if not has_token and not ipaddress.ip_address(host).is_loopback:
        logger.warning("serve     everybody who reaches %s is answered: give --token-file to change that", address)


@contextmanager
def _signals_end_the_server() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more, which would end this process before its log is kept."""
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def read_limits() -> Limits:
    """From MODELKEEP_SERVE_ROWS and its like."""
    from flows.serve_app import Limits

    settings = load_settings()
    return Limits(settings.serve_rows, settings.serve_bytes, settings.serve_seconds)


def read_token(file: Path | None) -> str:
    """From the file, else MODELKEEP_SERVE_TOKEN; "" where there is neither. Raises ModelkeepError for an empty file."""
    if file is None:
        return load_settings().serve_token.get_secret_value()
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise ModelkeepError(
            "The file for the token holds none.", where=str(file), next_step="write a long random text into it"
        )
    return token
