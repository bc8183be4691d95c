"""The reference: the compact profile of training data and predictions that is kept with a version.

Drift is measured against it, so that neither the training data nor the model need be loaded for that.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification, Objective
from problems.outline.problem import Examples
from problems.outline.splits import SplitRows
from store.artifacts import ArtifactRef, Store
from store.steps import Lease
from tasks.recent import RECENT

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NUM_QUANTILES = 200
NUM_BINS = 20
MOST_SAMPLED = 5_000
COMPARED = ("number", "category")


class NoReference(ModelkeepError):
    """A version has no reference to compare with."""


@dataclass(frozen=True)
class Profiled:
    """Columns by name as `profile_column` describes them, of `num_rows` rows (`rows` says which these are), and a
    sample of at most 5,000 of the rows with the columns that can be compared."""

    num_rows: int
    rows: str
    columns: Mapping[str, Mapping[str, Any]]
    sample: pd.DataFrame


@dataclass(frozen=True)
class Reference:
    """What a version was trained on, and what it predicts of rows that it was not trained on.

    `prediction_columns` are the objective's; of them `watched_predictions` makes what is profiled.
    """

    data: Profiled
    predictions: Profiled
    prediction_columns: tuple[str, ...]


def make_reference(
    objective: Objective, examples: Examples, rows: SplitRows, predicted: Sequence[pd.DataFrame], seed: int
) -> Reference:
    """`predicted` are the predictions of rows that were not trained on, part by part.

    The data is that of training and validation rows; where there are none, of the test rows.
    """
    import numpy as np
    import pandas as pd

    learnt = np.union1d(rows.train, rows.validation)
    source = "training and validation rows" if len(rows.validation) else "training rows"
    if not len(learnt):
        learnt, source = rows.test, "test rows"
    frame = examples.frame.drop(columns=RECENT, errors="ignore").iloc[learnt].reset_index(drop=True)
    predictions = pd.concat([part for part in predicted if len(part)], ignore_index=True)
    watched = watched_predictions(objective, predictions)
    return Reference(
        _profile(frame, {str(name): column_kind(frame[name]) for name in frame}, source, seed),
        _profile(watched, _prediction_kinds(watched), "rows that were not trained on", seed),
        tuple(map(str, predictions.columns)),
    )


def watched_predictions(objective: Objective, predictions: pd.DataFrame) -> pd.DataFrame:
    """What of predictions is watched: of classes the probability that is given to the positive or the likeliest one,
    and the class that is predicted (Lipton et al. 2018, arXiv 1802.03916); of numbers the number."""
    import pandas as pd

    if not isinstance(objective, Classification):
        return predictions[["prediction"]]
    probabilities = objective.probabilities(predictions)
    is_binary = probabilities.shape[1] == 2
    name = f"probability of {objective.classes[1]}" if is_binary else "probability of the predicted class"
    told = probabilities[:, 1] if is_binary else probabilities.max(axis=1)
    classes = pd.Categorical(predictions["predicted"].astype(str), categories=list(map(str, objective.classes)))
    return pd.DataFrame({name: told, "predicted class": classes})


def _prediction_kinds(watched: pd.DataFrame) -> dict[str, str]:
    return {str(name): "category" if name == "predicted class" else "number" for name in watched}


def column_kind(column: pd.Series) -> str:
    """`number`, `category` (also a constant), or what is not compared: `moment`, `text`, `empty`."""
    import pandas as pd

    from tasks.exploration import column_kind as kind_of

    if pd.api.types.is_datetime64_any_dtype(column):
        return "moment"
    if column.isna().all():
        return "empty"
    kind = kind_of(column)
    return "category" if kind == "constant" else kind


# --- profiles ------------------------------------------------------------------------------------------------------


def _profile(frame: pd.DataFrame, kinds: Mapping[str, str], rows: str, seed: int) -> Profiled:
    import numpy as np

    columns = {name: profile_column(frame[name], kind) for name, kind in kinds.items()}
    chosen = np.arange(len(frame))
    if len(frame) > MOST_SAMPLED:
        chosen = np.sort(np.random.default_rng(seed).choice(len(frame), MOST_SAMPLED, replace=False))
    compared = [name for name, kind in kinds.items() if kind in COMPARED]
    sample = frame.iloc[chosen][compared].reset_index(drop=True)
    return Profiled(len(frame), rows, columns, sample.assign(**{name: _small(sample[name]) for name in compared}))


def _small(column: pd.Series) -> pd.Series:
    """For keeping: numbers as float32, categories as text."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype("float32")
    return as_category(column).astype("category")


def as_category(column: pd.Series) -> pd.Series:
    """Texts (object), None where a value is missing; so that 1 and 1.0, which a missing value makes of it, are one."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        texts = column.map(lambda value: f"{value:.7g}", na_action="ignore")
    else:
        texts = column.astype(object).map(str, na_action="ignore")
    return texts.astype(object).where(column.notna(), None)


def as_numbers(column: pd.Series) -> np.ndarray:
    """float64 (n,), NaN for what is missing or infinite. Raises ValueError or TypeError for what is no number."""
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def profile_column(column: pd.Series, kind: str) -> dict[str, Any]:
    """{kind, missing}; of numbers also mean, sd, 200 quantiles, and 20 bins of equally many rows, as near as ties
    allow ({edges, counts}: the inner edges, and one count more than these); of categories the count of each value."""
    if kind == "number":
        return {"kind": kind, **_profile_numbers(as_numbers(column))}
    told: dict[str, Any] = {"kind": kind, "missing": int(column.isna().sum())}
    return {**told, "counts": count_categories(column)} if kind == "category" else told


def count_categories(column: pd.Series) -> dict[str, int]:
    """How often each value is there, as text, the most frequent first; of a categorical also those that are not."""
    counts = column.value_counts()
    names = as_category(counts.index.to_series().reset_index(drop=True))
    return dict(zip(names, counts.tolist(), strict=True))


def _profile_numbers(values: np.ndarray) -> dict[str, Any]:
    import numpy as np

    present = np.sort(values[~np.isnan(values)])
    edges = np.unique(np.quantile(present, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return {
        "missing": int(len(values) - len(present)),
        "mean": _rounded(present.mean()),
        "sd": _rounded(present.std()),
        "quantiles": [_rounded(value) for value in quantiles(present)],
        "edges": [float(edge) for edge in edges],
        "counts": count_in_bins(present, edges).tolist(),
    }


def quantiles(present: np.ndarray) -> np.ndarray:
    """In the middle of 200 parts of equal mass, so that their mean difference is the Wasserstein distance: float64
    (200,)."""
    import numpy as np

    return np.quantile(present, (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES)


def count_in_bins(present: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int64 (len(edges) + 1,); a value on an edge counts above it."""
    import numpy as np

    return np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)


def _rounded(value: float) -> float:
    return float(f"{value:.7g}") if math.isfinite(value) else 0.0


# --- in the store --------------------------------------------------------------------------------------------------

_PARTS = ("data", "predictions")


def put_reference(reference: Reference, lease: Lease) -> dict[str, ArtifactRef]:
    """The profile as JSON, and the two samples as Parquet."""
    profiles = {"data": reference.data, "predictions": reference.predictions}
    page = {
        part: {"num_rows": one.num_rows, "rows": one.rows, "columns": one.columns} for part, one in profiles.items()
    }
    told = {**page, "prediction_columns": reference.prediction_columns}
    data = json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    artifacts = {"reference": lease.put_bytes("reference.json", data, kind="json")}
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        for part, one in profiles.items():
            path = Path(folder, f"reference-{part}.parquet")
            one.sample.to_parquet(path, index=False)
            artifacts[f"reference_{part}"] = lease.put_file(path.name, path, kind="parquet")
    return artifacts


def load_reference(store: Store, artifacts: Mapping[str, ArtifactRef], who: str) -> Reference:
    """Of a run with these artifacts; `who` names its version in messages. Raises NoReference, ArtifactCorrupt."""
    import pandas as pd

    if "evaluate/reference.json" not in artifacts:
        raise NoReference(
            f"{who} has no reference to measure drift against: it was made before there were any.",
            where=store.uri,
            next_step="train a new version, with other data, settings or another seed",
        )
    told = json.loads(store.read_bytes(artifacts["evaluate/reference.json"]))
    samples = {
        part: pd.read_parquet(store.local_path(artifacts[f"evaluate/reference-{part}.parquet"])) for part in _PARTS
    }
    data, predictions = (Profiled(**told[part], sample=samples[part]) for part in _PARTS)
    return Reference(data, predictions, tuple(told["prediction_columns"]))
