"""The house-price job with Prefect as its first pages teach it: plain tasks, no cache, no server of its own.

python flow.py --units 64
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prefect import flow, task

from benchmarks.peers import job


@task
def ingest(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    job.ingest(folder / "raw.csv")
    return folder / "raw.csv"


@task
def validate(folder: Path, raw: Path) -> dict[str, Any]:
    found, page = job.validate(raw)
    (folder / "data-docs.html").write_text(page)
    return found


@task
def cross_validate(raw: Path, units: int, epochs: int) -> list[job.Fitted]:
    return job.cross_validate(raw, units, epochs)


@task
def train(folder: Path, raw: Path, units: int, epochs: int) -> job.Fitted:
    model, fitted = job.train(raw, units, epochs)
    (folder / "model.keras").write_bytes(model)
    return fitted


@task
def evaluate(folder: Path, raw: Path, validation: dict[str, Any], folds: list[job.Fitted], fitted: job.Fitted) -> None:
    job.write_files(folder, job.evaluate(raw, validation, folds, fitted))


@flow
def housing(folder: Path = Path("products"), units: int = job.UNITS, epochs: int = job.EPOCHS) -> None:
    raw = ingest(folder)
    validation = validate(folder, raw)
    folds = cross_validate(raw, units, epochs)
    fitted = train(folder, raw, units, epochs)
    evaluate(folder, raw, validation, folds, fitted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=job.UNITS)
    parser.add_argument("--epochs", type=int, default=job.EPOCHS)
    housing(**vars(parser.parse_args()))
