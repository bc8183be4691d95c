"""A digest of the project's own source that a step reaches, found by reading imports as text, without importing.

Editing one problem leaves the digests of the others as they were; editing a module changes those of all that use it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("modelkeep", "deployments", "flows", "tasks", "problems", "validation", "store")

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<origin>[\w.]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(?P<modules>[\w.,\t ]+))",
    re.MULTILINE,
)


def code_digest(*modules: str) -> str:
    """SHA-256 (hex) over the source of `modules` and of every module of this project that they import, however deep,
    with the page templates that these name."""
    digest = hashlib.sha256()
    for path in reached_files(modules):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def reached_files(modules: Iterable[str]) -> list[Path]:
    """The files behind `modules` and what they import from this project, sorted."""
    waiting = [path for module in modules for path in _files_of(module)]
    reached: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            if path.suffix == ".py":
                waiting.extend(_imported_files(path))
    return sorted(reached)


def _imported_files(path: Path) -> Iterator[Path]:
    text = path.read_text(encoding="utf-8")
    for module in _imported_modules(text):
        yield from _files_of(module)
    for template in _templates(path.parent):
        if f'"{template.name}"' in text:
            yield template


def _imported_modules(text: str) -> Iterator[str]:
    for match in _IMPORT.finditer(text):
        if match["modules"]:
            yield from (part.split()[0] for part in match["modules"].split(",") if part.strip())
        else:
            yield match["origin"]
            # What is imported from a package may be a module of it.
            for name in re.findall(r"\w+", re.sub(r"\bas\s+\w+", "", match["names"])):
                yield f"{match['origin']}.{name}"


@cache
def _files_of(module: str) -> tuple[Path, ...]:
    """The file of a module of this project with its packages' `__init__.py`, or nothing for any other name."""
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return ()
    own, names = _own_modules(), (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return tuple(own[name] for name in names if name in own)


@cache
def _own_modules() -> dict[str, Path]:
    """The files of this project by their dotted names; a package's is that of its `__init__.py`."""
    own: dict[str, Path] = {}
    for room in ROOMS:
        for folder, _, names in os.walk(ROOT / room):
            package = os.path.relpath(folder, ROOT).replace(os.sep, ".")
            for name in names:
                if name.endswith(".py"):
                    module = package if name == "__init__.py" else f"{package}.{name[:-3]}"
                    own[module] = Path(folder, name)
    return own


@cache
def _templates(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((folder / "templates").glob("*.*")))
