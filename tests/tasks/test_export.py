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
from store.errors import UnknownVersion
from store.registry import Registry
from store.steps import StepRecord
from tasks import export as exporting
from tasks.export import ExportImpossible, ExportRefused, export_version
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.manifest import close_run
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
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
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

    monkeypatch.setattr(keras.Model, "export", fail)
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
    champion: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["export", "housing", "--store", champion.store, "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "housing version 1 as savedmodel" in said and "101 test rows" in said
    assert main(arguments) == 2 and "lies where" in capsys.readouterr().err
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert main([*arguments, "--format", "onnx", "--output", str(tmp_path / "other")]) == 2
    assert "modelkeep[onnx]" in capsys.readouterr().err
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

    monkeypatch.setattr(keras.Model, "export", refuse)
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
