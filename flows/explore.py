"""The flow `explore`: what a problem's data looks like, before anything is trained.

python -m flows.explore housing            the same as `modelkeep explore housing`
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.train import begin_run
from problems.outline.catalogue import ProblemName
from tasks.explore import explore as explore_examples
from tasks.ingest import ingest
from tasks.prepare import prepare


@flow(name="explore", flow_run_name="explore {problem}", log_prints=False)
def explore(
    problem: Annotated[ProblemName, Field(description="Whose data to look at")],
    sample: Annotated[int | None, Field(ge=1, description="Use only so many examples, drawn at random")] = None,
    data: Annotated[str, Field(description="Your own file, path or address, in place of the source")] = "",
    full: Annotated[bool, Field(description="Refuse a package's partial copy of the data")] = False,
    store: Annotated[str, Field(description="Where artifacts are kept; empty for MODELKEEP_STORE")] = "",
) -> dict[str, Any]:
    """Show columns, the target, copies, and how test rows differ from training rows. Nothing is checked or trained.

    The result is that of `tasks.explore.explore`. Raises SourceUnavailable.
    """
    run = begin_run(str(problem), {}, "", 0, sample, data, full, store)
    examples = ingest(run)
    return explore_examples(run, examples, prepare(run, examples))


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["explore", *sys.argv[1:]]))
