"""Pictures that turn, window by window, and what a challenger may learn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelkeep.errors import ModelkeepError
from problems.digits import inputs, problem, turned, write
from problems.outline import Files
from store import open_store
from store.steps import Lease, claim_step
from tasks.examples import save_examples
from tasks.recent import check_simulation
from tasks.worn import NUM_WINDOWS, Worn, open_worn

NUM_PICTURES = 400


@pytest.fixture
def worn(tmp_path: Path) -> Worn:
    """Each picture has a bar of its own brightness, so that it can be found again, however it is turned."""
    images = np.zeros((NUM_PICTURES, 28, 28), np.uint8)
    images[:, 12:16, 4:24] = (np.arange(NUM_PICTURES) % 100 + 100)[:, None, None]
    labels = (np.arange(NUM_PICTURES) % 10).astype(np.uint8)
    store = open_store(tmp_path / "store")
    claimed = claim_step(store, "digits", "ingest", "0" * 64)
    assert isinstance(claimed, Lease)
    with claimed as lease:
        made = inputs(images).with_target(labels, label=labels.astype(str), part="train")
        record = lease.publish(save_examples(made, lease), {})
    return open_worn(problem, store, record, tmp_path)


def read(world: Worn, number: int) -> dict[str, np.ndarray]:
    with np.load(world.known(number)["data"], allow_pickle=False) as arrays:
        return dict(arrays)


def test_seven_tenths_are_known_and_each_window_is_turned_more_than_the_one_before(worn: Worn) -> None:
    assert len(worn.source) == 280 and worn.num_tested == 56
    assert [len(period.rows) for period in worn.periods] == [10] * NUM_WINDOWS
    assert (worn.span(), worn.periods[3].name, worn.begin(3)) == (("3.75°", "45°"), "15°", 15.0)
    high = [worn.contents[period.rows].any(axis=(0, 2)).sum() for period in worn.periods]  # rows with any ink
    assert high == sorted(high) and high[0] < 8 and high[-1] > 14


def test_before_the_first_window_nothing_of_them_is_known(worn: Worn) -> None:
    arrays = read(worn, 0)
    assert {name: len(array) for name, array in arrays.items()} == {
        "x_train": 224,
        "y_train": 224,
        "x_test": 56,
        "y_test": 56,
    }
    np.testing.assert_array_equal(arrays["x_test"], worn.source[:56])


def test_later_the_last_fifth_of_what_has_come_is_tested_and_the_rest_learnt(worn: Worn) -> None:
    arrays = read(worn, 5)
    np.testing.assert_array_equal(arrays["x_train"][224:], worn.contents[:40])
    np.testing.assert_array_equal(arrays["x_test"][56:], worn.contents[40:50])
    np.testing.assert_array_equal(arrays["y_test"][56:], worn.examples.target[40:50])
    learnt = {picture.tobytes() for picture in arrays["x_train"]}
    tested_before = {picture.tobytes() for picture in read(worn, 0)["x_test"]}
    assert not learnt & tested_before - {picture.tobytes() for picture in worn.source[56:]}


def test_what_is_written_is_what_the_problem_reads(worn: Worn, tmp_path: Path) -> None:
    path = Path(worn.known(5)["data"])
    examples = problem.read(Files({"mnist.npz": path}))
    assert (examples.frame["part"] == "test").sum() == 66 and len(examples) == 330
    write(tmp_path / "again.npz", read(worn, 5))
    assert len(problem.read(Files({"mnist.npz": tmp_path / "again.npz"}))) == 330


def test_a_picture_that_is_turned_by_nothing_is_as_it_was_and_by_a_right_angle_upright(worn: Worn) -> None:
    pictures = worn.source[:3]
    np.testing.assert_array_equal(turned(pictures, 0.0), pictures)
    upright = turned(pictures, 90.0)
    assert upright.dtype == np.uint8 and upright[0, :, 13].astype(bool).sum() == 20


def test_pictures_have_no_date_to_start_from() -> None:
    check_simulation(problem, "")
    with pytest.raises(ModelkeepError, match="have no dates"):
        check_simulation(problem, "2015-01-01")
