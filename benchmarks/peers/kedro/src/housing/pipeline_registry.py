"""The house-price job with Kedro: nodes are functions, the catalog says where what they return is kept.

kedro run --params=units=64
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from benchmarks.peers import job


def ingest() -> Path:
    raw = Path("products", "raw.csv")
    raw.parent.mkdir(exist_ok=True)
    job.ingest(raw)
    return raw


def cross_validate(raw: Path, validation: dict[str, Any], units: int, epochs: int) -> list[job.Fitted]:
    return job.cross_validate(raw, units, epochs)


def train(raw: Path, validation: dict[str, Any], units: int, epochs: int) -> tuple[bytes, job.Fitted]:
    return job.train(raw, units, epochs)


def register_pipelines() -> dict[str, Pipeline]:
    fitting = ["raw_file", "validation", "params:units", "params:epochs"]
    housing = pipeline(
        [
            node(ingest, None, "raw_file"),
            node(job.validate, "raw_file", ["validation", "data_docs"]),
            node(cross_validate, fitting, "folds"),
            node(train, fitting, ["model", "fitted"]),
            node(job.evaluate, ["raw_file", "validation", "folds", "fitted"], "report_files"),
        ]
    )
    return {"__default__": housing}
