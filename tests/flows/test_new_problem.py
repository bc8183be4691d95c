"""A problem of one's own begins as a copy that works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command_line import main
from tasks.code_digest import ROOMS, ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project that a test may add to."""
    for room in (*ROOMS, "tests"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(folder)}
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


@pytest.mark.parametrize(
    ("name", "told"), [("Rents", "cannot be the name"), ("housing", "already"), ("class", "cannot")]
)
def test_a_name_that_cannot_be_one_or_is_taken_is_refused(
    name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", name]) == 2
    assert told in capsys.readouterr().err
