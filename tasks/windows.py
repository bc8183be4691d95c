"""Windows of pictures, read in chunks so that their number does not matter; and where scores of any window go.

Windows that are tables are read by `tasks.tables`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelkeep.errors import ModelkeepError
from problems.outline.images import SUFFIXES
from problems.outline.problem import Stack
from problems.outline.raw import BadInput
from tasks.tables import Chunk

if TYPE_CHECKING:
    import numpy as np

    from problems.outline.problem import Problem

MAX_FILE_BYTES = 256 << 20
SUFFIXES_OF_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".npz")


class WindowInvalid(ModelkeepError):
    """What is to be scored is not there, holds nothing that can be scored, or is of a kind that cannot be yet."""


class OutputInvalid(ModelkeepError):
    """What is made of a window cannot be written where it is asked for."""


@dataclass(frozen=True)
class SetAside:
    """A file or folder that is not scored, by its path below the window, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Window:
    """The pictures of a folder and of those in it, by their paths below `root`, sorted; and what is none."""

    root: Path
    files: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """Where scores go: a row for each, what was set aside and why; and of pictures the contact sheet, in two forms."""

    scores: Path
    rejected: Path
    page: Path
    picture: Path


def open_window(problem: Problem, place: str) -> Window:
    """What there is to score, by names only: links are not followed, and what is hidden is not looked into.

    A place may be one picture. Raises WindowInvalid.
    """
    if not (isinstance(problem.rows, Stack) and problem.rows.decode):
        raise _no_pictures(problem, place)
    root = Path(place).expanduser()
    if root.is_file():
        return Window(root.parent, (root.name,))
    if not root.is_dir():
        raise WindowInvalid(
            "There is nothing to score.",
            where=place,
            expected="a folder of pictures, or one picture",
            received="an address" if "://" in place else "no file or folder",
            next_step="check the path; addresses cannot be scored yet",
        )
    window = _list(root)
    if not window.files:
        raise WindowInvalid(
            "There is no picture to score.",
            where=place,
            expected=f"files ending in {', '.join(SUFFIXES)}",
            received="; ".join(f"{one.file}: {one.reason}" for one in window.set_aside[:5]) or "an empty folder",
            next_step="check the path",
        )
    return window


def _no_pictures(problem: Problem, place: str) -> WindowInvalid:
    if problem.rows is None:
        return WindowInvalid(
            f"Windows of {problem.name} cannot be scored yet.",
            expected="a problem whose file says how a row or a picture becomes what the model takes (`rows`)",
            next_step="load the champion's model.keras, which lies beside its report, with Keras",
        )
    return WindowInvalid(
        f"Windows of {problem.name} are tables, and this is none by its name.",
        where=place,
        expected=f"a file ending in {', '.join(_suffixes_of_tables(problem))}",
        next_step="give such a file",
    )


def _list(root: Path) -> Window:
    files: list[str] = []
    set_aside: list[SetAside] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as fault:
            set_aside.append(SetAside(_below(root, folder), f"a folder that cannot be opened: {fault.strerror}"))
            continue
        for entry in entries:
            if reason := _refusal(entry):
                set_aside.append(SetAside(_below(root, entry.path), reason))
            elif entry.is_dir():
                folders.append(Path(entry.path))
            else:
                files.append(str(Path(entry.path).relative_to(root)))
    return Window(root, tuple(sorted(files)), tuple(sorted(set_aside, key=lambda one: one.file)))


def _below(root: Path, path: Path | str) -> str:
    return readable(Path(path).relative_to(root).as_posix())


def readable(name: str) -> str:
    """A file's name as text that can be written: names need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _refusal(entry: os.DirEntry[str]) -> str:
    """Why a name is not looked at, "" for folders and pictures."""
    if entry.is_symlink():
        return "a link; links are not followed"
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return "neither a file nor a folder"
    suffix = Path(entry.name).suffix.lower()
    return "" if suffix in SUFFIXES else f"no picture by its name, which ends in {readable(suffix) or 'nothing'}"


def is_table(problem: Problem, place: str) -> bool:
    """Whether a window is scored row by row, by its name."""
    suffix = Path(urlsplit(place).path if "://" in place else place).suffix.lower()
    return suffix in _suffixes_of_tables(problem)


def _suffixes_of_tables(problem: Problem) -> tuple[str, ...]:
    """An array is in a .npz file only."""
    if problem.rows is None:
        return ()
    return (".npz",) if isinstance(problem.rows, Stack) else SUFFIXES_OF_TABLES


def plan_outputs(problem: Problem, place: str, output: str) -> Outputs:
    """Where what is made of a window goes. Raises WindowInvalid and OutputInvalid, before anything is read."""
    if is_table(problem, place):
        return choose_table_outputs(output, place)
    return choose_outputs(output, open_window(problem, place))


def require_window(problem: Problem, place: str) -> None:
    """Raises WindowInvalid where a window is not there, or none of the problem's."""
    if is_table(problem, place):
        choose_table_outputs(".", place)
    else:
        open_window(problem, place)


def require_rows(problem: Problem) -> None:
    """Raises WindowInvalid for a problem that has no windows."""
    if problem.rows is None:
        raise _no_pictures(problem, "")


def read_pictures(window: Window, form: Stack, size: int, *, skip: int = 0) -> Iterator[Chunk]:
    """The pictures in order, `size` at a time, without the first `skip` chunks; a row is a file's place in `files`.

    Of the files themselves one is held at a time.
    """
    import numpy as np

    for start in range(skip * size, len(window.files), size):
        rows, pictures, faults = list[int](), list["np.ndarray"](), {}
        for row in range(start, min(start + size, len(window.files))):
            try:
                pictures.append(read_picture(window, form, row))
                rows.append(row)
            except BadInput as fault:
                faults[row] = f"{fault.what} {fault.received}".strip()
            except OSError as fault:
                faults[row] = f"It cannot be opened: {fault.strerror}"
        content = np.stack(pictures) if pictures else None
        yield Chunk(start // size, np.array(rows, np.int64), content, faults)


def read_picture(window: Window, form: Stack, row: int) -> np.ndarray:
    """Raises BadInput, OSError."""
    assert form.decode is not None  # `open_window` saw to it
    name = window.files[row]
    return form.decode(_read(window.root / name), readable(name))


def window_digest(window: Window) -> str:
    """SHA-256 (hex) of the names and bytes of the pictures; what cannot be opened or is none counts by its name."""
    told = hashlib.sha256(repr(window.set_aside).encode())
    for name in window.files:
        told.update(f"{len(os.fsencode(name))} ".encode() + os.fsencode(name))
        with suppress(OSError), (window.root / name).open("rb") as file:
            told.update(hashlib.file_digest(file, "sha256").digest())
    return told.hexdigest()


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BadInput("It is larger than a picture may be.", received=f"{size:,} bytes")
    return path.read_bytes()


def choose_outputs(output: str, window: Window) -> Outputs:
    """A .parquet file with the others beside it, or all in a folder. Raises OutputInvalid for one inside the window."""
    scores = _place_of_scores(output)
    if len(window.files) > 1 and scores.resolve().is_relative_to(window.root.resolve()):
        raise OutputInvalid(
            "The output would lie among the pictures, and be scored with them the next time.",
            where=str(scores),
            expected=f"a place outside {window.root}",
            next_step="choose another --output",
        )
    return _outputs(scores)


def choose_table_outputs(output: str, place: str) -> Outputs:
    """As `choose_outputs`, for a window that is a file. Raises WindowInvalid where there is none, OutputInvalid."""
    outputs = _outputs(_place_of_scores(output))
    if "://" in place:
        return outputs
    window = Path(place).expanduser()
    if not window.is_file():
        raise WindowInvalid(
            "There is nothing to score.",
            where=place,
            expected=f"a file ending in {', '.join(SUFFIXES_OF_TABLES)}",
            received="a folder" if window.is_dir() else "no file",
            next_step="check the path",
        )
    if window.resolve() in (outputs.scores.resolve(), outputs.rejected.resolve()):
        raise OutputInvalid(
            "The output would take the place of what is to be scored.", where=place, next_step="choose another --output"
        )
    return outputs


def _place_of_scores(output: str) -> Path:
    """Raises OutputInvalid for the name of a file that would be no Parquet, or a folder's that a file has."""
    path = Path(output).expanduser().absolute()
    if path.suffix == ".parquet":
        return path
    if path.is_file() or (path.suffix.lower() in SUFFIXES_OF_TABLES and not path.is_dir()):
        raise OutputInvalid(
            "Answers are written as Parquet.",
            where=str(path),
            expected="a folder, or a file ending in .parquet",
            received=f"the file {path.name}" if path.is_file() else f"a name ending in {path.suffix}",
            next_step=f"--output {path.with_suffix('.parquet').name}",
        )
    return path / "predictions.parquet"


def _outputs(scores: Path) -> Outputs:
    endings = (".rejected.csv", ".html", ".png")
    return Outputs(scores, *(scores.with_name(scores.stem + ending) for ending in endings))
