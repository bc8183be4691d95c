"""Behaviours: which rows meet them, and when the model is refused."""

from __future__ import annotations

import pandas as pd
import pytest

from modelkeep.errors import ModelkeepError
from problems.outline import Direction, Invariant


def same(features: object) -> object:
    return features


def numbers(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"prediction": values})


def test_an_answer_stays_if_the_class_does_whatever_its_probability() -> None:
    before = pd.DataFrame({"probability": [0.6, 0.6], "predicted": ["yes", "yes"]})
    after = pd.DataFrame({"probability": [0.9, 0.4], "predicted": ["yes", "no"]})
    assert Invariant("noise", same, at_most=0.5).met(before, after).tolist() == [True, False]  # type: ignore[arg-type]


def test_a_number_stays_if_it_moves_no_further_than_it_may() -> None:
    invariant = Invariant("noise", same, at_most=0.5, within=0.5)  # type: ignore[arg-type]
    assert invariant.met(numbers(1, 1, 1), numbers(1.5, 0.4, 1)).tolist() == [True, False, True]


def test_a_direction_is_kept_by_what_does_not_move_against_it() -> None:
    up = Direction("more rooms", same, sign=1, at_least=0.9)  # type: ignore[arg-type]
    down = Direction("more crime", same, sign=-1, at_least=0.9)  # type: ignore[arg-type]
    before, after = numbers(1, 1, 1), numbers(2, 1, 0)
    assert up.met(before, after).tolist() == [True, True, False]
    assert down.met(before, after).tolist() == [False, True, True]


def test_the_probability_of_a_yes_has_a_direction_and_several_classes_have_none() -> None:
    up = Direction("praise", same, sign=1, at_least=0.9)  # type: ignore[arg-type]
    yes = [pd.DataFrame({"probability": [p], "predicted": ["no"]}) for p in (0.1, 0.2)]
    assert up.met(*yes).tolist() == [True]
    several = pd.DataFrame({"probability_0": [0.1], "probability_1": [0.9], "predicted": ["b"]})
    with pytest.raises(ModelkeepError, match="no direction"):
        up.met(several, several)


@pytest.mark.parametrize(("share", "passed"), [(0.9, True), (0.89, False)])
def test_the_verdict_is_about_the_share_of_rows(share: float, passed: bool) -> None:
    verdict = Direction("more rooms", same, sign=1, at_least=0.9).judge(share, 1000)  # type: ignore[arg-type]
    assert verdict.passed is passed
    assert verdict.reason.startswith("more rooms: the prediction does not fall for")
    assert "of 1,000 rows, wanted at least 90 %" in verdict.reason
    assert Invariant("a pixel", same, at_most=0.105).judge(share, 9).passed is passed  # type: ignore[arg-type]
