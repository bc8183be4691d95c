"""Images and sequences as one row of plain numbers each, so that a table's expectations apply to them.

The digest of an example (8 bytes of BLAKE2b, as hex text) is the same on every machine and in every process,
so that copies are found across files, parts and windows. By chance two of a million examples share one in
3 of 10^8 data sets.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DIGEST_BYTES = 8
CHUNK_VALUES = 1 << 21


def summarise_images(images: np.ndarray[Any, Any]) -> pd.DataFrame:
    """min, max, mean, std, zero_share (of an image's values, all channels together) and digest of each image.

    `images` is uint8 of shape (n, height, width) or (n, height, width, channels). It is read in chunks: what is
    held beside it is some 10 MB. mean and std are computed from exact integer sums.
    Raises ModelkeepError for another dtype or shape.
    """
    import numpy as np
    import pandas as pd

    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ModelkeepError(
            "These are not raw images",
            where="summarise_images",
            expected="uint8 of shape (n, height, width) or (n, height, width, channels)",
            received=f"{images.dtype} of shape {images.shape}",
            next_step="pass the images as they were read, before they are scaled",
        )
    num_values = int(np.prod(images.shape[1:]))
    step = max(1, CHUNK_VALUES // num_values)
    starts = range(0, len(images), step)
    chunks = [_summarise_chunk(images[start : start + step].reshape(-1, num_values)) for start in starts]
    if len(chunks) > 1:
        return pd.concat(chunks, ignore_index=True)
    return chunks[0] if chunks else _summarise_chunk(np.empty((0, 1), np.uint8))


def _summarise_chunk(rows: np.ndarray[Any, Any]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    num_values = rows.shape[1]
    # Sums of 32 bits are several times faster, and exact up to 66,051 values of 255 squared.
    exact = np.uint32 if num_values <= 66_051 else np.uint64
    mean = rows.sum(axis=1, dtype=exact) / num_values
    mean_square = np.square(rows, dtype=np.uint16).sum(axis=1, dtype=exact) / num_values
    return pd.DataFrame(
        {
            "min": rows.min(axis=1),
            "max": rows.max(axis=1),
            "mean": mean,
            "std": np.sqrt(np.maximum(mean_square - mean**2, 0)),
            "zero_share": 1 - np.count_nonzero(rows, axis=1) / num_values,
            "digest": pd.Series(_digests(rows), dtype="str"),
        }
    )


def _digests(rows: np.ndarray[Any, Any]) -> list[str]:
    import numpy as np

    return [blake2b(row, digest_size=DIGEST_BYTES).hexdigest() for row in np.ascontiguousarray(rows)]


def summarise_sequences(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> pd.DataFrame:
    """length, min, max and digest of each sequence of whole numbers.

    Sequence i is `values[offsets[i]:offsets[i + 1]]`: `values` is flat, of any integer dtype, and `offsets` is
    int64 of shape (n + 1,). An empty sequence has a missing min and max. The digest is of the numbers, whatever
    their dtype. Raises ModelkeepError for offsets that do not fit.
    """
    import numpy as np
    import pandas as pd

    _require_ragged(values, offsets)
    lengths = np.diff(offsets)
    filled = lengths > 0
    starts = offsets[:-1][filled]
    lowest, highest = np.full(len(lengths), np.nan), np.full(len(lengths), np.nan)
    if starts.size:  # reduceat takes the next value for an empty sequence, so those are left out
        lowest[filled] = np.minimum.reduceat(values, starts)
        highest[filled] = np.maximum.reduceat(values, starts)
    if filled.all():
        lowest, highest = lowest.astype(values.dtype), highest.astype(values.dtype)
    digests = pd.Series(_sequence_digests(values, offsets), dtype="str")
    return pd.DataFrame({"length": lengths, "min": lowest, "max": highest, "digest": digests})


def _sequence_digests(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> list[str]:
    import numpy as np

    digests: list[str] = []
    last = len(offsets) - 1
    start = 0
    while start < last:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + CHUNK_VALUES, side="right")) - 1)
        numbers = np.ascontiguousarray(values[offsets[start] : offsets[stop]], dtype="<i8").data.cast("B")
        ends = ((offsets[start : stop + 1] - offsets[start]) * 8).tolist()
        digests += [blake2b(numbers[low:high], digest_size=DIGEST_BYTES).hexdigest() for low, high in pairwise(ends)]
        start = stop
    return digests


def _require_ragged(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> None:
    import numpy as np

    fits = (
        values.ndim == 1
        and np.issubdtype(values.dtype, np.integer)
        and offsets.ndim == 1
        and np.issubdtype(offsets.dtype, np.integer)
        and len(offsets) > 0
        and offsets[0] == 0
        and offsets[-1] == len(values)
        and bool((np.diff(offsets) >= 0).all())
    )
    if not fits:
        raise ModelkeepError(
            "These are not ragged sequences",
            where="summarise_sequences",
            expected="flat whole numbers, and growing offsets from 0 to their count",
            received=f"values {values.dtype} {values.shape}, offsets {offsets.dtype} {offsets.shape}",
            next_step="pass np.concatenate(sequences) and np.cumsum of their lengths with a 0 before it",
        )
