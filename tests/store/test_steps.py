"""Steps: one process does one, a dead one's work is taken over, and one that was only thought dead is kept out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store import open_store
from store.artifacts import Store
from store.errors import ArtifactCorrupt, LeaseLost, StepHeld, StoreUnavailable, WriteConflict
from store.processes import mark_process
from store.steps import Lease, StepRecord, claim_step, find_step, retire_step
from tests.store.faulty_proxy import Fault, FaultyProxy

Start = Callable[..., "subprocess.Popen[str]"]
STEP = ("housing", "fit", "abc")
DOCUMENT = "steps/housing/fit/abc.json"


def claim(store: Store, **options: Any) -> Lease:
    lease = claim_step(store, *STEP, **{"wait_seconds": 0, **options})
    assert isinstance(lease, Lease)
    return lease


def finish(store: Store, content: bytes = b"weights") -> StepRecord:
    with claim(store) as lease:
        return lease.publish({"model": lease.put_bytes("model", content, kind="keras")}, {"mae": 2.5})


def state_of(store: Store) -> dict[str, Any]:
    document = store.read_document(DOCUMENT)
    assert document is not None
    state: dict[str, Any] = json.loads(document.data)
    return state


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        pytest.fail(process.communicate()[1])
    return line


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


# Claims the step, then does what it is told, one line at a time, and answers with one line.
WORKER = """
    import sys
    from store import open_store
    from store.errors import LeaseLost
    from store.steps import Lease, claim_step

    store = open_store(sys.argv[1])
    lease = claim_step(store, "housing", "fit", "abc", holder={"run": "first"}, lease_seconds=float(sys.argv[2]))
    print(f"claimed {lease.number}" if isinstance(lease, Lease) else f"found {lease.number}", flush=True)
    for line in sys.stdin:
        command, name = line.split()
        try:
            if command == "held":
                lease.ensure_held()
            else:
                key = f"steps/housing/fit/abc/{lease.number}/{name}"
                products = {"model": store.put_bytes(key, name.encode(), kind="keras")}
                if command == "checkpoint":
                    lease.save_checkpoint(products, {"epoch": name})
                else:
                    lease.publish(products, {"by": "worker"})
            print("ok", flush=True)
        except LeaseLost as error:
            print("LeaseLost", error.received, flush=True)
"""


def test_a_published_step_is_found_with_its_products_and_facts(store: Store) -> None:
    assert find_step(store, *STEP) is None
    record = finish(store)
    assert record.number == 1
    assert find_step(store, *STEP) == record
    assert claim_step(store, *STEP) == record
    assert store.read_bytes(record.products["model"]) == b"weights"
    assert record.facts == {"mae": 2.5}
    assert find_step(store, "housing", "fit", "other") is None


@pytest.mark.parametrize("damage", ["deleted", "truncated"])
def test_a_step_whose_product_is_damaged_is_done_again_under_a_new_number(local_store: Store, damage: str) -> None:
    product = Path(local_store.address(finish(local_store).products["model"]))
    product.chmod(0o644)
    product.unlink() if damage == "deleted" else os.truncate(product, 3)
    assert find_step(local_store, *STEP) is None
    record = finish(local_store)
    assert record.number == 2
    assert find_step(local_store, *STEP) == record


def test_a_lease_that_is_given_back_can_be_taken_at_once_and_keeps_its_checkpoint(store: Store) -> None:
    with pytest.raises(KeyError), claim(store) as lease:
        assert lease.checkpoint is None
        lease.save_checkpoint({"state": lease.put_bytes("state-1", b"1", kind="npz")}, {"epoch": 1})
        raise KeyError
    with claim(store) as lease:
        assert lease.number == 2
        assert lease.checkpoint is not None
        assert lease.checkpoint.position == {"epoch": 1}
        assert store.read_bytes(lease.checkpoint.products["state"]) == b"1"


def test_only_the_newest_two_checkpoints_are_kept_and_none_after_publishing(store: Store) -> None:
    shared = store.put_bytes("sources/shared", b"0", kind="npz")
    with claim(store) as lease:
        for epoch in range(4):
            ref = lease.put_bytes(f"state-{epoch}", b"%d" % epoch, kind="npz")
            lease.save_checkpoint({"state": ref, "shared": shared}, {"epoch": epoch})
        files = {info.key for info in store.list("steps/housing/fit/abc")}
        assert files == {f"steps/housing/fit/abc/1/state-{epoch}" for epoch in (2, 3)}
        lease.publish({"model": ref}, {})
    assert [info.key for info in store.list("steps/housing/fit/abc")] == ["steps/housing/fit/abc/1/state-3"]
    assert store.is_whole(shared)
    assert find_step(store, *STEP) is not None


def test_a_damaged_checkpoint_gives_way_to_the_one_before(local_store: Store) -> None:
    with claim(local_store) as lease:
        for epoch in range(2):
            ref = lease.put_bytes(f"state-{epoch}", b"%d" % epoch, kind="npz")
            lease.save_checkpoint({"state": ref}, {"epoch": epoch})
    local_store.delete(local_store.key_of(ref))
    with claim(local_store) as lease:
        assert lease.checkpoint is not None
        assert lease.checkpoint.position == {"epoch": 0}


def test_who_waits_is_told_for_whom_and_in_the_end_that_it_was_too_long(store: Store) -> None:
    told: list[str] = []
    whom = f"process {os.getpid()} on .* run tall-heron"
    with claim(store, holder={"run": "tall-heron"}), pytest.raises(StepHeld, match=whom):
        claim_step(store, *STEP, on_wait=told.append, wait_seconds=0.2)
    assert len(told) == 1
    assert f"process {os.getpid()} on " in told[0]


def test_who_waits_gets_what_the_other_published(store: Store) -> None:
    found: list[StepRecord | Lease] = []
    waiting = threading.Event()
    with claim(store) as lease:
        waiter = threading.Thread(
            target=lambda: found.append(claim_step(store, *STEP, on_wait=lambda _: waiting.set()))
        )
        waiter.start()
        assert waiting.wait(20)
        record = lease.publish({"model": lease.put_bytes("model", b"1", kind="keras")}, {})
    waiter.join(20)
    assert found == [record]


def test_a_working_holder_keeps_its_lease_by_renewing_it(local_store: Store) -> None:
    with claim(local_store, lease_seconds=1) as lease:
        with pytest.raises(StepHeld):
            claim(local_store, wait_seconds=2)
        lease.ensure_held()
    assert state_of(local_store)["beat"] >= 3


def test_of_eight_who_claim_a_step_one_does_it_and_all_get_its_result(store: Store) -> None:
    gate, numbers, records = threading.Barrier(8), [], []

    def work() -> None:
        gate.wait()
        found = claim_step(store, *STEP)
        if isinstance(found, Lease):
            with found:
                numbers.append(found.number)
                found = found.publish({"model": found.put_bytes("model", b"1", kind="keras")}, {})
        records.append(found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert numbers == [1]
    assert records == [find_step(store, *STEP)] * 8


def test_the_step_of_a_killed_process_is_taken_over_at_once_with_its_checkpoint(
    local_store: Store, start: Start
) -> None:
    worker = start(WORKER, local_store.uri, 3600)
    assert hear(worker) == "claimed 1"
    tell(worker, "checkpoint epoch-7")
    assert hear(worker) == "ok"
    with pytest.raises(StepHeld):
        claim(local_store)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    with claim(local_store) as lease:
        assert lease.number == 2
        assert lease.checkpoint is not None
        assert lease.checkpoint.position == {"epoch": "epoch-7"}
        assert local_store.read_bytes(lease.checkpoint.products["model"]) == b"epoch-7"


def test_a_process_that_is_killed_but_not_yet_reaped_counts_as_gone(local_store: Store, start: Start) -> None:
    worker = start(WORKER, local_store.uri, 3600)
    assert hear(worker) == "claimed 1"
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with claim(local_store) as lease:
        assert lease.number == 2


@pytest.mark.parametrize("changed", [{"started": "1"}, {"machine": "other"}], ids=["re-used pid", "other machine"])
def test_the_same_process_number_elsewhere_or_earlier_is_not_the_same_process(
    local_store: Store, changed: dict[str, str]
) -> None:
    mark = mark_process()
    assert mark is not None
    with claim(local_store, lease_seconds=3600) as lease:
        document = local_store.read_document(DOCUMENT)
        assert document is not None
        state = json.loads(document.data)
        state["holder"]["process"] = replace(mark, **changed).text
        local_store.write_document(DOCUMENT, json.dumps(state).encode(), expected=document.version)
        if "machine" in changed:  # nothing is known of it, so its lease must run out
            with pytest.raises(StepHeld):
                claim(local_store)
        else:
            with claim(local_store) as successor:
                assert successor.number == lease.number + 1


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_process_taken_for_dead_that_lives_on_can_record_nothing(
    kind: str, start: Start, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(f"{kind}_store")
    worker = start(WORKER, store.uri, 1)
    assert hear(worker) == "claimed 1"
    tell(worker, "checkpoint epoch-1")
    assert hear(worker) == "ok"
    worker.send_signal(signal.SIGSTOP)
    with claim(store, wait_seconds=30) as lease:
        assert lease.number == 2
        assert lease.checkpoint is not None
        record = lease.publish({"model": lease.put_bytes("model", b"successor", kind="keras")}, {"by": "successor"})
    worker.send_signal(signal.SIGCONT)
    for command in ("checkpoint late", "publish late", "held now"):
        tell(worker, command)
        assert hear(worker).startswith("LeaseLost number 2")
    assert find_step(store, *STEP) == record
    assert store.read_bytes(record.products["model"]) == b"successor"
    assert state_of(store)["checkpoints"] == []


def test_a_holder_learns_from_its_own_renewal_that_it_was_replaced(local_store: Store) -> None:
    with claim(local_store, lease_seconds=0.2) as lease:
        document = local_store.read_document(DOCUMENT)
        while document is not None:
            try:
                state = {**json.loads(document.data), "number": 2, "claim": "somebody else"}
                local_store.write_document(DOCUMENT, json.dumps(state).encode(), expected=document.version)
                break
            except WriteConflict:
                document = local_store.read_document(DOCUMENT)
        renewer = next(thread for thread in threading.enumerate() if thread.name == f"lease {DOCUMENT}")
        renewer.join(20)
        with pytest.raises(LeaseLost, match="taken this step over"):
            lease.ensure_held()
        with pytest.raises(LeaseLost):
            lease.put_bytes("model", b"1", kind="keras")
    assert state_of(local_store)["claim"] == "somebody else"


def test_a_lease_that_ran_out_but_that_nobody_took_is_still_held(local_store: Store, start: Start) -> None:
    worker = start(WORKER, local_store.uri, 0.2)
    assert hear(worker) == "claimed 1"
    worker.send_signal(signal.SIGSTOP)
    threading.Event().wait(0.6)
    worker.send_signal(signal.SIGCONT)
    tell(worker, "publish model")
    assert hear(worker) == "ok"
    record = find_step(local_store, *STEP)
    assert record is not None
    assert record.number == 1


def test_numbers_go_on_after_a_step_was_removed_and_its_holder_is_kept_out(store: Store) -> None:
    with claim(store) as lease:
        document = store.read_document(DOCUMENT)
        assert document is not None
        retire_step(store, DOCUMENT, document)
        with pytest.raises(LeaseLost):
            lease.publish({}, {})
    assert find_step(store, *STEP) is None
    with claim(store) as lease:
        assert (lease.number, lease.checkpoint) == (2, None)


def test_a_step_document_that_is_not_json_is_named(local_store: Store) -> None:
    local_store.write_document(DOCUMENT, b"\x00\x00", expected=None)
    for look in (find_step, claim_step):
        with pytest.raises(ArtifactCorrupt, match=DOCUMENT):
            look(local_store, *STEP)


def test_looking_for_a_finished_step_imports_nothing_heavy(local_store: Store, start: Start) -> None:
    finish(local_store)
    program = """
        import sys
        from store import open_store
        from store.steps import find_step

        assert find_step(open_store(sys.argv[1]), "housing", "fit", "abc").number == 1
        heavy = {"numpy", "pandas", "pydantic", "boto3", "botocore", "prefect", "tensorflow", "great_expectations"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert hear(start(program, local_store.uri)) == "[]"


def test_opening_a_store_in_s3_asks_nothing_of_the_network(use_endpoint: Callable[[str], None]) -> None:
    use_endpoint("http://127.0.0.1:1")
    assert open_store("s3://bucket/prefix/").uri == "s3://bucket/prefix"


def test_leaving_the_block_never_undoes_a_result_whose_answer_was_lost(
    bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(f"s3://{bucket}/prefix")
    with pytest.raises(StoreUnavailable), claim(store) as lease:
        ref = lease.put_bytes("model", b"weights", kind="keras")
        proxy.faults = [Fault("lose_answer", method="PUT", part=DOCUMENT)]
        lease.publish({"model": ref}, {})
    record = find_step(store, *STEP)
    assert record is not None
    assert record.products == {"model": ref}


def test_a_lease_outlives_trouble_and_recognises_its_own_lost_renewal(
    bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(f"s3://{bucket}/prefix")
    with claim(store, lease_seconds=2) as lease:
        proxy.faults = [
            Fault("lose_answer", method="PUT", part=DOCUMENT),
            Fault("status", times=2, method="PUT", part=DOCUMENT),
        ]
        for _ in range(200):
            if len(proxy.met) == 3:
                break
            threading.Event().wait(0.05)
        assert proxy.met == ["lose_answer", "status", "status"]
        lease.ensure_held()
        lease.publish({}, {})
    assert find_step(store, *STEP) is not None
