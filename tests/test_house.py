"""The rules of the house: imports go one way and are quiet, and what is registered is documented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from deployments.command_line import app
from problems.outline.catalogue import cards_table, problem_names, read_card

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "keras", "jax", "torch", "great_expectations", "matplotlib")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules_of(room: str) -> list[str]:
    files = sorted((ROOT / room).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    return [name for name in names if not name.endswith("__main__")]


def test_imports_go_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed: pip install 'modelkeep[dev]'")
    done = subprocess.run([program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", ["store", "problems", "tasks", "flows"])
def test_importing_a_room_imports_no_heavy_library_and_writes_nothing(room: str, tmp_path: Path) -> None:
    # A problem's expectations may use classes of our own, which Great Expectations needs as it defines them.
    modules = [name for name in modules_of(room) if name != "flows.server_process"]
    code = (
        f"import importlib, os, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path)!r})\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run_python(code) == ""
    assert list(tmp_path.iterdir()) == []


def test_help_and_the_decision_that_there_is_nothing_to_do_need_neither_prefect_nor_pandas() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from flows.command_line import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as shown: main(['--help'])\n"
        "assert 'train' in shown.getvalue()\n"
        "import tasks.requests\n"
        "print(*[name for name in ('prefect', 'pandas', 'numpy', 'boto3', 'tensorflow') if name in sys.modules])"
    )
    assert run_python(code) == ""


def commands() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts = getattr(command, "commands", None)
        names += [f"{name} {part}" for part in parts] if parts else [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme_and_shows_an_example(command: str) -> None:
    assert f"modelkeep {command}" in (ROOT / "README.md").read_text()
    found = typer.main.get_command(app)
    for part in command.split():
        found = found.commands[part]  # type: ignore[attr-defined]
    assert f"modelkeep {command}" in (found.help or "")


def test_the_readme_shows_every_problem_with_what_was_measured() -> None:
    """`modelkeep problems --markdown` prints the table that stands there."""
    cards = {name: read_card(name) for name in problem_names()}
    assert cards_table(cards) in (ROOT / "README.md").read_text()


def test_the_version_is_said_in_one_way() -> None:
    import tomllib

    from modelkeep import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
