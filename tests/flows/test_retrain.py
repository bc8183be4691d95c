"""The flow `retrain` with a real Prefect server: a world that has moved, and all that leaves a champion as it is."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.command_line import main
from flows.retrain import retrain
from flows.server import ServerAddress
from flows.train import train
from store import open_store
from store.artifacts import ArtifactRef, Store
from store.errors import StoreUnavailable
from store.registry import Registry
from tasks.register import AcceptanceFailed
from tasks.retraining import Retrained, read_retrainings
from tasks.verdicts import read_verdicts
from tests.drift_champion import make_customers
from tests.webhook import Webhook
from validation.gate import ValidationFailed

pytestmark = pytest.mark.server

SETTINGS = {"epochs": 25, "patience": None, "dropout": 0.1}


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


def of_old(num_rows: int, seed: int) -> pd.DataFrame:
    """Customers of whom those with a monthly contract leave, most of them."""
    table, random = make_customers(num_rows, seed), np.random.default_rng(seed)
    leaves = random.random(num_rows) < np.where(table["Contract"] == "Month-to-month", 0.85, 0.08)
    return table.assign(Churn=np.where(leaves, "Yes", "No"))


def of_late(num_rows: int, seed: int) -> pd.DataFrame:
    """Customers of a new tariff, of whom the others leave."""
    table, random = make_customers(num_rows, seed), np.random.default_rng(seed)
    dear = (table["MonthlyCharges"] + 300).round(2)
    leaves = random.random(num_rows) < np.where(table["Contract"] == "Month-to-month", 0.08, 0.85)
    total = (table["tenure"] * dear).round(2).astype(str).mask(table["tenure"] == 0, " ")
    return table.assign(MonthlyCharges=dear, TotalCharges=total, Churn=np.where(leaves, "Yes", "No"))


@pytest.fixture(scope="module")
def trained(reported_to: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose champion knows the old world."""
    folder = tmp_path_factory.mktemp("retrained")
    of_old(2500, 0).to_csv(folder / "customers.csv", index=False)
    done = train("churn", SETTINGS, data=str(folder / "customers.csv"), store=str(folder / "store"))
    assert done.champion, done.reason
    (folder / "customers.csv").unlink()  # the store has it
    return folder


@pytest.fixture(scope="module")
def moved(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, after a window of the new world was scored and its truth has come."""
    folder = tmp_path_factory.mktemp("moved") / "copy"
    shutil.copytree(trained, folder)
    watch(folder, of_late(1500, 1))
    return folder


@pytest.fixture
def place(moved: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(moved / "store", tmp_path / "store"))


@pytest.fixture(scope="module")
def learnt(moved: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Retrained]:
    """A store in which the new world was learnt, which stays as it is, and what was told of it."""
    place = str(shutil.copytree(moved / "store", tmp_path_factory.mktemp("learnt") / "store"))
    return place, retrain("churn", store=place)


def watch(folder: Path, table: pd.DataFrame) -> int:
    """The exit code of `modelkeep monitor`."""
    window, labels = folder / "window.csv", folder / "labels.csv"
    table.drop(columns="Churn").to_csv(window, index=False)
    truth = table["Churn"].map({"Yes": "leaves", "No": "stays"})
    pd.DataFrame({"row": np.arange(len(table)), "target": truth}).to_csv(labels, index=False)
    return main(["monitor", "churn", "--store", str(folder / "store"), "--input", str(window), "--labels", str(labels)])


def champion(place: str) -> int:
    found = Registry(open_store(place)).champion("churn")
    assert found is not None
    return found.number


def evaluation(store: Store, run: str) -> dict[str, Any]:
    manifest = json.loads(Path(store.uri, "runs", "churn", run, "manifest.json").read_text())
    judged = store.read_bytes(ArtifactRef.from_dict(manifest["artifacts"]["evaluate/evaluation.json"]))
    return dict(json.loads(judged)["evaluation"])


def test_a_world_that_has_moved_is_learnt_and_the_challenger_is_better_there_and_no_worse_elsewhere(
    learnt: tuple[str, Retrained],
) -> None:
    place, found = learnt
    store = open_store(place)
    (verdict,) = read_verdicts(store, "churn")
    assert verdict.level == "alert" and verdict.retrain.startswith("a drop that labels show.")
    assert (found.outcome, found.version, found.windows) == ("promoted", 2, [verdict.window]), found.sentence
    assert champion(place) == 2
    told = evaluation(store, found.run)
    recent, known = (told["slices"]["recent"][label] for label in ("yes", "no"))
    assert recent["n"] == 300 and known["n"] == 501
    assert recent["against_champion"]["gain"] > 0.2 and not known["against_champion"]["harmed"]
    assert told["against_champion"]["interval"][0] > 0
    assert "recent" in Path(place, "runs", "churn", found.run, "report.html").read_text()


def test_the_audit_trail_and_the_record_say_why(learnt: tuple[str, Retrained]) -> None:
    place, found = learnt
    store = open_store(place)
    (window,) = found.windows
    last = Registry(store).audit("churn")[-1]
    assert last.action == "promote" and "Retrained because of a drop that labels show." in last.reason
    assert f"(window {window})" in last.reason
    (record,) = read_retrainings(store, "churn")
    assert (record.outcome, record.run, record.windows) == ("promoted", found.run, [window])
    manifest = json.loads(Path(place, "runs", "churn", found.run, "manifest.json").read_text())
    assert manifest["windows"][0][0] == window and manifest["cause"] == record.cause
    assert manifest["hyperparameters"]["epochs"] == 25  # the champion's settings are kept


def test_a_second_retraining_waits_for_news_and_for_the_cooldown(
    learnt: tuple[str, Retrained], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, first = learnt
    runs = sorted(Path(place, "runs", "churn").iterdir())
    again = retrain("churn", store=place)
    assert (again.outcome, again.run, again.version) == ("nothing", "", None)
    assert f"Nothing new has come since version {first.version}" in again.sentence
    assert "h ago" in retrain("churn", data="newer.csv", store=place).sentence
    monkeypatch.setattr("flows.local_run.seen_by_prefect", None)  # would fail if it were called
    assert main(["retrain", "churn", "--store", place]) == 0
    assert "Nothing new" in capsys.readouterr().out
    assert sorted(Path(place, "runs", "churn").iterdir()) == runs and champion(place) == 2


def test_two_at_once_train_once(place: str) -> None:
    found: list[Retrained] = []
    both = [threading.Thread(target=lambda: found.append(retrain("churn", store=place))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(one.outcome for one in found) == ["nothing", "promoted"]
    assert len(Registry(open_store(place)).versions("churn")) == 2
    assert len(read_retrainings(open_store(place), "churn")) == 1


def test_a_challenger_that_is_worse_is_kept_out_and_the_reason_told(place: str) -> None:
    """What is newer says nothing any more: whoever learns from it forgets."""
    table = of_old(2500, 3)
    drawn = np.random.default_rng(3).permutation(2500)
    newer = Path(place).parent / "newer.csv"
    table.assign(Churn=np.where(drawn < 2000, of_late(2500, 3)["Churn"], table["Churn"])).to_csv(newer, index=False)
    with pytest.raises(AcceptanceFailed):
        retrain("churn", data=str(newer), cooldown_hours=0, store=place)
    assert champion(place) == 1
    (record,) = read_retrainings(open_store(place), "churn")
    assert record.outcome == "refused" and "auc" in record.sentence.lower()


def test_data_that_fails_its_checks_leaves_everything_as_it_was(place: str, webhook: Webhook) -> None:
    bad = Path(place).parent / "bad.csv"
    table = of_old(500, 4)
    table.assign(tenure=table["tenure"].where(table.index > 9, 999)).to_csv(bad, index=False)
    before = Registry(open_store(place)).audit("churn")
    with pytest.raises(ValidationFailed):
        retrain("churn", data=str(bad), store=place)
    assert Registry(open_store(place)).audit("churn") == before and read_retrainings(open_store(place), "churn") == []
    (told,) = webhook.told
    assert told["event"] == "modelkeep.run.refused" and told["problem"] == "churn" and "tenure" in told["text"]


def test_a_promotion_that_cannot_be_recorded_is_undone(
    place: str, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise StoreUnavailable("The store is gone.")

    with monkeypatch.context() as patch:
        patch.setattr("flows.retrain.record_retraining", refuse)
        with pytest.raises(StoreUnavailable):
            retrain("churn", store=place)
    assert champion(place) == 1
    assert [entry.action for entry in Registry(open_store(place)).audit("churn")][-2:] == ["promote", "promote"]
    assert [told["event"].rpartition(".")[2] for told in webhook.told] == ["promoted", "promoted", "failed"]
    assert "undone" in webhook.told[1]["text"] and "The store is gone" in webhook.told[2]["text"]
    assert retrain("churn", store=place).outcome == "promoted"  # nothing is lost, and nobody has withdrawn it
    assert champion(place) == 2


def test_another_champion_meanwhile_is_left_as_it_is(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from store.errors import PromotionConflict
    from tasks import register

    registry = Registry(open_store(place))
    version = registry.champion("churn")
    assert version is not None
    who: dict[str, Any] = {"actor": "ada", "reason": "by hand"}
    was_withdrawn = register.was_withdrawn

    def meanwhile(*arguments: Any) -> bool:
        registry.register("churn", run="by-hand", manifest=version.manifest, metrics={}, weights="other", **who)
        registry.promote("churn", 3, expected=1, run="", **who)
        return was_withdrawn(*arguments)

    monkeypatch.setattr(register, "was_withdrawn", meanwhile)
    with pytest.raises(PromotionConflict):
        retrain("churn", store=place)
    assert champion(place) == 3


def test_drift_bad_data_and_promotion_are_told_to_the_webhook(
    trained: Path, tmp_path: Path, webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "store", tmp_path / "store")
    assert watch(tmp_path, of_late(600, 5).rename(columns={"tenure": "months"})) == 1
    assert watch(tmp_path, of_late(1500, 1)) == 1
    capsys.readouterr()
    arguments = ["retrain", "churn", "--store", str(tmp_path / "store"), "--reason", "the new tariff", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["cause"]) == ("promoted", "the new tariff")
    names = [told["event"] for told in webhook.told]
    assert names == ["modelkeep.data.invalid", "modelkeep.drift.detected", "modelkeep.model.promoted"]
    assert webhook.told[1]["retrain"] and webhook.told[2]["cause"] == "the new tariff"
