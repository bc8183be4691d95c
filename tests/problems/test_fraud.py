"""Card fraud: what is tested came later, nothing is on both sides, and weights count."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from problems.fraud import COLUMNS, COMPONENTS, FILE, FraudHyperparameters, problem, weights
from problems.outline import Files
from tasks.evaluate import evaluate
from tasks.examples import load_examples
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tests.training_store import RunMaker
from validation.gate import ValidationFailed, require, validate

TWO_DAYS = 172_800


def make_table(num_rows: int = 600) -> pd.DataFrame:
    """Payments over two days; every tenth is a fraud, which the first component gives away for the most part."""
    random = np.random.default_rng(0)
    is_fraud = np.arange(num_rows) % 10 == 3
    table = pd.DataFrame(random.normal(size=(num_rows, len(COMPONENTS))), columns=list(COMPONENTS))
    return table.assign(
        V1=table["V1"] - 3 * is_fraud,
        Time=np.sort(random.integers(0, TWO_DAYS, num_rows)).astype(float),
        Amount=random.exponential(80, num_rows).round(2),
        Class=is_fraud.astype(int),
    )[list(COLUMNS)]


def make_sample(folder: Path) -> Path:
    path = folder / "payments.csv"
    make_table().to_csv(path, index=False)
    return path


def write(table: pd.DataFrame, folder: Path) -> Files:
    path = folder / "payments.csv"
    table.to_csv(path, index=False)
    return Files({FILE: path})


def test_of_payments_over_two_days_the_latest_are_tested(tmp_path: Path) -> None:
    examples = problem.read(write(make_table(), tmp_path))
    rows, times = problem.split.divide(examples, 0), examples.frame["Time"]
    assert times[rows.train].max() < times[rows.validation].min()
    assert times[rows.validation].max() < times[rows.test].min()


def test_where_only_frauds_are_late_the_parts_have_equal_shares_of_them(tmp_path: Path) -> None:
    table = make_table()
    early = table["Time"].where(table["Class"] == 1, table["Time"] / 50)
    examples = problem.read(write(table.assign(Time=early).sort_values("Time"), tmp_path))
    rows = problem.split.divide(examples, 0)
    shares = [examples.target[part].mean() for part in (rows.train, rows.validation, rows.test)]
    assert shares == pytest.approx([0.1, 0.1, 0.1], abs=0.01)


def test_a_payment_that_is_there_twice_is_taken_once(tmp_path: Path) -> None:
    table = make_table()
    twice = pd.concat([table, table.iloc[40:60]]).sort_values("Time")
    assert len(problem.read(write(twice, tmp_path))) == len(table)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"V7": 0.0}, "V7 (expected standard deviation"),
        ({"Amount": -1.0}, "Amount (expected between 0"),
        ({"Class": 0}, "Class"),
        ({"Time": lambda table: table["Time"].to_numpy()[::-1]}, "Time (expected increasing"),
        ({"V3": lambda table: table["V3"].mask(table["V3"] > 2)}, "V3 (expected never missing"),
    ],
)
def test_a_feed_that_is_broken_is_refused_by_column(spoil: dict[str, object], said: str, tmp_path: Path) -> None:
    examples = problem.read(write(make_table().assign(**spoil), tmp_path))  # type: ignore[arg-type]
    with pytest.raises(ValidationFailed) as refused:
        require(validate(examples.frame, problem.expectations(), name="fraud"))
    assert said in str(refused.value)


def test_a_fraud_counts_as_often_as_it_is_told_to_and_all_count_once_on_average(tmp_path: Path) -> None:
    examples = problem.read(write(make_table(), tmp_path))
    counted = weights(FraudHyperparameters(fraud_weight=20), examples)
    is_fraud = examples.target == 1
    assert counted.mean() == pytest.approx(1)
    assert counted[is_fraud].min() == pytest.approx(20 * counted[~is_fraud].max())


def test_weights_make_a_cautious_model_raise_more_alarms(make_run: RunMaker, tmp_path: Path) -> None:
    data = str(make_sample(tmp_path))
    mean_probability = []
    for fraud_weight in (1.0, 20.0):
        run = make_run("fraud", {"epochs": 3, "fraud_weight": fraud_weight}, data=data)
        ingested = ingest.fn(run)
        fitted = fit.fn(run, ingested, prepare.fn(run, ingested))
        predictions = pd.read_parquet(run.open_store().local_path(fitted.products["predictions"]))
        mean_probability.append(predictions["probability"].mean())
    assert mean_probability[1] > 2 * mean_probability[0]


@pytest.mark.data
def test_frauds_are_found_among_the_published_payments(make_run: RunMaker) -> None:
    """On the subset of the mirror, in which a tenth are frauds."""
    run = make_run("fraud", mirror=os.environ["MODELKEEP_MIRROR"])
    ingested = ingest.fn(run)
    examples = load_examples(run.open_store(), ingested)
    assert not examples.frame[list(COLUMNS)].duplicated().any()
    prepared = prepare.fn(run, ingested)
    test_rows = load_rows(run.open_store(), prepared).test
    judged = evaluate.fn(run, ingested, prepared, [], fit.fn(run, ingested, prepared))
    assert judged.facts["accepted"]
    assert judged.facts["metrics"]["pr_auc"] > 0.9
    assert judged.facts["metrics"]["cost"] < 122 * examples.target[test_rows].mean() / 5
