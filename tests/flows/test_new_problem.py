"""A problem of one's own begins as a copy that works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command_line import main
from flows.new_problem import TABLE_BEGINS, TABLE_ENDS
from flows.server import ServerAddress
from tasks.code_digest import ROOMS, ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project that a test may add to."""
    for room in (*ROOMS, "tests"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def python(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(folder)}
    environment |= more
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_copied_problem_is_found_and_passes_the_test_of_its_model(checkout: Path) -> None:
    made = python(checkout, "-m", "flows.command_line", "new", "rents", "--like", "housing")
    assert made.returncode == 0, made.stderr
    assert "rents" in python(checkout, "-m", "flows.command_line", "problems").stdout
    text = (checkout / "problems" / "rents.py").read_text()
    assert 'name="rents"' in text and "class RentsHyperparameters" in text and "Measured  not yet\nCaution" in text
    chosen = "rents and (small_training or card or hyperparameters)"
    tested = python(checkout, "-m", "pytest", "-q", "-k", chosen, "tests/problems", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout


@pytest.mark.server
def test_the_guide_can_be_followed_literally(checkout: Path, prefect_server: ServerAddress) -> None:
    guide = (ROOT / "docs" / "guides" / "new-problem.md").read_text(encoding="utf-8")
    said: dict[str, str] = {}
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        if language == "python":
            title, _, body = text.partition("\n")
            (checkout / title.removeprefix("# ")).write_text(body, encoding="utf-8")
            continue
        for command in text.splitlines():
            said[command] = follow(command, checkout, prefect_server.api_url)
    assert "champion" in said["modelkeep models wine"]
    assert Path(said["modelkeep report wine"].strip().splitlines()[-1]).is_file()
    assert "passed" in said["python -m pytest -q tests/problems -k wine"]
    assert "def expectations" in (checkout / "draft.py").read_text()
    assert "which of three growers" in (checkout / "README.md").read_text()


def follow(command: str, checkout: Path, api_url: str) -> str:
    """What a command of the guide prints; nothing for what needs an installation of its own, or data of next year."""
    name, *arguments = command.split()
    if name == "make" or "wine-of-this-year.csv" in command:
        return ""
    program = ["-m", "flows.command_line"] if name == "modelkeep" else []
    done = python(checkout, *program, *arguments, PREFECT_API_URL=api_url, MODELKEEP_STORE=str(checkout / "store"))
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_table_of_problems_is_put_where_one_stands_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{TABLE_BEGINS}\nstood here\n{TABLE_ENDS}\nafter\n")
    assert main(["problems", "--into", str(page)]) == 0
    text = page.read_text()
    assert (
        text.startswith("before\n") and text.endswith("\nafter\n") and "stood here" not in text and "`housing`" in text
    )
    page.write_text("nothing")
    assert main(["problems", "--into", str(page)]) == 2
    assert page.read_text() == "nothing"


@pytest.mark.parametrize(
    ("name", "told"), [("Rents", "cannot be the name"), ("housing", "already"), ("class", "cannot")]
)
def test_a_name_that_cannot_be_one_or_is_taken_is_refused(
    name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", name]) == 2
    assert told in capsys.readouterr().err
