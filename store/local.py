"""A store on local disk (or any file system with hard links, which are what makes a write exclusive)."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from store.artifacts import (
    ArtifactRef,
    Document,
    ObjectInfo,
    Progress,
    Store,
    checked_key,
    folder_prefix,
    is_damaged,
    missing,
    same_or_exists,
    sha256_of_file,
    verify,
)
from store.errors import InvalidKey, StoreUnavailable, WriteConflict

T = TypeVar("T")

_BLOCK = 1 << 20  # bytes
_TEMPORARY = ".tmp-"
_VERSIONS = "@"  # document `key` is the folder `key@` of numbered versions; no key contains an @
_KEPT_VERSIONS = 64
_NO_SUCH_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore(Store):
    def __init__(self, path: str | Path) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(path)))
        self.uri = str(self.root)

    def put_file(self, key: str, path: Path, *, kind: str, progress: Progress | None = None) -> ArtifactRef:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            return self._put(key, kind, lambda sink: _copy(source, sink, size, progress))

    def put_bytes(self, key: str, data: bytes, *, kind: str) -> ArtifactRef:
        def write(sink: BinaryIO) -> str:
            sink.write(data)
            return hashlib.sha256(data).hexdigest()

        return self._put(key, kind, write)

    def local_path(self, ref: ArtifactRef) -> Path:
        key = self.key_of(ref)
        found = self.find(key, kind=ref.kind)
        if found is None:
            raise missing(ref, self.address(ref))
        verify(ref, found.size, found.sha256, self.address(ref))
        return self._path(key)

    def copy(self, ref: ArtifactRef, key: str) -> ArtifactRef:
        source, path = self.local_path(ref), self._path(key)
        wanted = ArtifactRef(key, ref.sha256, ref.size, ref.kind)
        try:
            linked = _in_folder(path.parent, lambda: _link(source, path))
        except OSError:  # another file system, or as many links as a file can have
            return self.put_file(key, source, kind=ref.kind)
        with explained(path):
            if not linked:
                return self._settle(wanted, source)
            _sync_folder(path.parent)
        return wanted

    def find(self, key: str, *, kind: str) -> ArtifactRef | None:
        path = self._path(key)
        with explained(path):
            try:
                return ArtifactRef(key, sha256_of_file(path), path.stat().st_size, kind)
            except _NO_SUCH_FILE:
                return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for folder, _, names in os.walk(self.root / folder_prefix(prefix)):
            if folder.endswith(_VERSIONS):
                if numbers := _numbers(Path(folder)):
                    yield from self._describe(Path(folder, _version_name(numbers[-1])), Path(folder[: -len(_VERSIONS)]))
            else:
                for path in (Path(folder, name) for name in names if not name.startswith(_TEMPORARY)):
                    yield from self._describe(path, path)

    def list_unfinished(self) -> Iterator[ObjectInfo]:
        for path in self.root.rglob(f"{_TEMPORARY}*"):
            yield from self._describe(path, path)

    def delete(self, key: str) -> int:
        path, versions = self._path(key), self._versions(key)
        with explained(path):
            files = [versions / name for name in os.listdir(versions)] if versions.is_dir() else [path]
            freed = sum(_unlink(file) for file in files)
            self._remove_empty_folders(versions if versions.is_dir() else path.parent)
        return freed

    def delete_unfinished(self, key: str) -> None:
        path = self.root / key
        with explained(path):
            _unlink(path)
            self._remove_empty_folders(path.parent)

    def read_document(self, key: str) -> Document | None:
        folder = self._versions(key)
        with explained(folder):
            while numbers := _numbers(folder):
                with suppress(FileNotFoundError):  # pruned since it was listed: there are newer ones
                    return Document((folder / _version_name(numbers[-1])).read_bytes(), str(numbers[-1]))
        return None

    def write_document(self, key: str, data: bytes, *, expected: str | None) -> Document:
        folder, number = self._versions(key), int(expected or 0) + 1
        path = folder / _version_name(number)
        with explained(folder):
            if (_numbers(folder) or [0])[-1] != number - 1:
                raise _conflict(path)
            with _temporary(folder, lambda sink: sink.write(data)) as (temporary, _):
                if not _link(temporary, path):
                    raise _conflict(path)
            numbers = _numbers(folder)
            # A writer that slept between its look and its link may have taken a number that was used and pruned
            # meanwhile. Numbers are pruned only this far behind the newest, so it shows.
            if not numbers or numbers[-1] >= number + _KEPT_VERSIONS:
                path.unlink(missing_ok=True)
                raise _conflict(path)
            _sync_folder(folder)
            for old in numbers:
                if old <= numbers[-1] - _KEPT_VERSIONS:
                    (folder / _version_name(old)).unlink(missing_ok=True)
        return Document(data, str(number))

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        with explained(path):
            try:
                return path.read_bytes()
            except _NO_SUCH_FILE:
                return None

    def _put(self, key: str, kind: str, fill: Callable[[BinaryIO], str]) -> ArtifactRef:
        path = self._path(key)
        with explained(path), _temporary(path.parent, fill) as (temporary, sha256):
            wanted = ArtifactRef(key, sha256, temporary.stat().st_size, kind)
            if not _link(temporary, path):
                return self._settle(wanted, temporary)
            _sync_folder(path.parent)
        return wanted

    def _settle(self, wanted: ArtifactRef, source: Path) -> ArtifactRef:
        """Something lies under the name already: the same, something that must stay, or something damaged."""
        key = self.key_of(wanted)
        path = self._path(key)
        found = self.find(key, kind=wanted.kind)
        if found is None and not _link(source, path):  # it went meanwhile, or it is a folder
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        if found is not None and not is_damaged(found, wanted):
            return same_or_exists(found, wanted, self.address(wanted))
        if found is not None:
            _replace(source, path)
        _sync_folder(path.parent)
        return wanted

    def _path(self, key: str) -> Path:
        """Where `key` lies; raises InvalidKey if symbolic links lead out of the store."""
        path = self.root / checked_key(key)
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root:
            raise InvalidKey(
                "A symbolic link leads out of the store.",
                where=str(path),
                expected=f"a file below {root}",
                received=real,
                next_step="remove the link",
            )
        return path

    def _versions(self, key: str) -> Path:
        path = self._path(key)
        return path.with_name(path.name + _VERSIONS)

    def _describe(self, path: Path, named: Path) -> Iterator[ObjectInfo]:
        with suppress(FileNotFoundError):  # gone since it was listed
            status = path.lstat()
            yield ObjectInfo(named.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def _remove_empty_folders(self, folder: Path) -> None:
        with suppress(OSError):  # the first folder that is not empty ends it
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent


def _copy(source: BinaryIO, sink: BinaryIO, size: int, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        sink.write(block)
        digest.update(block)
        done += len(block)
        if progress is not None:
            progress(done, max(done, size))
    return digest.hexdigest()


@contextmanager
def _temporary(folder: Path, fill: Callable[[BinaryIO], T]) -> Iterator[tuple[Path, T]]:
    """A synced, read-only file that lasts as long as the block, and what `fill` returned."""
    path = folder / _temporary_name()
    sink = _in_folder(folder, lambda: path.open("xb"))
    try:
        with sink:
            result = fill(sink)
            sink.flush()
            os.fchmod(sink.fileno(), 0o444)
            os.fsync(sink.fileno())
        yield path, result
    finally:
        path.unlink(missing_ok=True)


def _temporary_name() -> str:
    return _TEMPORARY + uuid.uuid4().hex


def _in_folder(folder: Path, action: Callable[[], T]) -> T:
    """Does `action` in a folder that is made first; somebody's removal may take an empty folder away again."""
    for _ in range(5):
        with suppress(FileNotFoundError):
            _make_folder(folder)
            return action()
    return action()


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A new name survives a power cut only when its folder is synced too: man 2 fsync.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(source: Path, path: Path) -> bool:
    """Gives `source` the name `path`, unless something has that name; one of many racers wins."""
    before = source.stat().st_nlink
    try:
        os.link(source, path)
    except FileExistsError:
        # Over NFS the answer of a link that succeeded may be lost and the repeated request refused: man 2 open.
        return source.name.startswith(_TEMPORARY) and source.stat().st_nlink > before
    return True


def _replace(source: Path, path: Path) -> None:
    spare = path.with_name(_temporary_name())
    os.link(source, spare)
    try:
        os.replace(spare, path)
    finally:
        spare.unlink(missing_ok=True)


def _unlink(path: Path) -> int:
    """Removes a file if it is there; bytes freed, which is none while another hard link keeps it."""
    try:
        status = path.lstat()
        path.unlink()
    except _NO_SUCH_FILE:
        return 0
    return status.st_size if status.st_nlink == 1 else 0


def _version_name(number: int) -> str:
    return f"{number:08d}"


def _numbers(folder: Path) -> list[int]:
    """Version numbers in a document's folder, ascending."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if re.fullmatch(r"\d{8,}", name))
    except _NO_SUCH_FILE:
        return []


def _conflict(path: Path) -> WriteConflict:
    return WriteConflict(
        "Somebody else changed the document first.",
        where=str(path.parent),
        expected=f"to write version {int(path.name)}",
        received="that version is written already, or its forerunner is gone",
        next_step="read it again and repeat the change",
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what, next_step = _EXPLANATIONS.get(
            error.errno or 0, ("The store cannot be used.", "put the store on another path or disk")
        )
        raise StoreUnavailable(
            what, where=str(path), received=error.strerror or str(error), next_step=next_step
        ) from error


_FULL = ("The disk of the store is full.", "free space (`modelkeep gc` shows what may go), then run it again")
_FORBIDDEN = ("The store may not be written or read.", "give this user access, or choose another path for the store")
_IN_THE_WAY = (
    "Something is in the way: a file where the store needs a folder, or a folder where it needs a file.",
    "move it away, or choose another path",
)
_NO_LINKS = ("The store's file system has no hard links.", "use a file system with hard links, or a store in S3")
_EXPLANATIONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.EPERM: _NO_LINKS,
    errno.ENOTSUP: _NO_LINKS,
    errno.EMLINK: _NO_LINKS,
}
