"""Runs, stores and tiny problems for the tests of tasks and flows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from problems.outline.catalogue import load_problem
from store.artifacts import ArtifactRef, Store
from store.registry import Registry, Version
from tasks.devices import Device
from tasks.engines import weights_digest
from tasks.export import _write_onnx
from tasks.steps import Run

if TYPE_CHECKING:
    import keras

RunMaker = Callable[..., Run]


def crown(
    store: Store,
    problem: str,
    model: keras.Model,
    *,
    with_onnx: bool = False,
    sources: Mapping[str, ArtifactRef] = {},
    artifacts: Mapping[str, ArtifactRef] = {},
    export: Mapping[str, Any] | None = None,
) -> Version:
    """Make a model the champion of a problem, as if a run had trained it with these raw files, made these too, and
    found `export` of its forms."""
    registry, number = Registry(store), len(Registry(store).versions(problem)) + 1
    run = f"{problem}-20260101T000000-{number:06d}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        kept = {"fit/model.keras": store.put_file(f"runs/{problem}/{run}/fit/model.keras", path, kind="keras")}
        if with_onnx:
            _write_onnx(model, Path(folder, "onnx"))
            key = f"runs/{problem}/{run}/export/model.onnx"
            kept["export/model.onnx"] = store.put_file(key, Path(folder, "onnx", "model.onnx"), kind="onnx")
    told_sources = [{"source": name, "ref": ref.to_dict()} for name, ref in sources.items()]
    named = {name: ref.to_dict() for name, ref in (kept | dict(artifacts)).items()}
    page = json.dumps({"artifacts": named, "sources": told_sources, "export": export}).encode()
    manifest = store.put_bytes(f"runs/{problem}/{run}/manifest.json", page, kind="json")
    told: Any = {"actor": "test", "reason": "test", "run": run}
    registry.register(problem, manifest=manifest, metrics={}, weights=weights_digest(model), **told)
    before = registry.champion(problem)
    return registry.promote(problem, number, expected=before.number if before else None, **told)


def pretend_gpu(patch: pytest.MonkeyPatch, *, has_bfloat16: bool = True) -> None:
    """The precision is chosen as for a GPU; what is reckoned is reckoned on the CPU."""
    patch.setattr("tasks.precision.num_gpus", lambda: 1)
    patch.setattr("tasks.precision.usable_gpus", lambda: [Device("gpu:0", "pretended", has_bfloat16)])


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """Makes a run of a problem in a store of the test's own; keyword arguments replace single fields."""

    def make(problem: str = "housing", settings: dict[str, Any] | None = None, **fields: Any) -> Run:
        complete = load_problem(problem).hyperparameters.from_settings(settings or {})
        values: dict[str, Any] = {
            "run_id": f"{problem}-20260101T000000-abcdef",
            "problem": problem,
            "store": str(tmp_path / "store"),
            "mirror": "",
            "hyperparameters": complete.model_dump(),
            "variant": "",
            "seed": 0,
            "sample": None,
            "data": "",
            "full": False,
            "backend": "tensorflow",
            "request": "0" * 64,
            "started": "2026-01-01T00:00:00+00:00",
            "flow_run": "",
            "checkpoint_seconds": 5.0,
        }
        return Run(**{**values, **fields})

    return make
