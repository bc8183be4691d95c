"""Where tasks that do not wait for each other run: here one after the other, or in the processes of Dask or Ray.

Here they do not run side by side: a training fills the cores of a process, and the seeds of Python, numpy and the
backend belong to the process.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    from prefect import Task
    from prefect.task_runners import TaskRunner

FORMS = "threads, dask, dask://HOST:PORT, ray or ray://HOST:PORT"


def run_all(task: Task[..., Any], calls: Sequence[Mapping[str, Any]], setting: str) -> list[Any]:
    """The task's result for each call's arguments, in order. `setting` is MODELKEEP_RUNNER.

    Where a call fails, the others are still finished, so that what they made is kept; then the first fault is raised.
    Raises ModelkeepError for a setting that cannot be followed.
    """
    runner = open_runner(setting, len(calls))
    if runner is None:
        return [task(**call) for call in calls]
    with runner:
        futures = [runner.submit(task, parameters=dict(call)) for call in calls]
        for future in futures:
            future.wait()
        return [future.result() for future in futures]


def run_each(task: Task[..., Any], calls: Sequence[Mapping[str, Any]], setting: str) -> list[Exception]:
    """Call the task with each call's arguments, whatever becomes of the others. The faults, such as lost processes."""
    runner = open_runner(setting, len(calls))
    faults: list[Exception] = []
    with runner or nullcontext():
        futures = [runner.submit(task, parameters=dict(call)) for call in calls] if runner else []
        ends = [future.result for future in futures] or [partial(task, **call) for call in calls]
        for end in ends:
            try:
                end()
            except Exception as fault:
                faults.append(fault)
    return faults


def open_runner(setting: str, num_tasks: int) -> TaskRunner[Any] | None:
    """Prefect's runner for a setting; None for this process. A cluster that it starts here has a process for each
    core, and no more of them than tasks."""
    kind, _, address = setting.partition("://")
    if kind not in ("threads", "dask", "ray") or (kind == "threads" and address):
        raise ModelkeepError(
            f"MODELKEEP_RUNNER={setting} says nothing that steps could run on.",
            expected=FORMS,
            next_step="correct it or leave it out",
        )
    if kind == "threads":
        return None
    if importlib.util.find_spec(f"prefect_{kind}") is None:
        raise ModelkeepError(
            f"MODELKEEP_RUNNER={setting} needs the package prefect-{kind}, which is not installed.",
            expected=f"the extra {kind}",
            next_step=f"pip install 'modelkeep[{kind}]'",
        )
    num_processes = min(num_tasks, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    return _dask(address, num_processes) if kind == "dask" else _ray(address, num_processes)


def _dask(address: str, num_processes: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=f"tcp://{address}")
    # One task at a time in a process: the seeds belong to the process.
    local = {"n_workers": num_processes, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    return DaskTaskRunner(cluster_kwargs={**local, "dashboard_address": "127.0.0.1:0"})


def _ray(address: str, num_processes: int) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    if address:
        return RayTaskRunner(address=f"ray://{address}")
    return RayTaskRunner(init_kwargs={"num_cpus": num_processes, "include_dashboard": False})
