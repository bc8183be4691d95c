"""The flow `monitor`: whether new data, and how the champion does on it, have moved away from what it learnt.

python -m flows.monitor churn            the same as `modelkeep monitor churn`
"""

from __future__ import annotations

import datetime
import sys
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from flows.run_tags import note_process
from problems.outline.catalogue import ProblemName
from tasks.monitor import Monitored, check_window, conclude, measure_window, take_window
from tasks.settings import load_settings


def _run_name() -> str:
    moment = datetime.datetime.now().strftime("%d %b %H:%M:%S")
    return f"monitor {runtime.flow_run.parameters['problem']} · {moment}"


@flow(name="monitor", flow_run_name=_run_name, log_prints=False, on_running=[note_process])
def monitor(
    problem: Annotated[ProblemName, Field(description="Whose windows are watched")],
    window: Annotated[str, Field(description="The id of a scored window; empty for the newest")] = "",
    data: Annotated[str, Field(description="A table (path or address) that is scored first; empty for none")] = "",
    labels: Annotated[str, Field(description="A table with row and target, where the truth has come")] = "",
    store: Annotated[str, Field(description="Where versions and windows are kept; empty for MODELKEEP_STORE")] = "",
) -> Monitored:
    """Check a window's data, measure its drift and, with labels, how well the version does, and say what follows.

    An alarm is no failure of this run: it is in what it ends with, and goes out as an event.
    Raises NoWindow, NoChampion, NoReference, LabelsInvalid, SourceUnavailable, ArtifactCorrupt.
    """
    place = store or load_settings().store
    kept = take_window(str(problem), window, data, place)
    if isinstance(kept, Monitored):
        return kept
    checks = check_window(kept, place)
    found = measure_window(kept, labels, place) if checks["success"] else None
    return conclude(kept, checks, found, place)


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(["monitor", *sys.argv[1:]]))
