"""Raw texts: their words as numbers that need no vocabulary, and which of them are copies of each other."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from problems.outline.ragged import Ragged, flatten

if TYPE_CHECKING:
    import numpy as np


def number_of(text: str) -> int:
    """The first 31 bits of a text's BLAKE2b digest: the same on every machine, unlike Python's own hash."""
    from hashlib import blake2b

    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") >> 1


def number_words(texts: list[list[str]], width: int) -> Ragged:
    """Each word by its number, int32; rows are the last `width` words of a text, and 0 for none."""
    numbers = {word: number_of(word) for word in set(chain.from_iterable(texts))}
    return Ragged(*flatten([[numbers[word] for word in words] for words in texts], "int32"), width, "padded")


def frequent_words(words: Ragged, least_count: int) -> np.ndarray:
    """The numbers of the words that are in at least so many texts, sorted, int32 (n,); all of them, should none be."""
    import numpy as np

    text = np.repeat(np.arange(len(words)), np.diff(words.offsets))
    once = np.unique(np.stack([text, words.values]), axis=1)[1]
    numbers, counts = np.unique(once, return_counts=True)
    kept = numbers[counts >= least_count]
    return (kept if len(kept) else numbers).astype(np.int32)


def group_copies(texts: list[list[str]], resemblance: float = 0.5, *, length: int = 2, every: int = 1) -> np.ndarray:
    """The same number for texts of which one is nearly the other, int64 (n,).

    Nearly: of all runs of `length` words in the two, at least that share is in both, estimated from one run in `every`
    (Broder 1997, "On the resemblance and containment of documents"). Short texts want short runs and all of them; long
    ones long runs, which few texts share by chance: memory grows with the pairs of texts that share a run.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import CountVectorizer

    def runs(words: list[str]) -> list[str]:
        all_runs = [" ".join(words[i : i + length]) for i in range(max(1, len(words) - length + 1))]
        return [run for run in all_runs if number_of(run) % every == 0] if every > 1 else all_runs

    counts = CountVectorizer(analyzer=runs, binary=True, dtype=np.int32).fit_transform(texts)
    shared = (counts @ counts.T).tocoo()
    num_runs = np.asarray(counts.sum(axis=1)).ravel()
    alike = shared.data >= resemblance * (num_runs[shared.row] + num_runs[shared.col] - shared.data)
    edges = coo_array((alike[alike], (shared.row[alike], shared.col[alike])), shape=shared.shape)
    groups: np.ndarray = connected_components(edges, directed=False)[1]
    return groups.astype(np.int64)
