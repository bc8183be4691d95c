"""The diagnosis finds what is unsafe, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from store import open_store
from store.artifacts import Store
from store.diagnosis import Finding, diagnose
from tests.store.faulty_proxy import Fault, FaultyProxy


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


def test_a_good_store_is_found_good_and_left_as_it_was(store: Store) -> None:
    findings = levels(diagnose(store))
    assert set(findings.values()) == {"ok"}
    assert {"writable", "write once", "create once", "compare and swap", "clock"} < set(findings)
    assert list(store.list("")) == []


def test_a_store_that_does_not_exist_yet_is_not_made_by_the_diagnosis(tmp_path: Path) -> None:
    assert set(levels(diagnose(open_store(tmp_path / "not" / "yet"))).values()) == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ignores_conditions_is_found_unsafe(bucket: str, proxy: FaultyProxy) -> None:
    proxy.faults = [Fault("unconditional", times=10_000)]
    store = open_store(f"s3://{bucket}/prefix")
    findings = diagnose(store)
    unsafe = {"write once", "write once, large files and copies", "create once", "compare and swap"}
    assert {finding.name for finding in findings if finding.level == "error"} == unsafe
    assert all("unsafe" in finding.text and finding.next_step for finding in findings if finding.level == "error")
    proxy.faults = []
    assert list(store.list("")) == []


@pytest.mark.parametrize(("code", "text"), [("NoSuchBucket", "does not exist"), ("InvalidAccessKeyId", "credentials")])
def test_a_door_that_is_shut_is_an_error_with_a_next_step(
    bucket: str, proxy: FaultyProxy, code: str, text: str
) -> None:
    proxy.faults = [Fault("status", times=1000, status=403, code=code)]
    finding = diagnose(open_store(f"s3://{bucket}/prefix"))[0]
    assert (finding.name, finding.level) == ("writable", "error")
    assert text in finding.text
    assert finding.next_step


def test_a_file_in_the_place_of_the_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    findings = levels(diagnose(open_store(tmp_path / "store")))
    assert findings["writable"] == "error"
    assert (tmp_path / "store").read_text() == ""
