"""Forms: how rows become what a model takes, with the files that the form needs as they were when it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.problem import Inputs, Problem, Rows, Stack
from store.artifacts import ArtifactRef, Store

if TYPE_CHECKING:
    import pandas as pd


class FormIncomplete(ModelkeepError):
    """A version was trained without a file that its rows need."""


def form_of_run(problem: Problem, store: Store, manifest: Mapping[str, Any]) -> Rows | Stack | None:
    """The problem's `rows`, of which `inputs` takes rows alone. It raises FormIncomplete, ArtifactCorrupt."""
    form = problem.rows
    if not (isinstance(form, Rows) and form.files):
        return form
    known, names, make = {entry["source"]: entry["ref"] for entry in manifest["sources"]}, form.files, form.inputs

    @cache
    def find(name: str) -> Path:
        if name not in known:
            raise FormIncomplete(
                f"The version was trained without {name}, which rows of {problem.name} need.",
                next_step=f"put {name} into the mirror, and train again",
            )
        return store.local_path(ArtifactRef.from_dict(known[name]))

    def inputs(frame: pd.DataFrame) -> Inputs:
        return make(frame, {name: find(name) for name in names})

    return replace(form, inputs=inputs, files=())
