"""Examples in the store: features as .npy, so that they can be memory-mapped, and the frame as Parquet."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from problems.outline.problem import Examples, Problem
from problems.outline.ragged import Ragged
from store.artifacts import ArtifactRef, Store
from store.steps import Lease, StepRecord

if TYPE_CHECKING:
    import numpy as np


def save_examples(examples: Examples, lease: Lease) -> dict[str, ArtifactRef]:
    """Write features, target and frame; the artifacts are named `feature.<name>`, `target` and `frame`, and `classes`
    where the examples name their classes.

    A ragged feature is a small JSON that says its form and names two arrays, which features in several forms share.
    """
    artifacts: dict[str, ArtifactRef] = {}
    kept: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:

        def keep(name: str, array: np.ndarray) -> str:
            if id(array) not in kept:
                artifacts[name] = _put_array(Path(folder, f"{name}.npy"), array, lease)
                kept[id(array)] = name
            return kept[id(array)]

        for name, feature in examples.features.items():
            if isinstance(feature, Ragged):
                arrays = {part: keep(f"ragged.{name}.{part}", getattr(feature, part)) for part in ("values", "offsets")}
                page = json.dumps({"width": feature.width, "form": feature.form, **arrays}).encode()
                artifacts[f"feature.{name}"] = lease.put_bytes(f"feature.{name}.json", page, kind="ragged")
            else:
                artifacts[f"feature.{name}"] = _put_array(Path(folder, f"feature.{name}.npy"), feature, lease)
        artifacts["target"] = _put_array(Path(folder, "target.npy"), examples.target, lease)
        path = Path(folder, "frame.parquet")
        examples.frame.to_parquet(path, index=False)
        artifacts["frame"] = lease.put_file(path.name, path, kind="parquet")
    if examples.classes:
        artifacts["classes"] = put_classes(examples.classes, lease)
    return artifacts


def put_classes(classes: Sequence[str], lease: Lease) -> ArtifactRef:
    """The names of the classes as a JSON list, in the order of their numbers."""
    return lease.put_bytes("classes.json", json.dumps(list(classes), ensure_ascii=False).encode(), kind="json")


def read_classes(store: Store, ref: ArtifactRef | None) -> tuple[str, ...]:
    """What `put_classes` wrote; () where there is none."""
    return tuple(json.loads(store.read_bytes(ref))) if ref else ()


def _put_array(path: Path, array: np.ndarray, lease: Lease) -> ArtifactRef:
    import numpy as np

    np.save(path, array, allow_pickle=False)
    return lease.put_file(path.name, path, kind="npy")


def load_examples(store: Store, record: StepRecord) -> Examples:
    """The examples that `ingest` wrote; arrays are memory-mapped, read-only."""
    import numpy as np
    import pandas as pd

    arrays = {
        name: np.load(store.local_path(ref), mmap_mode="r", allow_pickle=False)
        for name, ref in record.products.items()
        if ref.kind == "npy"
    }
    ragged = {
        name: _ragged(json.loads(store.read_bytes(ref)), arrays)
        for name, ref in record.products.items()
        if ref.kind == "ragged"
    }
    found = {**arrays, **ragged}
    features = {name.removeprefix("feature."): found[name] for name in found if name.startswith("feature.")}
    frame = pd.read_parquet(store.local_path(record.products["frame"]))
    return Examples(features, arrays["target"], frame, read_classes(store, record.products.get("classes")))


def with_named_classes(problem: Problem, examples: Examples) -> Problem:
    """The problem, with the names of its classes where the raw files told them."""
    return replace(problem, objective=problem.objective.named(examples.classes))


def _ragged(told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Ragged:
    return Ragged(arrays[told["values"]], arrays[told["offsets"]], told["width"], told["form"])
