"""Examples in the store: one .npy a feature, so that they can be memory-mapped, and the frame as Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path

from problems.outline.problem import Examples
from store.artifacts import ArtifactRef, Store
from store.steps import Lease, StepRecord


def save_examples(examples: Examples, lease: Lease) -> dict[str, ArtifactRef]:
    """Write features, target and frame; the artifacts are named `feature.<name>`, `target` and `frame`."""
    import numpy as np

    arrays = {**{f"feature.{name}": array for name, array in examples.features.items()}, "target": examples.target}
    artifacts = {}
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        for name, array in arrays.items():
            path = Path(folder, f"{name}.npy")
            np.save(path, array, allow_pickle=False)
            artifacts[name] = lease.put_file(path.name, path, kind="npy")
        path = Path(folder, "frame.parquet")
        examples.frame.to_parquet(path, index=False)
        artifacts["frame"] = lease.put_file(path.name, path, kind="parquet")
    return artifacts


def load_examples(store: Store, record: StepRecord) -> Examples:
    """The examples that `ingest` wrote; arrays are memory-mapped, read-only."""
    import numpy as np
    import pandas as pd

    arrays = {
        name: np.load(store.local_path(ref), mmap_mode="r", allow_pickle=False)
        for name, ref in record.products.items()
        if ref.kind == "npy"
    }
    features = {name.removeprefix("feature."): array for name, array in arrays.items() if name != "target"}
    return Examples(features, arrays["target"], pd.read_parquet(store.local_path(record.products["frame"])))
