from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from uuid import UUID

import pytest

from flows import server
from flows.background import FolderUnavailable
from store.processes import mark_process
from tests.prefect_server import HomeMaker, live_in, refresh_settings, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(make_home: HomeMaker) -> Iterator[Path]:
    """A PREFECT_HOME of this test's own with a prepared database and no server."""
    folder = make_home("home")
    with live_in(folder):
        yield folder


@pytest.fixture
def empty_home(tmp_path: Path) -> Iterator[Path]:
    """A PREFECT_HOME in which nothing has run yet."""
    with live_in(tmp_path / "home"):
        yield tmp_path / "home"


@pytest.fixture
def variables(empty_home: Path) -> Iterator[pytest.MonkeyPatch]:
    """Sets environment variables that are taken back before the empty home is left."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def servers_of(home: Path) -> list[int]:
    """Pids of all running processes that serve this home: they run in a folder of it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, started_in = (folder / "cmdline").read_bytes(), (folder / "cwd").readlink()
        except OSError:
            continue
        if b"flows.server_process" in command and started_in.is_relative_to(home):
            found.append(int(folder.name))
    return found


def run_command(command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.server", command], env=environment, stdout=subprocess.PIPE, text=True
    )


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.status, response.read().decode()


# Life of the server


@pytest.mark.server
def test_a_server_is_started_once_and_used_again_by_other_processes(home: Path) -> None:
    said: list[str] = []
    first = server.ensure_server(on_progress=said.append)
    assert server.ensure_server(on_progress=said.append) == first
    other_process = run_command("start")
    assert first.ui_url in other_process.communicate(timeout=60)[0]
    assert len(servers_of(home)) == 1
    assert len(said) == 2 and first.ui_url in said[1]


@pytest.mark.server
def test_the_ui_is_served_and_asks_the_right_api(prefect_server: server.ServerAddress) -> None:
    status, page = get(prefect_server.ui_url)
    assert status == 200 and "<html" in page
    assert json.loads(get(f"{prefect_server.ui_url}/ui-settings")[1])["api_url"] == prefect_server.api_url


@pytest.mark.server
def test_two_who_start_at_once_end_with_one_server(home: Path) -> None:
    starters = [run_command("start") for _ in range(2)]
    answers = [starter.communicate(timeout=120)[0].splitlines()[-1] for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0]
    assert answers[0] == answers[1]
    assert len(servers_of(home)) == 1


@pytest.mark.server
def test_stop_ends_the_server_and_leaves_no_process(home: Path) -> None:
    server.ensure_server()
    assert len(servers_of(home)) == 1
    assert server.stop_server()
    assert servers_of(home) == []
    assert server.find_server() is None
    assert not server.stop_server()


@pytest.mark.server
def test_a_killed_server_is_replaced(home: Path) -> None:
    server.ensure_server()
    killed = server.find_server()
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    assert server.find_server() is None
    server.ensure_server()
    replacement = server.find_server()
    assert replacement is not None and replacement.pid != killed.pid


@pytest.mark.server
def test_a_server_that_nobody_can_find_any_more_ends_by_itself(home: Path) -> None:
    server.ensure_server()
    (home / "modelkeep-server" / "server.json").unlink()
    assert wait_for(lambda: not servers_of(home))


@pytest.mark.server
def test_the_server_can_be_started_while_other_work_is_done(home: Path) -> None:
    starting = server.begin_server()
    assert starting.was_started and servers_of(home)
    assert server.begin_server().address == starting.address
    assert starting.wait() == starting.address
    assert get(f"{starting.address.api_url}/health") == (200, "true")


@pytest.mark.server
def test_the_server_listens_on_loopback_only_and_keeps_its_files_private(
    prefect_server: server.ServerAddress,
) -> None:
    found = server.find_server()
    assert found is not None
    port = int(prefect_server.ui_url.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    for name in ("server.json", "server.log", "lock"):
        assert (Path(os.environ["PREFECT_HOME"]) / "modelkeep-server" / name).stat().st_mode & 0o077 == 0


def test_looking_for_a_server_makes_no_folder(empty_home: Path) -> None:
    assert server.find_server() is None
    assert not server.stop_server()
    assert not (empty_home / "modelkeep-server").exists()


def test_a_note_that_makes_no_sense_is_thrown_away(empty_home: Path) -> None:
    note = empty_home / "modelkeep-server" / "server.json"
    note.parent.mkdir(parents=True)
    (note.parent / "lock").touch()
    for text in ("", "{", "[]", '{"pid": 1}'):
        note.write_text(text)
        assert server.find_server() is None
        assert not server.stop_server()
        assert not note.exists()


def test_a_process_that_has_the_pid_of_an_old_server_is_not_touched(empty_home: Path) -> None:
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = mark_process(innocent.pid)
    assert mark is not None
    old_mark = replace(mark, started="1").text
    old = server.LocalServer("http://127.0.0.1:9/api", "http://127.0.0.1:9", innocent.pid, "2020", old_mark)
    note = empty_home / "modelkeep-server" / "server.json"
    note.parent.mkdir(parents=True)
    (note.parent / "lock").touch()
    note.write_text(json.dumps(asdict(old)))
    assert not server.stop_server()
    assert innocent.poll() is None
    innocent.communicate(b"\n")


# What can go wrong


def test_a_named_server_that_does_not_answer_is_reported_and_none_is_started(
    empty_home: Path, variables: pytest.MonkeyPatch
) -> None:
    variables.setenv("PREFECT_API_URL", "http://me:secret@127.0.0.1:9/api")
    refresh_settings()
    with pytest.raises(server.ServerUnavailable, match="does not answer") as error:
        server.ensure_server()
    assert "127.0.0.1:9" in str(error.value) and "PREFECT_API_URL" in str(error.value)
    assert "secret" not in str(error.value)
    assert not (empty_home / "modelkeep-server").exists()


@pytest.mark.server
def test_a_named_server_is_used_untouched(
    prefect_server: server.ServerAddress, empty_home: Path, variables: pytest.MonkeyPatch
) -> None:
    variables.setenv("PREFECT_API_URL", prefect_server.api_url)
    refresh_settings()
    assert server.ensure_server() == server.ServerAddress(prefect_server.api_url, prefect_server.ui_url, False)
    assert not (empty_home / "modelkeep-server").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".env", "PREFECT_API_URL=http://127.0.0.1:9/api\n"),
        ("prefect.toml", '[api]\nurl = "http://127.0.0.1:9/api"\n'),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://127.0.0.1:9/api"\n'),
        ("home/profiles.toml", 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'),
    ],
)
def test_a_server_named_in_a_file_is_seen_as_prefect_would_see_it(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / file).write_text(text)
    see = "from flows import server; print(server._configured_api_url(), 'prefect' in sys.modules)"
    see_again = "import prefect; from prefect.settings import get_current_settings as s; print(s().api.url)"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", f"import sys; {see}; {see_again}"]
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["http://127.0.0.1:9/api False", "http://127.0.0.1:9/api"]


def test_a_port_that_was_asked_for_and_is_taken_is_reported(empty_home: Path, variables: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables.setenv("PREFECT_SERVER_API_PORT", str(port))
        with pytest.raises(server.ServerUnavailable, match="port") as error:
            server.ensure_server()
    assert f"127.0.0.1:{port}" in str(error.value) and "in use" in str(error.value)


@pytest.mark.server
def test_a_server_that_ends_at_its_start_is_reported_with_the_end_of_its_log(
    empty_home: Path, variables: pytest.MonkeyPatch
) -> None:
    variables.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    with pytest.raises(server.ServerUnavailable) as error:
        server.ensure_server()
    assert "server.log" in str(error.value)
    assert "unable to open database file" in str(error.value)
    assert servers_of(empty_home) == []


def test_a_home_that_cannot_be_written_is_reported(empty_home: Path, variables: pytest.MonkeyPatch) -> None:
    file = empty_home.with_name("file")
    file.write_text("in the way")
    variables.setenv("PREFECT_HOME", str(file))
    with pytest.raises(FolderUnavailable, match="cannot be written") as error:
        server.ensure_server()
    assert "PREFECT_HOME" in str(error.value)


def test_a_port_that_is_no_port_is_reported(empty_home: Path, variables: pytest.MonkeyPatch) -> None:
    for port in ("http", "123456"):
        variables.setenv("PREFECT_SERVER_API_PORT", port)
        with pytest.raises(server.ServerUnavailable, match="port"):
            server.ensure_server()


def test_importing_the_server_module_imports_neither_prefect_nor_a_web_library() -> None:
    heavy = "{'prefect', 'httpx', 'uvicorn', 'pydantic', 'numpy', 'urllib.request'}"
    command = [sys.executable, "-c", f"import sys, flows.server; print({heavy} & set(sys.modules))"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main(["begin"]) == 2
    assert "usage: python -m flows.server" in capsys.readouterr().err


# Runs that were left behind


def run_tiny_in_a_process_that_is_killed(number: int) -> None:
    program = (
        "from prefect import tags\n"
        "from flows.run_tags import local_run_tags\n"
        "from flows.server import local_run_settings\n"
        "from tests.flows.tiny_flow import tiny\n"
        "with tags(*local_run_tags()), local_run_settings():\n"
        f"    tiny({number}, dies=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == -signal.SIGKILL


@pytest.mark.server
def test_a_run_whose_process_was_killed_is_closed_and_others_are_left_alone(
    prefect_server: server.ServerAddress,
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Cancelling, Running

    from tests.flows.tiny_flow import add, tiny

    mark = mark_process()
    assert mark is not None
    gone = f"{mark.pid}.1.{mark.boot}.{mark.namespace}.{mark.machine}"

    run_tiny_in_a_process_that_is_killed(1)
    with get_client(sync_client=True) as client:

        def leave(state: object, *process_tags: str) -> UUID:
            tags = ["modelkeep", f"host:{os.uname().nodename}", *process_tags]
            return client.create_flow_run(tiny, tags=tags, state=state).id  # type: ignore[arg-type]

        alive = leave(Running(), f"process:{mark.text}")
        elsewhere = leave(Running(), f"process:{gone[:-1]}x")
        without_mark = leave(Running())
        cancelled = leave(Cancelling(), f"process:{gone}")

        def unfinished() -> dict[UUID, FlowRun]:
            kinds = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}})
            return {run.id: run for run in client.read_flow_runs(flow_run_filter=kinds)}

        killed = unfinished().keys() - {alive, elsewhere, without_mark, cancelled}
        assert len(killed) == 1
        run = client.read_flow_run(killed.pop())
        task_run = client.create_task_run(add, flow_run_id=run.id, dynamic_key="left", state=Running())
        assert len(server.close_stale_runs()) == 2
        assert unfinished().keys() == {alive, elsewhere, without_mark}
        run = client.read_flow_run(run.id)
        assert run.state is not None and run.state.is_crashed() and "ended" in str(run.state.message)
        task_state = client.read_task_run(task_run.id).state
        assert task_state is not None and task_state.is_crashed()
        ended = client.read_flow_run(cancelled).state
        assert ended is not None and ended.is_cancelled()
        assert server.close_stale_runs() == []
