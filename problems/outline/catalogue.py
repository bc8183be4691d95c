"""The problems there are: found by listing the package, never listed by hand."""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    from problems.outline.problem import Problem

_FOLDER = Path(__file__).resolve().parent.parent


class UnknownProblem(ModelkeepError):
    """There is no problem of that name."""


def problem_names() -> list[str]:
    """The names of all problems, sorted. Nothing is imported."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))


# A name that must be one of them: in the Prefect UI it makes a list to choose from.
ProblemName = StrEnum("ProblemName", {name: name for name in problem_names()})  # type: ignore[misc]


def problem_path(name: str) -> Path:
    """The file of a problem. Raises UnknownProblem."""
    names = problem_names()
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1)
        raise UnknownProblem(
            f"There is no problem {name!r}.",
            expected="one of " + ", ".join(names),
            next_step=f"did you mean {nearest[0]!r}?" if nearest else "`modelkeep problems` tells what each one is",
        )
    return _FOLDER / f"{name}.py"


def load_problem(name: str) -> Problem:
    """The problem of that name. Raises UnknownProblem."""
    problem_path(name)
    problem: Problem = importlib.import_module(f"problems.{name}").problem
    return problem


def sort_out(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The problems that can be imported, and what is wrong with each of the others."""
    sound, faults = [], {}
    for name in names:
        try:
            load_problem(name)
        except Exception as fault:  # whatever a file can raise that somebody is writing
            faults[name] = f"{type(fault).__name__}: {fault}"
        else:
            sound.append(name)
    return sound, faults


def read_card(name: str) -> dict[str, str]:
    """The card that opens a problem's file, without importing it.

    `title` and `question` come from its first line, and each of `source`, `book`, `measured`, `caution`
    from the paragraph that begins with that word.
    """
    text = ast.get_docstring(ast.parse(problem_path(name).read_text())) or ""
    lines = text.splitlines()
    title, _, question = (lines[0] if lines else "").partition(": ")
    card = {"title": title, "question": question}
    label = ""
    for line in lines[1:]:
        words = line.split(maxsplit=1)
        if line[:1].isupper() and len(words) == 2:
            label = words[0].lower()
            card[label] = words[1]
        elif label and line.strip():
            card[label] += " " + line.strip()
    return card


def cards_table(cards: Mapping[str, Mapping[str, str]]) -> str:
    """The cards by the problem's name as a Markdown table."""
    labels = ("question", "book", "measured")
    lines = [("problem", *labels), ("---",) * (len(labels) + 1)]
    lines += [
        (f"`{name}`", *(card.get(label, "").replace("|", "/") for label in labels)) for name, card in cards.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
