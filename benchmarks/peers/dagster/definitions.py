"""The house-price job with Dagster: an asset for each product, kept by the file-system I/O manager.

dagster asset materialize --select '*' -f definitions.py
"""

from pathlib import Path

import dagster as dg

from benchmarks.peers import job

PRODUCTS = Path("products")


class Training(dg.Config):
    units: int = job.UNITS
    epochs: int = job.EPOCHS


@dg.asset
def raw() -> Path:
    PRODUCTS.mkdir(exist_ok=True)
    job.ingest(PRODUCTS / "raw.csv")
    return PRODUCTS / "raw.csv"


@dg.asset
def validation(raw: Path) -> dict:
    found, page = job.validate(raw)
    (PRODUCTS / "data-docs.html").write_text(page)
    return found


@dg.asset(deps=[validation])
def folds(raw: Path, config: Training) -> list:
    return job.cross_validate(raw, config.units, config.epochs)


@dg.asset(deps=[validation])
def fitted(raw: Path, config: Training) -> dict:
    model, fitted = job.train(raw, config.units, config.epochs)
    (PRODUCTS / "model.keras").write_bytes(model)
    return fitted


@dg.asset
def evaluation(raw: Path, validation: dict, folds: list, fitted: dict) -> None:
    job.write_files(PRODUCTS, job.evaluate(raw, validation, folds, fitted))


defs = dg.Definitions(assets=[raw, validation, folds, fitted, evaluation])
