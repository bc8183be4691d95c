"""Embeddings: pictures and texts that mean something else are told apart, whatever their brightness or length."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from problems.digits import problem, turned
from problems.outline import Examples, SplitRows
from problems.outline.drift import Drift
from store import open_store
from store.artifacts import Store
from store.steps import Lease, claim_step
from tasks.embeddings import ARTIFACT, FILE, Embedded, are_embedded, compare_embeddings, embed, embed_reference
from tasks.ingest import read_sources
from tasks.monitor import check_window, measure_window, take_window
from tasks.reference import make_reference, put_reference
from tests.training_store import crown


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The 5,000 digits of the package."""
    folder = tmp_path_factory.mktemp("digits")
    read = read_sources(problem, open_store(str(folder / "store")), "", "", str(folder))
    return read.take(np.random.default_rng(0).permutation(len(read)))


@pytest.fixture(scope="module")
def model(examples: Examples) -> keras.Model:
    """The book's network without training: already its layers see more than brightness."""
    keras.utils.set_random_seed(0)
    return problem.build(problem.hyperparameters.from_settings({"network": "mlp", "units": 64}), examples)


def images(examples: Examples, rows: slice) -> np.ndarray:
    return examples.features["image"][:][rows]


def area(reference: Embedded, model: keras.Model, pictures: np.ndarray) -> float:
    embeddings = embed(model, {"image": pictures})
    assert embeddings is not None and embeddings.shape == (len(pictures), 64)
    (found,) = compare_embeddings(reference, embeddings, Drift())
    assert found.aspect == "together" and "Embeddings" in found.text
    return found.effect


def test_turned_digits_are_told_from_straight_ones_and_others_of_the_same_kind_are_not(
    examples: Examples, model: keras.Model
) -> None:
    reference = embed_reference(model, examples, np.arange(2000), seed=0)
    assert reference is not None and reference.sample.shape == (2000, 16)
    assert reference.sample.std(axis=0) == pytest.approx(1, abs=1e-3)
    others = images(examples, slice(2000, 4000))
    assert area(reference, model, others) < Drift().separability.warn
    straight, bent = others[..., 0], turned(others[..., 0], 30)
    assert bent.mean() == pytest.approx(straight.mean(), rel=0.02)
    assert area(reference, model, bent[..., None]) > Drift().separability.alert


def test_a_reference_is_kept_in_bytes_without_pickles(examples: Examples, model: keras.Model) -> None:
    reference = embed_reference(model, examples, np.arange(300), seed=0)
    assert reference is not None
    again = Embedded.from_bytes(reference.to_bytes())
    np.testing.assert_array_equal(again.sample, reference.sample)
    embeddings = embed(model, {"image": images(examples, slice(0, 300))})
    assert embeddings is not None
    np.testing.assert_allclose(again.project(embeddings), reference.sample, atol=1e-4)


def test_columns_of_a_table_have_no_embeddings_and_some_networks_have_no_last_layer_of_their_own(
    examples: Examples,
) -> None:
    assert are_embedded(examples.features) and not are_embedded({"attributes": np.zeros((5, 3), np.float32)})
    image = keras.Input((28, 28, 1), name="image")
    inner = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert embed(keras.Model({"image": image}, inner(image)), {"image": images(examples, slice(0, 4))}) is None


def test_rows_that_are_all_the_same_are_no_reference(model: keras.Model, examples: Examples) -> None:
    same = examples.take(np.zeros(50, int))
    assert embed_reference(model, same, np.arange(50), seed=0) is None


def crown_with_embeddings(store: Store, model: keras.Model, examples: Examples) -> None:
    rows = np.arange(len(examples))
    split = SplitRows(train=rows[:1000], validation=rows[1000:1500], test=rows[1500:3000])
    outputs = model.predict({"image": images(examples, slice(1000, 3000))}, verbose=0)
    reference = make_reference(problem.objective, examples, split, [problem.objective.predictions(outputs)], seed=0)
    embedded = embed_reference(model, examples, rows[1000:3000], seed=0)
    assert embedded is not None
    claim = claim_step(store, "digits", "evaluate", "0" * 64, holder={})
    assert isinstance(claim, Lease)
    with claim as lease:
        kept = put_reference(reference, lease) | {"x": lease.put_bytes(FILE, embedded.to_bytes(), kind="npz")}
        lease.publish(kept, {})
    crown(store, "digits", model, artifacts={f"evaluate/{ref.name}": ref for ref in kept.values()})


def test_monitor_compares_what_the_model_makes_of_a_window(
    examples: Examples, model: keras.Model, tmp_path: Path
) -> None:
    uri = str(tmp_path / "store")
    crown_with_embeddings(open_store(uri), model, examples)
    found = {}
    for name, degrees in (("straight", 0), ("bent", 30)):
        pictures = images(examples, slice(3000, 4500))[..., 0]
        np.savez(tmp_path / f"{name}.npz", image=turned(pictures, degrees) if degrees else pictures)
        kept = take_window.fn("digits", "", str(tmp_path / f"{name}.npz"), uri)
        assert check_window.fn(kept, uri)["success"]
        tests = measure_window.fn(kept, "", uri)["drift"]["findings"]
        (found[name],) = [one for one in tests if one["column"] == "embeddings"]
    assert found["straight"]["level"] == "none" and found["bent"]["level"] == "alert"


def test_a_version_without_embeddings_is_monitored_without_them(
    examples: Examples, model: keras.Model, tmp_path: Path
) -> None:
    from tasks.embeddings import compares_embeddings

    store = open_store(str(tmp_path / "store"))
    version = crown(store, "digits", model)
    assert not compares_embeddings(store, version.run)
    assert ARTIFACT == "evaluate/embeddings.npz"
