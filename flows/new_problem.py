"""`modelkeep new`: a problem of one's own, begun as a copy of another and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import problem_names, problem_path

TABLE_BEGINS, TABLE_ENDS = "<!-- problems:begin -->", "<!-- problems:end -->"
_TESTS = Path(__file__).resolve().parent.parent / "tests" / "problems"


def copy_problem(name: str, like: str) -> list[Path]:
    """Write `problems/<name>.py` and, in a checkout, `tests/problems/test_<name>.py`. The paths written.

    Raises UnknownProblem for `like`, ModelkeepError for a name that cannot be one or is taken.
    """
    origin = problem_path(like)
    _require_free(name)
    written = [origin.with_name(f"{name}.py")]
    written[0].write_text(_begun(origin.read_text(encoding="utf-8"), name, like), encoding="utf-8")
    test = _TESTS / f"test_{like}.py"
    if test.is_file():
        written.append(test.with_name(f"test_{name}.py"))
        written[1].write_text(_renamed(test.read_text(encoding="utf-8"), name, like), encoding="utf-8")
    return written


def put_table(table: str, path: Path) -> None:
    """Put the table of problems into a Markdown file between its two marks, in place of what stands there.

    Raises ModelkeepError for a file without them.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(TABLE_BEGINS)
    _, end, after = rest.partition(TABLE_ENDS)
    if not end:
        raise ModelkeepError(
            "There is no place for the table of problems.",
            where=str(path),
            expected=f"a file with the lines {TABLE_BEGINS} and {TABLE_ENDS}",
            next_step="add them, or use `modelkeep problems --markdown` and paste",
        )
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def _require_free(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ModelkeepError(
            f"{name!r} cannot be the name of a problem.",
            expected="small letters, digits and _, beginning with a letter",
            next_step="choose another name",
        )
    if problem_path(problem_names()[0]).with_name(name).exists() or name in problem_names():
        raise ModelkeepError(
            f"There is a problem {name!r} already.",
            next_step="choose another name, or edit that file",
        )


def _begun(text: str, name: str, like: str) -> str:
    """The copy with its own name, and a card that says that nothing has been measured yet."""
    text = _renamed(text, name, like)
    return re.sub(r"^Measured  .*\n(?:[ ]+.*\n)*", "Measured  not yet\n", text, count=1, flags=re.MULTILINE)


def _renamed(text: str, name: str, like: str) -> str:
    text = text.replace(f"problems.{like}", f"problems.{name}").replace(f'name="{like}"', f'name="{name}"')
    return text.replace(f"{_camel(like)}Hyperparameters", f"{_camel(name)}Hyperparameters")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
