"""Export: a model in a form that others serve, compared with it before it becomes a version or is handed out."""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.errors import GateFailed, ModelkeepError
from problems.outline.problem import Examples, Problem
from store.artifacts import Store
from store.registry import Version
from store.steps import Lease, StepRecord, find_step
from tasks.champion import find_version, load_version
from tasks.examples import load_examples
from tasks.fit import load_model, predict_with
from tasks.inference import OUTPUT, open_onnx
from tasks.manifest import utc_now
from tasks.prepare import load_rows
from tasks.steps import Products, Run, digests, do_once

if TYPE_CHECKING:
    import keras
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

logger = logging.getLogger("modelkeep")

FORMATS = ("savedmodel", "onnx")
ONNX_FILE, ONNX_OPSET = "model.onnx", 17
TOLERANCE = 1e-5  # of the outputs' scale, as when a trained model is loaded back
MOST_COMPARED = 1000
_COMPARED_IN_TRAINING = _BATCH = 256
_NUM_TIMED = 100
_TIMED_SECONDS = 0.1
_LAST = "saved_model.pb"  # without it nobody takes a folder for a SavedModel
_ENDPOINT = "serving_default"


class ExportRefused(GateFailed):
    """The version cannot be brought into that form, or would predict something else in it."""


class ExportImpossible(ModelkeepError):
    """What an export needs is not there, or its place is taken."""


class _NoSuchForm(ExportRefused):
    """The model cannot be written so."""


@dataclass(frozen=True)
class Exported:
    """An export and what proves it. `difference` is the largest one between its outputs and those of the registered
    model, on so many test rows; `milliseconds` the median for one row, `keras_milliseconds` the registered model's,
    `batch_milliseconds` the median for the first 256 of the rows that were compared."""

    problem: str
    version: int
    run: str
    weights: str
    format: str
    inputs: Mapping[str, str]
    output: str
    num_compared: int
    difference: float
    size: int  # bytes
    milliseconds: float
    batch_milliseconds: float
    keras_milliseconds: float
    exported: str  # ISO 8601, UTC


def export_version(
    problem: Problem, store: Store, number: int | None, form: str, output: Path
) -> tuple[Path, Exported]:
    """Write <output>/<problem>/<version>/, the layout that TensorFlow Serving polls; the folder appears when it is
    whole and its predictions were compared. Without a `number` it is the champion.

    Raises NoChampion, UnknownVersion, ExportImpossible, ExportRefused, ArtifactCorrupt.
    """
    version = find_version(store, problem.name, number)
    place = output / problem.name / str(version.number)
    _require_free(place)
    features, examples, rows = _test_rows(problem, store, version)
    model = load_version(problem, store, version).model
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelkeep-", dir=place.parent) as folder:
        partial = Path(folder, "export")
        call = _WRITERS[form](model, partial)
        inputs = {name: features[name][rows] for name in model.input}
        exported = Exported(
            problem=problem.name,
            version=version.number,
            run=version.run,
            weights=version.weights,
            format=form,
            inputs={
                name: f"{array.dtype} {['n', *array.shape[1:]]}".replace("'", "") for name, array in inputs.items()
            },
            output=OUTPUT,
            exported=utc_now(),
            keras_milliseconds=_keras_milliseconds(model, inputs),
            **_prove(call, inputs, predict_with(model, examples, rows), form, partial),
        )
        (partial / "export.json").write_text(json.dumps(asdict(exported), indent=1) + "\n", encoding="utf-8")
        partial.rename(place)
    return place, exported


def _prove(
    call: Callable[[Arrays], np.ndarray], inputs: Arrays, expected: np.ndarray, form: str, place: Path
) -> dict[str, Any]:
    """What proves an export: fields of `Exported`. Raises ExportRefused."""
    one, batch = _first(inputs, 1), _first(inputs, _BATCH)
    return {
        "num_compared": len(expected),
        "difference": _difference(call(inputs), expected, form),
        "size": sum(one.stat().st_size for one in (place, *place.rglob("*")) if one.is_file()),
        "milliseconds": _milliseconds(lambda: call(one)),
        "batch_milliseconds": _milliseconds(lambda: call(batch)),
    }


def _keras_milliseconds(model: keras.Model, inputs: Arrays) -> float:
    one = _first(inputs, 1)
    return _milliseconds(lambda: model(one, training=False))


def _first(inputs: Arrays, num_rows: int) -> Arrays:
    return {name: array[:num_rows] for name, array in inputs.items()}


# --- with each version ---------------------------------------------------------------------------------------------


@task(name="export", cache_policy=NO_CACHE, task_run_name="export {run.problem}")
def export(run: Run, examples: StepRecord, prepared: StepRecord, fitted: StepRecord) -> StepRecord:
    """The trained model as a SavedModel and as ONNX, each loaded back and asked about test rows before it may become a
    version.

    A model that has no such form goes on without; `reason` among the facts says why. Products are the files by their
    path in the SavedModel, and `model.onnx`. Raises ExportRefused where the SavedModel predicts something else; an ONNX
    model that does is left out.
    """
    return do_once(
        run,
        "export",
        lambda lease: _export(run, examples, prepared, fitted, lease),
        module=__name__,
        inputs=[*digests(prepared), fitted.products["model"].sha256],
        parameters={"backend": run.backend},
    )


def _export(run: Run, ingested: StepRecord, prepared: StepRecord, fitted: StepRecord, lease: Lease) -> Products:
    if run.backend != "tensorflow":
        return Products({}, {"format": "savedmodel", "reason": f"it needs TensorFlow, and this is {run.backend}"})
    store = run.open_store()
    examples, rows = load_examples(store, ingested), load_rows(store, prepared).test[:_COMPARED_IN_TRAINING]
    model = load_model(store.local_path(fitted.products["model"]))
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as name:
        folder, path = Path(name, "export"), Path(name, ONNX_FILE)
        try:
            call = _write_savedmodel(model, folder)
        except _NoSuchForm as refusal:
            logger.info("export    none: %s", refusal.received)
            return Products({}, {"format": "savedmodel", "reason": refusal.received})
        inputs = {name: examples.features[name][rows] for name in model.input}
        expected = predict_with(model, examples, rows)
        facts = {"format": "savedmodel", "keras_milliseconds": _keras_milliseconds(model, inputs)}
        facts |= _prove(call, inputs, expected, "savedmodel", folder)
        onnx = _prove_onnx(folder, path, inputs, expected)
        files = {one.relative_to(folder).as_posix(): one for one in sorted(folder.rglob("*")) if one.is_file()}
        kept = {name: lease.put_file(name.replace("/", "-"), one, kind="savedmodel") for name, one in files.items()}
        if "reason" in onnx:
            logger.info("export    no ONNX: %s", onnx["reason"])
        else:
            onnx["is_faster_in_bulk"] = onnx["batch_milliseconds"] <= facts["batch_milliseconds"]
            kept[ONNX_FILE] = lease.put_file(ONNX_FILE, path, kind="onnx")
    return Products(kept, {**facts, "onnx": onnx})


def _prove_onnx(saved: Path, path: Path, inputs: Arrays, expected: np.ndarray) -> dict[str, Any]:
    """What proves the ONNX model that is written to `path`, or the `reason` why there is none."""
    try:
        return _prove(_convert_to_onnx(saved, path), inputs, expected, "ONNX", path)
    except ExportRefused as refusal:
        return {"reason": refusal.received if isinstance(refusal, _NoSuchForm) else f"it differs by {refusal.received}"}


def publish_export(store: Store, problem: str, number: int, exported: StepRecord) -> None:
    """Put the files of a version where TensorFlow Serving polls: exports/<problem>/<version>/ in the store."""
    folder = f"exports/{problem}/{number}"
    files = {name: ref for name, ref in exported.products.items() if ref.kind == "savedmodel"}
    if not files or store.find(f"{folder}/{_LAST}", kind="savedmodel"):
        return
    for name in sorted(files, key=lambda name: name == _LAST):
        store.copy(files[name], f"{folder}/{name}")


# --- on request ----------------------------------------------------------------------------------------------------


def _require_free(place: Path) -> None:
    if place.exists():
        raise ExportImpossible(
            "Something lies where the export is to go.",
            where=str(place),
            next_step="it stays as it is; choose another --output, or remove it",
        )


def _test_rows(problem: Problem, store: Store, version: Version) -> tuple[Mapping[str, Any], Examples, np.ndarray]:
    """The features, all examples, and the numbers of test rows, as the run of the version had them."""
    steps = json.loads(store.read_bytes(version.manifest)).get("steps", {})
    keys = {name: steps.get(name, {}).get("key", "") for name in ("ingest", "prepare")}
    found = {name: find_step(store, problem.name, name, key) if key else None for name, key in keys.items()}
    ingested, prepared = found["ingest"], found["prepare"]
    if ingested is None or prepared is None:
        raise ExportImpossible(
            "The rows that the version was tested on are no longer in the store, so its export cannot be proved.",
            where=f"{store.uri}, run {version.run}",
            next_step=f"`modelkeep explore {problem.name}`, with the run's own --data and --sample, reads them again",
        )
    examples = load_examples(store, ingested)
    return examples.features, examples, load_rows(store, prepared).test[:MOST_COMPARED]


def _difference(received: np.ndarray, expected: np.ndarray, form: str) -> float:
    """The largest one. Raises ExportRefused."""
    import numpy as np

    difference = float(np.abs(received - expected).max())
    most = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= most:
        raise ExportRefused(
            f"The {form} export does not predict what the registered model predicts.",
            expected=f"predictions of the test rows that differ by {most:.1e} at most",
            received=f"{difference:.3g}",
            next_step="use another --format; a layer of the model means something else in this one",
        )
    return difference


def _milliseconds(call: Callable[[], Any]) -> float:
    """The median of a hundred calls, or of as many as a tenth of a second holds."""
    times: list[float] = []
    while len(times) < _NUM_TIMED and sum(times) < _TIMED_SECONDS:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return round(1000 * statistics.median(times), 4)


# --- formats -------------------------------------------------------------------------------------------------------


def _write_savedmodel(model: keras.Model, folder: Path) -> Callable[[Arrays], np.ndarray]:
    """The export, loaded back, as a function of its inputs by name."""
    import keras
    import tensorflow as tf

    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        # Not `model.export`: with it, layers that augment pictures go on doing so (keras 3.15).
        signature = {name: tf.TensorSpec(one.shape, one.dtype, name) for name, one in model.input.items()}
        archive.add_endpoint("serve", partial(model, training=False), [signature])
        archive.write_out(str(folder), verbose=False)
    except Exception as fault:  # Keras raises many kinds here; all mean the same to the user
        raise _not_exported("a SavedModel", fault, folder) from fault
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[_ENDPOINT]

    def call(inputs: Arrays) -> np.ndarray:
        outputs: np.ndarray = signature(**{name: tf.constant(array) for name, array in inputs.items()})[OUTPUT].numpy()
        return outputs

    call.keeps = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return call


def _write_onnx(model: keras.Model, folder: Path) -> Callable[[Arrays], np.ndarray]:
    """As `_write_savedmodel`, and by way of one: Keras' own way to ONNX makes inputs of a Normalization's numbers
    (keras 3.15, tf2onnx 1.17)."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as saved:
        _write_savedmodel(model, Path(saved, "saved"))
        return _convert_to_onnx(Path(saved, "saved"), folder / ONNX_FILE)


def _convert_to_onnx(saved: Path, path: Path) -> Callable[[Arrays], np.ndarray]:
    """A SavedModel as ONNX, loaded back. Raises ExportRefused."""
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it says is raised below
    try:
        from tf2onnx import convert, tf_loader

        graph, inputs, outputs = tf_loader.from_saved_model(str(saved), None, None, signatures=[_ENDPOINT])[:3]
        names = {name: name.split(":")[0] for name in inputs} | {outputs[0]: OUTPUT}
        convert.from_graph_def(
            graph, input_names=inputs, output_names=outputs, opset=ONNX_OPSET, tensors_to_rename=names,
            output_path=str(path),
        )  # fmt: skip
        return open_onnx(path).call
    except Exception as fault:  # both raise many kinds; all mean the same to the user
        raise _not_exported("ONNX", fault, path) from fault


_WRITERS: dict[str, Callable[[keras.Model, Path], Callable[[Arrays], np.ndarray]]] = {
    "savedmodel": _write_savedmodel,
    "onnx": _write_onnx,
}


def _not_exported(what: str, fault: Exception, place: Path) -> ExportRefused:
    return _NoSuchForm(
        f"The model cannot be written as {what}.",
        received=str(fault).strip().replace(str(place), place.name)[:300],
        next_step="use another --format, or load model.keras, which lies beside the report, with Keras",
    )
