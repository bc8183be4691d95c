"""One Prefect server on this machine: started once, reused by every later run, seen in the UI, stopped by a command.

Prefect on its own starts a server for each run and stops it again: 7 to 13 CPU seconds a run, no UI, and an orphan
when the run is killed. A server of the user's own (PREFECT_API_URL, in the environment, a file or a profile) is used
untouched.

    python -m flows.server prepare | start | status | stop
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.addresses import without_secrets
from modelkeep.errors import ModelkeepError
from store.processes import ProcessMark, is_alive, is_gone, mark_process

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 4200
START_LIMIT_SECONDS = 180.0
STOP_LIMIT_SECONDS = 10.0
LOCAL_RUN_TAG = "modelkeep"

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
    if url := _configured_api_url():
        named = ServerAddress(url, without_secrets(url).rstrip("/").removesuffix("/api"), is_local=False)
        return StartingServer(named, server=None, was_started=False)
    folder = _state_folder(create=True)
    with _only_one(folder):
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
    return server if server and _answers(server.api_url, timeout_seconds=2.0) else None


def stop_server() -> bool:
    """Stop the local server and wait until it has ended; False where none runs."""
    folder = _state_folder()
    if not folder.is_dir():
        return False
    with _only_one(folder):
        server = _recorded_server()
        if server:
            _end_process(server)
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


def local_run_tags() -> list[str]:
    """Tags that tell later which process ran a flow: give them to `prefect.tags` around the call of the flow."""
    mark = mark_process()
    return [LOCAL_RUN_TAG, _host_tag(), f"process:{mark.text if mark else 'unknown'}"]


def close_stale_runs() -> list[str]:
    """Close local runs whose process is proved dead: Cancelled if that was asked for, else Crashed. Returns names.

    One request where there is nothing to do.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    unfinished = FlowRunFilter.model_validate(
        {
            "tags": {"all_": [LOCAL_RUN_TAG, _host_tag()]},
            "state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}},
        }
    )
    with get_client(sync_client=True) as client:
        stale = [run for run in client.read_flow_runs(flow_run_filter=unfinished) if _is_left_behind(run.tags)]
        for run in stale:
            _close_run(client, run)
    return [run.name for run in stale]


def _is_left_behind(tags: list[str]) -> bool:
    marks = [ProcessMark.parse(tag.removeprefix("process:")) for tag in tags if tag.startswith("process:")]
    return any(mark and is_gone(mark) for mark in marks)


def _close_run(client: SyncPrefectClient, run: FlowRun) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled, Crashed

    kind = Cancelled if run.state and run.state.type == StateType.CANCELLING else Crashed
    state: State = kind(message="Its process has ended without saying so (killed, or the machine went down).")
    task_runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}),
    )
    for task_run in task_runs:
        client.set_task_run_state(task_run.id, state, force=True)
    client.set_flow_run_state(run.id, state, force=True)


def _host_tag() -> str:
    return f"host:{os.uname().nodename}"


# The user's own server ---------------------------------------------------------------------------------------------


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
    profiles = _read_toml(Path(os.environ.get("PREFECT_PROFILES_PATH") or _prefect_home() / "profiles.toml"))
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
    if not _answers(api_url, timeout_seconds=10.0):
        raise ServerUnavailable(
            "The Prefect server that you have named does not answer.",
            where=f"PREFECT_API_URL = {without_secrets(api_url)}",
            expected="an answer from /health within 10 s",
            received="none",
            next_step="start that server, or correct PREFECT_API_URL (`prefect config view` says where it is set), or "
            "unset it: modelkeep then starts a server on this machine",
        )


# The local server's process ----------------------------------------------------------------------------------------


def _start_process(folder: Path) -> LocalServer:
    """Start the server and note it; the caller holds the lock.

    The socket is opened here and handed over: there is no moment in which another program can take the port, and
    clients that come while the server starts are kept waiting by the kernel instead of being refused.
    """
    listener = _open_listener()
    try:
        base = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        with _open_log(folder) as log:
            process = subprocess.Popen(
                # -P: a folder named `flows` where the user happens to be is not ours.
                [sys.executable, "-P", "-m", "flows.server_process", str(listener.fileno()), "prepared.json"],
                env=_server_environment(base),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[listener.fileno()],
            )
    finally:
        listener.close()
    process.returncode = 0  # It outlives this process on purpose, of which Popen would warn.
    mark = mark_process(process.pid)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server = LocalServer(f"{base}/api", base, process.pid, started, mark.text if mark else "")
    _write_private(folder / "server.json", json.dumps(asdict(server), indent=1))
    return server


def _open_listener() -> socket.socket:
    """A listening socket on loopback: Prefect's port, or a free one where that is taken and was not asked for."""
    asked = os.environ.get("PREFECT_SERVER_API_PORT")
    for port in [asked] if asked else [DEFAULT_PORT, 0]:
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
    project = str(Path(__file__).resolve().parent.parent)
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    defaults = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_LOGGING_LEVEL": "WARNING"}
    fixed = {
        "PREFECT_HOME": str(_prefect_home()),
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": base.rpartition(":")[2],
        "PREFECT_SERVER_UI_API_URL": f"{base}/api",
        "PYTHONPATH": os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")])),
    }
    return defaults | kept | fixed


def _wait_for_start(server: LocalServer, limit_seconds: float) -> bool:
    """Whether the server answers now; False where its process has ended."""
    deadline = time.monotonic() + limit_seconds
    while not _answers(server.api_url, timeout_seconds=1.0):
        if not _is_running(server):
            return False
        if time.monotonic() > deadline:
            raise _start_failed("The local Prefect server runs but does not answer.", f"none in {limit_seconds:.0f} s")
        time.sleep(0.05)
    return True


def _start_failed(what: str, received: str) -> ServerUnavailable:
    log = _state_folder() / "server.log"
    lines = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
    return ServerUnavailable(
        what,
        where=str(log),
        expected="an answer from /api/health",
        received="\n            ".join([received + (", and its log ends with" if lines else ""), *lines]),
        next_step="`python -m flows.server stop`, then start again; the whole log is in the file above",
    )


def _end_process(server: LocalServer) -> None:
    """SIGTERM, then SIGKILL for a server that does not end in time."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_LIMIT_SECONDS
        with suppress(ProcessLookupError):
            os.kill(server.pid, sent)
        while _is_running(server) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _is_running(server):
            with suppress(ChildProcessError):
                os.waitpid(server.pid, 0)  # Where this very process started it, it would stay as a zombie.
            return


def _is_running(server: LocalServer) -> bool:
    mark = ProcessMark.parse(server.process)
    return mark is not None and is_alive(mark)


def _answers(api_url: str, *, timeout_seconds: float) -> bool:
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


def _prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def _state_folder(*, create: bool = False) -> Path:
    """Lock, address, log and the note on the prepared database. Raises ServerUnavailable if it cannot be written."""
    folder = _prefect_home() / "modelkeep-server"
    if not create:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "lock").touch(mode=0o600)
    except OSError as error:
        raise ServerUnavailable(
            "The folder of the local Prefect server cannot be written.",
            where=str(folder),
            expected="a folder that this user may write",
            received=str(error),
            next_step="set PREFECT_HOME to such a folder, or PREFECT_API_URL to a server that runs elsewhere",
        ) from error
    return folder


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process at a time decides about the server. The kernel frees the lock of a process that is killed."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _recorded_server() -> LocalServer | None:
    """The server that was noted, if its process lives. The note of a dead one is replaced by the next start."""
    try:
        server = LocalServer(**json.loads((_state_folder() / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if _is_running(server) else None


def _open_log(folder: Path) -> Any:
    """This start's log; the one before it is kept beside it."""
    log = folder / "server.log"
    if log.exists():
        log.replace(folder / "server.log.1")
    return os.fdopen(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "w")


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and readable by this user alone."""
    draft = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


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
