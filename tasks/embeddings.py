"""Embeddings: what enters a model's last layer, by which windows of pictures and texts are compared.

The summaries of a picture or a text (brightness, length) say little of what it shows; what the model itself makes of it
says more. The reference has the embeddings of rows that were not trained on, on its principal components, and a window
is told from it by a classifier (Rabanser et al. 2019, arXiv 1810.11953; Lopez-Paz & Oquab 2017, arXiv 1610.06545).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from problems.outline.drift import Drift
from problems.outline.images import is_picture
from problems.outline.ragged import Ragged
from store.artifacts import Store
from tasks.drift import Finding, classify_sides, some_rows
from tasks.runs import read_manifest

if TYPE_CHECKING:
    import keras
    import numpy as np

    from problems.outline.problem import Examples

FILE = "embeddings.npz"
ARTIFACT = f"evaluate/{FILE}"
MOST_EMBEDDED = 2_000
NUM_COMPONENTS = 16
_BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """`sample` (n, k) on the principal components (k, d) of embeddings with this mean (d,), each of deviation 1;
    float32, n at most 2,000."""

    mean: np.ndarray
    components: np.ndarray
    sample: np.ndarray

    def to_bytes(self) -> bytes:
        import numpy as np

        file = io.BytesIO()
        np.savez(file, allow_pickle=False, mean=self.mean, components=self.components, sample=self.sample)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Embedded:
        import numpy as np

        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(*(arrays[name] for name in ("mean", "components", "sample")))

    def project(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (n, d) → (n, k)."""
        projected: np.ndarray = (embeddings - self.mean) @ self.components.T
        return projected


def compares_embeddings(store: Store, run: str) -> bool:
    """Whether windows that a run's version has scored are compared by what its model makes of them, which loads it."""
    return ARTIFACT in read_manifest(store, run)["artifacts"]


def are_embedded(features: Mapping[str, Any]) -> bool:
    """Whether these are pictures or texts; columns of a table are compared themselves."""
    return any(isinstance(array, Ragged) or is_picture(array) for array in features.values())


def embed_reference(model: keras.Model, examples: Examples, rows: np.ndarray, seed: int) -> Embedded | None:
    """Of at most 2,000 of these rows; None for a model of which the last layer is a network of its own or takes more
    than one input, for one row, and where all are embedded alike."""
    import numpy as np

    chosen = rows[some_rows(len(rows), seed, MOST_EMBEDDED)]
    embeddings = embed(model, {name: array[chosen] for name, array in examples.features.items()})
    if embeddings is None or len(embeddings) < 2:
        return None
    mean = embeddings.mean(axis=0)
    _, spreads, directions = np.linalg.svd(embeddings - mean, full_matrices=False)
    varies = spreads[:NUM_COMPONENTS] > 1e-5 * np.sqrt(len(embeddings)) * (np.abs(embeddings).max() or 1)
    if not varies.any():
        return None
    scales = np.sqrt(len(embeddings)) / spreads[:NUM_COMPONENTS][varies]
    components = directions[:NUM_COMPONENTS][varies] * scales[:, None]
    return Embedded(mean, components, (embeddings - mean) @ components.T)


def embed(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """float32 (n, d), for arrays (n, …) by the names of the model's inputs; None where there is no such layer."""
    import keras
    import numpy as np

    last = next((layer for layer in reversed(model.layers) if layer.weights), None)
    # What is called twice has no one input.
    if last is None or isinstance(last, keras.Model) or len(last._inbound_nodes) != 1:
        return None
    if not isinstance(last.input, keras.KerasTensor):
        return None
    embedder = keras.Model(model.input, last.input)
    features = {name: features[name] for name in model.input}
    count = len(next(iter(features.values())))
    parts = [
        embedder({name: array[start : start + _BATCH] for name, array in features.items()}, training=False)
        for start in range(0, count, _BATCH)
    ]
    return np.concatenate([keras.ops.convert_to_numpy(part).reshape(len(part), -1) for part in parts])


def compare_embeddings(reference: Embedded, embeddings: np.ndarray, drift: Drift, seed: int = 0) -> list[Finding]:
    """None where there are too few rows for a classifier."""
    found = classify_sides(reference.sample, reference.project(embeddings), seed)
    if found is None:
        return []
    tells = "tells" if found.area >= drift.separability.warn else "hardly tells"
    text = (
        f"Embeddings, what enters the model's last layer: a classifier {tells} the window's from the reference's "
        f"(area under the ROC curve {found.area:.2f}, where 0.5 is chance)"
    )
    told = ("data", "embeddings", "together", "Mann-Whitney", found.p, "area under the ROC curve")
    return [Finding(*told, max(found.area, 0.5), drift.separability, text)]
