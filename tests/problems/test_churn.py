"""Telco churn: the rule for blanks, the numbering of levels, and a logistic regression that is scikit-learn's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.churn import AMOUNTS, FILE, INTERNET_SERVICES, LEVELS, NUM_LEVELS, number_levels, problem
from problems.outline import Files
from store.steps import StepRecord
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit, load_model
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tasks.steps import Run
from tests.training_store import RunMaker
from validation.gate import ValidationFailed, require, validate


def make_table(num_rows: int = 600) -> pd.DataFrame:
    """Customers at random: those with a monthly contract and few months leave more often; each 50th is new."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({name: random.choice(levels, num_rows) for name, levels in LEVELS.items()})
    no_internet = table["InternetService"] == "No"
    for name in INTERNET_SERVICES:
        answers = random.choice(["No", "Yes"], num_rows)
        table[name] = np.where(no_internet, "No internet service", answers)
    no_phone = table["PhoneService"] == "No"
    table["MultipleLines"] = np.where(no_phone, "No phone service", random.choice(["No", "Yes"], num_rows))
    months = np.where(np.arange(num_rows) % 50 == 0, 0, random.integers(1, 73, num_rows))
    monthly = random.uniform(18, 119, num_rows).round(2)
    total = pd.Series((months * monthly).round(2)).astype(str).mask(months == 0, " ")
    log_odds = 2.5 * (table["Contract"] == "Month-to-month") - 0.06 * months
    leaves = random.random(num_rows) < 1 / (1 + np.exp(-log_odds))
    return table.assign(
        customerID=[f"{number:04d}-ABCDE" for number in range(num_rows)],
        tenure=months,
        MonthlyCharges=monthly,
        TotalCharges=total,
        Churn=np.where(leaves, "Yes", "No"),
    )


def make_sample(folder: Path) -> Path:
    path = folder / "customers.csv"
    make_table().to_csv(path, index=False)
    return path


def refusal(table: pd.DataFrame, folder: Path) -> str:
    path = folder / "customers.csv"
    table.to_csv(path, index=False)
    with pytest.raises(ValidationFailed) as refused:
        require(validate(problem.read(Files({FILE: path})).frame, problem.expectations(), name="churn"))
    return str(refused.value)


def test_the_blank_total_of_a_new_customer_is_0(tmp_path: Path) -> None:
    examples = problem.read(Files({FILE: make_sample(tmp_path)}))
    require(validate(examples.frame, problem.expectations(), name="churn"))
    new = examples.features["amounts"][:, AMOUNTS.index("tenure")] == 0
    assert new.sum() == 12
    assert (examples.features["amounts"][new, AMOUNTS.index("TotalCharges")] == 0).all()


def test_a_blank_total_of_another_customer_is_refused(tmp_path: Path) -> None:
    table = make_table()
    table.loc[7, "TotalCharges"] = " "
    message = refusal(table, tmp_path)
    assert "TotalCharges" in message and "blank_total, new_customer" in message and "row 7" in message


def test_a_new_customer_who_was_billed_is_refused(tmp_path: Path) -> None:
    table = make_table()
    table.loc[50, "TotalCharges"] = "29.85"
    assert "blank_total, new_customer" in refusal(table, tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("Contract", "Ten years", "Contract (expected one of 'Month-to-month'"),
        ("InternetService", "No", "answers_agree"),
        ("customerID", "0001-ABCDE", "customerID (expected no value twice)"),
        ("MonthlyCharges", -5.0, "MonthlyCharges (expected between 1 and 1000)"),
        ("gender", None, "gender (expected never missing)"),
    ],
)
def test_a_customer_that_cannot_be_is_refused_by_name(column: str, value: object, said: str, tmp_path: Path) -> None:
    table = make_table()
    row = int(np.flatnonzero((table["InternetService"] != "No").to_numpy())[3])
    table.loc[row, column] = value
    message = refusal(table, tmp_path)
    assert said in message and f"row {row}" in message


def test_every_level_of_every_column_has_a_number_of_its_own_and_an_unknown_one_has_none() -> None:
    seen = {number_levels(make_table(1).assign(**{name: level}))[0, place]
            for place, (name, levels) in enumerate(LEVELS.items()) for level in levels}  # fmt: skip
    assert seen == set(range(NUM_LEVELS))
    assert number_levels(make_table(1).assign(Contract="Ten years"))[0, list(LEVELS).index("Contract")] == -1


def train(run: Run) -> tuple[StepRecord, StepRecord, StepRecord]:
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    return ingested, prepared, fit.fn(run, ingested, prepared)


def check_coefficients(run: Run) -> None:
    """Each coefficient within 1 % of scikit-learn's, on the design matrix that the model itself standardises."""
    import keras
    from sklearn.linear_model import LogisticRegression

    ingested, prepared, fitted = train(run)
    store = run.open_store()
    model = load_model(store.local_path(fitted.products["model"]))
    rows = load_rows(store, prepared).train
    train_part = load_examples(store, ingested).take(rows)
    design = keras.Model(model.input, model.get_layer("design").output)(dict(train_part.features))
    matrix = keras.ops.convert_to_numpy(design).astype(np.float64)
    np.testing.assert_allclose(matrix.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(matrix.std(axis=0), 1, atol=1e-3)
    inverse_penalty = 1 / (2 * run.hyperparameters["l2"] * len(rows))
    reference = LogisticRegression(C=inverse_penalty, tol=1e-10, max_iter=10_000).fit(matrix, train_part.target)
    kernel, bias = model.get_layer("unit").get_weights()
    np.testing.assert_allclose(
        [*kernel[:, 0], bias[0]], [*reference.coef_[0], reference.intercept_[0]], rtol=0.01, atol=1e-4
    )


def test_the_coefficients_of_the_logistic_regression_are_those_of_scikit_learn_to_1_percent(
    make_run: RunMaker, tmp_path: Path
) -> None:
    check_coefficients(
        make_run("churn", {**problem.variants["logistic"], "l2": 0.01, "epochs": 250}, data=str(make_sample(tmp_path)))
    )


@pytest.mark.data
def test_so_they_are_on_the_published_customers(make_run: RunMaker) -> None:
    mirror = os.environ["MODELKEEP_MIRROR"]
    check_coefficients(make_run("churn", {**problem.variants["logistic"]}, mirror=mirror))


@pytest.mark.data
def test_the_network_tells_who_leaves_from_who_stays(make_run: RunMaker) -> None:
    run = make_run("churn", mirror=os.environ["MODELKEEP_MIRROR"])
    ingested, prepared, fitted = train(run)
    judged = evaluate.fn(run, ingested, prepared, [], fitted)
    assert judged.facts["accepted"]
    assert judged.facts["metrics"]["roc_auc"] > 0.835
