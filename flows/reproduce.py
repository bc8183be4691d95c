"""The flow `reproduce`: train a run again from its manifest, and say whether data, weights and metrics are the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.train import begin_run, fit_folds
from modelkeep.errors import ModelkeepError
from store import open_store
from tasks.evaluate import evaluate
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.manifest import describe_run
from tasks.prepare import prepare
from tasks.requests import backend_name
from tasks.runs import chosen_examples, own_file, read_manifest
from tasks.settings import load_settings
from tasks.validate import validate


@flow(name="reproduce", flow_run_name="reproduce {run}", log_prints=False)
def reproduce(
    run: Annotated[str, Field(description="The run to train again")],
    store: Annotated[str, Field(description="Where it is kept; empty for MODELKEEP_STORE")] = "",
) -> dict[str, Any]:
    """Do every step again, whatever the store holds, and compare with the manifest. Nothing is registered.

    The result: {run, same_data, same_weights, same_metrics, metrics and changed: {name: [then, now]}}.
    """
    uri = store or load_settings().store
    manifest = read_manifest(open_store(uri), run)
    _require_backend(manifest)
    again = begin_run(
        manifest["problem"],
        manifest["hyperparameters"],
        "",
        manifest["seed"],
        manifest["sample"],
        own_file(open_store(uri), manifest),
        manifest["full"],
        uri,
        **chosen_examples(manifest),
    )
    began_from = [source["version"] for source in manifest["sources"] if source.get("version")]
    versions = {version["problem"]: version["number"] for version in began_from}
    again = dataclasses.replace(again, again=again.run_id, versions=versions)
    examples = ingest(again)
    validate(again, examples)
    prepared = prepare(again, examples)
    folds = fit_folds(again, examples, prepared)
    fitted = fit(again, examples, prepared)
    evaluated = evaluate(again, examples, prepared, folds, fitted)
    now = describe_run(again, {"ingest": examples, "prepare": prepared, "fit": fitted})
    return compare(manifest, now, evaluated.facts["metrics"])


def compare(manifest: Mapping[str, Any], now: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    """What is the same as in the manifest, and what around it has changed."""
    changed = {
        name: [manifest.get(name), now[name]]
        for name in ("code_digest", "device", "precision", "threads", "versions", "data_digests", "rows_digest")
        if manifest.get(name) != now[name]
    }
    return {
        "run": manifest["run"],
        "same_data": manifest["data_digests"] == now["data_digests"],
        "same_weights": manifest["weights_digest"] == now["weights_digest"],
        "same_metrics": dict(manifest["metrics"]) == dict(metrics),
        "metrics": {name: [value, metrics.get(name)] for name, value in manifest["metrics"].items()},
        "changed": json.loads(json.dumps(changed)),
    }


def _require_backend(manifest: Mapping[str, Any]) -> None:
    if manifest["backend"] != backend_name():
        raise ModelkeepError(
            f"The run {manifest['run']} was trained on another backend.",
            expected=manifest["backend"],
            received=backend_name(),
            next_step=f"set KERAS_BACKEND={manifest['backend']} and try again",
        )
