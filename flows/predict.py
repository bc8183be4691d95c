"""The flow `predict`: what the champion says of a window, a table or a folder of pictures.

python -m flows.predict churn --input FILE            the same as `modelkeep predict churn --input FILE`
"""

from __future__ import annotations

import datetime
import sys
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from flows.run_tags import note_process
from problems.outline.catalogue import ProblemName
from tasks.score import Scored, score
from tasks.settings import load_settings


def _run_name() -> str:
    moment = datetime.datetime.now().strftime("%d %b %H:%M:%S")
    return f"predict {runtime.flow_run.parameters['problem']} · {moment}"


@flow(name="predict", flow_run_name=_run_name, log_prints=False, on_running=[note_process])
def predict(
    problem: Annotated[ProblemName, Field(description="Whose champion is asked")],
    window: Annotated[str, Field(description="A table (path or address), a folder of pictures, or one picture")],
    output: Annotated[str, Field(description="A folder for what is made, or a .parquet file with the rest beside it")],
    store: Annotated[str, Field(description="Where the champion is kept; empty for MODELKEEP_STORE")] = "",
) -> Scored:
    """Score a window with the champion, as Parquet, and pictures as contact sheets too; what cannot be scored is set
    aside and listed.

    Raises NoChampion, WindowInvalid, OutputInvalid, OutputBusy, SourceUnavailable, BadInput, ArtifactCorrupt.
    """
    return score(str(problem), window, output, store or load_settings().store)


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["predict", *sys.argv[1:]]))
