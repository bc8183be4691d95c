"""The manifest: everything about a run, written last, so that a run without one does not exist.

A run's prefix holds copies of what its steps made, so that model, predictions, metrics, plots and reports lie in one
place; the steps' own files are a cache that `gc` may empty.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from modelkeep.addresses import without_secrets
from store.artifacts import ArtifactRef
from store.steps import StepRecord
from tasks.code_digest import code_digest
from tasks.requests import record_answer, request_document
from tasks.steps import Run, package_versions

# What later steps read; large, and made again at need. The run refers to it and does not copy it. A SavedModel has a
# place of its own, with the version.
_NOT_COPIED = ("ingest", "prepare")


def describe_run(run: Run, records: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What the manifest says of a run before anything is decided: data, code, settings, versions, device and times."""
    ingested = records["ingest"]
    fitted = records.get("fit")
    return {
        "problem": run.problem,
        "run": run.run_id,
        "flow_run": run.flow_run,
        "started": run.started,
        "hyperparameters": dict(run.hyperparameters),
        "variant": run.variant,
        "seed": run.seed,
        "sample": run.sample,
        "full": run.full,
        "data": without_secrets(run.data),
        "windows": [list(window) for window in run.windows],
        "until": run.until,
        "cause": run.cause,
        "mirror": without_secrets(run.mirror),
        "backend": run.backend,
        "device": fitted.facts["device"] if fitted else None,
        "precision": fitted.facts["precision"] if fitted else None,
        "threads": fitted.facts["threads"] if fitted else None,
        "export": records["export"].facts if "export" in records else None,
        "weights_digest": fitted.facts["weights_digest"] if fitted else None,
        "code_digest": code_digest("flows.train", f"problems.{run.problem}"),
        "rows_digest": records["prepare"].products["rows"].sha256 if "prepare" in records else None,
        "data_digests": {name: ref.sha256 for name, ref in ingested.products.items()},
        "num_examples": ingested.facts["num_examples"],
        "sources": [*ingested.facts["sources"], *(fitted.facts["sources"] if fitted else [])],
        "versions": package_versions(),
        "seconds": {name: record.facts["seconds"] for name, record in records.items()},
        "peak_memory_bytes": fitted.facts["peak_memory_bytes"] if fitted else None,
    }


def close_run(
    run: Run,
    records: Mapping[str, StepRecord],
    *,
    outcome: str,
    reason: str,
    register: bool = False,
    promote: bool = False,
    metrics: Mapping[str, Any] | None = None,
    pages: Mapping[str, ArtifactRef] | None = None,
    settled: bool = True,
) -> ArtifactRef:
    """Copy what the run is to keep under its prefix, and write the manifest last.

    `outcome` is "accepted", "acceptance failed" or "validation failed"; `pages` are artifacts already in the prefix.
    A run that is not `settled` does not answer its request for the next time.
    """
    store = run.open_store()
    artifacts = dict(pages or {})
    for step, record in records.items():
        for ref in record.products.values():
            if step not in _NOT_COPIED and ref.kind != "savedmodel":
                name = f"{step}/{ref.name}"
                artifacts[name] = store.copy(ref, f"{run.prefix}/{name}")
    manifest = describe_run(run, records) | {
        "finished": utc_now(),
        "outcome": outcome,
        "decision": {"register": register, "promote": promote, "reason": reason},
        "metrics": dict(metrics or {}),
        "artifacts": {name: ref.to_dict() for name, ref in sorted(artifacts.items())},
        "steps": {name: {"key": record.key, "number": record.number} for name, record in records.items()},
    }
    data = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
    written = store.put_bytes(f"{run.prefix}/manifest.json", data, kind="json")
    if settled:
        record_answer(request_document(run.problem, run.request), written, store)
    return written


def utc_now() -> str:
    """ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
