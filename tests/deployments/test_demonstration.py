"""The parts of the demonstration that its surroundings could spoil; what it shows is tested part by part elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from deployments.demonstration import PROBLEM, kill, main, set_surroundings, write_moved_world
from problems.outline.catalogue import load_problem
from store.processes import mark_process
from tasks.performance import check_labels
from validation.windows import validate_window


def test_no_setting_of_the_user_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_API_URL": "https://example.org/api", "MODELKEEP_STORE": "s3://mine"})
    monkeypatch.chdir(tmp_path)
    set_surroundings(tmp_path)
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["MODELKEEP_STORE"] == str(tmp_path / "store")
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--folder", str(tmp_path)])
    assert ended.value.code == 2 and "is there already" in capsys.readouterr().err


def test_the_moved_world_is_good_data_that_can_be_judged_and_has_its_truth(tmp_path: Path) -> None:
    window, labels = write_moved_world(tmp_path)
    problem, table = load_problem(PROBLEM), pd.read_csv(window)
    result = validate_window(table, problem.expectations(), name="moved", is_large=True)
    assert result is not None and result.success
    assert len(table) >= problem.drift.least_rows
    check_labels(str(labels), problem)


def test_only_the_very_process_that_is_meant_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark = mark_process(process.pid)
    assert mark is not None
    kill(mark.text.replace(f".{mark.started}.", ".1."))  # another process had this number before
    time.sleep(0.1)
    assert process.poll() is None
    kill(mark.text)
    assert process.wait(10) == -9
