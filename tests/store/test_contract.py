"""What every store promises, on disk and in S3."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import open_store
from store.artifacts import ArtifactRef, Store, digest_of, sha256_of
from store.errors import ArtifactCorrupt, ArtifactExists, ArtifactMissing, InvalidKey, WriteConflict

MiB = 1 << 20


def spoil(store: Store, ref: ArtifactRef, data: bytes) -> None:
    """Changes an artifact behind the store's back."""
    if store.uri.startswith("s3://"):
        from store.s3 import S3Store

        assert isinstance(store, S3Store)
        store.client.put_object(**store._address(store.key_of(ref)), Body=data)
    else:
        path = Path(store.address(ref))
        path.chmod(0o644)
        path.write_bytes(data)


def test_what_was_put_comes_back_with_its_digest_size_and_kind(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"weights")
    ref = store.put_file("runs/a/model.keras", tmp_path / "model.keras", kind="keras")
    assert ref == ArtifactRef("runs/a/model.keras", sha256_of(b"weights"), 7, "keras")
    assert store.read_bytes(ref) == b"weights"
    assert store.local_path(ref).read_bytes() == b"weights"
    assert store.local_path(ref).name == ref.name == "model.keras"
    assert store.find("runs/a/model.keras", kind="keras") == ref
    assert store.is_whole(ref)
    assert ArtifactRef.from_dict(ref.to_dict()) == ref
    assert store.key_of(ref) == "runs/a/model.keras"


def test_an_empty_artifact_is_an_artifact(store: Store) -> None:
    ref = store.put_bytes("a/empty", b"", kind="json")
    assert store.read_bytes(ref) == b""
    assert store.read_bytes(store.copy(ref, "b/empty")) == b""


def test_a_large_file_goes_in_parts_and_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    content = os.urandom(MiB) * 20 + b"the end"
    (tmp_path / "large").write_bytes(content)
    progress: list[tuple[int, int]] = []
    ref = store.put_file("a/large", tmp_path / "large", kind="npy", progress=lambda *step: progress.append(step))
    assert len(progress) >= 3
    assert progress == sorted(progress)
    assert progress[-1] == (len(content), len(content))
    assert store.is_whole(ref)
    assert store.local_path(ref).read_bytes() == content
    assert store.put_file("a/large", tmp_path / "large", kind="npy") == ref
    assert list(store.list_unfinished()) == []


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new" / "store")
    assert store.read_document("models/a.json") is None
    assert store.find("a/b", kind="json") is None
    assert list(store.list("")) == []
    assert list(tmp_path.iterdir()) == []


def test_the_same_content_again_is_no_work_and_other_content_is_refused(store: Store, tmp_path: Path) -> None:
    ref = store.put_bytes("a/b.json", b"{}", kind="json")
    assert store.put_bytes("a/b.json", b"{}", kind="json") == ref
    with pytest.raises(ArtifactExists, match="never change"):
        store.put_bytes("a/b.json", b"[]", kind="json")
    large = tmp_path / "large"
    large.write_bytes(bytes(17 * MiB))
    with pytest.raises(ArtifactExists):
        store.put_file("a/b.json", large, kind="npy")
    assert store.read_bytes(ref) == b"{}"
    assert list(store.list_unfinished()) == []


@pytest.mark.parametrize("damage", [b"content", b"CONTENTS", b""], ids=["truncated", "altered", "emptied"])
def test_a_damaged_artifact_is_not_whole_and_never_read(store: Store, damage: bytes) -> None:
    ref = store.put_bytes("a/b", b"contents", kind="npy")
    assert store.read_bytes(store.copy(ref, "kept/b")) == b"contents"
    store.delete("kept/b")
    spoil(store, ref, damage)
    assert not store.is_whole(ref)
    for read in (store.read_bytes, store.local_path):
        with pytest.raises(ArtifactCorrupt, match="not what was written"):
            read(ref)
    with pytest.raises(ArtifactCorrupt):
        store.copy(ref, "c/d")
    assert store.find("c/d", kind="npy") is None


def test_a_deleted_artifact_is_missing(store: Store) -> None:
    ref = store.put_bytes("a/b", b"contents", kind="npy")
    assert store.delete("a/b") == 8
    assert not store.is_whole(ref)
    assert store.find("a/b", kind="npy") is None
    for read in (store.read_bytes, store.local_path, lambda ref: store.copy(ref, "c/d")):
        with pytest.raises(ArtifactMissing, match="gone"):
            read(ref)
    assert store.delete("a/b") == 0


@pytest.mark.parametrize("size", [100, 17 * MiB])
def test_damage_under_a_name_that_says_the_content_is_repaired(store: Store, tmp_path: Path, size: int) -> None:
    content = tmp_path / "train.csv"
    content.write_bytes(b"x" * size)
    key = f"sources/{sha256_of(content.read_bytes())}/train.csv"
    ref = store.put_file(key, content, kind="csv")
    spoil(store, ref, b"half a downl")
    assert store.put_file(key, content, kind="csv") == ref
    assert store.is_whole(ref)
    assert store.local_path(ref).read_bytes() == content.read_bytes()


@pytest.mark.parametrize("size", [100, 17 * MiB])
def test_a_copy_has_the_same_content_under_another_name(store: Store, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    ref = store.put_file("steps/a/model", tmp_path / "file", kind="keras")
    copy = store.copy(ref, "runs/b/model")
    assert copy == ArtifactRef("runs/b/model", ref.sha256, ref.size, "keras")
    assert store.copy(ref, "runs/b/model") == copy
    store.delete("steps/a/model")
    assert store.is_whole(copy)
    assert store.local_path(copy).read_bytes() == (tmp_path / "file").read_bytes()
    with pytest.raises(ArtifactExists):
        store.copy(store.put_bytes("x", b"other", kind="keras"), "runs/b/model")


@pytest.mark.parametrize("key", ["../a", "/a", "a/../b", "a//b", "a/", "", ".hidden", "a/.tmp-1", "a b", "a@/1", "ä"])
def test_a_key_that_could_lead_elsewhere_is_refused(store: Store, key: str) -> None:
    elsewhere = ArtifactRef(f"{store.uri}/{key}", "0" * 64, 0, "json")
    for attempt in (
        lambda: store.put_bytes(key, b"", kind="json"),
        lambda: store.find(key, kind="json"),
        lambda: store.write_document(key, b"", expected=None),
        lambda: store.read_bytes(elsewhere),
        lambda: store.delete(key),
    ):
        with pytest.raises(InvalidKey):
            attempt()


@pytest.mark.parametrize("uri", ["/etc/hostname", "../a", "s3://other/a", ""])
def test_a_reference_that_leads_out_of_the_store_is_refused(store: Store, uri: str) -> None:
    with pytest.raises(InvalidKey):
        store.read_bytes(ArtifactRef(uri, "0" * 64, 0, "json"))


def test_a_listing_shows_the_artifacts_and_documents_of_one_folder_only(store: Store) -> None:
    store.put_bytes("runs/a/1", b"1", kind="json")
    store.put_bytes("runs/ab/1", b"22", kind="json")
    document = store.write_document("runs/a.json", b"{}", expected=None)
    store.write_document("runs/a.json", b"{...}", expected=document.version)
    assert {(info.key, info.size) for info in store.list("runs")} == {
        ("runs/a/1", 1), ("runs/ab/1", 2), ("runs/a.json", 5),
    }  # fmt: skip
    assert [info.key for info in store.list("runs/a/")] == ["runs/a/1"]
    assert len(list(store.list(""))) == 3


def test_a_document_changes_only_from_the_version_that_was_read(store: Store) -> None:
    assert store.read_document("models/a.json") is None
    with pytest.raises(WriteConflict):
        store.write_document("models/a.json", b"1", expected="7")
    first = store.write_document("models/a.json", b"1", expected=None)
    assert store.read_document("models/a.json") == first
    with pytest.raises(WriteConflict):
        store.write_document("models/a.json", b"2", expected=None)
    second = store.write_document("models/a.json", b"2", expected=first.version)
    with pytest.raises(WriteConflict, match="changed the document first"):
        store.write_document("models/a.json", b"3", expected=first.version)
    assert store.read_document("models/a.json") == second


def test_of_eight_who_write_at_once_exactly_one_wins(store: Store) -> None:
    gate = threading.Barrier(8)

    def write(data: bytes, expected: str | None) -> str | None:
        gate.wait()
        try:
            return store.write_document("models/a.json", data, expected=expected).version
        except WriteConflict:
            return None

    version: str | None = None
    with ThreadPoolExecutor(8) as pool:
        for round_number in range(6):
            data = [f"{round_number} {writer}".encode() for writer in range(8)]
            versions = [found for found in pool.map(write, data, [version] * 8) if found is not None]
            assert len(versions) == 1
            version = versions[0]
            document = store.read_document("models/a.json")
            assert document is not None
            assert document.version == version


def test_of_eight_who_put_other_content_at_once_exactly_one_wins(store: Store) -> None:
    gate = threading.Barrier(8)

    def put(writer: int) -> ArtifactRef | None:
        gate.wait()
        try:
            return store.put_bytes("a/b", b"%d" % writer, kind="json")
        except ArtifactExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [ref for ref in pool.map(put, range(8)) if ref is not None]
    assert len(winners) == 1
    assert store.is_whole(winners[0])


def test_prefixes_do_not_see_each_other(bucket: str) -> None:
    mine, other = open_store(f"s3://{bucket}/a"), open_store(f"s3://{bucket}/ab")
    everything = open_store(f"s3://{bucket}")
    ref = mine.put_bytes("b/c", b"1", kind="json")
    assert list(other.list("")) == []
    assert [info.key for info in everything.list("")] == ["a/b/c"]
    with pytest.raises(ArtifactMissing):
        other.read_bytes(ref)


INCREMENT = """
    import sys
    from store import open_store
    from store.errors import WriteConflict

    store, todo = open_store(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    while todo:
        document = store.read_document("counter")
        value, version = (0, None) if document is None else (int(document.data), document.version)
        try:
            store.write_document("counter", str(value + 1).encode(), expected=version)
            todo -= 1
        except WriteConflict:
            pass
"""


def test_no_increment_of_four_processes_is_lost(
    local_store: Store, start: Callable[..., subprocess.Popen[str]]
) -> None:
    processes = [start(INCREMENT, local_store.uri, 50) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        _, trouble = process.communicate("go\n", timeout=60)
        assert (process.returncode, trouble) == (0, "")
    document = local_store.read_document("counter")
    assert document is not None
    assert (document.data, document.version) == (b"200", "200")
    assert len(list((Path(local_store.uri) / "counter@").iterdir())) == 64


def test_equal_values_have_one_digest_and_what_json_cannot_say_is_refused() -> None:
    assert digest_of({"a": 1, "b": [True, None, "ü"]}) == digest_of({"b": [True, None, "ü"], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})
    with pytest.raises(ValueError):
        digest_of({"a": float("nan")})
