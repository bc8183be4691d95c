"""A search of hyperparameters: what is tried, by which rows it is judged, and what becomes of trials that fail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.churn import ChurnHyperparameters
from problems.outline.hyperparameters import Hyperparameters, search
from store.steps import StepRecord
from tasks import search as searching
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tasks.search import (
    NothingToSearch,
    NoTrialFinished,
    Study,
    begin_study,
    open_study,
    read_study,
    require_best,
    search_space,
    try_settings,
)
from tasks.steps import Run
from tests.problems.test_churn import make_sample, make_table
from tests.training_store import RunMaker

FIXED = ("dropout", "l2", "batch_size", "learning_rate")  # so that units and epochs are searched
SETTINGS = {"epochs": 10, "units": 8}


@dataclass
class Search:
    """A study, and what its trials are given."""

    run: Run
    examples: StepRecord
    prepared: StepRecord
    storage: str
    study: str
    fixed: Sequence[str]

    def try_settings(self, number: int) -> dict[str, Any]:
        return try_settings.fn(**self.__dict__, number=number)

    def read(self) -> Study:
        return read_study(self.run.problem, self.storage, self.study)


def begin(run: Run, folder: Path, fixed: Sequence[str] = FIXED) -> Search:
    examples = ingest.fn(run)
    prepared = prepare.fn(run, examples)
    storage = f"sqlite:///{folder / 'studies.db'}"
    return Search(run, examples, prepared, storage, begin_study(run, examples, prepared, storage, fixed), fixed)


@pytest.fixture
def churn(make_run: RunMaker, tmp_path: Path) -> Run:
    return make_run("churn", SETTINGS, data=str(make_sample(tmp_path)))


def test_the_space_is_what_the_problem_declares_without_what_is_fixed() -> None:
    space = search_space(ChurnHyperparameters, fixed=["units"])
    assert set(space) == {"dropout", "l2", "epochs", "batch_size", "learning_rate"}
    assert space["epochs"] == optuna.distributions.IntDistribution(10, 100)
    assert space["dropout"] == optuna.distributions.FloatDistribution(0.0, 0.6)
    assert space["l2"] == optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    assert space["batch_size"] == optuna.distributions.CategoricalDistribution([32, 64, 128])


def test_a_call_that_a_cluster_repeats_is_answered_from_the_study(churn: Run, tmp_path: Path) -> None:
    search_ = begin(churn, tmp_path)
    told = [search_.try_settings(number) for number in (0, 1, 0, 1)]
    assert told[:2] == told[2:] and search_.read().num_done == 2
    later = Search(**{**search_.__dict__, "run": replace(churn, run_id="another")})
    later.try_settings(1)
    assert later.read().num_done == 3


def test_a_range_may_begin_at_zero() -> None:
    class Layers(Hyperparameters):
        hidden_layers: int = search(1, low=0, high=3)

    assert search_space(Layers) == {"hidden_layers": optuna.distributions.IntDistribution(0, 3)}


def test_without_ranges_or_held_out_rows_there_is_nothing_to_search(churn: Run, tmp_path: Path) -> None:
    with pytest.raises(NothingToSearch, match="declares no ranges"):
        begin(churn, tmp_path, fixed=[*FIXED, "units", "epochs"])
    search_ = begin(churn, tmp_path)
    bare = StepRecord(**{**search_.prepared.__dict__, "facts": {"folds": 0, "validation": 0}})
    with pytest.raises(NothingToSearch, match="no rows out of training"):
        begin_study(churn, search_.examples, bare, search_.storage, FIXED)


def test_a_database_that_cannot_be_opened_is_named_without_its_password(churn: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelkeepError) as refused:
        open_study(f"sqlite:///{tmp_path}/no/folder/studies.db", "churn", maximize=True)
    assert "MODELKEEP_STUDIES" in str(refused.value)
    with pytest.raises(ModelkeepError) as refused:
        open_study("postgresql+asyncpg://user:secret@127.0.0.1:1/x", "churn", maximize=True)
    assert "secret" not in str(refused.value)


def test_a_search_begins_with_the_given_settings_and_tries_the_same_each_time(churn: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, again = begin(churn, tmp_path / "a"), begin(churn, tmp_path / "b")
    assert first.study == again.study
    told = [first.try_settings(number) for number in range(3)]
    assert told[0]["settings"] == SETTINGS and told[0]["state"] == "complete" and 0 < told[0]["value"] <= 1
    assert len({str(one["settings"]) for one in told}) == 3
    repeated = [again.try_settings(number) for number in range(3)]
    assert [(one["settings"], one["value"]) for one in repeated] == [(one["settings"], one["value"]) for one in told]
    assert first.read().best == max(told, key=lambda one: one["value"])


def test_test_rows_take_no_part(churn: Run, make_run: RunMaker, tmp_path: Path) -> None:
    """With the opposite answers on the test rows everything is as before."""
    plain = begin(churn, tmp_path)
    table = make_table()
    test = load_rows(churn.open_store(), plain.prepared).test
    other = table.assign(
        Churn=np.where(table.index.isin(test), table["Churn"].map({"Yes": "No", "No": "Yes"}), table["Churn"])
    )
    other.to_csv(tmp_path / "other.csv", index=False)
    turned = begin(make_run("churn", SETTINGS, data=str(tmp_path / "other.csv")), tmp_path)
    turned.prepared = plain.prepared  # the same rows in each part
    assert turned.try_settings(0)["value"] == plain.try_settings(0)["value"]


def test_a_trial_that_fails_is_kept_with_its_fault_and_ends_nothing(
    churn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_ = begin(churn, tmp_path)

    def out_of_memory(*_: Any) -> float:
        raise MemoryError("8 GB are not to be had")

    with monkeypatch.context() as patched:
        patched.setattr(searching, "_validate", out_of_memory)
        assert search_.try_settings(0)["state"] == "fail"
        with pytest.raises(NoTrialFinished, match="8 GB are not to be had"):
            require_best(search_.read())
    assert search_.try_settings(1)["state"] == "complete"
    study = search_.read()
    assert study.num_done == 2 and study.trials[0]["fault"] == "MemoryError: 8 GB are not to be had"
    assert require_best(study)["number"] == 2


def test_a_trial_of_a_killed_process_is_tried_again(
    churn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(searching, "_GRACE_SECONDS", 1)
    search_ = begin(churn, tmp_path)
    opened = open_study(search_.storage, search_.study, maximize=True)
    begun = opened.ask(search_space(ChurnHyperparameters, FIXED))
    begun.set_user_attr("call", f"{churn.run_id} 0")  # which a cluster repeats
    opened._storage.record_heartbeat(begun._trial_id)  # its last sign of life
    assert search_.read().num_done == 0
    time.sleep(3)  # of whole seconds that the database counts, more than the grace period
    assert search_.try_settings(0)["settings"] == SETTINGS
    study = search_.read()
    assert study.num_done == 1 and [one["state"] for one in study.trials] == ["fail", "complete"]


def test_a_hopeless_trial_is_ended_early(churn: Run, tmp_path: Path) -> None:
    search_ = begin(churn, tmp_path)
    opened = open_study(search_.storage, search_.study, maximize=True)
    perfect = dict.fromkeys(range(1, 101), 1.0)
    for units in range(20, 26):
        opened.add_trial(
            optuna.trial.create_trial(
                value=1.0,
                params={"units": units, "epochs": 100},
                distributions=search_space(ChurnHyperparameters, FIXED),
                intermediate_values=perfect,
            )
        )
    told = search_.try_settings(0)
    assert told["state"] == "pruned" and told["value"] is None


def test_the_same_settings_are_not_trained_twice(churn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search_ = begin(churn, tmp_path)
    first = search_.try_settings(0)
    opened = open_study(search_.storage, search_.study, maximize=True)
    opened.enqueue_trial(SETTINGS)
    monkeypatch.setattr(searching, "_validate", lambda *_: pytest.fail("it was trained again"))
    assert search_.try_settings(1)["value"] == first["value"]


def test_folds_judge_where_there_are_folds(make_run: RunMaker, tmp_path: Path) -> None:
    search_ = begin(make_run("housing", {"epochs": 2, "units": 16, "batch_size": 32}), tmp_path, fixed=["batch_size"])
    told = search_.try_settings(0)
    reported = open_study(search_.storage, search_.study, maximize=False).trials[0].intermediate_values
    assert told["state"] == "complete" and sorted(reported) == [1, 2, 3]


def test_importance_needs_some_trials_and_sums_to_one(churn: Run, tmp_path: Path) -> None:
    search_ = begin(churn, tmp_path)
    opened = open_study(search_.storage, search_.study, maximize=True)
    space = search_space(ChurnHyperparameters, FIXED)
    random = np.random.default_rng(0)
    for count in range(12):
        assert (search_.read().importance is None) == (count < 10)
        params = {"units": int(random.integers(8, 129)), "epochs": int(random.integers(10, 101))}
        opened.add_trial(optuna.trial.create_trial(value=params["units"] / 128, params=params, distributions=space))
    importance = pd.Series(search_.read().importance)
    assert importance.idxmax() == "units" and importance.sum() == pytest.approx(1)
