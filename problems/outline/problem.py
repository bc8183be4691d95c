"""Problem, Source, Files and Examples: what to learn, from which raw files, in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.drift import Drift
from problems.outline.ragged import Ragged

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

    from problems.outline.acceptance import Criterion
    from problems.outline.behaviour import Behaviour
    from problems.outline.hyperparameters import Hyperparameters
    from problems.outline.objectives import Objective
    from problems.outline.splits import Split
    from problems.outline.words import Words


@dataclass(frozen=True, kw_only=True)
class PackageCopy:
    """A file inside an installed Python package that carries the source, whole or in part.

    `path` is relative to the package's folder. The file's format may differ from the public original's;
    a problem's `read` tells them apart by suffix. `partial` says what is missing, "" when nothing is.
    """

    package: str
    path: str
    sha256: str
    partial: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One raw file: its public name, URL, SHA-256, size in bytes and licence, and the package that also carries it.

    A `name` that says too little, such as train.tsv, is given with a folder, in which a mirror has it then.
    An `optional` one goes with the others and can be done without. It is left out where it cannot be had, and where
    the user's own file stands in for the first source.
    `rewritten` names copies that hold the same values in other bytes: SHA-256 → what is written otherwise.
    """

    name: str
    url: str
    sha256: str
    size: int
    licence: str
    package: PackageCopy | None = None
    optional: bool = False
    rewritten: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name without its folder."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The model (.keras) of another problem's champion, in the same store."""

    problem: str


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that were learnt elsewhere, and that a model has before anything is fitted.

    `source`  hyperparameters → the file that holds them; None: the model keeps those that it was built with
    `load`    (model as built, file) → puts them into it. Raises BadInput for a file that does not fit
    `thaw`    (model) → makes layers trainable that were not, after the first epochs of a `FineTuned` training
    """

    source: Callable[[Any], Source | Champion | None]
    load: Callable[[keras.Model, Path], None]
    thaw: Callable[[keras.Model], None] | None = None


@dataclass(frozen=True)
class Files(Mapping[str, Path]):
    """The raw files of a problem on this machine, by the source's name; a file's own suffix tells its format.

    `verified` names the sources whose file has a SHA-256 that was known before: all but the user's own.
    """

    paths: Mapping[str, Path]
    verified: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class RowView(Mapping[str, Any]):
    """Some rows of several arrays, taken from them only when asked for: a memory-mapped array stays on disk, and a
    ragged one stays ragged."""

    arrays: Mapping[str, Any]
    rows: np.ndarray

    def __getitem__(self, name: str) -> Any:
        array = self.arrays[name]
        return array.take(self.rows) if isinstance(array, Ragged) else array[self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


@dataclass(frozen=True)
class Examples:
    """What a problem reads out of its sources; every member has one entry per example, in the same order.

    `features`  arrays of shape (n, …), or Ragged, by the name of the model's input, in the compact type they are kept
                in; a model takes those that it has inputs for
    `target`    array of shape (n,) or (n, outputs)
    `frame`     n rows with index 0 … n-1: what is validated, sliced and watched for drift
    `classes`   the names of the classes by their number, where only the raw files tell them
    """

    features: Mapping[str, Any]
    target: np.ndarray
    frame: pd.DataFrame
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self._lengths().items()}
        if len(set(lengths.values())) > 1:
            raise ModelkeepError(
                "The examples do not line up: features, target and frame have different lengths.",
                expected="the same number of examples everywhere",
                received=", ".join(f"{name}: {length}" for name, length in lengths.items()),
                next_step="correct the problem's read(), or the file it read",
            )

    def _lengths(self) -> dict[str, Any]:
        features = {} if isinstance(self.features, RowView) else dict(self.features)
        return {**features, "target": self.target, "frame": self.frame}

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (int64, any order). Arrays are copied only when they are looked at."""
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return replace(self, features=RowView(self.features, rows), target=self.target[rows], frame=frame)

    def only(self, names: Iterable[str]) -> Examples:
        """The same examples with the features of these names, where there are such."""
        return replace(self, features={name: self.features[name] for name in names if name in self.features})


@dataclass(frozen=True)
class Inputs:
    """What is known of examples without their target: `features` and `frame`, as Examples has them."""

    features: Mapping[str, Any]
    frame: pd.DataFrame

    def with_target(self, target: np.ndarray, **columns: Any) -> Examples:
        """Examples, with further columns in their frame."""
        return Examples(self.features, target, self.frame.assign(**columns))


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How the frame of examples holds the target: so windows whose truth has come can be trained on, and `--labels` may
    be in the source's own words.

    `column`  its name in the frame
    `words`   the number of the class that each word means; empty where the column holds the target's numbers. Where
              several words mean one class, the column stays empty for windows
    """

    column: str
    words: Mapping[str, int] = field(default_factory=dict)

    def write(self, target: np.ndarray) -> list[Any] | np.ndarray:
        """The column for a target (n,): its numbers, or the words for them; None where there is more than one."""
        if not self.words:
            return target
        numbers = list(self.words.values())
        said = {number: word for word, number in self.words.items() if numbers.count(number) == 1}
        return [said.get(int(number)) for number in target]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How rows of a table become what a model takes: a problem's `read` uses `inputs`, and so does `predict`.

    `columns`  the columns that are needed, with their types as `read_csv` takes them
    `inputs`   a frame with these columns → Inputs; what becomes of a row depends on this row alone, and from the frame
               that it gives it makes the same features again
    `ids`      columns (str) that stand beside the scores where a window has them
    `shown`    columns of the frame that `inputs` makes, which stand beside the scores
    `missing_values`  texts that stand for a missing value
    `files`    names of sources that `inputs` needs too: it gets them, paths by name, as its second argument, as they
               were when the model was trained
    `is_series`  whether what is said of a row hangs on the rows before it, such as the past of a series: a window is
               then taken whole, and holds a million rows at most
    `truth`    where the frame has the target, so that windows can be trained on. What else `read` puts into the frame
               stays empty for them: rules about it look at the source's rows alone
    """

    columns: Mapping[str, str]
    inputs: Callable[..., Inputs]
    ids: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    missing_values: tuple[str, ...] = ("",)
    files: tuple[str, ...] = ()
    is_series: bool = False
    truth: Truth | None = None


@dataclass(frozen=True, kw_only=True)
class Stack:
    """How an array of examples, such as pictures, becomes what a model takes: as Rows, for windows in a .npz file.

    `name`, `dtype` and `shape` are the array's, its first axis left out; `inputs` takes some of its entries.
    `decode`: (bytes of a file, its name) → one entry, where examples are files of pictures; raises ImageUnreadable.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    inputs: Callable[[np.ndarray], Inputs]
    truth: Truth | None = None
    decode: Callable[[bytes, str], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Wear:
    """How examples get worse with time, where they have no moments: `simulate` lives through that.

    `worsen`  (array of examples as the problem's `Stack` has them, how far: 0 to `most`) → the array as it is by then
    `most`    how far it goes, in `unit`, which is written behind the number
    `write`   (file, arrays x_train, y_train, x_test, y_test by name) → a file as `read` takes it from a user
    """

    worsen: Callable[[np.ndarray, float], np.ndarray]
    most: float
    unit: str
    write: Callable[[Path, Mapping[str, np.ndarray]], None]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What to learn from which data, and how to know that it was learnt.

    `read`          raw files → Examples
    `expectations`  what the frame must satisfy before anything is trained on it
    `build`         (hyperparameters, training examples) → a Keras model, not compiled; what is learnt from data
                    (normalisation, vocabularies) is fitted on these examples and saved inside the model. A model
                    without trainable weights is not fitted
    `pretrained`    weights that are put into the model as it was built
    `weights`       (hyperparameters, training examples) → how much each of them counts in the loss, float32 (n,),
                    1 on average; None: all the same. Validation and evaluation count every example once
    `slices`        columns of the frame by whose values errors are looked at apart
    `acceptance`    what the evaluation must show before a version is registered
    `behaviours`    what the model must do with test rows that are changed, before a version is registered
    `columns`       the names of a table's columns by feature, for features (n, columns): which of them matter is shown
    `words`         where the words of a text are in a feature, by its name: which of them matter is shown
    `variants`      named settings of the hyperparameters that are worth comparing
    `rows`          how a row without its target becomes what the model takes: `read` uses it, and so does `predict`
    `drift`         how far new data may move away before somebody should look
    `wear`          how its examples get worse with time, for a simulation
    `mixed_precision`  whether training may reckon in bfloat16 (weights stay float32): the model is large enough to gain
                    from a GPU, and its inputs are small numbers, such as pixels scaled to 0 … 1 or embedded words.
                    Such a problem has a deployment on the pool `gpu`
    """

    name: str
    objective: Objective
    sources: tuple[Source, ...]
    read: Callable[[Files], Examples]
    expectations: Callable[[], list[Expectation]]
    split: Split
    build: Callable[[Any, Examples], keras.Model]
    hyperparameters: type[Hyperparameters]
    weights: Callable[[Any, Examples], np.ndarray] | None = None
    slices: tuple[str, ...] = ()
    acceptance: tuple[Criterion, ...] = ()
    behaviours: tuple[Behaviour, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pretrained: Pretrained | None = None
    rows: Rows | Stack | None = None
    drift: Drift = field(default_factory=Drift)
    wear: Wear | None = None
    mixed_precision: bool = False

    def complete(self, variant: str, settings: Mapping[str, Any]) -> Hyperparameters:
        """The hyperparameters with the variant's ("" for none) and then the given settings over the defaults.

        Raises ModelkeepError for an unknown variant, HyperparameterInvalid.
        """
        return self.hyperparameters.from_settings({**self._variant(variant), **settings})

    def _variant(self, name: str) -> Mapping[str, Any]:
        if name and name not in self.variants:
            raise ModelkeepError(
                f"{self.name} has no variant {name!r}.",
                expected=f"one of {', '.join(self.variants)}" if self.variants else "no variant: it has none",
                next_step="leave it out, or set single hyperparameters with --set NAME=VALUE",
            )
        return self.variants.get(name, {})
