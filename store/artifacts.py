"""Artifacts, written once and verified when read, and documents, changed by compare-and-swap."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from store.errors import ArtifactCorrupt, ArtifactExists, ArtifactMissing, InvalidKey, UnknownFormat

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
Progress: TypeAlias = Callable[[int, int], None]  # bytes done, bytes in all

Filled = TypeVar("Filled")

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")  # a leading dot is kept for temporary files
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ArtifactRef:
    uri: str  # relative to the store, so that a store can be moved and copied
    sha256: str
    size: int  # bytes
    kind: str

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    def to_dict(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ArtifactRef:
        """Raises ArtifactCorrupt when `value` is not what `to_dict` makes."""
        if not is_reference(value):
            raise ArtifactCorrupt(
                "A reference to an artifact cannot be read.",
                expected="uri, sha256 (64 hexadecimal digits), size in bytes and kind",
                received=repr(value)[:200],
                next_step="make the document that holds it again, or restore it from a backup",
            )
        return cls(value["uri"], value["sha256"], value["size"], value["kind"])


def is_reference(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("uri"), str)
        and isinstance(sha256 := value.get("sha256"), str)
        and _SHA256.fullmatch(sha256) is not None
        and type(size := value.get("size")) is int
        and size >= 0
        and isinstance(value.get("kind"), str)
    )


@dataclass(frozen=True)
class Document:
    data: bytes
    version: str


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size: int  # bytes
    modified: float  # seconds since the epoch, by the store's clock


class Store(ABC):
    """Keys are segments of letters, digits, `.`, `_` and `-`, joined by `/`.

    Artifacts appear whole or not at all and never change. Documents are small and change by compare-and-swap.
    Everything raises StoreUnavailable when the store cannot be reached, and InvalidKey for a key of another form.
    """

    uri: str

    @abstractmethod
    def put_file(self, key: str, path: Path, *, kind: str, progress: Progress | None = None) -> ArtifactRef:
        """Does nothing if the same content is there already; raises ArtifactExists if other content is."""

    @abstractmethod
    def put_bytes(self, key: str, data: bytes, *, kind: str) -> ArtifactRef:
        """As put_file."""

    def read_bytes(self, ref: ArtifactRef) -> bytes:
        """Raises ArtifactMissing, or ArtifactCorrupt if the content is not what was written."""
        data = self._read(self.key_of(ref))
        if data is None:
            raise missing(ref, self.address(ref))
        verify(ref, len(data), sha256_of(data), self.address(ref))
        return data

    @abstractmethod
    def local_path(self, ref: ArtifactRef) -> Path:
        """A local file with the verified content, not to be written to. Raises as read_bytes does."""

    def is_whole(self, ref: ArtifactRef) -> bool:
        """Whether the artifact is there with the size and SHA-256 of `ref`."""
        found = self.find(self.key_of(ref), kind=ref.kind)
        return found is not None and (found.size, found.sha256) == (ref.size, ref.sha256)

    @abstractmethod
    def copy(self, ref: ArtifactRef, key: str) -> ArtifactRef:
        """The same content under another key, without passing through this process where the store can do it."""

    @abstractmethod
    def find(self, key: str, *, kind: str) -> ArtifactRef | None:
        """What lies under `key` now, as it is."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Artifacts and documents below the folder `prefix`; for the registry and for removal only."""

    @abstractmethod
    def list_unfinished(self) -> Iterator[ObjectInfo]:
        """What killed writers left; `key` is a name that `delete_unfinished` takes."""

    @abstractmethod
    def delete(self, key: str) -> int:
        """Removes an artifact, or a document with its past; for removal only. Returns the bytes that this freed."""

    @abstractmethod
    def delete_unfinished(self, key: str) -> None: ...

    @abstractmethod
    def read_document(self, key: str) -> Document | None: ...

    @abstractmethod
    def write_document(self, key: str, data: bytes, *, expected: str | None) -> Document:
        """Replaces version `expected` (None: the document must not exist), or raises WriteConflict."""

    @abstractmethod
    def _read(self, key: str) -> bytes | None: ...

    def key_of(self, ref: ArtifactRef) -> str:
        """Raises InvalidKey when `ref` leads out of the store."""
        return checked_key(ref.uri)

    def address(self, ref: ArtifactRef) -> str:
        """Where it lies, in full: for people."""
        return f"{self.uri}/{ref.uri}"


def checked_key(key: str) -> str:
    if all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        return key
    raise InvalidKey(
        "Not a name that a store can keep.",
        received=repr(key),
        expected="segments of letters, digits, '.', '_' and '-', joined by '/', none of them beginning with '.'",
        next_step="choose a plainer name",
    )


def folder_prefix(prefix: str) -> str:
    """`prefix` with one slash at its end, or nothing for the whole store."""
    prefix = prefix.rstrip("/")
    return checked_key(prefix) + "/" if prefix else ""


def is_damaged(found: ArtifactRef, wanted: ArtifactRef) -> bool:
    """Whether what was found must be replaced: other content under a key that names the wanted content's digest."""
    return found.sha256 != wanted.sha256 and wanted.sha256 in wanted.uri.split("/")


def same_or_exists(found: ArtifactRef, wanted: ArtifactRef, where: str) -> ArtifactRef:
    if found.sha256 == wanted.sha256:
        return wanted
    raise ArtifactExists(
        "Other content already lies under this name, and artifacts never change.",
        where=where,
        expected=f"nothing, or SHA-256 {wanted.sha256}",
        received=f"SHA-256 {found.sha256}, {found.size:,} bytes",
        next_step="write under another name",
    )


def missing(ref: ArtifactRef, where: str) -> ArtifactMissing:
    return ArtifactMissing(
        "An artifact is gone.",
        where=where,
        expected=f"{ref.size:,} bytes with SHA-256 {ref.sha256}",
        received="nothing under this name",
        next_step="run the step that makes it again",
    )


def verify(ref: ArtifactRef, size: int, sha256: str, where: str) -> None:
    if (size, sha256) == (ref.size, ref.sha256):
        return
    raise ArtifactCorrupt(
        "An artifact is not what was written.",
        where=where,
        expected=f"{ref.size:,} bytes with SHA-256 {ref.sha256}",
        received=f"{size:,} bytes with SHA-256 {sha256}",
        next_step="run the step that makes it again, or restore the file from a backup",
    )


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: JSON) -> bytes:
    """One spelling for equal values. Raises ValueError for NaN and infinity, which JSON cannot say."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: JSON) -> str:
    """SHA-256 of the canonical JSON. Raises ValueError for NaN and infinity, TypeError for what is not JSON."""
    return sha256_of(canonical_json(value))


def fill(kind: type[Filled], entry: Mapping[str, Any], where: str) -> Filled:
    """A dataclass from an entry of a document. Raises UnknownFormat where the fields are others."""
    known = {field.name for field in fields(cast(Any, kind))}
    try:
        return kind(**entry)
    except TypeError:
        raise UnknownFormat(
            "The store holds something that this version of modelkeep does not know.",
            where=where,
            expected=", ".join(sorted(known)),
            received=", ".join(sorted(entry)),
            next_step="use the version of modelkeep that wrote it, or a newer one; nothing was changed",
        ) from None


def parse_document(document: Document, where: str) -> dict[str, Any]:
    """The JSON object in a document, or ArtifactCorrupt."""
    try:
        value = json.loads(document.data)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    raise ArtifactCorrupt(
        "A document of the store cannot be read.",
        where=where,
        expected="a JSON object",
        received=repr(document.data[:80]),
        next_step="restore it from a backup, or remove it to start anew",
    )
