"""What can go wrong on a disk: killed writers, no space, no permission, links that lead astray."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from store import open_store
from store.artifacts import Store
from store.errors import InvalidKey, StoreUnavailable, WriteConflict
from store.local import LocalStore

Start = Callable[..., "subprocess.Popen[str]"]

# Writes a large file, and stops half-way to be killed.
WRITE_HALF = """
    import sys, time
    from pathlib import Path
    from store import open_store

    def progress(done, total):
        if done > total / 2:
            print("half", flush=True)
            time.sleep(600)

    open_store(sys.argv[1]).put_file("runs/a/model.keras", Path(sys.argv[2]), kind="keras", progress=progress)
"""


def test_a_half_written_artifact_is_never_seen(local_store: Store, tmp_path: Path, start: Start) -> None:
    (tmp_path / "model").write_bytes(bytes(4 << 20))
    writer = start(WRITE_HALF, local_store.uri, tmp_path / "model")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    assert local_store.find("runs/a/model.keras", kind="keras") is None
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert local_store.find("runs/a/model.keras", kind="keras") is None
    assert list(local_store.list("")) == []
    (left,) = local_store.list_unfinished()
    assert left.size >= 1 << 20
    ref = local_store.put_file("runs/a/model.keras", tmp_path / "model", kind="keras")
    assert local_store.is_whole(ref)
    local_store.delete_unfinished(left.key)
    assert list(local_store.list_unfinished()) == []


def test_artifacts_are_read_only_and_copies_share_their_space(local_store: Store) -> None:
    path = local_store.local_path(local_store.put_bytes("a/b", b"1", kind="json"))
    copy = local_store.local_path(local_store.copy(local_store.put_bytes("a/b", b"1", kind="json"), "c/d"))
    assert path.stat().st_mode & 0o777 == 0o444
    assert copy.samefile(path)
    assert local_store.delete("a/b") == 0  # the other name keeps it
    assert local_store.delete("c/d") == 1
    assert list(Path(local_store.uri).iterdir()) == []


FULL = """
    import resource, sys
    from store import open_store
    from store.errors import StoreUnavailable

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    store = open_store(sys.argv[1])
    store.put_bytes("small", b"1", kind="json")
    try:
        store.put_bytes("large", bytes(2 << 20), kind="npy")
    except StoreUnavailable as error:
        print(error)
"""


def test_a_full_disk_is_said_plainly_and_leaves_nothing_behind(local_store: Store, start: Start) -> None:
    said, trouble = start(FULL, local_store.uri).communicate(timeout=60)
    assert trouble == ""
    assert said.startswith("The disk of the store is full.")
    assert "modelkeep gc" in said
    assert [info.key for info in local_store.list("")] == ["small"]
    assert list(local_store.list_unfinished()) == []


def test_a_really_full_disk_is_survived(small_disk: Path) -> None:
    store = open_store(small_disk / "store")
    ref = store.put_bytes("small", b"1", kind="json")
    document = store.write_document("models/a.json", b"{}", expected=None)
    with pytest.raises(StoreUnavailable, match="is full"):
        store.put_bytes("large", bytes(2 << 20), kind="npy")
    filler = small_disk / "filler"
    with pytest.raises(OSError):
        filler.write_bytes(bytes(2 << 20))
    with pytest.raises(StoreUnavailable, match="is full"):
        store.write_document("models/a.json", b"{...}" * 1000, expected=document.version)
    assert store.read_document("models/a.json") == document
    assert store.is_whole(ref)
    filler.unlink()
    store.write_document("models/a.json", b"{...}" * 1000, expected=document.version)


def test_a_file_where_a_folder_should_be_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = open_store(tmp_path / "store")
    with pytest.raises(StoreUnavailable, match="a file where the store needs a folder"):
        store.put_bytes("a", b"1", kind="json")
    assert store.read_document("models/a.json") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StoreUnavailable, match="may not be written"):
        open_store(tmp_path / "store").put_bytes("a", b"1", kind="json")


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_symbolic_link_out_of_the_store_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    store = open_store(tmp_path / "store")
    store.put_bytes("a/b", b"1", kind="json")
    link = tmp_path / "store" / "a" / ("secret" if target == "file" else "link")
    link.symlink_to(tmp_path / "outside" / ("secret" if target == "file" else ""))
    key = "a/secret" if target == "file" else "a/link/secret"
    for attempt in (
        lambda: store.find(key, kind="json"),
        lambda: store.put_bytes(key, b"changed", kind="json"),
        lambda: store.delete(key),
    ):
        with pytest.raises(InvalidKey, match="leads out of the store"):
            attempt()
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


def test_a_store_behind_a_symbolic_link_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    store = open_store(tmp_path / "store")
    assert store.is_whole(store.put_bytes("a/b", b"1", kind="json"))


def test_a_folder_under_the_name_of_an_artifact_is_not_an_artifact(local_store: Store) -> None:
    local_store.put_bytes("a/b", b"1", kind="json")
    assert local_store.find("a", kind="json") is None
    for key in ("a", "a/b/c"):
        with pytest.raises(StoreUnavailable, match="in the way"):
            local_store.put_bytes(key, b"1", kind="json")
    assert list(local_store.list_unfinished()) == []


def test_a_writer_that_slept_while_numbers_were_used_and_pruned_is_refused(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import store.local as local

    def write(times: int) -> None:
        for _ in range(times):
            document = local_store.read_document("a")
            local_store.write_document("a", b"quick", expected=document.version if document else None)

    write(3)
    link = local._link

    def sleepy(source: Path, path: Path) -> bool:
        monkeypatch.setattr(local, "_link", link)
        write(100)
        return link(source, path)

    monkeypatch.setattr(local, "_link", sleepy)
    with pytest.raises(WriteConflict):
        local_store.write_document("a", b"slow", expected="3")
    document = local_store.read_document("a")
    assert document is not None
    assert (document.data, document.version) == (b"quick", "103")
    assert b"slow" not in {path.read_bytes() for path in Path(local_store.uri, "a@").iterdir()}


def test_a_store_given_by_a_relative_path_stays_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("modelkeep-store")
    monkeypatch.chdir("/")
    ref = store.put_bytes("a", b"1", kind="json")
    assert store.address(ref) == f"{tmp_path}/modelkeep-store/a"


def test_a_store_that_was_moved_is_whole(tmp_path: Path) -> None:
    """References say nothing of where the store is, so it can be moved, copied and restored from a backup."""
    before = open_store(tmp_path / "before")
    ref = before.put_bytes("runs/a/metrics.json", b"{}", kind="json")
    (tmp_path / "before").rename(tmp_path / "after")
    after = open_store(tmp_path / "after")
    assert after.is_whole(ref) and after.read_bytes(ref) == b"{}"
