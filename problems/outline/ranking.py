"""Which items come first for whom, and how good an order is.

Imported only where something is ranked or measured: it needs numpy at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from problems.outline.metrics import Metric, regression_metrics, weighted_mean

if TYPE_CHECKING:
    import pandas as pd

FIRST = 10
NOTHING = -1  # stands where no further item is left
_BLOCK_NUMBERS = 2**22


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which user is known to know which item: their numbers, both int64 (n,)."""

    users: np.ndarray
    items: np.ndarray

    @cached_property
    def catalogue(self) -> np.ndarray:
        """The items that somebody knows, ascending: what can be recommended."""
        return np.unique(self.items)

    def counts(self) -> np.ndarray:
        """How many know each item of the catalogue, int64."""
        return np.unique(self.items, return_counts=True)[1]


@dataclass(frozen=True, eq=False)
class Order:
    """The catalogue of `known` in an order for each user: by the product of vectors, the highest first, without the
    items that the user knows.

    `users` int64 (m,), ascending; `user_vectors` (m, d); `item_vectors` (items of the catalogue, d).
    """

    users: np.ndarray
    user_vectors: np.ndarray
    item_vectors: np.ndarray
    known: Pairs

    def ranks(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The place of each pair in the user's order, from 1 on: int32 (n,). Of equal products the lower number goes
        first. An item that nobody knows comes after the whole catalogue."""
        catalogue = self.known.catalogue
        places, is_listed = _find(catalogue, items)
        user_places, _ = _find(self.users, users)
        ranks = np.full(len(users), len(catalogue) + 1, np.int32)
        for start, scores in self._blocks():
            inside = np.flatnonzero(is_listed & (user_places >= start) & (user_places < start + len(scores)))
            for rows in np.array_split(inside, 1 + inside.size * len(catalogue) // _BLOCK_NUMBERS):
                theirs = scores[user_places[rows] - start]
                place = places[rows][:, None]
                own = np.take_along_axis(theirs, place, axis=1)
                before = (theirs > own) | ((theirs == own) & (np.arange(len(catalogue)) < place))
                ranks[rows] = 1 + before.sum(axis=1)
        return ranks

    def first(self, count: int) -> np.ndarray:
        """The first items of each user, int64 (m, count); NOTHING where no more are left."""
        catalogue = self.known.catalogue
        first = np.full((len(self.users), count), NOTHING, np.int64)
        count = min(count, len(catalogue))
        for start, scores in self._blocks():
            best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            values = np.take_along_axis(scores, best, axis=1)
            best = np.take_along_axis(best, np.lexsort((best, -values), axis=1), axis=1)
            is_left = np.isfinite(np.take_along_axis(scores, best, axis=1))
            first[start : start + len(scores), :count] = np.where(is_left, catalogue[best], NOTHING)
        return first

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of the first user of a block, and products (users of the block, catalogue), -inf for what they
        know."""
        known_users, is_asked = _find(self.users, self.known.users)
        known_items, _ = _find(self.known.catalogue, self.known.items)
        size = max(1, _BLOCK_NUMBERS // len(self.known.catalogue))
        for start in range(0, len(self.users), size):
            scores = self.user_vectors[start : start + size] @ self.item_vectors.T
            inside = is_asked & (known_users >= start) & (known_users < start + len(scores))
            scores[known_users[inside] - start, known_items[inside]] = -np.inf
            yield start, scores


def by_popularity(users: np.ndarray, known: Pairs, counted: Pairs) -> Order:
    """The same order for everybody: the items that most of `counted` know first, of equal ones the lower number."""
    counts = np.zeros(len(known.catalogue))
    counts[_find(known.catalogue, counted.catalogue)[0]] = counted.counts()
    counts -= np.arange(len(counts)) / (len(counts) + 1)
    return Order(users, np.ones((len(users), 1)), counts[:, None], known)


def _find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each wanted number, and whether it is there."""
    places = np.minimum(np.searchsorted(ascending, wanted), max(len(ascending) - 1, 0))
    return places, ascending[places] == wanted


def recommendation_metrics(unit: str, liked: float, catalogue_size: float) -> tuple[Metric, ...]:
    """Those of `problems.outline.recommendation.Recommendation`, which says what the columns of predictions are."""
    mae, rmse, *_ = regression_metrics(unit)
    ndcg = Metric(
        name=f"ndcg_at_{FIRST}",
        title=f"Quality of the first {FIRST} (NDCG@{FIRST})",
        explanation=f"Of everything that a user does not know yet, do the first {FIRST} hold what was liked later "
        f"(held out, {liked:g} {unit} or more)? 1 if they hold nothing else or all of it; a higher place counts more.",
        compute=partial(_ndcg, liked=liked),
        greater_is_better=True,
    )
    coverage = Metric(
        name=f"coverage_at_{FIRST}",
        title=f"Coverage of the catalogue@{FIRST}",
        explanation=f"The share of the catalogue that is among the first {FIRST} of somebody. It has no interval: "
        "a resample has fewer different users.",
        compute=partial(_coverage, catalogue_size=catalogue_size),
        greater_is_better=True,
        is_share=True,
    )
    return (ndcg, rmse, mae, coverage)


def _ndcg(target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, liked: float) -> np.ndarray:
    """The mean over users who liked something of DCG / ideal DCG with gains of 0 and 1 (Järvelin & Kekäläinen 2002).

    A resample draws users with all of their rows: the weight of a user is that of the first one.
    """
    _, rows, place = np.unique(predictions["user"].to_numpy(), return_index=True, return_inverse=True)
    is_liked, ranks = target >= liked, predictions["rank"].to_numpy()
    gains = np.where(is_liked & (ranks <= FIRST), 1 / np.log2(ranks + 1.0), 0.0)
    num_liked = np.bincount(place, is_liked, len(rows)).astype(int)
    has_liked = num_liked > 0
    ideal = np.cumsum(1 / np.log2(np.arange(FIRST) + 2))[np.minimum(num_liked[has_liked], FIRST) - 1]
    values = np.bincount(place, gains, len(rows))[has_liked] / ideal
    return weighted_mean(values, None if weights is None else weights.take(rows[has_liked], axis=1))


def _coverage(
    target: np.ndarray, predictions: pd.DataFrame, weights: np.ndarray | None, catalogue_size: float
) -> np.ndarray:
    if weights is not None:
        return np.full(len(weights), math.nan)
    shown = np.unique(predictions[[f"first_{place}" for place in range(1, FIRST + 1)]].to_numpy())
    return np.array([(shown != NOTHING).sum() / (catalogue_size or math.nan)])
