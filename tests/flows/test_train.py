"""The flow `train`, with a real Prefect server, a real store and the real house prices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from flows.server import ServerAddress
from flows.train import Trained, train
from modelkeep.errors import GateFailed
from problems.outline.problem import Source
from store import open_store
from store.artifacts import ArtifactRef
from store.registry import Registry
from tasks.devices import Device, NoGpu, gpu_slots, held_device
from tasks.fit import load_model
from tasks.inference import num_cores
from tasks.register import AcceptanceFailed, was_withdrawn
from tasks.requests import Request, find_answer
from tasks.runs import is_whole_version
from tests.prefect_server import shown_by_prefect, wait_for
from validation.gate import ValidationFailed

pytestmark = pytest.mark.server

SETTINGS = {"epochs": 20}


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(reported_to: ServerAddress, store_uri: str) -> Trained:
    return train("housing", SETTINGS, store=store_uri)


@pytest.fixture
def own_store(trained: Trained, store_uri: str, tmp_path: Path) -> Path:
    """A copy of the store with that one version, which a test may change."""
    return shutil.copytree(store_uri, tmp_path / "store")


@pytest.fixture
def manifest(trained: Trained, store_uri: str) -> dict[str, Any]:
    return json.loads(Path(store_uri, "runs", "housing", trained.run, "manifest.json").read_text())


def request(store_uri: str, **fields: Any) -> Request:
    return Request(**{"problem": "housing", "settings": SETTINGS, "store": store_uri, **fields})


def test_the_first_accepted_model_becomes_champion(trained: Trained, store_uri: str) -> None:
    registry = Registry(open_store(store_uri))
    champion = registry.champion("housing")
    assert trained.champion and champion is not None
    assert (champion.number, champion.run) == (1, trained.run)
    assert champion.metrics["mae"] < 3.5
    assert [entry.action for entry in registry.audit("housing")] == ["register", "promote"]


def test_everything_that_a_run_made_lies_in_one_place_and_is_whole(manifest: dict[str, Any], store_uri: str) -> None:
    store = open_store(store_uri)
    artifacts = {name: ArtifactRef.from_dict(entry) for name, entry in manifest["artifacts"].items()}
    assert {"report.html", "fit/model.keras", "fit/predictions.parquet", "evaluate/evaluation.json"} <= set(artifacts)
    assert {"validate/data-docs.html", "plots/learning.png", "plots/learning.svg"} <= set(artifacts)
    assert all(store.is_whole(ref) for ref in artifacts.values())
    assert all(store.key_of(ref).startswith(f"runs/housing/{manifest['run']}/") for ref in artifacts.values())


def test_the_manifest_says_what_the_model_was_made_of(manifest: dict[str, Any]) -> None:
    assert manifest["hyperparameters"]["epochs"] == 20
    assert manifest["sources"][0]["origin"] == "package mlxtend"
    assert manifest["versions"]["keras"] and manifest["code_digest"]
    assert (manifest["device"], manifest["precision"], manifest["threads"]) == ("cpu", "float32", num_cores())
    assert set(manifest["seconds"]) >= {"ingest", "validate", "prepare", "fold-1", "fit", "evaluate"}
    assert manifest["metrics"]["mae"] > 0


def test_the_stored_predictions_belong_to_the_stored_model(manifest: dict[str, Any], store_uri: str) -> None:
    """A model loaded by somebody who has nothing but the run and Keras predicts what was evaluated."""
    import keras
    import numpy as np

    folder = Path(store_uri, "runs", "housing", manifest["run"])
    predictions = pd.read_parquet(folder / "fit" / "predictions.parquet").query("part == 'test'")
    store = open_store(store_uri)
    step = json.loads(store.read_document(f"steps/housing/ingest/{manifest['steps']['ingest']['key']}.json").data)
    features = np.load(store.local_path(ArtifactRef.from_dict(step["products"]["feature.attributes"])))
    model = keras.saving.load_model(folder / "fit" / "model.keras")
    outputs = model.predict(features[predictions["row"]], verbose=0)[:, 0]
    np.testing.assert_allclose(outputs, predictions["prediction"], rtol=1e-5)


def test_a_version_lies_beside_it_in_the_form_and_the_place_that_tensorflow_serving_wants(
    trained: Trained, manifest: dict[str, Any], store_uri: str
) -> None:
    import tensorflow as tf

    told = manifest["export"]
    assert told["format"] == "savedmodel" and told["num_compared"] == 101
    assert told["difference"] <= 1e-3 and told["size"] > 1000 and told["milliseconds"] > 0
    folder = Path(store_uri, "exports", "housing", str(trained.version))
    assert (folder / "variables" / "variables.index").is_file()
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    houses = tf.constant([[0.1, 0, 2.3, 0, 0.5, 6.5, 60, 4, 1, 296, 15.3, 5]], tf.float32)
    model = load_model(
        open_store(store_uri).local_path(ArtifactRef.from_dict(manifest["artifacts"]["fit/model.keras"]))
    )
    assert float(signature(attributes=houses)["output_0"][0, 0]) == pytest.approx(float(model(houses)[0, 0]), rel=1e-4)


def test_a_second_training_with_nothing_changed_finds_its_answer_in_the_store(trained: Trained, store_uri: str) -> None:
    answer = find_answer(request(store_uri))
    assert answer is not None
    assert (answer.manifest["run"], answer.version, answer.champion) == (trained.run, 1, 1)


@pytest.mark.parametrize("fields", [{"seed": 1}, {"settings": {"epochs": 21}}, {"sample": 400}, {"full": True}])
def test_another_request_is_not_answered_by_this_run(trained: Trained, store_uri: str, fields: dict[str, Any]) -> None:
    assert find_answer(request(store_uri, **fields)) is None


def test_another_hyperparameter_makes_only_fit_and_what_follows_again(
    manifest: dict[str, Any], own_store: Path
) -> None:
    again = train("housing", {"epochs": 15}, store=str(own_store))
    steps = json.loads((own_store / "runs" / "housing" / again.run / "manifest.json").read_text())["steps"]
    before = manifest["steps"]
    assert {name for name in steps if steps[name] == before[name]} == {"ingest", "validate", "prepare"}


def test_a_product_that_was_cut_short_or_deleted_is_made_again(tmp_path: Path) -> None:
    first = train("housing", {"epochs": 40}, sample=300, store=str(tmp_path))
    asked = request(str(tmp_path), settings={"epochs": 40}, sample=300)
    assert find_answer(asked) is not None
    model = tmp_path / "runs" / "housing" / first.run / "fit" / "model.keras"
    model.chmod(0o644)
    data = model.read_bytes()
    model.write_bytes(data[: len(data) // 2])  # the step's copy is the same file, by a hard link
    assert find_answer(asked) is None
    second = train("housing", {"epochs": 40}, sample=300, store=str(tmp_path))
    assert find_answer(asked) is not None
    assert (first.version, second.version, second.champion) == (1, 2, True)  # the same model, made again
    champion = Registry(open_store(tmp_path)).champion("housing")
    assert champion is not None and is_whole_version(open_store(tmp_path), champion)


def test_data_that_fails_its_checks_stops_before_training_and_says_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    table = _house_prices()
    table.loc[3, "RM"] = None
    table.loc[[5, 6], "NOX"] = 99.0
    table.to_csv(bad, index=False)
    with pytest.raises(ValidationFailed) as refusal:
        train("housing", SETTINGS, data=str(bad), store=str(tmp_path / "store"))
    message = str(refusal.value)
    assert "RM" in message and "NOX" in message and "row 3" in message and "row 5: 99.0" in message
    (run,) = (tmp_path / "store" / "runs" / "housing").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["outcome"] == "validation failed" and "fit" not in manifest["steps"]
    assert (run / "validate" / "data-docs.html").exists() and (run / "report.html").exists()
    assert Registry(open_store(tmp_path / "store")).versions("housing") == []


def test_a_model_that_is_not_accepted_is_kept_with_its_report_but_not_registered(tmp_path: Path) -> None:
    with pytest.raises(AcceptanceFailed, match="not accepted") as refusal:
        train("housing", {"epochs": 1}, store=str(tmp_path))
    assert isinstance(refusal.value, GateFailed) and "mae is" in str(refusal.value)
    assert Registry(open_store(tmp_path)).versions("housing") == []
    answer = find_answer(request(str(tmp_path), settings={"epochs": 1}))
    assert answer is not None and answer.version is None
    assert answer.manifest["outcome"] == "acceptance failed"


def test_a_champion_whose_file_is_damaged_is_kept_the_reason_told_and_once_mended_it_is_asked_again(
    trained: Trained, own_store: Path
) -> None:
    """A refusal for a passing fault must not stand for ever."""
    model = own_store / "runs" / "housing" / trained.run / "fit" / "model.keras"
    model.chmod(0o644)
    whole = model.read_bytes()
    model.write_bytes(b"damaged")
    second = train("housing", {"epochs": 18}, store=str(own_store))
    assert not second.champion and "could not be asked" in second.reason
    champion = Registry(open_store(own_store)).champion("housing")
    assert champion is not None and champion.number == trained.version
    model.write_bytes(whole)
    assert find_answer(request(str(own_store), settings={"epochs": 18})) is None
    assert "could not be asked" not in train("housing", {"epochs": 18}, store=str(own_store)).reason


def test_a_version_that_a_person_has_withdrawn_is_not_promoted_by_a_later_run(own_store: Path) -> None:
    registry = Registry(open_store(own_store))
    second = train("housing", {"epochs": 30}, store=str(own_store))
    if not second.champion:
        registry.promote("housing", second.version, expected=1, actor="ada", reason="to try it", run="")
    registry.rollback("housing", actor="ada", reason="complaints since Monday")
    assert was_withdrawn(registry, "housing", second.version)
    train("housing", {"epochs": 30}, store=str(own_store))
    champion = registry.champion("housing")
    assert champion is not None and champion.number == 1


def test_a_gpu_that_is_required_and_not_there_ends_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.devices.usable_gpus", lambda: [])
    with pytest.raises(NoGpu):
        train("housing", SETTINGS, store=str(tmp_path / "store"), gpu="require")
    assert not (tmp_path / "store").exists()


def test_what_was_trained_on_one_device_is_not_trained_again_for_another(
    trained: Trained, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert train("housing", SETTINGS, store=store_uri, gpu="never").run == trained.run


def test_nothing_changed_makes_no_second_run_on_a_worker_either(trained: Trained, store_uri: str) -> None:
    runs = sorted(Path(store_uri, "runs", "housing").iterdir())
    assert train("housing", SETTINGS, store=store_uri).run == trained.run
    assert sorted(Path(store_uri, "runs", "housing").iterdir()) == runs


def test_a_secret_in_an_address_is_in_no_file_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKEEP_MIRROR", "http://someone:hidden-password@127.0.0.1:9/files?signature=hidden-query")
    train("housing", {"epochs": 16}, store=str(tmp_path))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"hidden-" not in path.read_bytes(), path


@pytest.fixture(scope="module")
def flow_run(trained: Trained, manifest_of_module: dict[str, Any]) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client.read_flow_run(manifest_of_module["flow_run"])


@pytest.fixture(scope="module")
def manifest_of_module(trained: Trained, store_uri: str) -> dict[str, Any]:
    return json.loads(Path(store_uri, "runs", "housing", trained.run, "manifest.json").read_text())


def test_the_run_has_a_telling_name_and_typed_parameters_in_prefect(flow_run: Any) -> None:
    from prefect.utilities.callables import parameter_schema

    assert flow_run.name.startswith("train housing epochs=20")
    assert flow_run.state.is_completed()
    schema = parameter_schema(train).model_dump()
    assert "housing" in schema["definitions"]["ProblemName"]["enum"]
    assert schema["properties"]["seed"]["minimum"] == 0
    names = shown_by_prefect(flow_run.id).task_runs
    assert {"ingest housing", "fit housing fold 1", "fit housing", "promote housing"} <= names


def test_prefect_shows_checks_metrics_curves_and_the_way_to_the_report(flow_run: Any) -> None:
    artifacts = shown_by_prefect(flow_run.id).artifacts
    assert {"housing-data-checks", "housing-metrics", "housing-summary", "housing-learning-curves"} <= set(artifacts)
    assert "report.html" in str(artifacts["housing-report"].data)
    assert "data:image/svg+xml;base64," in str(artifacts["housing-learning-curves"].data)


def test_each_source_of_a_problem_is_named_in_the_manifest_with_its_licence(manifest: dict[str, Any]) -> None:
    from problems.housing import problem

    assert all(isinstance(source, Source) for source in problem.sources)
    assert [source["licence"] for source in manifest["sources"]] == [source.licence for source in problem.sources]


def _house_prices() -> pd.DataFrame:
    from mlxtend.data import boston_housing_data

    from problems.housing import COLUMNS, TARGET

    attributes, prices = boston_housing_data()
    return pd.DataFrame(attributes, columns=list(COLUMNS)).assign(**{TARGET: prices})


def test_only_fit_waits_for_a_gpu(reported_to: ServerAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is before it is done while another training has the only one, and what is after it needs none."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter
    from prefect.concurrency.sync import concurrency

    monkeypatch.setattr("tasks.devices.usable_gpus", lambda: [Device("gpu:0", "pretended")])
    slots, begun = gpu_slots(1), list[UUID]()
    with held_device("require"):  # makes the limit
        pass
    watched = train.with_options(on_running=[lambda flow, run, state: begun.append(run.id)])

    def states() -> dict[str, str | None]:
        of_run = TaskRunFilter.model_validate({"flow_run_id": {"any_": begun}})
        return {run.name: run.state_name for run in client.read_task_runs(task_run_filter=of_run)} if begun else {}

    with get_client(sync_client=True) as client, ThreadPoolExecutor() as pool:
        with concurrency(slots, strict=True):
            ended = pool.submit(watched, "perceptron", store=str(tmp_path))
            assert wait_for(lambda: states().get("prepare perceptron") == "Completed")
            assert wait_for(lambda: states().get("fit perceptron") == "Running")
            assert not wait_for(ended.done, limit_seconds=2)
        assert wait_for(lambda: states()["fit perceptron"] == "Completed")
        with concurrency(slots, strict=True):
            trained = ended.result(timeout=120)
    manifest = json.loads((tmp_path / "runs" / "perceptron" / trained.run / "manifest.json").read_text())
    assert trained.champion and manifest["device"] == "pretended"
