"""`modelkeep profile`: expectations drafted from data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem, problem_names
from store import open_store
from tasks.ingest import read_sources
from tasks.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd


def draft_profile(name: str, data: str, store: str) -> str:
    """Python source of an `expectations()` for a problem, or for a file with one row per example.

    Raises ModelkeepError for a name that is neither.
    """
    from validation.profile import draft_source

    path = Path(name).expanduser()
    if name in problem_names():
        problem = load_problem(name)
        with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
            examples = read_sources(problem, open_store(store), load_settings().mirror, data, folder)
        return draft_source(examples.frame, name)
    if path.suffix in (".csv", ".parquet") and path.is_file():
        return draft_source(_read_table(path), path.stem)
    raise ModelkeepError(
        f"{name!r} is neither a problem nor a file to read.",
        expected="one of " + ", ".join(problem_names()) + ", or a .csv or .parquet file",
        next_step="check the name or the path",
    )


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep=None, engine="python")
    except (ValueError, OSError) as fault:
        raise ModelkeepError(
            f"{path.name} cannot be read as a table: {fault}",
            where=str(path),
            expected="a CSV with a header, or Parquet",
            next_step="check that the file is whole and that its suffix says what it is",
        ) from None
