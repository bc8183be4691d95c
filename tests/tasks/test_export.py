"""Exports: handed out only when they predict what the registered model predicts, in folders that appear whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from flows.command_line import main
from problems.outline.catalogue import load_problem
from problems.outline.problem import Examples
from store import open_store
from store.errors import ArtifactCorrupt, UnknownVersion
from store.registry import Registry
from store.steps import StepRecord
from tasks import export as exporting
from tasks.champion import load_champion, needs_keras
from tasks.export import ExportImpossible, ExportRefused, export_version
from tasks.fit import fit
from tasks.inference import Engine, TensorSpec, compiled, predict_in_batches
from tasks.ingest import ingest
from tasks.manifest import close_run
from tasks.online import OnlineModel, RowsAnswered, RowsAsked
from tasks.prepare import prepare
from tasks.steps import Run
from tests.training_store import RunMaker, crown

HOUSE = np.array([[0.1, 0, 2.3, 0, 0.5, 6.5, 60, 4, 1, 296, 15.3, 5]], np.float32)


@pytest.fixture
def champion(make_run: RunMaker) -> Run:
    """A run of housing whose version is champion."""
    run = make_run(settings={"epochs": 1})
    records = {"ingest": ingest.fn(run)}
    records["prepare"] = prepare.fn(run, records["ingest"])
    records["fit"] = fit.fn(run, records["ingest"], records["prepare"])
    records["export"] = exporting.export.fn(run, *records.values())
    manifest = close_run(run, records, outcome="accepted", reason="for a test", register=True)
    registry, told = Registry(run.open_store()), {"actor": "test", "reason": "test", "run": run.run_id}
    weights = records["fit"].facts["weights_digest"]
    registry.register("housing", manifest=manifest, metrics={}, weights=weights, **told)
    registry.promote("housing", 1, expected=None, **told)
    return run


def export(run: Run, output: Path, form: str = "savedmodel", number: int | None = None) -> tuple[Path, Any]:
    return export_version(load_problem("housing"), run.open_store(), number, form, output)


def champions_answer(run: Run) -> float:
    path = Path(run.store, run.prefix, "fit", "model.keras")
    return float(keras.saving.load_model(path).predict({"attributes": HOUSE}, verbose=0)[0, 0])


def test_a_savedmodel_lies_where_tensorflow_serving_looks_and_predicts_the_same(champion: Run, tmp_path: Path) -> None:
    import tensorflow as tf

    place, exported = export(champion, tmp_path / "out")
    assert place == tmp_path / "out" / "housing" / "1" and (place / "saved_model.pb").is_file()
    told = json.loads((place / "export.json").read_text())
    assert told["version"] == 1 and told["inputs"] == {"attributes": "float32 [n, 12]"} and told["num_compared"] == 101
    assert told["difference"] == exported.difference <= 1e-4 and told["milliseconds"] > 0
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "export.json"]
    assert told["size"] == sum(path.stat().st_size for path in files)
    said = tf.saved_model.load(str(place)).signatures["serving_default"](attributes=tf.constant(HOUSE))
    assert said["output_0"].numpy()[0, 0] == pytest.approx(champions_answer(champion), rel=1e-5)
    assert [path.name for path in place.parent.iterdir()] == ["1"]


def test_onnx_predicts_the_same(champion: Run, tmp_path: Path) -> None:
    import onnxruntime

    place, _ = export(champion, tmp_path / "out", "onnx")
    session = onnxruntime.InferenceSession(str(place / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["attributes"]
    said = session.run(["output_0"], {"attributes": HOUSE})[0]
    assert said[0, 0] == pytest.approx(champions_answer(champion), rel=1e-5)


def test_an_export_that_predicts_something_else_is_not_handed_out(
    champion: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting._WRITERS["savedmodel"]

    def write_and_spoil(model: keras.Model, folder: Path) -> Any:
        call = write(model, folder)
        return lambda inputs: call(inputs) + 0.01

    monkeypatch.setitem(exporting._WRITERS, "savedmodel", write_and_spoil)
    with pytest.raises(ExportRefused, match="does not predict") as refused:
        export(champion, tmp_path / "out")
    assert refused.value.exit_code == 1 and list((tmp_path / "out" / "housing").iterdir()) == []


def test_a_model_that_cannot_be_converted_says_why(
    champion: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(keras.export, "ExportArchive", fail)
    with pytest.raises(ExportRefused, match="no such operation"):
        export(champion, tmp_path / "out")
    assert list((tmp_path / "out" / "housing").iterdir()) == []


def test_what_lies_there_already_stays(champion: Run, tmp_path: Path) -> None:
    place = tmp_path / "out" / "housing" / "1"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    with pytest.raises(ExportImpossible, match="lies where"):
        export(champion, tmp_path / "out")
    assert [path.name for path in place.iterdir()] == ["mine.txt"]


def test_without_the_rows_to_prove_it_on_nothing_is_exported(champion: Run, tmp_path: Path) -> None:
    shutil.rmtree(Path(champion.store, "steps", "housing", "ingest"))
    with pytest.raises(ExportImpossible, match="no longer in the store"):
        export(champion, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_version_is_exported_by_its_number(champion: Run, tmp_path: Path) -> None:
    problem, store = load_problem("housing"), champion.open_store()
    example = Examples({"attributes": HOUSE}, np.zeros(1), pd.DataFrame(index=[0]))
    crown(store, "housing", problem.build(problem.complete("", {}), example))
    assert Registry(store).champion("housing").number == 2  # type: ignore[union-attr]
    assert export(champion, tmp_path / "out", number=1)[1].version == 1
    with pytest.raises(ExportImpossible):  # version 2 was not trained: its run has no rows
        export(champion, tmp_path / "out")
    with pytest.raises(UnknownVersion):
        export(champion, tmp_path / "out", number=7)


def test_the_command_says_where_it_is_and_what_was_compared(
    champion: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "housing", "--store", champion.store, "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "housing version 1 as savedmodel" in said and "101 test rows" in said
    assert main(arguments) == 2 and "lies where" in capsys.readouterr().err
    assert main(["export", "housing", "--store", str(tmp_path / "empty")]) == 2


# --- with each version ---------------------------------------------------------------------------------------------


@pytest.fixture
def steps(make_run: RunMaker) -> tuple[Run, StepRecord, StepRecord, StepRecord]:
    run = make_run(settings={"epochs": 1})
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    return run, ingested, prepared, fit.fn(run, ingested, prepared)


def test_a_model_that_has_no_savedmodel_goes_on_without_and_the_reason_is_kept(
    steps: tuple[Run, StepRecord, StepRecord, StepRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("there is no graph of this layer")

    monkeypatch.setattr(keras.export, "ExportArchive", refuse)
    exported = exporting.export.fn(*steps)
    assert exported.products == {} and exported.facts["reason"] == "there is no graph of this layer"
    run = steps[0]
    exporting.publish_export(run.open_store(), "housing", 1, exported)
    assert not Path(run.store, "exports").exists()


def test_another_backend_goes_on_without(steps: tuple[Run, StepRecord, StepRecord, StepRecord]) -> None:
    run, *others = steps
    exported = exporting.export.fn(replace(run, backend="jax"), *others)
    assert exported.products == {} and "needs TensorFlow" in exported.facts["reason"]


def test_a_savedmodel_that_predicts_something_else_stops_the_run(
    steps: tuple[Run, StepRecord, StepRecord, StepRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting._write_savedmodel

    def spoil(model: keras.Model, folder: Path) -> Any:
        call = write(model, folder)
        return lambda inputs: call(inputs) + 0.01

    monkeypatch.setattr(exporting, "_write_savedmodel", spoil)
    with pytest.raises(ExportRefused, match="does not predict what"):
        exporting.export.fn(*steps)


def test_an_onnx_model_that_predicts_something_else_is_left_out(
    steps: tuple[Run, StepRecord, StepRecord, StepRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = exporting._convert_to_onnx

    def spoil(saved: Path, path: Path) -> Any:
        call = convert(saved, path)
        return lambda inputs: call(inputs) + 0.01

    monkeypatch.setattr(exporting, "_convert_to_onnx", spoil)
    exported = exporting.export.fn(*steps)
    assert "saved_model.pb" in exported.products and "model.onnx" not in exported.products
    assert exported.facts["onnx"]["reason"].startswith("it differs by 0.01")


def test_an_operation_that_onnx_does_not_know_is_named_and_the_model_goes_on_without(tmp_path: Path) -> None:
    words = keras.Input((4,), name="words", dtype="int64")
    places = keras.layers.IntegerLookup(vocabulary=[7, 9])(words)
    found = exporting._prove_onnx(
        saved_as(keras.Model({"words": words}, keras.layers.Embedding(3, 2)(places)), tmp_path), tmp_path / "x.onnx",
        {"words": np.ones((1, 4), np.int64)}, np.zeros(1),
    )  # fmt: skip
    assert "HashTable" in found["reason"] and str(tmp_path) not in found["reason"] and list(found) == ["reason"]


def saved_as(model: keras.Model, folder: Path) -> Path:
    exporting._write_savedmodel(model, folder / "saved")
    return folder / "saved"


def test_layers_that_change_pictures_in_training_leave_them_alone_in_every_form(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3), name="image", dtype="uint8")
    moved = keras.layers.RandomTranslation(0.3, 0.3)(keras.layers.RandomFlip("horizontal")(image))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(moved)))
    model = keras.Model({"image": image}, keras.layers.Dense(2)(hidden))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    expected = model.predict({"image": images}, verbose=0)
    for form, write in exporting._WRITERS.items():
        said = write(model, tmp_path / form)({"image": images})
        np.testing.assert_allclose(said, expected, atol=1e-5)


# --- asked afterwards ----------------------------------------------------------------------------------------------


def test_a_version_is_asked_in_onnx_runtime_without_keras_and_answers_the_same(champion: Run) -> None:
    loaded = load_champion(load_problem("housing"), champion.open_store())
    assert loaded.engine.name == loaded.bulk_engine.name == "onnxruntime"
    model = OnlineModel(load_problem("housing"), loaded)
    row = dict(zip(load_problem("housing").rows.columns, HOUSE[0].tolist(), strict=True))  # type: ignore[union-attr]
    (answer,) = model.answer([RowsAsked([row])])
    assert isinstance(answer, RowsAnswered)
    assert answer.rows[0]["prediction"] == pytest.approx(champions_answer(champion), rel=1e-5)
    assert "model" not in vars(loaded)  # never loaded
    assert loaded.engine.inputs == compiled(loaded.model).inputs == {"attributes": TensorSpec("float32", (12,))}


def test_the_compiled_model_is_asked_where_it_was_faster_in_bulk_or_where_there_is_no_onnx(
    champion: Run, tmp_path: Path
) -> None:
    loaded = load_champion(load_problem("housing"), champion.open_store())
    slower = replace(loaded, is_onnx_faster_in_bulk=False)
    assert (slower.engine.name, slower.bulk_engine.name) == ("onnxruntime", "keras")
    np.testing.assert_allclose(
        slower.bulk_engine.call({"attributes": HOUSE}), slower.engine.call({"attributes": HOUSE}), rtol=1e-5
    )
    older = open_store(str(tmp_path / "older"))
    crown(older, "housing", loaded.model)
    without = load_champion(load_problem("housing"), older)
    assert (without.engine.name, without.bulk_engine.name) == ("keras", "keras")


@pytest.mark.parametrize(
    ("with_onnx", "export", "needed"),
    [
        (True, {"onnx": {"is_faster_in_bulk": True}}, (False, False)),
        (True, {"onnx": {"is_faster_in_bulk": False}}, (False, True)),
        (True, None, (False, False)),
        (False, None, (True, True)),
    ],
)
def test_keras_is_needed_for_the_rows_that_onnx_runtime_is_not_asked_about(
    with_onnx: bool, export: dict[str, Any] | None, needed: tuple[bool, bool], tmp_path: Path
) -> None:
    store = open_store(str(tmp_path))
    number = keras.Input((1,), name="number")
    crown(store, "housing", keras.Model({"number": number}, number * 2), with_onnx=with_onnx, export=export)
    assert (needs_keras(store, "housing", in_bulk=False), needs_keras(store, "housing", in_bulk=True)) == needed


def test_an_onnx_model_that_was_changed_since_is_not_asked(champion: Run) -> None:
    path = Path(champion.store, champion.prefix, "export", "model.onnx")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx"):
        load_champion(load_problem("housing"), champion.open_store())


def test_rows_are_asked_in_pieces_that_fit_and_each_gets_its_own_answer() -> None:
    sizes: list[int] = []

    def call(features: Any) -> np.ndarray:
        sizes.append(len(features["x"]))
        return features["x"] * 2

    asked = np.arange(10.0)
    for compiles_sizes, expected in ((False, [4, 4, 2]), (True, [4, 4, 4])):
        sizes.clear()
        engine = Engine("keras", {"x": TensorSpec("float64", ())}, call, compiles_sizes)
        np.testing.assert_array_equal(predict_in_batches(engine, {"x": asked}, 4), asked * 2)
        assert sizes == expected
