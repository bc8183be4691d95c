"""A champion of the problem churn with a reference, made without training, and windows of customers for it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from problems.churn import FILE, NUM_LEVELS, problem
from problems.outline import Examples, Files, SplitRows
from store.artifacts import Store
from store.registry import Registry
from store.steps import Lease, claim_step
from tasks.engines import weights_digest
from tasks.reference import make_reference, put_reference
from tests.problems import test_churn

if TYPE_CHECKING:
    import keras

NUM_CUSTOMERS = 3000


def make_customers(num_rows: int = NUM_CUSTOMERS, seed: int = 0) -> pd.DataFrame:
    """Customers as the published file has them, each time drawn from the same 600."""
    table = test_churn.make_table()
    drawn = table.iloc[np.random.default_rng(seed).integers(0, len(table), num_rows)].reset_index(drop=True)
    return drawn.assign(customerID=[f"{seed:04d}-{row:05d}" for row in range(num_rows)])


def raise_prices(table: pd.DataFrame, dollars: float) -> pd.DataFrame:
    """A month costs more, and so did those before."""
    monthly = table["MonthlyCharges"] + dollars
    total = (table["tenure"] * monthly).round(2).astype(str).mask(table["tenure"] == 0, " ")
    return table.assign(MonthlyCharges=monthly, TotalCharges=total)


def read_customers(table: pd.DataFrame) -> Examples:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "customers.csv")
        table.to_csv(path, index=False)
        return problem.read(Files({FILE: path}))


def ask(model: keras.Model, table: pd.DataFrame) -> pd.DataFrame:
    return problem.objective.predictions(model.predict(dict(read_customers(table).features), verbose=0))


def make_model(examples: Examples) -> keras.Model:
    """It says that who has been a customer for long stays, and goes by nothing else."""
    model = problem.build(problem.hyperparameters.from_settings({"network": "logistic"}), examples)
    kernel = np.zeros((NUM_LEVELS + 3, 1), np.float32)
    kernel[NUM_LEVELS] = -2
    model.get_layer("unit").set_weights([kernel, np.array([-1], np.float32)])
    return model


def draw_truth(predictions: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Who leaves, where each probability means what it says: uint8 (n,)."""
    random = np.random.default_rng(seed)
    return (random.random(len(predictions)) < predictions["probability"]).to_numpy(np.uint8)


def crown_with_reference(store: Store) -> keras.Model:
    """Version 1 of churn, as if a run had trained and evaluated it."""
    table = make_customers()
    examples = read_customers(table)
    model = make_model(examples)
    rows = np.arange(len(examples))
    split = SplitRows(train=rows[:1800], validation=rows[1800:2400], test=rows[2400:])
    predictions = ask(model, table)
    parts = np.where(rows < 2400, "validation", "test")
    kept = predictions.assign(row=rows, part=parts, target=draw_truth(predictions)).iloc[1800:]
    reference = make_reference(problem.objective, examples, split, [predictions.iloc[1800:]], seed=0)
    claim = claim_step(store, "churn", "evaluate", "0" * 64, holder={})
    assert isinstance(claim, Lease)
    with claim as lease, tempfile.TemporaryDirectory() as folder:
        artifacts = {f"evaluate/{ref.name}": ref for ref in put_reference(reference, lease).values()}
        lease.publish({ref.name: ref for ref in artifacts.values()}, {})
        run = "churn-20260101T000000-000001"
        model.save(Path(folder, "model.keras"))
        kept.to_parquet(Path(folder, "predictions.parquet"))
        for name, kind in (("model.keras", "keras"), ("predictions.parquet", "parquet")):
            artifacts[f"fit/{name}"] = store.put_file(f"runs/churn/{run}/fit/{name}", Path(folder, name), kind=kind)
        artifacts["report.html"] = store.put_bytes(f"runs/churn/{run}/report.html", b"", kind="html")
    told = {"artifacts": {name: ref.to_dict() for name, ref in artifacts.items()}, "sources": []}
    page = json.dumps(told).encode()
    manifest = store.put_bytes(f"runs/churn/{run}/manifest.json", page, kind="json")
    registry, who = Registry(store), {"actor": "test", "reason": "test", "run": run}
    registry.register("churn", manifest=manifest, metrics={"roc_auc": 0.8}, weights=weights_digest(model), **who)
    registry.promote("churn", 1, expected=None, **who)
    return model
