"""A champion of `photos` that is made in a moment: it answers with the brightest colour of a picture."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import keras
import numpy as np

from store.artifacts import Store
from store.registry import Registry

CLASSES = ("red", "green", "blue", *(f"thing {number}" for number in range(3, 1000)))


def register_champion(store: Store, shift: int = 0) -> None:
    """A version of this model, promoted. Its answer is the class `shift` places behind the colour's."""
    run = f"photos-20260101T00000{shift}-abcdef"
    keys = {"fit/model.keras": _model_bytes(shift), "fit/classes.json": json.dumps(CLASSES).encode()}
    refs = {
        name: store.put_bytes(f"runs/photos/{run}/{name}", data, kind=name.rsplit(".")[-1])
        for name, data in keys.items()
    }
    page = json.dumps({"run": run, "artifacts": {name: ref.to_dict() for name, ref in refs.items()}}).encode()
    manifest = store.put_bytes(f"runs/photos/{run}/manifest.json", page, kind="json")
    registry = Registry(store)
    champion = registry.champion("photos")
    version = registry.register(
        "photos", run=run, manifest=manifest, metrics={}, actor="test", reason="test", weights=f"weights {shift}"
    )
    expected = champion.number if champion else None
    registry.promote("photos", version.number, expected=expected, actor="test", reason="test", run=run)


def _model_bytes(shift: int) -> bytes:
    image = keras.Input((224, 224, 3), name="image", dtype="uint8")
    colour = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 10)(image))
    last = keras.layers.Dense(1000, activation="softmax")
    model = keras.Model({"image": image}, last(colour))
    kernel = np.zeros((3, 1000), "float32")
    kernel[range(3), [(number + shift) % 1000 for number in range(3)]] = 1
    last.set_weights([kernel, np.full(1000, -1, "float32") * (np.arange(1000) > 2 + shift)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return path.read_bytes()
