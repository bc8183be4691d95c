"""The gate: what passes, what does not, and what it says."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from modelkeep.errors import GateFailed, ModelkeepError
from validation.gate import ValidationFailed, ValidationResult, json_value, require, validate

HOUSES = pd.DataFrame({"rooms": [4.0, 5.5, 6.0, 8.0], "tax": [300, 310, 250, 400], "town": ["a", "b", "a", "c"]})


def refusal(frame: pd.DataFrame, *expectations: object) -> str:
    with pytest.raises(ValidationFailed) as failure:
        require(validate(frame, list(expectations), name="houses"))
    return str(failure.value)


def test_good_data_passes_and_every_check_says_so() -> None:
    result = validate(
        HOUSES,
        [
            gxe.ExpectColumnValuesToNotBeNull(column="rooms"),
            gxe.ExpectColumnMaxToBeBetween(column="tax", max_value=500),
        ],
        name="houses",
    )
    require(result)
    assert result.success
    assert result.rows == 4
    assert [check.unexpected_count for check in result.checks] == [0, None]


def test_a_refusal_names_the_column_the_rule_how_many_rows_and_the_first_few() -> None:
    frame = HOUSES.assign(rooms=[4.0, 5500.0, 6.0, 8000.0])
    message = refusal(frame, gxe.ExpectColumnValuesToBeBetween(column="rooms", min_value=3, max_value=9))
    assert "rooms (expected between 3 and 9): not so in 2 of 4 rows (50 %); row 1: 5500.0; row 3: 8000.0" in message
    assert "where" in message
    assert "next" in message


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_failed_check_among_good_ones_is_enough_to_refuse(place: int) -> None:
    suite: list[object] = [gxe.ExpectColumnToExist(column="tax"), gxe.ExpectColumnToExist(column="town")]
    suite.insert(place, gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=7))
    assert "1 of 3 checks failed" in refusal(HOUSES, *suite)


def test_a_refusal_is_a_failed_gate() -> None:
    assert ValidationFailed.exit_code == 1
    assert issubclass(ValidationFailed, GateFailed)


def test_rows_are_named_by_the_index_of_the_frame_even_where_labels_repeat() -> None:
    frame = HOUSES.assign(rooms=[4.0, 99.0, 6.0, 98.0]).set_axis(["x", "y", "x", "y"])
    check = validate(frame, [gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=9)], name="houses").checks[0]
    assert [(example.row, example.value) for example in check.examples] == [("y", 99.0), ("y", 98.0)]


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToNotBeNull(column="rooms"),
        gxe.ExpectColumnMaxToBeBetween(column="rooms", max_value=9),
        gxe.ExpectColumnToExist(column="rooms"),
        gxe.ExpectColumnTypeToBe(column="rooms", type_="float64"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="tax", column_B="rooms"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["rooms", "tax"]),
    ],
    ids=lambda expectation: type(expectation).__name__,
)
def test_a_missing_column_reads_as_missing_and_not_as_a_stack_trace(expectation: object) -> None:
    message = refusal(HOUSES.rename(columns={"rooms": "num_rooms"}), expectation)
    assert "column 'rooms' is missing (is it called 'num_rooms' now?)" in message
    assert "Traceback" not in message
    assert "Metric" not in message


def test_a_column_that_differs_in_case_is_another_column() -> None:
    frame = HOUSES.rename(columns={"rooms": "Rooms"})
    assert "column 'rooms' is missing (is it called 'Rooms' now?)" in refusal(
        frame, gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=9)
    )


def test_columns_that_great_expectations_would_mistake_for_each_other_are_refused() -> None:
    frame = HOUSES.assign(Rooms=[400.0] * 4)
    assert "'Rooms', 'rooms'" in refusal(frame, gxe.ExpectColumnValuesToBeBetween(column="Rooms", max_value=9))


def test_a_missing_column_is_reported_once_however_many_rules_it_has() -> None:
    rules = [
        gxe.ExpectColumnValuesToNotBeNull(column="age"),
        gxe.ExpectColumnValuesToBeBetween(column="age", max_value=9),
    ]
    message = refusal(HOUSES, *rules)
    assert message.count("column 'age' is missing") == 1
    assert "2 of 2 checks failed" in message


def test_a_rule_that_cannot_be_evaluated_says_which_type_the_column_has() -> None:
    message = refusal(HOUSES, gxe.ExpectColumnValuesToBeBetween(column="town", min_value=0, max_value=9))
    assert "could not be checked" in message
    assert "'town' holds str" in message


def test_missing_values_are_shown_as_missing() -> None:
    frame = HOUSES.assign(rooms=[4.0, np.nan, 6.0, 8.0])
    assert "row 1: missing" in refusal(frame, gxe.ExpectColumnValuesToNotBeNull(column="rooms"))


def test_a_rule_about_a_whole_column_shows_what_was_observed() -> None:
    assert "tax (expected mean at most 100): 315" in refusal(
        HOUSES, gxe.ExpectColumnMeanToBeBetween(column="tax", max_value=100)
    )


def test_values_outside_a_set_of_distinct_values_are_not_counted_as_rows() -> None:
    rule = gxe.ExpectColumnDistinctValuesToBeInSet(column="town", value_set=["a"])
    check = validate(HOUSES, [rule], name="houses").checks[0]
    assert check.unexpected_count is None
    assert check.observed == ["b", "c"]


def test_only_critical_checks_block() -> None:
    rule = gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=7, severity="warning", notes="rare, not wrong")
    result = validate(HOUSES, [rule], name="houses")
    require(result)
    assert [(check.unexpected_count, check.why) for check in result.warnings] == [(1, "rare, not wrong")]


def test_tolerated_rows_are_counted_although_the_check_passes() -> None:
    rule = gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=7, mostly=0.5)
    check = validate(HOUSES, [rule], name="houses").checks[0]
    assert check.success
    assert check.unexpected_count == 1
    assert check.rule == "at most 7, in at least 0.5 of the rows"


def test_a_value_is_shown_with_no_more_digits_than_can_be_read() -> None:
    frame = pd.DataFrame({"share": [0.1 + 0.2, 0.43732802529125925]})
    told = refusal(frame, gxe.ExpectColumnValuesToBeBetween(column="share", max_value=0.1))
    assert "row 0: 0.3; row 1: 0.43732803" in told


def test_a_frame_without_rows_never_passes() -> None:
    assert "there are no rows" in refusal(HOUSES.head(0), gxe.ExpectColumnValuesToNotBeNull(column="rooms"))


def test_two_columns_of_one_name_never_pass() -> None:
    frame = HOUSES.set_axis(["rooms", "rooms", "town"], axis=1)
    assert "more than one column" in refusal(frame, gxe.ExpectColumnValuesToNotBeNull(column="town"))


def test_an_empty_suite_is_a_mistake_and_not_a_pass() -> None:
    with pytest.raises(ModelkeepError, match="nothing to check"):
        validate(HOUSES, [], name="houses")


def test_checks_keep_the_order_of_the_suite_although_errors_come_first_in_great_expectations() -> None:
    suite = [gxe.ExpectColumnToExist(column="tax"), gxe.ExpectColumnMaxToBeBetween(column="age", max_value=1)]
    result = validate(HOUSES, suite, name="houses")
    assert [check.column for check in result.checks] == ["tax", "age"]


def test_a_result_survives_json_with_dates_and_missing_values() -> None:
    frame = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2024-01-01", None]), "share": [np.inf, np.nan, -0.5]})
    suite = [
        gxe.ExpectColumnValuesToBeBetween(column="day", min_value=datetime.datetime(2022, 1, 1)),
        gxe.ExpectColumnValuesToNotBeNull(column="day"),
        gxe.ExpectColumnValuesToBeBetween(column="share", min_value=0, max_value=1),
    ]
    result = validate(frame, suite, name="days")
    assert ValidationResult.from_json(result.to_json()) == result
    assert result.checks[0].examples[0].value == "2020-01-01T00:00:00"
    assert [example.value for example in result.checks[2].examples] == ["inf", -0.5]


def test_the_same_data_gives_the_same_json_but_for_the_time() -> None:
    suite = [gxe.ExpectColumnValuesToBeInSet(column="town", value_set=["b", "a"]), gxe.ExpectColumnToExist(column="x")]
    first, second = (json.loads(validate(HOUSES, suite, name="houses").to_json()) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_neither_the_frame_nor_the_expectations_are_changed() -> None:
    frame = HOUSES.set_axis([7, 8, 9, 10])
    rule = gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=7, meta={"kept": 1})
    before = frame.copy()
    validate(frame, [rule], name="houses")
    validate(frame, [rule], name="houses")
    pd.testing.assert_frame_equal(frame, before)
    assert rule.meta == {"kept": 1}
    assert rule.id is None


def test_threads_get_the_verdict_of_their_own_data() -> None:
    def verdict(number: int) -> bool:
        frame = pd.DataFrame({"rooms": [4.0, 900.0 if number % 2 else 5.0]})
        return validate(frame, [gxe.ExpectColumnValuesToBeBetween(column="rooms", max_value=9)], name="houses").success

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(verdict, range(48))) == [number % 2 == 0 for number in range(48)]


def test_nothing_is_written_or_printed(tmp_path: Path) -> None:
    program = (
        "import pandas as pd; import great_expectations.expectations as gxe; from validation.gate import validate;"
        "validate(pd.DataFrame({'a': [1, 2]}), [gxe.ExpectColumnValuesToNotBeNull(column='a'),"
        " gxe.ExpectColumnMaxToBeBetween(column='a', max_value=1)], name='x')"
    )
    root = Path(__file__).parents[2]
    surroundings = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout + done.stderr == ""
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float32("nan"), None),
        (pd.NaT, None),
        (pd.NA, None),
        ({2, 1}, [1, 2]),
        (np.array([1.5, np.inf]), [1.5, "inf"]),
        (pd.Timedelta("1D"), "P1DT0H0M0S"),
        (b"\xff", r"b'\xff'"),
    ],
)
def test_any_value_becomes_json(value: object, expected: object) -> None:
    assert json_value(value) == expected
    json.dumps(json_value(value), allow_nan=False)
