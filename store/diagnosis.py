"""Whether a store can keep its promises where it is."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelkeep.errors import ModelkeepError
from store.artifacts import Store
from store.errors import ArtifactExists, StoreUnavailable, WriteConflict
from store.local import LocalStore

_LITTLE_SPACE = 1 << 30  # bytes
_NO_SPACE = 100 << 20
_MOST_SKEW_SECONDS = 60

_OTHER_SERVER = "use a server or file system that refuses such writes, such as AWS S3, SeaweedFS or a local disk"


@dataclass(frozen=True)
class Finding:
    name: str
    level: Literal["ok", "warning", "error"]
    text: str
    next_step: str = ""


def diagnose(store: Store) -> list[Finding]:
    """Tries everything that the store relies on, in a folder of its own that is removed afterwards."""
    missing_folders = _missing_folders(store)
    folder = f"diagnosis/{uuid.uuid4().hex}"
    findings: list[Finding] = []
    try:
        findings += _space(store)
        findings += _trials(store, folder)
    except ModelkeepError as error:
        findings.append(_failure("writable" if isinstance(error, StoreUnavailable) else "readable", error))
    findings += _clean_up(store, folder, missing_folders)
    return findings


def _trials(store: Store, folder: str) -> Iterator[Finding]:
    ref = store.put_bytes(f"{folder}/first", b"first", kind="text")
    if store.read_bytes(ref) != b"first" or not store.is_whole(ref):
        yield Finding(
            "writable", "error", "What was written does not come back with its metadata.", "use another server"
        )
        return
    yield Finding("writable", "ok", f"{store.uri} can be written and read.")
    other = store.put_bytes(f"{folder}/other", b"other", kind="text")
    yield _refused(
        "write once",
        ArtifactExists,
        lambda: store.put_bytes(f"{folder}/first", b"second", kind="text"),
        unsafe="two writers of one name overwrite each other's artifact (If-None-Match is ignored)",
    )
    yield _refused(
        "write once, large files and copies",
        ArtifactExists,
        lambda: store.copy(other, f"{folder}/first"),
        unsafe="two writers of one large file overwrite each other's (If-None-Match is ignored when parts are joined)",
    )
    yield from _document_trials(store, f"{folder}/document")
    if isinstance(store, LocalStore):
        yield _hard_links(store, folder)
    yield _clock(store, folder)


def _document_trials(store: Store, key: str) -> Iterator[Finding]:
    first = store.write_document(key, b"1", expected=None)
    yield _refused(
        "create once",
        WriteConflict,
        lambda: store.write_document(key, b"2", expected=None),
        unsafe="two workers can hold one step, and two first champions can both win (If-None-Match is ignored)",
    )
    current = store.read_document(key)
    store.write_document(key, b"3", expected=None if current is None else current.version)
    yield _refused(
        "compare and swap",
        WriteConflict,
        lambda: store.write_document(key, b"4", expected=first.version),
        unsafe="promotions get lost, and a worker taken for dead publishes over its successor (If-Match is ignored)",
    )


def _refused(name: str, refusal: type[ModelkeepError], attempt: Callable[[], object], *, unsafe: str) -> Finding:
    try:
        attempt()
    except refusal:
        return Finding(name, "ok", "A second writer is refused.")
    except StoreUnavailable as error:
        return _failure(name, error)
    return Finding(name, "error", f"A second writer is not refused, which is unsafe: {unsafe}.", _OTHER_SERVER)


def _hard_links(store: LocalStore, folder: str) -> Finding:
    ref = store.put_bytes(f"{folder}/linked", b"linked", kind="text")
    path = store.local_path(store.copy(ref, f"{folder}/link"))
    if os.stat(path).st_nlink == 2:
        return Finding("hard links", "ok", "Copies share their space.")
    return Finding("hard links", "warning", "Copies take space of their own.", "use a file system with hard links")


def _clock(store: Store, folder: str) -> Finding:
    before = time.time()
    store.put_bytes(f"{folder}/now", b"now", kind="text")
    written = next((info.modified for info in store.list(folder) if info.key.endswith("/now")), before)
    skew = max(before - 1 - written, written - time.time() - 1, 0)  # S3 tells whole seconds
    if skew > _MOST_SKEW_SECONDS:
        text = f"This machine's clock and the store's differ by {skew:.0f} s; S3 refuses requests from 900 s on."
        return Finding("clock", "warning", text, "set the clock, for example with NTP")
    return Finding("clock", "ok", "This machine's clock and the store's agree.")


def _space(store: Store) -> Iterator[Finding]:
    if not isinstance(store, LocalStore):
        return
    existing = next(path for path in (store.root, *store.root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:,.1f} GB are free at {existing}."
    if free >= _LITTLE_SPACE:
        yield Finding("free space", "ok", text)
    else:
        level: Literal["warning", "error"] = "warning" if free >= _NO_SPACE else "error"
        yield Finding("free space", level, text, "`modelkeep gc` shows what may go")


def _clean_up(store: Store, folder: str, missing_folders: list[Path]) -> Iterator[Finding]:
    try:
        for info in list(store.list(folder)):
            store.delete(info.key)
    except StoreUnavailable as error:
        yield _failure("removable", error)
    with suppress(OSError):  # somebody else has begun to use the store
        for path in missing_folders:
            path.rmdir()


def _missing_folders(store: Store) -> list[Path]:
    """Folders that the first write to a store on disk will make, the innermost first."""
    if not isinstance(store, LocalStore):
        return []
    return [path for path in (store.root, *store.root.parents) if not path.exists()]


def _failure(name: str, error: ModelkeepError) -> Finding:
    text = f"{error.what} {error.received}".strip()
    return Finding(name, "error", text, error.next_step)
