"""Removal takes what nobody needs, and never what somebody does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from store import open_store
from store.artifacts import ArtifactRef, Store
from store.errors import ArtifactCorrupt, LeaseLost
from store.registry import Registry
from store.retention import plan_removal, remove
from store.steps import Lease, claim_step, find_step

DAY = 86_400


def make_run(store: Store, run: str, *refers_to: ArtifactRef, manifest: bool = True) -> ArtifactRef | None:
    model = store.put_bytes(f"runs/housing/{run}/model.keras", run.encode(), kind="keras")
    if not manifest:
        return None
    text = json.dumps({"artifacts": {"model": model.to_dict()}, "refers_to": [ref.to_dict() for ref in refers_to]})
    return store.put_bytes(f"runs/housing/{run}/manifest.json", text.encode(), kind="json")


def register(store: Store, run: str, manifest: ArtifactRef | None) -> int:
    assert manifest is not None
    registry = Registry(store)
    return registry.register("housing", run=run, manifest=manifest, metrics={}, actor="ada", reason="").number


def claim(store: Store, key: str) -> Lease:
    lease = claim_step(store, "housing", "fit", key, wait_seconds=0)
    assert isinstance(lease, Lease)
    return lease


def make_step(store: Store, key: str) -> ArtifactRef:
    with claim(store, key) as lease:
        ref = lease.put_bytes("model", key.encode(), kind="keras")
        lease.publish({"model": ref}, {})
    return ref


def age(store: Store, part: str, days: float) -> None:
    """Makes files whose path contains `part` older, and each at another moment."""
    for number, path in enumerate(sorted(Path(store.uri).rglob("*"))):
        if part in str(path) and path.is_file():
            moment = time.time() - days * DAY + number / 1000
            os.utime(path, (moment, moment))


def removed_keys(store: Store, keep_runs: int = 5, keep_steps_days: float = 30) -> set[str]:
    before = {info.key for info in store.list("")}
    plan = plan_removal(store, keep_runs=keep_runs, keep_steps_days=keep_steps_days)
    assert {info.key for info in store.list("")} == before, "planning changes nothing"
    remove(store, plan)
    gone = before - {info.key for info in store.list("")}
    assert gone == {removal.key for removal in plan.files}
    return gone


def test_an_empty_store_has_nothing_to_remove(store: Store) -> None:
    plan = plan_removal(store)
    assert (plan.files, plan.unfinished, plan.size) == ((), (), 0)
    assert remove(store, plan) == 0


def test_the_newest_runs_of_each_problem_are_kept(local_store: Store) -> None:
    for number in range(4):
        make_run(local_store, f"run-{number}")
        age(local_store, f"run-{number}", 10 - number)
    gone = removed_keys(local_store, keep_runs=2)
    assert gone == {
        f"runs/housing/run-{number}/{name}" for number in (0, 1) for name in ("manifest.json", "model.keras")
    }


def test_registered_runs_and_what_they_refer_to_are_never_removed(store: Store) -> None:
    needed, unneeded = make_step(store, "needed"), make_step(store, "unneeded")
    manifests = [make_run(store, f"run-{number}", needed) for number in range(3)]
    registry = Registry(store)
    for number in (1, 2):
        register(store, f"run-{number}", manifests[number])
        registry.promote("housing", number, expected=number - 1 or None, actor="ada", reason="", run=f"run-{number}")
    gone = removed_keys(store, keep_runs=0, keep_steps_days=-1)
    assert gone == {
        "runs/housing/run-0/manifest.json", "runs/housing/run-0/model.keras", store.key_of(unneeded),
    }  # fmt: skip
    assert store.is_whole(needed)
    assert find_step(store, "housing", "fit", "needed") is not None
    assert find_step(store, "housing", "fit", "unneeded") is None
    for version in (registry.champion("housing"), registry.previous_champion("housing")):
        assert version is not None
        assert store.is_whole(version.manifest)


def test_a_run_that_may_still_be_going_on_is_left_alone(local_store: Store) -> None:
    make_run(local_store, "young", manifest=False)
    make_run(local_store, "old", manifest=False)
    age(local_store, "/old/", 2)
    assert removed_keys(local_store, keep_runs=0) == {"runs/housing/old/model.keras"}


def test_steps_go_after_their_time_and_young_ones_stay(local_store: Store) -> None:
    old, young = make_step(local_store, "old"), make_step(local_store, "young")
    age(local_store, "/old", 31)
    age(local_store, "/young", 29)
    assert removed_keys(local_store) == {local_store.key_of(old)}
    assert local_store.is_whole(young)
    with claim(local_store, "old") as lease:
        assert lease.number == 2


def test_a_step_that_somebody_is_at_work_on_is_left_alone(local_store: Store) -> None:
    with claim(local_store, "busy") as lease:
        ref = lease.put_bytes("state", b"1", kind="npz")
        lease.save_checkpoint({"state": ref}, {})
        age(local_store, "/busy/", 60)
        assert removed_keys(local_store, keep_steps_days=0) == set()
        lease.publish({"model": ref}, {})


def test_a_step_claimed_between_plan_and_removal_keeps_its_files(local_store: Store) -> None:
    with claim(local_store, "busy") as lease:
        ref = lease.put_bytes("state", b"1", kind="npz")
        lease.save_checkpoint({"state": ref}, {})
    age(local_store, "/busy", 60)
    plan = plan_removal(local_store)
    assert [removal.key for removal in plan.files] == [local_store.key_of(ref)]
    with claim(local_store, "busy") as lease:
        assert remove(local_store, plan) == 0
        assert local_store.is_whole(ref)
        lease.publish({}, {})


def test_a_holder_that_was_silent_too_long_cannot_publish_what_was_removed(local_store: Store) -> None:
    with claim(local_store, "silent") as lease:
        ref = lease.put_bytes("model", b"1", kind="keras")
        age(local_store, "/silent", 60)
        assert removed_keys(local_store) == {local_store.key_of(ref)}
        with pytest.raises(LeaseLost):
            lease.publish({"model": ref}, {})


def test_what_killed_processes_left_is_removed_after_a_day(local_store: Store) -> None:
    ref = make_step(local_store, "done")
    local_store.put_bytes("steps/housing/fit/done/9/stray", b"22", kind="npz")
    for name in (".tmp-old", ".tmp-young"):
        Path(local_store.uri, "steps", name).write_bytes(b"333")
    age(local_store, "/stray", 2)
    age(local_store, ".tmp-old", 2)
    plan = plan_removal(local_store)
    assert [removal.key for removal in plan.files] == ["steps/housing/fit/done/9/stray"]
    assert [removal.key for removal in plan.unfinished] == ["steps/.tmp-old"]
    assert remove(local_store, plan) == plan.size == 5
    assert local_store.is_whole(ref)
    assert [info.key for info in local_store.list_unfinished()] == ["steps/.tmp-young"]


def test_nothing_is_removed_when_a_kept_manifest_cannot_be_read(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    manifest = make_run(store, "run-1")
    register(store, "run-1", manifest)
    assert manifest is not None
    path = Path(store.address(manifest))
    path.chmod(0o644)
    path.write_text("{")
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
        plan_removal(store)
