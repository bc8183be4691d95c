"""`similar` and `recommend`: a champion's answers from a terminal, and what is said where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flows.command_line import main
from store import open_store
from store.artifacts import ArtifactRef, Store
from store.registry import Registry
from tasks.fit import fit
from tasks.ingest import ingest
from tasks.manifest import close_run
from tasks.prepare import prepare
from tests.problems.test_books import make_table
from tests.training_store import RunMaker

TITLES = {
    1: "Emma",
    2: "Emma",
    3: "The Hobbit",
    4: "The Hobbit: Graphic Novel",
    5: "Dune (Dune Chronicles, #1)",
    6: "Dune Messiah (Dune Chronicles, #2)",
}

Printed = Callable[..., tuple[int, str, str]]


def crown(store: Store, problem: str, manifest: ArtifactRef) -> None:
    registry = Registry(store)
    registry.register(problem, run=f"{problem}-1-a", manifest=manifest, metrics={}, actor="ada", reason="for a test")
    registry.promote(problem, 1, expected=None, actor="ada", reason="for a test", run="")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Printed:
    """Runs a command with the store of the test; exit code, standard output, standard error."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--store", str(tmp_path / "store")])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


@pytest.fixture
def table(make_run: RunMaker, tmp_path: Path) -> pd.DataFrame:
    """The ratings that a champion was trained on; a few books have telling titles."""
    table = make_table()
    table["title"] = table["book_id"].map(TITLES).fillna(table["title"])
    path = tmp_path / "ratings.csv"
    table.to_csv(path, index=False)
    made = make_run("books", {"epochs": 2, "width": 2, "batch_size": 64}, data=str(path))
    records = {"ingest": ingest.fn(made)}
    records["prepare"] = prepare.fn(made, records["ingest"])
    records["fit"] = fit.fn(made, records["ingest"], records["prepare"])
    manifest = close_run(made, records, outcome="accepted", reason="for a test", register=True)
    crown(made.open_store(), "books", manifest)
    return table


def test_a_champion_answers_what_is_similar_and_what_to_read_next(table: pd.DataFrame, run: Printed) -> None:
    found = json.loads(run("similar", "books", "the hobbit", "-n", "12", "--json")[1])
    assert (found["item"], found["title"], found["version"]) == (3, "The Hobbit", 1)
    similar = found["similar"]
    assert len(similar) == 12 and 3 not in [one["item"] for one in similar]
    # Those of odd number are read by the same people.
    assert sum(one["item"] % 2 for one in similar) >= 10
    assert [one["similarity"] for one in similar] == sorted((one["similarity"] for one in similar), reverse=True)

    suggested = json.loads(run("recommend", "books", "--user", "104", "--json", "-n", "5")[1])["suggestions"]
    read = set(table.loc[table["user_id"] == 104, "book_id"])
    assert len(suggested) == 5 and not read & {one["item"] for one in suggested}
    assert [one["place"] for one in suggested] == [1, 2, 3, 4, 5]
    assert all(1 <= one["rating"] <= 5 and one["title"] for one in suggested)
    code, shown, _ = run("recommend", "books", "--user", "104", "-n", "1")
    assert code == 0 and suggested[0]["title"] in shown

    for asked, item in (("dune", 5), ("MESSIAH", 6), ("#2", 2), ("the hobbit graphic novel", 4)):
        assert json.loads(run("similar", "books", asked, "--json")[1])["item"] == item

    code, _, errors = run("similar", "books", "emma")
    assert code == 2 and "may mean several" in errors and "#1  Emma" in errors and "#2  Emma" in errors
    code, _, errors = run("similar", "books", "hobit")
    assert code == 2 and "did you mean 'The Hobbit'" in errors
    assert run("similar", "books", "#999")[0] == run("similar", "books", " ")[0] == 2
    code, _, errors = run("recommend", "books", "--user", "1")
    assert code == 2 and "knows no user 1" in errors and "24 users" in errors


def test_the_answers_need_neither_prefect_nor_keras(tmp_path: Path) -> None:
    tables = {
        "catalogue": pd.DataFrame({"item": [7], "title": ["Emma"], "vector_0": [1.0]}),
        "suggestions": pd.DataFrame({"user": [1], "place": [1], "item": [7], "rating": [4.5]}),
    }
    store, artifacts = open_store(tmp_path), {}
    for name, table in tables.items():
        ref = store.put_bytes(f"runs/books/one/fit/{name}.parquet", table.to_parquet(index=False), kind="parquet")
        artifacts[f"fit/{name}.parquet"] = ref.to_dict()
    page = json.dumps({"artifacts": artifacts}).encode()
    crown(store, "books", store.put_bytes("runs/books/one/manifest.json", page, kind="json"))
    code = (
        "import sys\nfrom flows.command_line import main\n"
        f"assert main(['recommend', 'books', '--user', '1', '--store', {str(tmp_path)!r}]) == 0\n"
        "print(*[name for name in ('prefect', 'keras', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "Emma" in done.stdout and done.stdout.splitlines()[-1] == ""


def test_without_a_champion_it_says_how_to_get_one(run: Printed) -> None:
    for arguments in (("similar", "books", "emma"), ("recommend", "books", "--user", "1")):
        code, _, errors = run(*arguments)
        assert code == 2 and "has no champion" in errors and "modelkeep train books" in errors
    assert "There is no problem 'bokos'" in run("similar", "bokos", "emma")[2]


def test_a_problem_that_recommends_nothing_says_so(run: Printed, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    page = json.dumps({"artifacts": {}}).encode()
    crown(store, "housing", store.put_bytes("runs/housing/one/manifest.json", page, kind="json"))
    code, _, errors = run("similar", "housing", "anything")
    assert code == 2 and "does not recommend" in errors
