"""The step that a worker does before a flow: it goes where relative paths start."""

from __future__ import annotations

import os
from pathlib import Path

from modelkeep.errors import ModelkeepError


class NoFolder(ModelkeepError):
    """The worker was not told a folder that is there."""


def work_in(directory: str) -> dict[str, str]:
    """Make `directory` the current one. Raises NoFolder.

    Prefect's own `set_working_directory` takes an unset variable for "stay": the run ends well, and what it has
    written is deleted with the temporary folder in which a worker starts its runs.
    """
    if not Path(directory or "?").is_dir():
        raise NoFolder(
            "The worker does not know in which folder to run.",
            where="MODELKEEP_FOLDER in the worker's environment",
            expected="a folder that exists: relative paths, such as the default store, start there",
            received=directory or "nothing",
            next_step="start the worker with it: MODELKEEP_FOLDER=/some/folder prefect worker start --pool cpu",
        )
    os.chdir(directory)
    return {"directory": directory}
