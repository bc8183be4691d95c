"""Runs, stores and tiny problems for the tests of tasks and flows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from problems.outline.catalogue import load_problem
from tasks.steps import Run

RunMaker = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """Makes a run of a problem in a store of the test's own; keyword arguments replace single fields."""

    def make(problem: str = "housing", settings: dict[str, Any] | None = None, **fields: Any) -> Run:
        complete = load_problem(problem).hyperparameters.from_settings(settings or {})
        values: dict[str, Any] = {
            "run_id": f"{problem}-20260101T000000-abcdef",
            "problem": problem,
            "store": str(tmp_path / "store"),
            "mirror": "",
            "hyperparameters": complete.model_dump(),
            "variant": "",
            "seed": 0,
            "sample": None,
            "data": "",
            "full": False,
            "backend": "tensorflow",
            "request": "0" * 64,
            "started": "2026-01-01T00:00:00+00:00",
            "flow_run": "",
            "checkpoint_seconds": 5.0,
        }
        return Run(**{**values, **fields})

    return make
