"""One Prefect server on this machine: started once, reused by every later run, seen in the UI, stopped by a command.

Prefect on its own starts a server for each run and stops it again: 7 to 13 CPU seconds a run, no UI, and an orphan
when the run is killed. A server of the user's own (PREFECT_API_URL, in the environment, a file or a profile) is used
untouched.

    python -m flows.server prepare | start | status | stop
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.background import (
    end_process,
    is_running,
    last_lines,
    only_one,
    prefect_home,
    start_process,
    state_folder,
    write_private,
)
from flows.run_tags import OURS, PROCESS, host_tag
from modelkeep.addresses import without_secrets
from modelkeep.errors import ModelkeepError
from store.processes import ProcessMark, is_gone

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

logger = logging.getLogger("modelkeep")

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 4200
START_LIMIT_SECONDS = 180.0
STOP_LIMIT_SECONDS = 10.0

Progress = Callable[[str], None]


class ServerUnavailable(ModelkeepError):
    """No Prefect server answers, or none can be started."""


@dataclass(frozen=True)
class LocalServer:
    """The server that this machine's runs share. `started` is ISO 8601 in UTC, `process` a ProcessMark's text."""

    api_url: str
    ui_url: str
    pid: int
    started: str
    process: str


@dataclass(frozen=True)
class ServerAddress:
    """Where flows report to. `is_local` is False for a server that the user has named."""

    api_url: str
    ui_url: str
    is_local: bool


@dataclass(frozen=True)
class StartingServer:
    """A server that may still be starting; import TensorFlow meanwhile and `wait()` before the first flow."""

    address: ServerAddress
    server: LocalServer | None
    was_started: bool

    def wait(self, limit_seconds: float = START_LIMIT_SECONDS) -> ServerAddress:
        """Return once the server answers. Raises ServerUnavailable when it ends first or takes too long."""
        if self.server is None:
            _require_answer(self.address.api_url)
        elif not _wait_for_start(self.server, limit_seconds):
            if self.was_started:
                raise _start_failed("The local Prefect server ended while it was starting.", "it ended")
            return self._replace()
        return self.address

    def _replace(self) -> ServerAddress:
        """Another server for one that was about to end when it was found."""
        address = ensure_server()
        if _in_use == self.address.api_url:
            use_server(address)
        return address


# Starting, finding, stopping --------------------------------------------------------------------------------------


def ensure_server(*, on_progress: Progress | None = None) -> ServerAddress:
    """The user's server, else the running local one, else a local one that is started now; it answers on return."""
    starting = begin_server(on_progress=on_progress)
    address = starting.wait()
    if starting.was_started and on_progress:
        on_progress(f"the Prefect server is up: {address.ui_url} (it stays for later runs)")
    return address


def begin_server(*, on_progress: Progress | None = None) -> StartingServer:
    """As `ensure_server`, but a server that has to be started is not waited for."""
    if named := _named_server():
        return StartingServer(named, server=None, was_started=False)
    folder = state_folder(create=True)
    with only_one(folder):
        server = _recorded_server()
        was_started = server is None
        if server is None:
            if on_progress:
                patience = "" if (folder / "prepared.json").exists() else "; the first start prepares its database"
                on_progress(f"starting a local Prefect server{patience}")
            server = _start_process(folder)
    return StartingServer(ServerAddress(server.api_url, server.ui_url, is_local=True), server, was_started)


def find_server() -> LocalServer | None:
    """The local server, if it runs and answers. A server that is still starting is not found."""
    server = _recorded_server()
    return server if server and answers(server.api_url, timeout_seconds=2.0) else None


def find_address() -> ServerAddress | None:
    """Where flows report to now: the user's server, or the local one if it runs and answers."""
    local = find_server()
    return _named_server() or (ServerAddress(local.api_url, local.ui_url, is_local=True) if local else None)


def stop_server() -> bool:
    """Stop the local server and wait until it has ended; False where none runs."""
    folder = state_folder()
    if not folder.is_dir():
        return False
    with only_one(folder):
        server = _recorded_server()
        if server:
            end_process(server.process, STOP_LIMIT_SECONDS)
        (folder / "server.json").unlink(missing_ok=True)
    return server is not None


def prepare_database() -> None:
    """Make or upgrade the local server's database, through Prefect's own migration, so that the first run need not."""
    if _configured_api_url():
        return
    starting = begin_server()
    starting.wait()
    if starting.was_started:
        stop_server()


def use_server(address: ServerAddress) -> None:
    """Let Prefect in this process, imported or not, and in processes that it starts report to this server."""
    global _in_use
    _in_use = address.api_url if address.is_local else None
    os.environ["PREFECT_API_URL"] = address.api_url
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


_in_use: str | None = None  # the local server's address, which `use_server` has put where a user's would be


@contextmanager
def local_run_settings() -> Iterator[None]:
    """For a flow that runs in this process: no heartbeat, as joining its thread adds 1 s to every run.

    Nobody waits for it here: `close_stale_runs` proves by the process that a run is dead. Workers keep heartbeats.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


# Runs that a killed process has left behind ------------------------------------------------------------------------


def close_stale_runs(settled_seconds: float = 60.0) -> list[FlowRun]:
    """Close runs of this machine whose process is proved dead: Cancelled if that was asked for, else Crashed.

    Returns them as they were. One request where there is nothing to do. A run of a deployment that has changed its
    state within `settled_seconds` is left alone: a worker may have taken it up, and not have noted its process yet.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        stale = [run for run in find_stale_runs(client) if _is_settled(run, settled_seconds)]
        return [run for run in stale if close_run(client, run)]


def find_stale_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Unfinished runs that began in a process of this machine that is gone."""
    from prefect.client.schemas.filters import FlowRunFilter

    unfinished = FlowRunFilter.model_validate(
        {
            "tags": {"all_": [OURS, host_tag()]},
            "state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}},
        }
    )
    return [run for run in client.read_flow_runs(flow_run_filter=unfinished) if _is_left_behind(run.tags)]


def _is_settled(run: FlowRun, seconds: float) -> bool:
    if run.deployment_id is None:
        return True
    if run.state is None or run.state.is_pending():
        return False  # Its tags are those of the process before.
    return (datetime.now(UTC) - run.state.timestamp).total_seconds() >= seconds


def _is_left_behind(tags: list[str]) -> bool:
    marks = [ProcessMark.parse(tag.removeprefix(PROCESS)) for tag in tags if tag.startswith(PROCESS)]
    return any(mark and is_gone(mark) for mark in marks)


def close_run(client: SyncPrefectClient, run: FlowRun) -> bool:
    """False where the server refuses it, which is told and stops nothing else."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.states import Cancelled, Crashed

    kind = Cancelled if run.state and run.state.type == StateType.CANCELLING else Crashed
    state: State = kind(message="Its process has ended without saying so (killed, or the machine went down).")
    task_runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}),
    )
    try:
        for task_run in task_runs:
            client.set_task_run_state(task_run.id, state, force=True)
        client.set_flow_run_state(run.id, state, force=True)
    except PrefectHTTPStatusError as refused:
        logger.warning("the Prefect server refuses to close the run %s (%s)", run.name, refused.response.status_code)
        return False
    return True


# The user's own server ---------------------------------------------------------------------------------------------


def _named_server() -> ServerAddress | None:
    url = _configured_api_url()
    return ServerAddress(url, without_secrets(url).rstrip("/").removesuffix("/api"), is_local=False) if url else None


def _configured_api_url() -> str | None:
    """PREFECT_API_URL as Prefect would see it, found without importing Prefect (which costs a second)."""
    if "prefect.settings" in sys.modules:
        from prefect.settings import get_current_settings

        url = get_current_settings().api.url
    else:
        url = next(filter(None, _api_urls_by_priority()), None)
    return None if url is None or url == _in_use else url


def _api_urls_by_priority() -> Iterator[str | None]:
    """The order of https://docs.prefect.io/v3/concepts/settings-and-profiles."""
    yield os.environ.get("PREFECT_API_URL")
    yield _read_environment_file(Path(".env")).get("PREFECT_API_URL")
    yield _read_toml(Path("prefect.toml")).get("api", {}).get("url")
    yield _read_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {}).get("api", {}).get("url")
    profiles = _read_toml(Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml"))
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    yield profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")


def _read_environment_file(path: Path) -> dict[str, str | None]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(path)


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError:
        return {}  # Prefect says so itself, and better, when it reads its settings.


def _require_answer(api_url: str) -> None:
    if not answers(api_url, timeout_seconds=10.0):
        raise ServerUnavailable(
            "The Prefect server that you have named does not answer.",
            where=f"PREFECT_API_URL = {without_secrets(api_url)}",
            expected="an answer from /health within 10 s",
            received="none",
            next_step="start that server, or correct PREFECT_API_URL (`prefect config view` says where it is set), or "
            "unset it: modelkeep then starts a server on this machine",
        )


def require_access(client: SyncPrefectClient) -> None:
    """Raises ServerUnavailable where the server wants to know who asks."""
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        client.read_work_pools(limit=1)
    except PrefectHTTPStatusError as refused:
        if refused.response.status_code not in (401, 403):
            raise
        raise ServerUnavailable(
            "The Prefect server does not let you in.",
            where=f"PREFECT_API_URL = {without_secrets(str(client.api_url))}",
            expected="user and password in PREFECT_API_AUTH_STRING, or a key in PREFECT_API_KEY",
            received=f"status {refused.response.status_code}",
            next_step="set it to what the server has in PREFECT_SERVER_API_AUTH_STRING",
        ) from None


# The local server's process ----------------------------------------------------------------------------------------


def _start_process(folder: Path) -> LocalServer:
    """Start the server and note it; the caller holds the lock.

    The socket is opened here and handed over: there is no moment in which another program can take the port, and
    clients that come while the server starts are kept waiting by the kernel instead of being refused.
    """
    listener = _open_listener(folder / "port")
    try:
        base = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        mark = start_process(
            ["-m", "flows.server_process", str(listener.fileno()), "prepared.json"],
            folder=folder,
            log=folder / "server.log",
            environment=_server_environment(base),
            pass_fds=[listener.fileno()],
        )
    finally:
        listener.close()
    if mark is None:
        raise _start_failed("The local Prefect server ended as soon as it was started.", "it ended")
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server = LocalServer(f"{base}/api", base, mark.pid, started, mark.text)
    write_private(folder / "server.json", json.dumps(asdict(server), indent=1))
    write_private(folder / "port", base.rpartition(":")[2])
    return server


def _open_listener(last_port: Path) -> socket.socket:
    """A listening socket on loopback: the port of the server before, which runs that have lost it ask again and again;
    else Prefect's port, or a free one where that is taken. Where one was asked for, that one."""
    asked = os.environ.get("PREFECT_SERVER_API_PORT")
    before = [last_port.read_text()] if last_port.is_file() else []
    ports: list[str | int] = [*before, DEFAULT_PORT, 0]
    if asked:
        ports = [*before, 0] if asked == "0" else [asked]  # 0 is any
    for port in ports:
        try:
            return socket.create_server((LOOPBACK, int(port)), backlog=128)
        except (OSError, ValueError, OverflowError) as error:
            reason = error
    raise ServerUnavailable(
        "The Prefect server cannot listen on the port that it was told to use.",
        where=f"{LOOPBACK}:{asked or DEFAULT_PORT}",
        expected="a free port (PREFECT_SERVER_API_PORT)",
        received=str(reason),
        next_step="stop what uses the port, or unset PREFECT_SERVER_API_PORT and any free port is taken; if it is a "
        "Prefect server that you want to use, set PREFECT_API_URL to it",
    )


def _server_environment(base: str) -> dict[str, str]:
    """What a server for one machine needs: no telemetry, and a UI that asks the right address."""
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # By default leases are kept in memory: what a run holds when server and run are killed is held for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    fixed = {
        "PREFECT_HOME": str(prefect_home()),
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": base.rpartition(":")[2],
        "PREFECT_SERVER_UI_API_URL": f"{base}/api",
    }
    return defaults | kept | fixed


def _wait_for_start(server: LocalServer, limit_seconds: float) -> bool:
    """Whether the server answers now; False where its process has ended."""
    deadline = time.monotonic() + limit_seconds
    while not answers(server.api_url, timeout_seconds=1.0):
        if not is_running(server.process):
            return False
        if time.monotonic() > deadline:
            raise _start_failed("The local Prefect server runs but does not answer.", f"none in {limit_seconds:.0f} s")
        time.sleep(0.05)
    return True


def _start_failed(what: str, received: str) -> ServerUnavailable:
    log = state_folder() / "server.log"
    lines = last_lines(log)
    return ServerUnavailable(
        what,
        where=str(log),
        expected="an answer from /api/health",
        received="\n            ".join([received + (", and its log ends with" if lines else ""), *lines]),
        next_step="`python -m flows.server stop`, then start again; the whole log is in the file above",
    )


def answers(api_url: str, *, timeout_seconds: float) -> bool:
    """Whether anything of a Prefect server answers at /health; a refusal (401, 403) is an answer too."""
    import urllib.error
    import urllib.request

    # A proxy of the environment must not be asked for this machine's own addresses.
    is_local = api_url.startswith((f"http://{LOOPBACK}:", "http://localhost:"))
    opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * is_local)
    try:
        with opener.open(f"{api_url.rstrip('/')}/health", timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, ValueError):
        return False


# What is kept in PREFECT_HOME --------------------------------------------------------------------------------------


def _recorded_server() -> LocalServer | None:
    """The server that was noted, if its process lives. The note of a dead one is replaced by the next start."""
    try:
        server = LocalServer(**json.loads((state_folder() / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if is_running(server.process) else None


# Command line ------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["status"]
    if rest or command not in ("prepare", "start", "status", "stop"):
        print("usage: python -m flows.server prepare | start | status | stop", file=sys.stderr)
        return 2
    try:
        print(_run_command(command))
    except ModelkeepError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _run_command(command: str) -> str:
    if command == "prepare":
        prepare_database()
        return "the Prefect server's database is ready"
    if command == "start":
        return f"Prefect server: {ensure_server(on_progress=lambda line: print(line, flush=True)).ui_url}"
    if command == "stop":
        return "the Prefect server has stopped" if stop_server() else "no local Prefect server was running"
    if server := find_server():
        return f"Prefect server: {server.ui_url} (pid {server.pid}, since {server.started})"
    return "no local Prefect server is running"


if __name__ == "__main__":
    sys.exit(main())
