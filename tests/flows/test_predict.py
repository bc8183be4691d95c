"""The flow `predict`, with a real Prefect server and a real store; and `train` of a model that has learnt elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flows.command_line import main
from flows.predict import predict
from flows.server import ServerAddress
from flows.train import train
from store import open_store
from store.registry import Registry
from tasks.register import AcceptanceFailed
from tests.photo_champion import register_champion
from tests.problems.test_photos import make_mirror

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def reported_to(prefect_server: ServerAddress) -> ServerAddress:
    return prefect_server


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("store"))
    register_champion(open_store(uri))
    return uri


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "red.png")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    return folder


def test_a_folder_is_scored_and_the_prefect_ui_says_where_the_answers_are(
    folder: Path, tmp_path: Path, store_uri: str
) -> None:
    from prefect.artifacts import Artifact

    scored = predict("photos", str(folder), str(tmp_path / "out"), store=store_uri)
    assert pd.read_parquet(scored.scores)["label_1"].tolist() == ["red"]
    assert pd.read_csv(scored.rejected)["file"].tolist() == ["cut.jpg"]
    told = Artifact.get("photos-scores")
    assert told is not None and scored.sentence in str(told.data) and scored.page in str(told.data)


def test_the_command_says_how_many_and_where(
    folder: Path, tmp_path: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--input", str(folder), "--store", store_uri]
    assert main(["predict", "photos", *options, "--output", str(tmp_path / "may.parquet")]) == 0
    text = capsys.readouterr().out
    assert "1 picture was scored by photos version 1, and 1 file was set aside." in text
    assert str(tmp_path / "may.rejected.csv") in text and (tmp_path / "may.png").exists()
    assert main(["predict", "photos", *options, "--output", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_set_aside"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense", "--input", "."], "There is no problem"),
        (["photos", "--input", "missing"], "nothing to score"),
        (["photos", "--input", ".", "--store", "empty"], "has no champion to ask"),
        (["photos", "--input", ".", "--output", "out"], "among the pictures"),
        (["housing", "--input", "."], "has no champion to ask"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    arguments: list[str],
    said: str,
    folder: Path,
    store_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.new("RGB", (64, 48), "blue").save(folder / "blue.png")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MODELKEEP_STORE", store_uri)
    monkeypatch.setattr("flows.local_run.seen_by_prefect", None)  # would fail if it were called
    assert main(["predict", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["blue.png", "cut.jpg", "red.png"]


def test_a_pretrained_model_goes_through_the_same_gates_and_its_weights_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights: it is proved on the labelled photos, refused, and reported without learning curves."""
    monkeypatch.setenv("MODELKEEP_MIRROR", str(make_mirror(tmp_path)))
    monkeypatch.setattr("tasks.occlusion.NUM_PATCHES", 2)  # of 7 × 7 patches the network is asked for half a minute
    store = str(tmp_path / "store")
    with pytest.raises(AcceptanceFailed, match="accuracy"):
        train("photos", variant="mobilenet", store=store)
    (path,) = Path(store, "runs", "photos").glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    weights = manifest["sources"][-1]
    assert weights["source"].endswith(".tflite") and weights["differs"] == "substitute: random"
    page = path.with_name("report.html").read_text()
    assert 'id="learning"' not in page and "mobilenet_v2_1.0_224_quant.tflite" in page
    assert "nothing was fitted here" in page
    assert {"fit/model.keras", "fit/classes.json"} <= set(manifest["artifacts"])
    assert Registry(open_store(store)).champion("photos") is None
