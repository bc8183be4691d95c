"""A store in S3 or anything that speaks its language, with conditional writes in place of locks.

Endpoint, region and credentials come from boto3's own environment and profiles.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
)

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
    sha256_of,
    sha256_of_file,
    verify,
)
from store.errors import InvalidKey, StoreUnavailable, WriteConflict
from store.local import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")
Arguments: TypeAlias = Any  # of a request; the stubs cannot check what is passed on with **

_MULTIPART_FROM = 16 << 20  # bytes
_PART = 8 << 20
_COPIED_PART = 1 << 30  # at most 5 GiB
_MOST_PARTS = 10_000
_CONCURRENCY = 8
_ATTEMPTS = 8
_FIRST_ATTEMPTS = 5  # some 8 s: an address that nobody serves is told soon
_LATER_ATTEMPTS = 14  # some 95 s: who has answered this process before will come back
_LONGEST_PAUSE_SECONDS = 20
_CACHE_DAYS = 30


@dataclass(frozen=True)
class Part:
    number: int
    start: int  # bytes
    size: int
    address: Arguments  # what each request about this part says: bucket, key, upload and number

    def read_from(self, path: Path) -> bytes:
        with path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class S3Store(Store):
    def __init__(self, uri: str) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
        if not self.bucket:
            raise InvalidKey("The store's address names no bucket.", received=uri, expected="s3://bucket/prefix")
        self._prefix = folder_prefix(prefix)
        self.uri = f"s3://{self.bucket}/{self._prefix}".rstrip("/")

    @property
    def client(self) -> S3Client:
        return self._later_client if self.bucket in _reached else self._first_client

    @cached_property
    def _first_client(self) -> S3Client:
        client = self._connect(_FIRST_ATTEMPTS)
        client.meta.events.register("after-call.s3", lambda **_: _reached.add(self.bucket))
        return client

    @cached_property
    def _later_client(self) -> S3Client:
        return self._connect(_LATER_ATTEMPTS)

    def _connect(self, attempts: int) -> S3Client:
        with _explained(self.uri):
            try:
                return _connect(attempts)
            except ValueError as error:
                raise StoreUnavailable(
                    "The endpoint is not an address.",
                    where="AWS_ENDPOINT_URL_S3",
                    expected="such as http://127.0.0.1:9000",
                    next_step="correct the variable, or unset it for AWS itself",
                ) from error

    def put_file(self, key: str, path: Path, *, kind: str, progress: Progress | None = None) -> ArtifactRef:
        size = path.stat().st_size
        if size < _MULTIPART_FROM:
            ref = self.put_bytes(key, path.read_bytes(), kind=kind)
            if progress is not None:
                progress(size, size)
            return ref
        wanted = ArtifactRef(checked_key(key), sha256_of_file(path), size, kind)
        if self.is_whole(wanted):
            return wanted

        def send(part: Part) -> CompletedPartTypeDef:
            return _completed(part, self.client.upload_part(Body=part.read_from(path), **part.address))

        settings: Any = self.client.meta.config
        checked = settings.request_checksum_calculation == "when_supported"
        algorithm = {"ChecksumAlgorithm": "CRC32"} if checked else {}
        return self._put(wanted, lambda only: self._send_parts(wanted, _PART, send, only, progress, **algorithm))

    def put_bytes(self, key: str, data: bytes, *, kind: str) -> ArtifactRef:
        wanted = ArtifactRef(checked_key(key), sha256_of(data), len(data), kind)
        address = {**self._address(key), "Metadata": _metadata(wanted)}
        return self._put(wanted, lambda only: self.client.put_object(Body=data, **address, **only))

    def local_path(self, ref: ArtifactRef) -> Path:
        key = self.key_of(ref)
        # The name stays, because loaders look at the suffix; the digest is the folder.
        path = _cache_folder() / ref.sha256 / ref.name
        with explained(path):
            if not (path.is_file() and sha256_of_file(path) == ref.sha256):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._download(ref, key, path)
                _prune_cache(path.parent.parent)
            os.utime(path)
        return path

    def copy(self, ref: ArtifactRef, key: str) -> ArtifactRef:
        source = self.key_of(ref)
        wanted = ArtifactRef(checked_key(key), ref.sha256, ref.size, ref.kind)
        head = self._head(source)
        if head is None:
            raise missing(ref, self.address(ref))
        found = self._described(source, ref.kind, head)
        verify(ref, found.size, found.sha256, self.address(ref))
        if ref.size == 0:
            return self.put_bytes(key, b"", kind=ref.kind)

        def send(part: Part) -> CompletedPartTypeDef:
            # A range is refused for sources under 5 MiB, so a single part goes without.
            last = part.start + part.size - 1
            span = {} if part.size == ref.size else {"CopySourceRange": f"bytes={part.start}-{last}"}
            origin = {"CopySource": self._address(source), "CopySourceIfMatch": head["ETag"]}
            answer = self.client.upload_part_copy(**(part.address | origin | span))
            return _completed(part, answer["CopyPartResult"])

        return self._put(wanted, lambda only: self._send_parts(wanted, _COPIED_PART, send, only))

    def find(self, key: str, *, kind: str) -> ArtifactRef | None:
        head = self._head(checked_key(key))
        return None if head is None else self._described(key, kind, head)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self.client.get_paginator("list_objects_v2")
        with _explained(self.uri):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._prefix + folder_prefix(prefix)):
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield ObjectInfo(key, entry["Size"], entry["LastModified"].timestamp())

    def list_unfinished(self) -> Iterator[ObjectInfo]:
        pages = self.client.get_paginator("list_multipart_uploads")
        with _explained(self.uri):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._prefix):
                for entry in page.get("Uploads", []):
                    key = f"{entry['Key'].removeprefix(self._prefix)}?{entry['UploadId']}"
                    yield ObjectInfo(key, 0, entry["Initiated"].timestamp())

    def delete(self, key: str) -> int:
        head = self._head(checked_key(key))
        with _explained(f"{self.uri}/{key}"):
            self.client.delete_object(**self._address(key))
        return 0 if head is None else head["ContentLength"]

    def delete_unfinished(self, key: str) -> None:
        name, _, upload = key.partition("?")
        with _explained(f"{self.uri}/{name}"), _unless("NoSuchUpload"):
            self.client.abort_multipart_upload(**self._address(name), UploadId=upload)

    def read_document(self, key: str) -> Document | None:
        answer = self._get(checked_key(key))
        return None if answer is None else Document(*answer)

    def write_document(self, key: str, data: bytes, *, expected: str | None) -> Document:
        condition: Arguments = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        write_id = uuid.uuid4().hex
        address = {**self._address(checked_key(key)), "Metadata": {"write-id": write_id}}
        with _explained(f"{self.uri}/{key}"):
            try:
                answer = _patiently(lambda: self.client.put_object(Body=data, **address, **condition))
                return Document(data, answer["ETag"])
            except ClientError as error:
                if _code(error) not in {"PreconditionFailed", "NoSuchKey", "412", "404"}:
                    raise
        # A request whose answer was lost is sent again, and then refused because of itself.
        head = self._head(key)
        if head is not None and head["Metadata"].get("write-id") == write_id:
            return Document(data, head["ETag"])
        raise WriteConflict(
            "Somebody else changed the document first.",
            where=f"{self.uri}/{key}",
            expected="no document" if expected is None else f"version {expected}",
            received="no document" if head is None else f"version {head['ETag']}",
            next_step="read it again and repeat the change",
        )

    def _read(self, key: str) -> bytes | None:
        answer = self._get(key)
        return None if answer is None else answer[0]

    def _get(self, key: str) -> tuple[bytes, str] | None:
        def get() -> tuple[bytes, str]:
            answer = self.client.get_object(**self._address(key))
            return answer["Body"].read(), answer["ETag"]

        with _explained(f"{self.uri}/{key}"), _unless("NoSuchKey", "404"):
            return _patiently(get)
        return None

    def _head(self, key: str) -> Any:
        with _explained(f"{self.uri}/{key}"), _unless("NoSuchKey", "404"):
            return self.client.head_object(**self._address(key))
        return None

    def _put(self, wanted: ArtifactRef, upload: Callable[[Arguments], object]) -> ArtifactRef:
        """Uploads unless the key is taken; an upload whose answer was lost finds itself there."""
        key = self.key_of(wanted)
        with _explained(self.address(wanted)):
            try:
                _patiently(lambda: upload({"IfNoneMatch": "*"}))
                return wanted
            except ClientError as error:
                head = self._head(key) if _code(error) in {"PreconditionFailed", "412", "NoSuchUpload"} else None
                if head is None:
                    raise
            found = self._described(key, wanted.kind, head)
            if not is_damaged(found, wanted):
                return same_or_exists(found, wanted, self.address(wanted))
            _patiently(lambda: upload({"IfMatch": head["ETag"]}))
        return wanted

    def _send_parts(
        self,
        wanted: ArtifactRef,
        part_size: int,
        send: Callable[[Part], CompletedPartTypeDef],
        only: Arguments,
        progress: Progress | None = None,
        **algorithm: Any,
    ) -> None:
        """Sends parts side by side. What was sent is given up again when anything goes wrong."""
        address = self._address(self.key_of(wanted))
        upload = self.client.create_multipart_upload(**address, Metadata=_metadata(wanted), **algorithm)
        address["UploadId"] = upload["UploadId"]
        pool = ThreadPoolExecutor(_CONCURRENCY)
        try:
            running = {pool.submit(send, part): part for part in _parts(wanted.size, part_size, address)}
            done, completed = 0, []
            for future in as_completed(running):
                completed.append(future.result())
                done += running[future].size
                if progress is not None:
                    progress(done, wanted.size)
            completed.sort(key=lambda part: part["PartNumber"])
            self.client.complete_multipart_upload(**address, MultipartUpload={"Parts": completed}, **only)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a part that arrives after the abort would stay
            with suppress(BotoCoreError, ClientError):
                self.client.abort_multipart_upload(**address)
            raise
        finally:
            pool.shutdown()

    def _download(self, ref: ArtifactRef, key: str, path: Path) -> None:
        temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
        config = TransferConfig(
            multipart_threshold=_MULTIPART_FROM,
            multipart_chunksize=_PART,
            max_concurrency=_CONCURRENCY,
            num_download_attempts=_ATTEMPTS,
        )
        try:
            with _explained(self.address(ref)):
                try:
                    self.client.download_file(self.bucket, self._prefix + key, str(temporary), Config=config)
                except ClientError as error:
                    if _code(error) in {"NoSuchKey", "404"}:
                        raise missing(ref, self.address(ref)) from error
                    raise
            verify(ref, temporary.stat().st_size, sha256_of_file(temporary), self.address(ref))
            temporary.chmod(0o444)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _described(self, key: str, kind: str, head: Any) -> ArtifactRef:
        return ArtifactRef(key, head["Metadata"].get("sha256", "unknown"), head["ContentLength"], kind)

    def _address(self, key: str) -> Arguments:
        return {"Bucket": self.bucket, "Key": self._prefix + key}


_reached: set[str] = set()  # buckets that have answered this process


def _connect(attempts: int) -> S3Client:
    # Without this boto3 would ask for the host `bucket.minio`, which nobody has, when the endpoint is http://minio.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    own_host = bool(endpoint) and "amazonaws.com" not in (urlsplit(endpoint).hostname or "")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS") or attempts)},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=2 * _CONCURRENCY,
        s3={"addressing_style": "path" if own_host else "auto"},
    )
    return boto3.session.Session().client("s3", config=config)


def _parts(size: int, part_size: int, address: Arguments) -> list[Part]:
    part_size = max(part_size, -(-size // _MOST_PARTS))
    return [
        Part(number, start, min(part_size, size - start), {**address, "PartNumber": number})
        for number, start in enumerate(range(0, size, part_size), 1)
    ]


def _completed(part: Part, answer: Any) -> CompletedPartTypeDef:
    kept = {name: value for name, value in answer.items() if name == "ETag" or name.startswith("Checksum")}
    return cast("CompletedPartTypeDef", {"PartNumber": part.number, **kept})


def _metadata(ref: ArtifactRef) -> dict[str, str]:
    return {"sha256": ref.sha256, "kind": ref.kind}


def _patiently(action: Callable[[], T]) -> T:
    """Tries again, with growing random pauses, where botocore does not: broken answers and colliding writes."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return action()
        except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError, FlexibleChecksumError):
            pass
        except ClientError as error:
            if _code(error) not in {"ConditionalRequestConflict", "OperationAborted"}:
                raise
        time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.1 * 2**attempt)))
    return action()


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def _unless(*codes: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) not in codes:
            raise


def _cache_folder() -> Path:
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "modelkeep" / "objects"


def _prune_cache(folder: Path) -> None:
    """Removes what was not asked for in a month; whoever has such a file open or mapped keeps it."""
    oldest = time.time() - _CACHE_DAYS * 86_400
    for path in folder.glob("*/*"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                path.parent.rmdir()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        what, next_step = _explain(error)
        received = re.sub(r"//[^/@\s]*@", "//", str(error))  # an endpoint's address may hold a password
        raise StoreUnavailable(what, where=where, received=received, next_step=next_step) from error


def _explain(error: Exception) -> tuple[str, str]:
    if isinstance(error, ClientError):
        code = _code(error)
        for codes, explanation in _REFUSALS:
            if code in codes:
                return explanation
        return "S3 refused the request.", "look up the code it answered with; `modelkeep doctor` tests the store"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return "There are no credentials for S3.", _GIVE_CREDENTIALS
    if isinstance(error, ParamValidationError | InvalidRegionError):
        return "The store's address is not one that S3 can have.", "write it as s3://bucket/prefix"
    return "S3 cannot be reached.", "check the network and AWS_ENDPOINT_URL_S3, then run it again"


_GIVE_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_REFUSALS = (
    ({"NoSuchBucket"}, ("The bucket does not exist.", "create it, or correct the store's address")),
    (
        {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId"},
        ("S3 does not accept these credentials.", _GIVE_CREDENTIALS),
    ),
    (
        {"AccessDenied", "403", "AllAccessDisabled"},
        (
            "These credentials may not do this in the bucket.",
            "allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and "
            "s3:AbortMultipartUpload below the prefix",
        ),
    ),
    (
        {"RequestTimeTooSkewed"},
        ("This machine's clock differs too much from the server's.", "set the clock, for example with NTP"),
    ),
    (
        {"SlowDown", "ServiceUnavailable", "Throttling", "RequestLimitExceeded", "InternalError", "503", "500"},
        ("S3 is overloaded or out of order, and stayed so.", "run it again later; what is done already is kept"),
    ),
    (
        {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"},
        ("The bucket is full.", "free space (`modelkeep gc` shows what may go), then run it again"),
    ),
    (
        {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"},
        ("The bucket lies in another region.", "set AWS_REGION to the bucket's region"),
    ),
    (
        {"NotImplemented"},
        ("The server cannot do conditional writes.", "use a server that can; `modelkeep doctor` tests it"),
    ),
)
