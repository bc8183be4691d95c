"""What holds for every problem there is, found by listing the package."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from problems.outline.catalogue import load_problem, problem_names, read_card
from problems.outline.problem import Examples, Problem
from store import open_store
from store.steps import StepRecord
from tasks.engines import weights_digest
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit, fit_fold, load_model, predict_with
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker, pretend_gpu

NAMES = problem_names()
SAMPLE = 400


def own_test(name: str) -> ModuleType | None:
    path = Path(__file__).with_name(f"test_{name}.py")
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"sample_of_{name}", path)
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample_maker(name: str) -> Callable[[Path], Path] | None:
    """The problem's test may make a file of its schema, where no package carries the data."""
    return getattr(own_test(name), "make_sample", None)


def sample_mirror(name: str, folder: Path) -> dict[str, str]:
    """Where one file does not do, it may make a mirror whose mirror.toml has a stand-in for every source."""
    maker = getattr(own_test(name), "make_mirror", None)
    return {"mirror": str(maker(folder))} if maker else {}


def sample_settings(name: str) -> dict[str, object]:
    """Hyperparameters with which a problem is small enough for a smoke test."""
    return {"epochs": 1, **getattr(own_test(name), "SAMPLE_SETTINGS", {})}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def problem(name: str) -> Problem:
    return load_problem(name)


def test_a_problem_is_called_as_its_file(problem: Problem, name: str) -> None:
    assert problem.name == name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


def test_a_problem_opens_with_its_card(name: str) -> None:
    card = read_card(name)
    assert card["question"].split("  (")[0].endswith("?")
    assert {"source", "book", "measured", "caution"} <= set(card)
    assert all(len(card[label]) > 10 for label in ("question", "source", "book", "caution"))


def test_what_was_measured_is_on_the_card_with_its_date(name: str) -> None:
    measured = read_card(name)["measured"]
    assert measured == "not yet" or re.search(r"\b20\d\d-\d\d-\d\d\b", measured)


def test_every_source_says_where_it_is_what_it_is_and_under_which_licence(problem: Problem) -> None:
    assert problem.sources
    for source in problem.sources:
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256) and source.size > 0 and source.licence
        assert source.url.startswith("https://")


def test_hyperparameters_have_working_defaults_and_variants_are_known_settings(problem: Problem) -> None:
    complete = problem.hyperparameters.from_settings({})
    assert complete.epochs >= 1
    for settings in problem.variants.values():
        assert problem.hyperparameters.from_settings(settings) is not None


def test_something_is_expected_of_the_data_and_of_the_model(problem: Problem) -> None:
    assert len(problem.expectations()) >= 3
    assert problem.acceptance


def test_a_small_training_goes_from_raw_file_to_a_model_that_loads_and_predicts(
    name: str, problem: Problem, make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the workflow on data that a package carries or that the problem's test makes, in seconds."""
    from validation.gate import require, validate

    monkeypatch.setattr("tasks.occlusion.NUM_PATCHES", 2)
    maker = sample_maker(name)
    data = str(maker(tmp_path)) if maker else ""
    run = make_run(name, sample_settings(name), data=data, sample=SAMPLE, **sample_mirror(name, tmp_path))
    store = run.open_store()
    ingested = ingest.fn(run)
    examples = load_examples(store, ingested)
    require(validate(examples.frame, problem.expectations(), name=name)) if not maker else None
    assert set(problem.slices) <= set(examples.frame.columns)
    prepared = prepare.fn(run, ingested)
    folds = [fit_fold.fn(run, ingested, prepared, number) for number in range(1, prepared.facts["folds"] + 1)]
    fitted = fit.fn(run, ingested, prepared)
    judged = evaluate.fn(run, ingested, prepared, folds, fitted)
    assert judged.facts["metrics"][problem.objective.main_metric] is not None
    evaluation = json.loads(store.read_bytes(judged.products["evaluation"]))["evaluation"]
    assert [found["name"] for found in evaluation["behaviours"]] == [one.name for one in problem.behaviours]
    assert (evaluation["importance"] is not None) == bool(problem.columns)
    _check_model(store.local_path(fitted.products["model"]), fitted, examples, load_rows(store, prepared).test)


def _check_model(path: Path, fitted: StepRecord, examples: Examples, test_rows: np.ndarray) -> None:
    model = load_model(path)
    assert weights_digest(model) == fitted.facts["weights_digest"]
    outputs = predict_with(model, examples, test_rows[:5])
    assert len(outputs) == len(test_rows[:5]) and np.isfinite(outputs).all()


@pytest.mark.parametrize("name", [name for name in NAMES if load_problem(name).mixed_precision])
def test_a_training_in_mixed_precision_ends_with_a_model_in_float32(
    name: str, make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = sample_maker(name)
    data = str(maker(tmp_path)) if maker else ""
    run = make_run(name, sample_settings(name), data=data, sample=SAMPLE, **sample_mirror(name, tmp_path))
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    pretend_gpu(monkeypatch)
    fitted = fit.fn(run, ingested, prepared)
    assert fitted.facts["precision"] == "mixed_bfloat16"
    model = load_model(run.open_store().local_path(fitted.products["model"]))
    assert weights_digest(model) == fitted.facts["weights_digest"]
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.data
def test_the_real_data_meets_what_is_expected_of_it(name: str, problem: Problem, make_run: RunMaker) -> None:
    from validation.gate import require, validate

    run = make_run(name, mirror=os.environ["MODELKEEP_MIRROR"])
    examples = load_examples(open_store(run.store), ingest.fn(run))
    require(validate(examples.frame, problem.expectations(), name=name))
