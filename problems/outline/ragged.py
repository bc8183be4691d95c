"""Sequences of different lengths, kept flat; rows become a dense array only when they are asked for.

IMDB's 50,000 reviews are 23 MB so; as the book's matrices of float they are 4 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import numpy as np

Form = Literal["padded", "multi_hot"]


class NumberOutOfRange(ModelkeepError):
    """A sequence holds a number that its multi-hot form has no place for."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """n sequences of whole numbers which, like an array of shape (n, width), are asked for rows.

    Sequence i is `values[offsets[i]:offsets[i + 1]]`; `values` is flat, of any integer dtype, `offsets` is int64
    (n + 1,). What `ragged[rows]` gives, for rows as numpy takes them (a number, a slice, numbers, a mask), is

    padded      the last `width` numbers of each sequence and zeros after them, in the dtype of `values`
    multi_hot   uint8, 1 at the place of every number of the sequence; all are from 0 to width - 1
    """

    values: np.ndarray
    offsets: np.ndarray
    width: int
    form: Form

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows that are given out."""
        import numpy as np

        return np.dtype(np.uint8) if self.form == "multi_hot" else self.values.dtype

    @property
    def nbytes(self) -> int:
        """What is held, not what the dense form would need."""
        return self.values.nbytes + self.offsets.nbytes

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The dense rows. Raises IndexError, and NumberOutOfRange in the form multi_hot."""
        import numpy as np

        starts, ends = self.offsets[:-1][rows], self.offsets[1:][rows]
        dense = self._fill(np.atleast_1d(starts), np.atleast_1d(ends))
        return dense if np.ndim(starts) else dense[0]

    def take(self, rows: np.ndarray) -> Ragged:
        """The sequences at `rows`, still ragged; `values` is copied."""
        starts, ends = self.offsets[:-1][rows], self.offsets[1:][rows]
        _, _, positions = _places(starts, ends)
        return replace(self, values=self.values[positions], offsets=_offsets(ends - starts))

    def _fill(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        import numpy as np

        if self.form == "padded":
            starts = np.maximum(starts, ends - self.width)
        row, place, positions = _places(starts, ends)
        numbers = self.values[positions]
        dense = np.zeros((len(starts), self.width), self.dtype)
        if self.form == "padded":
            dense[row, place] = numbers
        else:
            self._require_places(numbers)
            dense[row, numbers] = 1
        return dense

    def _require_places(self, numbers: np.ndarray) -> None:
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.width:
            raise NumberOutOfRange(
                "A sequence holds a number that its multi-hot form has no place for.",
                expected=f"numbers from 0 to {self.width - 1}",
                received=f"numbers from {numbers.min()} to {numbers.max()}",
                next_step="map rare numbers to one that stands for all of them, or make the form wider",
            )


def concatenate(parts: Sequence[Any]) -> Any:
    """Arrays, or all of them Ragged of one width and form, one behind the other."""
    import numpy as np

    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return replace(parts[0], values=np.concatenate([part.values for part in parts]), offsets=_offsets(lengths))


def flatten(sequences: Sequence[Sequence[int]] | np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Values (of `dtype`) and offsets (int64) of lists of whole numbers. Raises OverflowError for too large ones."""
    import numpy as np

    offsets = _offsets(np.fromiter(map(len, sequences), np.int64, len(sequences)))
    return np.fromiter(chain.from_iterable(sequences), dtype, offsets[-1]), offsets


def _offsets(lengths: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _places(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every number between starts and ends: its row, its place in the row, and its position in the flat values."""
    import numpy as np

    lengths = ends - starts
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - (np.cumsum(lengths) - lengths)[row]
    return row, place, starts[row] + place
