"""Drift: no alarm where nothing moved, the right column where one did, and one bad column stops no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from problems.outline import Binary, Drift, Examples, Multiclass, Regression, SplitRows
from store import open_store
from store.steps import Lease, StepRecord, claim_step
from tasks.drift import measure_drift, psi, shift
from tasks.reference import NoReference, Reference, load_reference, make_reference, profile_column, put_reference

PRICES = Regression(unit="k$")
NUM_ROWS = 3000


def make_frame(num_rows: int = NUM_ROWS, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "rooms": random.normal(6, 1, num_rows),
            "age": random.exponential(30, num_rows),
            "town": random.choice(["Ayr", "Bonn", "Cork"], num_rows, p=[0.5, 0.3, 0.2]),
            "river": random.random(num_rows) < 0.1,
            "note": [f"text {number}" for number in random.integers(0, 10**9, num_rows)],
            "sold": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 99, num_rows), "D"),
            "currency": "EUR",
        }
    )


def make_examples(frame: pd.DataFrame) -> Examples:
    return Examples({}, np.zeros(len(frame)), frame)


def all_rows(num_rows: int) -> SplitRows:
    rows = np.arange(num_rows)
    return SplitRows(train=rows[: num_rows - 200], validation=rows[-200:-100], test=rows[-100:])


def prices(frame: pd.DataFrame) -> pd.DataFrame:
    return PRICES.predictions(3 * frame["rooms"].fillna(6).to_numpy()[:, None])


def refer(frame: pd.DataFrame) -> Reference:
    return make_reference(PRICES, make_examples(frame), all_rows(len(frame)), [prices(frame)], seed=0)


def measured(reference: Reference, window: pd.DataFrame, drift: Drift | None = None) -> dict[str, Any]:
    parts = {"data": reference.data, "predictions": reference.predictions}
    predictions = PRICES.predictions(3 * make_frame(len(window), seed=9)["rooms"].to_numpy()[:, None])
    return measure_drift(parts, {"data": window, "predictions": predictions}, drift or Drift())


def levels(told: dict[str, Any]) -> dict[str, str]:
    return {f"{one['column']} {one['aspect']}": one["level"] for one in told["findings"] if one["level"] != "none"}


def columns(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in told["columns"]}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return refer(make_frame())


def test_a_resample_of_the_training_data_sets_nothing_off(reference: Reference) -> None:
    told = [measured(reference, make_frame().sample(1000, replace=True, random_state=seed)) for seed in range(10)]
    assert [one["level"] for one in told] == ["none"] * 10
    assert all(one["is_judged"] and not one["reasons"] for one in told)
    assert json.loads(json.dumps(told[0], allow_nan=False)) == told[0]


def test_a_shifted_column_is_named_with_its_size_and_no_other(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    told = measured(reference, window.assign(rooms=window["rooms"] + 0.5))
    assert told["level"] == "alert"
    assert levels(told) == {"rooms values": "alert", "all columns together": "warn"}
    assert "rooms: moved by 0.4" in told["reasons"][0] and "most by rooms" in told["reasons"][1]
    assert told["strength"]["column"] == "rooms" and 4 < told["strength"]["value"] < 6
    weak = measured(reference, window.assign(rooms=window["rooms"] + 0.2))
    assert levels(weak)["rooms values"] == "warn" and weak["level"] == "warn"


def test_a_difference_that_is_significant_but_too_small_to_matter_sets_nothing_off() -> None:
    frame = make_frame(20_000)
    window = frame.sample(60_000, replace=True, random_state=0)
    told = measured(refer(frame), window.assign(rooms=window["rooms"] + 0.08))
    assert told["num_rows"] == 50_000
    (found,) = [one for one in told["findings"] if one["column"] == "rooms"]
    assert found["p_adjusted"] < 0.05 and found["level"] == "none" and told["level"] == "none"


def test_another_share_of_a_category_is_told_by_the_value_that_changed_most(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    moved = window["town"].mask(window["town"].eq("Ayr") & (np.arange(1000) % 2 == 0), "Cork")
    told = measured(reference, window.assign(town=moved))
    assert levels(told)["town values"] == "alert"
    assert "town: 'Cork' is 4" in told["reasons"][0] or "town: 'Ayr' is 2" in told["reasons"][0]


def test_a_category_that_training_never_saw_is_told_apart(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    told = measured(reference, window.assign(town=window["town"].mask(np.arange(1000) < 20, "Delft")))
    assert levels(told) == {"town unseen": "warn"}
    assert "2.0 % of the rows have a value that the reference does not know ('Delft')" in told["reasons"][0]
    other = measured(reference, window.assign(currency="USD"))
    assert levels(other) == {"currency unseen": "alert", "all columns together": "alert"}


def test_a_change_of_the_share_of_missing_values_is_told_apart(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    told = measured(reference, window.assign(rooms=window["rooms"].mask(np.arange(1000) % 20 == 0)))
    assert levels(told)["rooms missing"] == "warn" and "rooms values" not in levels(told)
    assert "5.0 % of the values are missing, 0.0 % in the reference" in told["reasons"][0]
    always = make_frame()
    was_missing = refer(always.assign(rooms=always["rooms"].mask(np.arange(NUM_ROWS) % 20 == 0)))
    assert levels(measured(was_missing, window.assign(rooms=window["rooms"].mask(np.arange(1000) % 20 == 0)))) == {}


def test_a_window_of_few_rows_is_measured_and_not_judged(reference: Reference) -> None:
    window = make_frame(400, seed=1)
    told = measured(reference, window.assign(rooms=window["rooms"] + 3))
    assert not told["is_judged"] and told["level"] == "none" and not told["reasons"]
    assert told["strength"]["column"] == "rooms"
    assert measured(reference, window.assign(rooms=window["rooms"] + 3), Drift(least_rows=100))["level"] == "alert"


@pytest.mark.parametrize("broken", [np.nan, "six", None, [1, 2]])
def test_a_broken_column_is_told_and_does_not_stop_the_others(reference: Reference, broken: object) -> None:
    window = make_frame(1000, seed=1)
    told = measured(reference, window.assign(rooms=pd.Series([broken] * 1000), age=window["age"] * 2))
    assert columns(told)["rooms"]["note"] and not columns(told)["rooms"]["is_compared"]
    assert levels(told)["age values"] == "alert"
    is_empty = not isinstance(broken, str | list)
    assert ("rooms missing" in levels(told)) == is_empty


def test_columns_that_cannot_be_compared_or_are_on_one_side_only_are_told(reference: Reference) -> None:
    window = make_frame(1000, seed=1).drop(columns="age").assign(colour="red")
    told = measured(reference, window)
    assert (told["only_reference"], told["only_window"]) == (["age"], ["colour"])
    assert columns(told)["note"]["note"] == "text: only missing values are compared"
    assert columns(told)["sold"]["kind"] == "moment" and told["level"] == "none"


def test_an_ignored_column_may_move(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    told = measured(reference, window.assign(rooms=window["rooms"] + 3), Drift(ignored=("rooms",)))
    assert told["level"] == "none" and "rooms" not in columns(told)


def test_predictions_that_moved_are_told_though_no_column_did(reference: Reference) -> None:
    window = make_frame(1000, seed=1)
    parts = {"data": reference.data, "predictions": reference.predictions}
    told = measure_drift(parts, {"data": window, "predictions": prices(window) + 2}, Drift())
    assert levels(told) == {"prediction values": "alert"}


def test_columns_that_only_changed_their_relation_are_found_by_the_classifier() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 4000))
    frame = pd.DataFrame({"first": first, "second": second, "sum": first + second})
    other = pd.DataFrame(random.normal(size=(2000, 3)) * [1, 1, 2**0.5], columns=list(frame))
    moved = other.assign(first=other["first"] + 0.12, second=other["second"] + 0.12, sum=other["sum"] - 0.17)
    examples = Examples({}, first, frame)
    reference = make_reference(PRICES, examples, all_rows(4000), [PRICES.predictions(first[:, None])], seed=0)
    parts = {"data": reference.data, "predictions": reference.predictions}
    window = {"data": moved, "predictions": PRICES.predictions(random.normal(size=(2000, 1)))}
    told = measure_drift(parts, window, Drift())
    assert levels(told)["all columns together"] == "warn"


# The reference


def test_a_reference_comes_back_from_the_store_and_is_small_and_always_the_same(tmp_path: Path) -> None:
    frame = make_frame(30_000)
    store = open_store(str(tmp_path))
    for key in ("0" * 64, "1" * 64):
        claim = claim_step(store, "prices", "evaluate", key, holder={})
        assert isinstance(claim, Lease)
        with claim as lease:
            put = put_reference(refer(frame), lease)
            record = lease.publish(put, {})
    assert isinstance(record, StepRecord) and sum(ref.size for ref in put.values()) < 200_000
    artifacts = {f"evaluate/{ref.name}": ref for ref in record.products.values()}
    again = load_reference(store, artifacts, "prices version 1")
    assert again.data.num_rows == 29_900 and len(again.data.sample) == 5000 and again.data.rows.endswith("rows")
    assert list(again.data.sample) == ["rooms", "age", "town", "river", "currency"]
    assert measured(again, make_frame(900, seed=3))["level"] == "none"
    first = [store.read_bytes(ref) for ref in put.values()]
    assert all(store.read_bytes(store.find(ref.uri.replace("1" * 64, "0" * 64), kind=ref.kind)) in first
               for ref in put.values())  # fmt: skip


def test_a_version_without_a_reference_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoReference, match="prices version 1 has no reference") as error:
        load_reference(open_store(str(tmp_path)), {}, "prices version 1")
    assert "train a new version" in str(error.value)


def test_of_classes_the_probability_and_the_predicted_class_are_watched() -> None:
    frame = make_frame(600)
    binary = Binary(positive="leaves", negative="stays")
    spread = np.linspace(0, 1, 600, dtype=np.float32)[:, None]
    reference = make_reference(binary, make_examples(frame), all_rows(600), [binary.predictions(spread)], seed=0)
    assert list(reference.predictions.columns) == ["probability of leaves", "predicted class"]
    assert reference.predictions.columns["predicted class"]["counts"] == {"stays": 300, "leaves": 300}
    several = Multiclass(classes=("a", "b", "c"))
    sure = np.tile(np.array([[0.7, 0.2, 0.1]], np.float32), (600, 1))
    reference = make_reference(several, make_examples(frame), all_rows(600), [several.predictions(sure)], seed=0)
    assert reference.predictions.columns["predicted class"]["counts"] == {"a": 600, "b": 0, "c": 0}
    sample = reference.predictions.sample["probability of the predicted class"]
    np.testing.assert_allclose(sample, 0.7, rtol=1e-6)


def test_without_training_rows_the_test_rows_are_the_reference() -> None:
    frame = make_frame(600)
    rows = SplitRows(train=np.arange(0), validation=np.arange(0), test=np.arange(600))
    reference = make_reference(PRICES, make_examples(frame), rows, [prices(frame)[:0], prices(frame)], seed=0)
    assert (reference.data.num_rows, reference.data.rows) == (600, "test rows")


# The measures


def test_the_shift_is_the_wasserstein_distance_in_standard_deviations() -> None:
    from scipy.stats import wasserstein_distance

    random = np.random.default_rng(0)
    before, now = random.gamma(2, 3, 20_000), random.gamma(2, 4, 20_000)
    profile = profile_column(pd.Series(before), "number")
    found = shift(np.array(profile["quantiles"]), profile["sd"], now)
    assert found == pytest.approx(wasserstein_distance(before, now) / before.std(), rel=0.02)
    assert shift(np.zeros(200), 0.0, np.ones(5)) == 1 and shift(np.zeros(200), 0.0, np.zeros(5)) == 0


def test_the_bins_of_a_reference_hold_equally_many_rows_and_psi_is_zero_for_the_same_shares() -> None:
    profile = profile_column(pd.Series(np.random.default_rng(0).normal(size=2000)), "number")
    counts = np.array(profile["counts"])
    assert len(counts) == 20 and set(counts) == {100}
    assert psi(counts, counts) == 0 and (psi(counts, counts[::-1] * np.arange(1, 21)) or 0) > 0.1
    assert psi(counts, counts * 0) is None
