"""Where the trials of a comparison run."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from prefect import flow, task

from flows.compare import compare
from flows.runner import open_runner, opened_runner, run_all, run_each, share_of_cores
from flows.server import ServerAddress
from flows.train import train
from modelkeep.errors import ModelkeepError
from tasks.inference import num_cores
from tasks.register import AcceptanceFailed

CLUSTERS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("dask", "ray")]


@task
def divide(number: int) -> tuple[float, int]:
    return 6 / number, os.getpid()


@task
def leave_a_note(number: int, folder: str) -> None:
    if number == 1:
        os._exit(9)
    Path(folder, str(number)).touch()


@task
def has_profiler() -> bool:
    from distributed import get_worker

    return "profile" in get_worker().periodic_callbacks


@flow
def ask_for_profiler() -> list[bool]:
    with opened_runner("dask", 1) as runner:
        return run_all(has_profiler, [{}], runner)


@task
def told_of_threads() -> set[str | None]:
    return {os.environ.get(name) for name in share_of_cores(1)}


@flow
def ask_for_threads(num_processes: int, setting: str) -> list[set[str | None]]:
    with opened_runner(setting, num_processes) as runner:
        return run_all(told_of_threads, [{}] * num_processes, runner)


@flow
def leave_notes(numbers: list[int], folder: str, setting: str) -> list[str]:
    calls = [{"number": number, "folder": folder} for number in numbers]
    with opened_runner(setting, len(calls)) as runner:
        return [type(fault).__name__ for fault in run_each(leave_a_note, calls, runner)]


@flow
def divide_each(numbers: list[int], setting: str) -> list[str]:
    with opened_runner(setting, len(numbers)) as runner:
        return [str(fault) for fault in run_each(divide, [{"number": number} for number in numbers], runner)]


@flow
def divide_all(numbers: list[int], setting: str) -> list[tuple[float, int]]:
    with opened_runner(setting, len(numbers)) as runner:
        return run_all(divide, [{"number": number} for number in numbers], runner)


@pytest.mark.parametrize("setting", ["dsak", "threads://four", "", "http://127.0.0.1"])
def test_a_setting_that_says_nothing_to_run_on_is_refused(setting: str) -> None:
    with pytest.raises(ModelkeepError, match="says nothing") as refused:
        open_runner(setting, 2)
    assert "dask://HOST:PORT" in str(refused.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelkeepError, match="prefect-ray, which is not installed"):
        open_runner("ray", 2)


@pytest.mark.server
def test_without_a_cluster_tasks_run_in_this_process_in_order(prefect_server: ServerAddress) -> None:
    results = divide_all([1, 2, 3], "threads")
    assert results == [(6.0, os.getpid()), (3.0, os.getpid()), (2.0, os.getpid())]


@pytest.mark.server
def test_a_fault_may_be_told_and_not_raised(prefect_server: ServerAddress) -> None:
    assert divide_each([1, 0, 3], "threads") == ["division by zero"]


@pytest.mark.server
@pytest.mark.dask
def test_no_worker_asks_for_the_frames_of_all_threads(prefect_server: ServerAddress) -> None:
    assert ask_for_profiler() == [False]


def test_processes_share_the_cores_and_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runner.num_cores", lambda: 7)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "5")
    shares = [share_of_cores(num_processes)["TF_NUM_INTRAOP_THREADS"] for num_processes in (1, 2, 3, 7, 9)]
    assert shares == ["7", "3", "2", "1", "1"]
    assert share_of_cores(2)["TF_NUM_INTEROP_THREADS"] == "5"


@pytest.mark.server
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_process_of_a_cluster_is_told_its_share_of_the_cores(
    prefect_server: ServerAddress, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in share_of_cores(1):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("flows.runner.num_cores", lambda: 6)
    assert ask_for_threads(2, cluster) == [{"3"}, {"3"}]
    assert not set(share_of_cores(1)) & set(os.environ)


@pytest.mark.server
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_process_that_dies_takes_no_other_task_with_it(
    prefect_server: ServerAddress, cluster: str, tmp_path: Path
) -> None:
    assert len(leave_notes([1, 2, 3, 4], str(tmp_path), cluster)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "4"]


@pytest.mark.server
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_fault_on_a_cluster_is_raised_when_the_others_are_done(prefect_server: ServerAddress, cluster: str) -> None:
    results = divide_all([1, 2, 3], cluster)
    assert [quotient for quotient, _ in results] == [6.0, 3.0, 2.0]
    assert os.getpid() not in {process for _, process in results}
    with pytest.raises(ZeroDivisionError):
        divide_all([1, 0, 3], cluster)


@pytest.mark.server
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_trials_on_a_cluster_end_with_the_weights_that_they_have_here(
    prefect_server: ServerAddress, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With another number of threads TensorFlow adds up a convolution in another order.
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", str(num_cores()))
    asked = {"variants": ["mlp", "convnet"], "seeds": 2, "sample": 600}
    settings = {"epochs": 1, "units": 64, "filters": 4}
    here = compare("digits", **asked, hyperparameters=settings, store=str(tmp_path / "here"))
    monkeypatch.setenv("MODELKEEP_RUNNER", cluster)
    there = compare("digits", **asked, hyperparameters=settings, store=str(tmp_path / "there"))
    assert there["used"]["weights_digests"] == here["used"]["weights_digests"]
    assert there["sentence"] == here["sentence"]
    assert len(list((tmp_path / "there/steps/digits/fit").glob("*.json*"))) == 4


@pytest.mark.server
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_folds_on_a_cluster_predict_what_they_predict_here(
    prefect_server: ServerAddress, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predictions_of_folds(place: str) -> dict[str, str]:
        with suppress(AcceptanceFailed):  # after two epochs
            train("housing", hyperparameters={"epochs": 2, "units": 16}, store=str(tmp_path / place))
        [written] = (tmp_path / place / "runs/housing").glob("*/manifest.json")
        manifest = json.loads(written.read_text())
        return {name: ref["sha256"] for name, ref in manifest["artifacts"].items() if name.startswith("fold")}

    here = predictions_of_folds("here")
    monkeypatch.setenv("MODELKEEP_RUNNER", cluster)
    assert predictions_of_folds("there") == here and len(here) == 4


@pytest.mark.server
@pytest.mark.dask
def test_a_cluster_that_is_there_already_is_used_by_its_address(prefect_server: ServerAddress) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        processes = {process for _, process in divide_all([1, 2], cluster.scheduler_address.replace("tcp", "dask"))}
    assert len(processes) == 1 and os.getpid() not in processes
