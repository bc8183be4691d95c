"""The house-price job in five steps, as the pipelines of the peers call it; the work is that of `plain_housing.py`.

    python -m benchmarks.peers.job STEP FOLDER [--units 64] [--epochs 130]

A peer calls the functions with what it keeps of earlier steps, or `run_step`, where each step reads and writes files of
a folder: raw.csv, validation.json, folds.pickle, fitted.pickle, model.keras, evaluation.json, report.html and plots.
Each step appends its name to the file that HOUSING_STEPS names, so that a benchmark sees what is done again.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.plain_housing import make_report, packaged_file, train_with_our_loop

if TYPE_CHECKING:
    import keras

    from problems.outline.problem import Examples

UNITS, EPOCHS = 64, 130
FILES: dict[str, tuple[str, ...]] = {
    "ingest": ("raw.csv",),
    "validate": ("validation.json", "data-docs.html"),
    "cross_validate": ("folds.pickle",),
    "train": ("model.keras", "fitted.pickle"),
    "evaluate": ("evaluation.json", "report.html"),
}
"""What `run_step` writes."""

Fitted = dict[str, Any]
"""history (a list of numbers for each curve) and predictions (a frame) for the rows that were held out."""


def ingest(raw: Path) -> None:
    """Lay the raw table, 506 rows, at `raw`."""
    _note("ingest")
    shutil.copyfile(packaged_file(), raw)


def validate(raw: Path) -> tuple[dict[str, Any], str]:
    """What the data gate found, and its page. Raises ValidationFailed."""
    from validation import gate
    from validation.data_docs import render_data_docs

    _note("validate")
    checked = gate.validate(_read(raw).frame, _problem().expectations(), name="housing")
    gate.require(checked)
    return json.loads(checked.to_json()), render_data_docs(checked, title="housing")


def cross_validate(raw: Path, units: int = UNITS, epochs: int = EPOCHS) -> list[Fitted]:
    import keras  # noqa: F401

    _note("cross_validate")
    examples = _read(raw)
    folds = _problem().split.divide(examples, 0).folds
    return [_train(examples, *fold, units, epochs)[1] for fold in folds]


def train(raw: Path, units: int = UNITS, epochs: int = EPOCHS) -> tuple[bytes, Fitted]:
    """The content of a .keras file, and how the training went."""
    import keras  # noqa: F401

    _note("train")
    examples = _read(raw)
    rows = _problem().split.divide(examples, 0)
    model, fitted = _train(examples, rows.train, rows.test, units, epochs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        model.save(file)
        return file.read_bytes(), fitted


def evaluate(raw: Path, validation: dict[str, Any], folds: list[Fitted], fitted: Fitted) -> dict[str, bytes]:
    """Names and contents of files: evaluation.json, report.html, predictions.parquet and the plots."""
    _note("evaluate")
    return make_report(_problem(), _read(raw), validation, folds, fitted)


def run_step(step: str, folder: Path, units: int = UNITS, epochs: int = EPOCHS) -> None:
    """One step with its files in a folder, which must hold those of the steps before it."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "raw.csv"
    if step == "ingest":
        ingest(raw)
    elif step == "validate":
        found, page = validate(raw)
        (folder / "data-docs.html").write_text(page)
        (folder / "validation.json").write_text(json.dumps(found))
    elif step == "cross_validate":
        (folder / "folds.pickle").write_bytes(pickle.dumps(cross_validate(raw, units, epochs)))
    elif step == "train":
        model, fitted = train(raw, units, epochs)
        (folder / "fitted.pickle").write_bytes(pickle.dumps(fitted))
        (folder / "model.keras").write_bytes(model)
    else:
        folds, fitted = (pickle.loads((folder / f"{name}.pickle").read_bytes()) for name in ("folds", "fitted"))
        validation = json.loads((folder / "validation.json").read_text())
        write_files(folder, evaluate(raw, validation, folds, fitted))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _train(examples: Examples, train_rows: Any, held_out: Any, units: int, epochs: int) -> tuple[keras.Model, Fitted]:
    settings = {"units": units, "epochs": epochs}
    model, history, predictions = train_with_our_loop(_problem(), examples, train_rows, held_out, settings)
    return model, {"history": history, "predictions": predictions}


def _problem() -> Any:
    from problems.housing import problem

    return problem


def _read(raw: Path) -> Examples:
    from problems.outline.problem import Files

    name = "boston_housing.npz"
    examples: Examples = _problem().read(Files({name: raw}, frozenset({name})))
    return examples


def _note(step: str) -> None:
    """Said when what the step needs is imported, so that a kill after it meets the work."""
    if place := os.environ.get("HOUSING_STEPS"):
        with Path(place).open("a") as notes:
            notes.write(f"{step}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=FILES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    run_step(arguments.step, arguments.folder, arguments.units, arguments.epochs)


if __name__ == "__main__":
    main()
