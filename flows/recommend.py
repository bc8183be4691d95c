"""`modelkeep similar` and `modelkeep recommend`: what a champion kept beside its model, read back.

Nothing is computed that needs Keras: the tables hold the vectors of the items and what each user should see first.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import problem_path
from store import open_store
from store.artifacts import ArtifactRef, Store
from tasks.champion import find_champion

if TYPE_CHECKING:
    import pandas as pd

MOST_LISTED = 12


class NothingKept(ModelkeepError):
    """The champion kept no table to answer from: it does not recommend."""


class UnknownItem(ModelkeepError):
    """The catalogue has no such item, or several that the text could mean."""


class UnknownUser(ModelkeepError):
    """The champion was not trained on ratings of that user."""


def find_similar(store: str, problem: str, title: str, count: int) -> dict[str, Any]:
    """The items whose vectors point most nearly where that of the titled one does.

    {problem, version, item, title, similar: [{item, …labels, similarity}]}, the most similar first; similarity is the
    cosine of the vectors. Raises UnknownItem, NoChampion, NothingKept.
    """
    import numpy as np

    version, tables = _read_tables(store, problem, ["catalogue"])
    catalogue = tables["catalogue"]
    row = _find_title(catalogue, title, problem)
    vectors = catalogue.filter(regex=r"^vector_\d+$").to_numpy(float)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    cosines = vectors @ vectors[row] / lengths / lengths[row]
    cosines[row] = -np.inf
    nearest = np.argsort(-cosines, kind="stable")[: min(count, len(catalogue) - 1)]
    shown = _labels(catalogue).iloc[nearest].assign(similarity=cosines[nearest].round(4))
    found = _labels(catalogue).iloc[row]
    return {
        "problem": problem,
        "version": version,
        "item": int(found["item"]),
        "title": str(found.iloc[1]),
        "similar": shown.to_dict("records"),
    }


def find_suggestions(store: str, problem: str, user: int, count: int) -> dict[str, Any]:
    """What the user should see first, without what the user has rated.

    {problem, version, user, suggestions: [{place, item, …labels, rating}]}; rating is the predicted one. Raises
    UnknownUser, NoChampion, NothingKept.
    """
    version, tables = _read_tables(store, problem, ["catalogue", "suggestions"])
    suggestions = tables["suggestions"]
    theirs = suggestions[suggestions["user"] == user].sort_values("place").head(count)
    if theirs.empty:
        users = suggestions["user"].unique()
        raise UnknownUser(
            f"{problem} knows no user {user}.",
            where=f"version {version}",
            expected=f"one of the {len(users):,} users whose ratings it was trained on, such as "
            + ", ".join(map(str, sorted(users)[:3])),
            next_step="add ratings of this user to the data and train again",
        )
    shown = theirs.drop(columns="user").merge(_labels(tables["catalogue"]), on="item", how="left")
    rating = shown.pop("rating").astype(float).round(2)
    return {"problem": problem, "version": version, "user": user} | {
        "suggestions": shown.assign(rating=rating).to_dict("records")
    }


def _read_tables(store: str, problem: str, names: list[str]) -> tuple[int, dict[str, pd.DataFrame]]:
    """The number of the champion and tables of its run. Raises UnknownProblem, NoChampion, NothingKept."""
    problem_path(problem)
    kept = open_store(store)
    champion = find_champion(kept, problem)
    artifacts = json.loads(kept.read_bytes(champion.manifest))["artifacts"]
    return champion.number, {name: _read_table(kept, artifacts, name, problem) for name in names}


def _read_table(store: Store, artifacts: dict[str, Any], name: str, problem: str) -> pd.DataFrame:
    import pandas as pd

    if f"fit/{name}.parquet" not in artifacts:
        raise NothingKept(
            f"{problem} does not recommend anything.",
            where=store.uri,
            expected="a problem whose objective is a recommendation, such as books",
            next_step="name such a problem",
        )
    return pd.read_parquet(store.local_path(ArtifactRef.from_dict(artifacts[f"fit/{name}.parquet"])))


def _labels(catalogue: pd.DataFrame) -> pd.DataFrame:
    """The columns item and what tells a reader which one it is, its name first."""
    columns = [name for name in catalogue if not re.fullmatch(r"vector_\d+", str(name))]
    labels = catalogue[columns]
    return labels.astype(dict.fromkeys(columns[1:], "str"))


# --- titles --------------------------------------------------------------------------------------------------------


def _find_title(catalogue: pd.DataFrame, title: str, problem: str) -> int:
    """The row of the item called so: by #number, else by the whole title, the title without its series, or a part of
    it, whichever fits first. Raises UnknownItem where none fits, or several do."""
    names = _labels(catalogue).iloc[:, 1]
    if re.fullmatch(r"#\d+", title):
        fitting = _rows(catalogue["item"] == int(title[1:]))
    else:
        wanted = _plain(title)
        plain = names.map(_plain)
        ways = (plain == wanted, names.map(_without_series) == wanted, plain.str.contains(wanted, regex=False))
        fitting = next((_rows(way) for way in ways if wanted and way.any()), [])
    if len(fitting) == 1:
        return fitting[0]
    raise _several(catalogue, title, fitting) if fitting else _none(names, title, problem)


def _rows(is_fitting: pd.Series) -> list[int]:
    return is_fitting.to_numpy().nonzero()[0].tolist()


def _plain(title: str) -> str:
    return " ".join(re.sub(r"[^\w\s#]", " ", title.casefold()).split())


def _without_series(title: str) -> str:
    return _plain(re.sub(r"\([^()]*\)\s*$", "", title))


def _several(catalogue: pd.DataFrame, title: str, fitting: list[int]) -> UnknownItem:
    labels = _labels(catalogue).iloc[fitting]
    rows = labels.head(MOST_LISTED).itertuples(index=False)
    lines = ["#" + "  ".join([str(item), ", ".join(filter(None, told))]) for item, *told in rows]
    more = [f"and {len(fitting) - MOST_LISTED} more"] if len(fitting) > MOST_LISTED else []
    return UnknownItem(
        f"{title!r} may mean several.",
        expected="one of\n            " + "\n            ".join([*lines, *more]),
        next_step=f"give the whole title, or the number: '#{labels['item'].iloc[0]}'",
    )


def _none(names: pd.Series, title: str, problem: str) -> UnknownItem:
    plain = {_without_series(name): name for name in names}
    near = [plain[name] for name in difflib.get_close_matches(_plain(title), plain, n=3)]
    return UnknownItem(
        f"{problem} knows nothing with the title {title!r}.",
        expected=f"one of the {len(names):,} titles that were rated, or a part of one",
        next_step="did you mean " + " or ".join(map(repr, near)) + "?" if near else "try a shorter part of the title",
    )
