"""The registry: which versions there are, which one is the champion, and who decided so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelkeep.errors import ModelkeepError
from store.artifacts import Store
from store.errors import ArtifactCorrupt, PromotionConflict, UnknownFormat, UnknownVersion
from store.registry import Registry, Version

WHO = {"actor": "ada", "reason": "better"}


def register(store: Store, run: str) -> Version:
    manifest = store.put_bytes(f"runs/housing/{run}/manifest.json", b"{}", kind="json")
    return Registry(store).register("housing", run=run, manifest=manifest, metrics={"mae": 2.5}, **WHO)


def promote(store: Store, number: int, expected: int | None) -> Version:
    return Registry(store).promote("housing", number, expected=expected, run=f"run-{number}", **WHO)


def test_an_empty_registry_has_no_problems_versions_or_champion(store: Store) -> None:
    registry = Registry(store)
    assert registry.problems() == []
    assert registry.versions("housing") == []
    assert registry.champion("housing") is None
    assert registry.previous_champion("housing") is None
    assert registry.audit("housing") == []


def test_a_run_is_registered_once_however_often_it_is_tried(store: Store) -> None:
    first, second = register(store, "run-1"), register(store, "run-2")
    assert (first.number, second.number) == (1, 2)
    assert register(store, "run-1") == first
    registry = Registry(store)
    assert registry.versions("housing") == [first, second]
    assert registry.problems() == ["housing"]
    assert [entry.action for entry in registry.audit("housing")] == ["register", "register"]
    assert store.is_whole(first.manifest)
    assert first.metrics == {"mae": 2.5}


def test_champions_follow_each_other_and_rollback_goes_back_one_by_one(store: Store) -> None:
    registry = Registry(store)
    one, two, three = (register(store, f"run-{number}") for number in (1, 2, 3))
    promote(store, 1, None)
    promote(store, 2, 1)
    promote(store, 3, 2)
    assert (registry.champion("housing"), registry.previous_champion("housing")) == (three, two)
    assert registry.rollback("housing", actor="bob", reason="worse in the field") == two
    assert registry.rollback("housing", actor="bob", reason="worse still") == one
    assert (registry.champion("housing"), registry.previous_champion("housing")) == (one, None)
    with pytest.raises(UnknownVersion, match=r"no champion of housing to go back to[\s\S]*version 1 is the first"):
        registry.rollback("housing", actor="bob", reason="again")
    assert [(entry.action, entry.version, entry.previous) for entry in registry.audit("housing")[3:]] == [
        ("promote", 1, None), ("promote", 2, 1), ("promote", 3, 2), ("rollback", 2, 3), ("rollback", 1, 2),
    ]  # fmt: skip
    last = registry.audit("housing")[-1]
    assert (last.actor, last.reason, last.run) == ("bob", "worse still", "run-1")


def test_a_promotion_over_another_champion_than_was_compared_is_refused(store: Store) -> None:
    for number in (1, 2, 3):
        register(store, f"run-{number}")
    promote(store, 1, None)
    promote(store, 2, 1)
    with pytest.raises(PromotionConflict, match=r"Version 3[\s\S]*version 1[\s\S]*version 2"):
        promote(store, 3, 1)
    assert promote(store, 2, 1).number == 2  # it is that already, so a repeated promotion does nothing
    assert len(Registry(store).audit("housing")) == 5


def test_versions_that_are_not_there_cannot_be_promoted(store: Store) -> None:
    with pytest.raises(UnknownVersion, match=r"no version 1"):
        promote(store, 1, None)
    register(store, "run-1")
    with pytest.raises(UnknownVersion, match=r"one of 1 to 1"):
        promote(store, 7, None)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(store: Store) -> None:
    for number in range(1, 5):
        register(store, f"run-{number}")
    promote(store, 1, None)

    def attempt(number: int) -> str:
        try:
            return f"champion {promote(store, number, 1).number}"
        except PromotionConflict:
            return "conflict"

    with ThreadPoolExecutor(3) as pool:
        outcomes = sorted(pool.map(attempt, (2, 3, 4)))
    champion = Registry(store).champion("housing")
    assert champion is not None
    assert outcomes == [f"champion {champion.number}", "conflict", "conflict"]
    assert [entry.action for entry in Registry(store).audit("housing")].count("promote") == 2


REGISTER = """
    import sys
    from store import open_store
    from store.registry import Registry

    store, worker = open_store(sys.argv[1]), sys.argv[2]
    for number in range(10):
        run = f"{worker}-{number}"
        manifest = store.put_bytes(f"runs/housing/{run}/manifest.json", b"{}", kind="json")
        Registry(store).register("housing", run=run, manifest=manifest, metrics={}, actor=worker, reason="")
"""


def test_no_registration_of_four_processes_is_lost(
    local_store: Store, start: Callable[..., subprocess.Popen[str]]
) -> None:
    for process in [start(REGISTER, local_store.uri, worker) for worker in "abcd"]:
        assert process.communicate(timeout=60)[1] == ""
    registry = Registry(local_store)
    assert {version.run for version in registry.versions("housing")} == {
        f"{worker}-{number}" for worker in "abcd" for number in range(10)
    }
    assert [version.number for version in registry.versions("housing")] == list(range(1, 41))
    assert len({entry.id for entry in registry.audit("housing")}) == 40


def test_what_newer_code_has_written_is_refused_by_name_and_left_as_it_is(store: Store) -> None:
    register(store, "run-1")
    document = store.read_document("models/housing.json")
    assert document is not None
    page = json.loads(document.data)
    page["versions"][0]["colour"] = "blue"
    newer = store.write_document("models/housing.json", json.dumps(page).encode(), expected=document.version)
    with pytest.raises(UnknownFormat, match="does not know") as error:
        Registry(store).versions("housing")
    assert "models/housing.json" in error.value.where and "colour" in error.value.received
    with pytest.raises(UnknownFormat):
        promote(store, 1, expected=None)
    assert store.read_document("models/housing.json") == newer


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda page: page.pop("versions"), UnknownFormat),
        (lambda page: page["versions"][0].pop("manifest"), ArtifactCorrupt),
    ],
)
def test_a_registry_that_lacks_something_is_named_and_left_as_it_is(
    store: Store, damage: Callable[[dict[str, Any]], object], fault: type[ModelkeepError]
) -> None:
    register(store, "run-1")
    document = store.read_document("models/housing.json")
    assert document is not None
    page = json.loads(document.data)
    damage(page)
    damaged = store.write_document("models/housing.json", json.dumps(page).encode(), expected=document.version)
    with pytest.raises(fault):
        Registry(store).versions("housing")
    with pytest.raises(fault):
        register(store, "run-2")
    assert store.read_document("models/housing.json") == damaged
