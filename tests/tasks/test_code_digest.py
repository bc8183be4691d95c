"""What a step's code is: everything of this project that it reaches, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks import code_digest as module
from tasks.code_digest import ROOMS, ROOT, code_digest, reached_files


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project whose files a test may edit."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for remembered in (module._files_of, module._own_modules, module._templates):
        remembered.cache_clear()


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


def test_editing_one_problem_leaves_another_as_it_was(copied: Path) -> None:
    housing, digits = code_digest("tasks.fit", "problems.housing"), code_digest("tasks.fit", "problems.digits")
    edit(copied / "problems" / "digits.py")
    assert code_digest("tasks.fit", "problems.housing") == housing
    assert code_digest("tasks.fit", "problems.digits") != digits


def test_editing_a_module_changes_what_uses_it_however_deep(copied: Path) -> None:
    before = code_digest("tasks.fit"), code_digest("tasks.ingest")
    edit(copied / "tasks" / "engines.py")
    after = code_digest("tasks.fit"), code_digest("tasks.ingest")
    assert after[0] != before[0] and after[1] == before[1]


def test_imports_inside_functions_count(copied: Path) -> None:
    before = code_digest("tasks.validate")
    edit(copied / "validation" / "gate.py")  # imported where the check is made
    assert code_digest("tasks.validate") != before


def test_the_template_of_a_page_counts(copied: Path) -> None:
    before = code_digest("tasks.report")
    edit(copied / "tasks" / "templates" / "report.html.j2")
    assert code_digest("tasks.report") != before


def test_libraries_do_not_count_and_every_file_is_of_this_project() -> None:
    files = reached_files(["flows.train"])
    assert ROOT / "tasks" / "fit.py" in files and ROOT / "store" / "local.py" in files
    assert all(path.is_relative_to(ROOT) and ".venv" not in path.parts for path in files)


def test_the_digest_is_the_same_in_another_process() -> None:
    import subprocess
    import sys

    command = "from tasks.code_digest import code_digest; print(code_digest('tasks.fit', 'problems.housing'))"
    printed = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert printed.strip() == code_digest("tasks.fit", "problems.housing")
