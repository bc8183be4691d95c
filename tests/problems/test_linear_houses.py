"""House prices by a straight line: gradient descent ends where the closed form does."""

from __future__ import annotations

import numpy as np

from problems.linear_houses import FEATURES
from tasks.examples import load_examples
from tasks.fit import fit, load_model
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker


def test_the_coefficients_agree_with_the_closed_form_of_least_squares_to_1_percent(make_run: RunMaker) -> None:
    run = make_run("linear_houses")
    store = run.open_store()
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    model = load_model(store.local_path(fit.fn(run, ingested, prepared).products["model"]))

    examples, rows = load_examples(store, ingested), load_rows(store, prepared).train
    features = np.asarray(examples.features["attributes"][rows], np.float64)
    design = (features - features.mean(axis=0)) / features.std(axis=0)
    closed, *_ = np.linalg.lstsq(np.column_stack([design, np.ones(len(rows))]), examples.target[rows])
    kernel, bias = model.get_layer("unit").get_weights()
    assert kernel.shape == (len(FEATURES), 1)
    np.testing.assert_allclose([*kernel[:, 0], bias[0]], closed, rtol=0.01)
