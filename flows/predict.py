"""The flow `predict`: what the champion says of a window, here a folder of pictures.

python -m flows.predict photos --input FOLDER            the same as `modelkeep predict photos --input FOLDER`
"""

from __future__ import annotations

import datetime
import sys
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from problems.outline.catalogue import ProblemName
from tasks.score import Scored, score
from tasks.settings import load_settings


def _run_name() -> str:
    moment = datetime.datetime.now().strftime("%d %b %H:%M:%S")
    return f"predict {runtime.flow_run.parameters['problem']} · {moment}"


@flow(name="predict", flow_run_name=_run_name, log_prints=False)
def predict(
    problem: Annotated[ProblemName, Field(description="Whose champion is asked")],
    window: Annotated[str, Field(description="A folder of pictures, or one picture")],
    output: Annotated[str, Field(description="A folder for what is made, or a .parquet file with the rest beside it")],
    store: Annotated[str, Field(description="Where the champion is kept; empty for MODELKEEP_STORE")] = "",
) -> Scored:
    """Score a window with the champion, as Parquet and as contact sheets; what cannot be read is set aside and listed.

    Raises NoChampion, WindowInvalid, OutputInvalid, ArtifactCorrupt.
    """
    return score(str(problem), window, output, store or load_settings().store)


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["predict", *sys.argv[1:]]))
