"""Weights that were learnt elsewhere: had and verified as raw files are, or said how to do without."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from problems.outline.problem import Pretrained, Problem, Source
from problems.photos import problem as photos
from tasks.ingest import SourceUnavailable
from tasks.pretrained import fetch_pretrained
from tests.training_store import RunMaker

WEIGHTS = b"weights"


@pytest.fixture
def problem() -> Problem:
    """Of its two variants each wants a file of its own; nobody listens at their addresses."""

    def source(network: str) -> Source:
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        return Source(name=f"{network}.h5", url="http://127.0.0.1:1/", sha256=digest, size=7, licence="MIT")

    return replace(
        photos, pretrained=Pretrained(source=lambda settings: source(settings.network), load=lambda model, path: None)
    )


def test_the_file_of_the_chosen_network_is_taken_from_the_mirror_and_kept(
    problem: Problem, make_run: RunMaker, tmp_path: Path
) -> None:
    (tmp_path / "mobilenet.h5").write_bytes(WEIGHTS)
    run = make_run("photos", {"network": "mobilenet"}, mirror=str(tmp_path))
    found = fetch_pretrained(problem, run)
    assert found is not None and found.source == "mobilenet.h5" and found.origin == "mirror"
    again = fetch_pretrained(problem, replace(run, mirror=""))
    assert again is not None and again.origin == "store" and again.ref == found.ref


def test_own_photos_do_not_stand_in_for_weights(problem: Problem, make_run: RunMaker, tmp_path: Path) -> None:
    (tmp_path / "mobilenet.h5").write_bytes(WEIGHTS)
    (tmp_path / "own.zip").write_bytes(b"photos")
    run = make_run("photos", {"network": "mobilenet"}, mirror=str(tmp_path), data=str(tmp_path / "own.zip"))
    found = fetch_pretrained(problem, run)
    assert found is not None and not found.own


def test_altered_weights_are_refused_and_the_variant_that_needs_others_is_named(
    problem: Problem, make_run: RunMaker, tmp_path: Path
) -> None:
    (tmp_path / "resnet50.h5").write_bytes(WEIGHTS + b"!")
    with pytest.raises(SourceUnavailable, match="altered or cut short") as refused:
        fetch_pretrained(problem, make_run("photos", {"network": "resnet50"}, mirror=str(tmp_path)))
    assert "--variant mobilenet" in str(refused.value) and "--data" not in str(refused.value)


def test_a_problem_without_pretrained_weights_needs_no_file(make_run: RunMaker) -> None:
    assert fetch_pretrained(replace(photos, pretrained=None), make_run("photos")) is None
