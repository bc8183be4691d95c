"""Natural scenes: photos in folders, and a convnet that begins from the champion of cifar10."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from problems import cifar10
from problems.outline.problem import Examples, Files
from problems.outline.raw import BadInput
from problems.scenes import CLASSES, ScenesHyperparameters, load, problem, thaw
from store.artifacts import Store
from store.registry import Registry
from tasks.champion import NoChampion
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrained import fetch_pretrained
from tasks.requests import recall, record_answer, request_document
from tests.training_store import RunMaker, crown
from validation.gate import ValidationFailed, require, validate

# Begins from nothing: the other way has its own tests below.
SAMPLE_SETTINGS = {"pretrained": False}


def make_sample(folder: Path) -> Path:
    """A zip of 120 photos of noise with Kaggle's folders, each class with a tint of its own."""
    random = np.random.default_rng(0)
    path = folder / "scenes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, label in enumerate(CLASSES):
            tint = np.random.default_rng(number).integers(60, 180, 3)
            for place in range(20):
                pixels = (tint + random.normal(0, 30, (80, 100, 3))).clip(0, 255).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "JPEG", quality=90)
                part = "seg_train" if place < 15 else "seg_test"
                archive.writestr(f"{part}/{part}/{label}/{place}.jpg", file.getvalue())
        archive.writestr("seg_pred/seg_pred/1.jpg", file.getvalue())
    return path


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def examples(sample: Path) -> Examples:
    return problem.read(Files({"scenes_subset.zip": sample}))


def base(filters: int = 24, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return cifar10.problem.build(cifar10.Cifar10Hyperparameters(filters=filters), None)  # type: ignore[arg-type]


def test_photos_are_read_from_kaggles_own_folders(examples: Examples) -> None:
    assert examples.features["image"].shape == (120, 64, 64, 3) and examples.features["image"].dtype == np.uint8
    assert examples.frame.groupby("part")["label"].value_counts().unstack().to_numpy().tolist() == [[5] * 6, [15] * 6]
    require(validate(examples.frame, problem.expectations(), name="scenes"))


@pytest.mark.parametrize(
    ("column", "value"), [("std", 2.0), ("label", "castle"), ("part", "predict"), ("digest", "a"), ("mean", 240.0)]
)
def test_the_checks_catch(examples: Examples, column: str, value: float | str) -> None:
    """Blank photos, an unknown class or part, copies, and photos that are far too bright."""
    frame = examples.frame.copy()
    frame[column] = frame[column].where(np.arange(len(frame)) % 2 == 0, value)
    with pytest.raises(ValidationFailed):
        require(validate(frame, problem.expectations(), name="scenes"))


def test_the_champions_convolutions_are_taken_over_and_frozen_and_thawed_without_their_normalisations(
    examples: Examples, tmp_path: Path
) -> None:
    champion = base()
    champion.save(tmp_path / "model.keras")
    model = problem.build(ScenesHyperparameters(), examples)
    load(model, tmp_path / "model.keras")
    for kind in ("conv2d", "batch_normalization"):
        theirs, ours = ([layer for layer in one.layers if layer.name.startswith(kind)] for one in (champion, model))
        for their, our in zip(theirs, ours[:3], strict=True):
            np.testing.assert_array_equal(their.get_weights()[0], our.get_weights()[0])
    assert [tuple(variable.shape) for variable in model.trainable_variables] == [(192,), (192,), (192, 6), (6,)]
    thaw(model)
    assert len(model.trainable_variables) == 7
    assert [len(variable.shape) for variable in model.trainable_variables[:3]] == [4, 4, 4]


def test_a_champion_of_another_size_is_refused_with_the_setting_that_fits(examples: Examples, tmp_path: Path) -> None:
    base(filters=8).save(tmp_path / "model.keras")
    with pytest.raises(BadInput, match="filters=8"):
        load(problem.build(ScenesHyperparameters(), examples), tmp_path / "model.keras")


def test_without_a_champion_of_cifar10_it_is_said_how_to_get_one_and_how_to_do_without(make_run: RunMaker) -> None:
    with pytest.raises(NoChampion, match=r"modelkeep train cifar10.*--variant scratch"):
        fetch_pretrained(problem, make_run("scenes"))
    assert fetch_pretrained(problem, make_run("scenes", SAMPLE_SETTINGS)) is None


def test_training_begins_from_the_champion_and_says_from_which(make_run: RunMaker, sample: Path) -> None:
    settings = {"epochs": 2, "frozen_epochs": 1, "thawed_learning_rate": 1e-30}
    run = make_run("scenes", settings, data=str(sample))
    store = run.open_store()
    champion = base(seed=1)
    crown(store, "cifar10", champion)
    ingested = ingest.fn(run)
    fitted = fit.fn(run, ingested, prepare.fn(run, ingested))
    (source,) = fitted.facts["sources"]
    assert source["origin"] == "version 1 of cifar10" and source["version"]["problem"] == "cifar10"
    model = keras.saving.load_model(store.local_path(fitted.products["model"]))
    first, theirs = (next(layer for layer in one.layers if hasattr(layer, "filters")) for one in (model, champion))
    np.testing.assert_allclose(first.get_weights()[0], theirs.get_weights()[0], atol=1e-12)


def test_another_champion_of_cifar10_is_another_beginning_and_reproducing_asks_for_the_old_one(
    make_run: RunMaker,
) -> None:
    run = make_run("scenes")
    store = run.open_store()
    crown(store, "cifar10", base(seed=1))
    first = fetch_pretrained(problem, run)
    assert first is not None and _answer(store, first.to_dict()) is not None
    crown(store, "cifar10", base(seed=2))
    second = fetch_pretrained(problem, run)
    assert second is not None and second.ref != first.ref
    assert recall(store, "scenes", "0" * 64, "") is None
    again = fetch_pretrained(problem, replace(run, versions={"cifar10": 1}))
    assert again is not None and again.ref == first.ref


def _answer(store: Store, source: dict[str, object]) -> object:
    """Remember that a run which began from `source` answered a request, and ask for the answer."""
    manifest = {"problem": "scenes", "run": "scenes-1", "artifacts": {}, "sources": [source]}
    page = json.dumps({**manifest, "decision": {"register": False}, "weights_digest": ""}).encode()
    written = store.put_bytes("runs/scenes/scenes-1/manifest.json", page, kind="json")
    record_answer(request_document("scenes", "0" * 64), written, store)
    assert Registry(store).champion("scenes") is None
    return recall(store, "scenes", "0" * 64, "")
