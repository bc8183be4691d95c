"""Where tasks that do not wait for each other run: here one after the other, or in the processes of Dask or Ray.

Here they do not run side by side: a training fills the cores of a process, and the seeds of Python, numpy and the
backend belong to the process.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from tasks.inference import num_cores

if TYPE_CHECKING:
    from prefect import Task
    from prefect.task_runners import TaskRunner

HERE = "threads"
FORMS = "threads, dask, dask://HOST:PORT, ray or ray://HOST:PORT"


@contextmanager
def opened_runner(setting: str, num_tasks: int) -> Iterator[TaskRunner[Any] | None]:
    """What `run_all` and `run_each` run on, for all the tasks of a flow: processes that have once imported the Keras
    backend are kept. `setting` is MODELKEEP_RUNNER; there are at most `num_tasks` side by side.

    Raises ModelkeepError for a setting that cannot be followed.
    """
    runner = open_runner(setting, num_tasks)
    with runner or nullcontext():
        yield runner


def run_all(task: Task[..., Any], calls: Sequence[Mapping[str, Any]], runner: TaskRunner[Any] | None) -> list[Any]:
    """The task's result for each call's arguments, in order.

    Where a call fails, the others are still finished, so that what they made is kept; then the first fault is raised.
    """
    if runner is None:
        return [task(**call) for call in calls]
    futures = [runner.submit(task, parameters=dict(call)) for call in calls]
    for future in futures:
        future.wait()
    return [future.result() for future in futures]


def run_each(
    task: Task[..., Any], calls: Sequence[Mapping[str, Any]], runner: TaskRunner[Any] | None
) -> list[Exception]:
    """Call the task with each call's arguments, whatever becomes of the others. The faults, such as lost processes."""
    faults: list[Exception] = []
    futures = [runner.submit(task, parameters=dict(call)) for call in calls] if runner else []
    for end in [future.result for future in futures] or [partial(task, **call) for call in calls]:
        try:
            end()
        except Exception as fault:
            faults.append(fault)
    return faults


def open_runner(setting: str, num_tasks: int) -> TaskRunner[Any] | None:
    """Prefect's runner for a setting; None for this process. A cluster that it starts here has a process for each
    core, and no more of them than tasks."""
    kind, _, address = setting.partition("://")
    if kind not in (HERE, "dask", "ray") or (kind == HERE and address):
        raise ModelkeepError(
            f"MODELKEEP_RUNNER={setting} says nothing that steps could run on.",
            expected=FORMS,
            next_step="correct it or leave it out",
        )
    if kind == HERE:
        return None
    if importlib.util.find_spec(f"prefect_{kind}") is None:
        raise ModelkeepError(
            f"MODELKEEP_RUNNER={setting} needs the package prefect-{kind}, which is not installed.",
            expected=f"the extra {kind}",
            next_step=f"pip install 'modelkeep[{kind}]'",
        )
    num_processes = min(num_tasks, num_cores())
    return _dask(address, num_processes) if kind == "dask" else _ray(address, num_processes)


def share_of_cores(num_processes: int) -> dict[str, str]:
    """Variables by which each of these processes makes threads for its share of the cores, not for all of them; what
    the user has set stays. Dask and Ray tell numpy and torch to make one."""
    share = str(max(1, num_cores() // num_processes))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {name: os.environ.get(name, share) for name in names}


def _dask(address: str, num_processes: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=f"tcp://{address}")
    import dask

    # Dask's profiler asks for all threads' frames, in which Python 3.11 can wait for itself for ever:
    # https://github.com/python/cpython/issues/106883
    dask.config.set({"distributed.worker.profile.enabled": False})
    # One task at a time in a process: the seeds belong to the process.
    local = {"n_workers": num_processes, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    environment = share_of_cores(num_processes)
    return DaskTaskRunner(cluster_kwargs={**local, "dashboard_address": "127.0.0.1:0", "env": environment})


def _ray(address: str, num_processes: int) -> TaskRunner[Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    local = {"num_cpus": num_processes, "runtime_env": {"env_vars": share_of_cores(num_processes)}}
    if not address:
        # Read when Ray is imported: it listens on loopback alone, and tells its makers nothing.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    if address:
        return RayTaskRunner(address=f"ray://{address}", init_kwargs=quiet)
    return RayTaskRunner(init_kwargs={**local, **quiet, "include_dashboard": False})
