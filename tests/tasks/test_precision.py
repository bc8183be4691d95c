"""Which trainings reckon in bfloat16, and what that changes."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from problems.outline.catalogue import load_problem
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.precision import built_in, precision_of
from tasks.prepare import prepare
from tests.training_store import RunMaker, pretend_gpu

DIGITS = load_problem("digits")


def test_only_a_problem_that_allows_it_is_trained_in_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    assert precision_of(DIGITS, "prefer") == precision_of(DIGITS, "require") == "mixed_bfloat16"
    assert precision_of(replace(DIGITS, mixed_precision=False), "require") == "float32"
    assert precision_of(DIGITS, "never") == "float32"


def test_a_gpu_without_bfloat16_and_a_cpu_train_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_of(DIGITS, "prefer") == "float32"
    pretend_gpu(monkeypatch, has_bfloat16=False)
    assert precision_of(DIGITS, "require") == "float32"


def test_mixed_precision_can_be_asked_for_on_a_cpu_and_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKEEP_PRECISION", "mixed_bfloat16")
    assert precision_of(DIGITS, "never") == "mixed_bfloat16"
    assert precision_of(replace(DIGITS, mixed_precision=False), "never") == "float32"
    monkeypatch.setenv("MODELKEEP_PRECISION", "float32")
    pretend_gpu(monkeypatch)
    assert precision_of(DIGITS, "require") == "float32"


def test_layers_reckon_in_bfloat16_and_outputs_and_weights_are_float32() -> None:
    settings = DIGITS.hyperparameters.from_settings({"network": "mlp"})
    model = built_in("mixed_bfloat16", DIGITS, settings, None)  # type: ignore[arg-type]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), "uint8")
    outputs = keras.ops.convert_to_numpy(model({"image": pictures}))
    assert outputs.dtype == np.float32 and np.allclose(outputs.sum(axis=1), 1, atol=1e-5)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert [layer.compute_dtype for layer in model.layers[-2:]] == ["bfloat16", "float32"]
    assert keras.config.dtype_policy().name == "float32"


def test_mixed_precision_is_another_training_than_float32_and_as_good(
    make_run: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("digits", {"network": "mlp", "epochs": 3})
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    plain = fit.fn(run, ingested, prepared)
    pretend_gpu(monkeypatch)
    mixed = fit.fn(run, ingested, prepared)
    assert plain.key != mixed.key and plain.facts["weights_digest"] != mixed.facts["weights_digest"]
    assert (plain.facts["precision"], mixed.facts["precision"]) == ("float32", "mixed_bfloat16")
    assert mixed.facts["history"]["val_accuracy"][-1] == pytest.approx(
        plain.facts["history"]["val_accuracy"][-1], abs=0.03
    )
    assert fit.fn(run, ingested, prepared).key == mixed.key
