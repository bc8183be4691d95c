"""Online scoring: a champion, compiled and warm, that answers questions about rows and tensors, many at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Classification
from problems.outline.problem import Inputs, Problem, Rows, Stack
from store.registry import Version
from tasks.champion import LoadedChampion
from tasks.forms import FormIncomplete
from tasks.inference import TensorSpec, predict_in_batches
from tasks.row_fields import Row, to_content
from tasks.score_rows import batch_size

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.expectations import Expectation

logger = logging.getLogger("modelkeep")

BATCH_ROWS = 256
FEW_ROWS = 8


class CannotBeServed(ModelkeepError):
    """The champion of a problem takes something that a request cannot hold."""


class ChampionChanged(ModelkeepError):
    """Another champion, with other inputs, took the place of the one that the question was meant for."""


@dataclass(frozen=True)
class RowsAsked:
    """Rows with the problem's own fields, as `tasks.row_fields` checks them."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class TensorsAsked:
    """Values of the model's inputs by name, arrays (n, …) of their types."""

    features: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))


@dataclass(frozen=True)
class RowsAnswered:
    """What a version says of each row: its predictions, or {"error": which rules of the training data it breaks}."""

    version: Version
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TensorsAnswered:
    """What a version says, as arrays (n, …) by name."""

    version: Version
    tensors: Mapping[str, np.ndarray]


Question = RowsAsked | TensorsAsked
Answer = RowsAnswered | TensorsAnswered


@dataclass(frozen=True)
class Scored:
    """Rows (n) that were asked about together: the positions (int64) of those that keep the rules, the model's outputs
    for these, and what is wrong with each of the others."""

    champion: LoadedChampion
    rows: Sequence[Row]
    good: np.ndarray
    outputs: np.ndarray
    set_aside: Mapping[int, str]


class OnlineModel:
    """A champion that answers. `on_scored` is told of the rows of each batch.

    It is compiled for every size of batch as it is made, so that no question waits for that. Raises CannotBeServed.
    """

    def __init__(
        self, problem: Problem, champion: LoadedChampion, on_scored: Callable[[Scored], None] = lambda scored: None
    ) -> None:
        self.problem, self.champion = problem, champion
        self._on_scored, self.engine = on_scored, champion.engine
        self.inputs = self.engine.inputs
        _require_fixed_inputs(champion)
        self._rules: list[Expectation] | None = None
        self._surely_keeps: Callable[[pd.DataFrame], bool] = lambda frame: False
        one = {name: _zeros(spec) for name, spec in self.inputs.items()}
        self._most = 1 << (min(BATCH_ROWS, batch_size(one)).bit_length() - 1)
        for size in (1 << power for power in range(self._most.bit_length())):
            outputs = self.engine.call({name: array.repeat(size, axis=0) for name, array in one.items()})
        # Possible as probabilities and as numbers: only the columns that the objective makes of them matter here.
        possible = outputs[:1] * 0 + 1 / outputs.shape[-1]
        self.outputs = tensors_of(champion, possible)
        if problem.rows:
            try:
                self._check(self._read([blank_row(problem.rows)]).frame)
            except FormIncomplete:
                raise  # no row could ever be answered
            except Exception:
                logger.debug("a row of zeros is none that %s can read", problem.name)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to a batch, in the order of the questions. Raises PredictionsInvalid, ChampionChanged, and what
        the problem's `inputs` raises."""
        rows = [question for question in questions if isinstance(question, RowsAsked)]
        tensors = [question for question in questions if isinstance(question, TensorsAsked)]
        about_tensors = iter(self._answer_tensors(tensors) if tensors else [])
        # Last, since these are told when all went well. The rows of one question are no past for those of another.
        parts = [[one] for one in rows] if self.is_series else [rows] if rows else []
        about_rows = iter([answer for part in parts for answer in self._answer_rows(part)])
        return [next(about_rows) if isinstance(one, RowsAsked) else next(about_tensors) for one in questions]

    def _answer_rows(self, questions: Sequence[RowsAsked]) -> list[RowsAnswered]:
        import numpy as np

        rows = [row for question in questions for row in question.rows]
        inputs = self._read(rows)
        offending = self._check(inputs.frame)
        good = np.delete(np.arange(len(rows)), list(offending))
        answers: list[Mapping[str, Any]] = [{"error": offending.get(place)} for place in range(len(rows))]
        outputs = np.empty(0)
        if len(good):
            outputs = self._call_model({name: inputs.features[name][good] for name in self.inputs})
            said = records(self.champion, outputs)
            for place, record in zip(good.tolist(), said, strict=True):
                answers[place] = record
        self._on_scored(Scored(self.champion, rows, good, outputs, offending))
        taken = iter(answers)
        return [RowsAnswered(self.champion.version, [next(taken) for _ in question.rows]) for question in questions]

    def _answer_tensors(self, questions: Sequence[TensorsAsked]) -> list[TensorsAnswered]:
        import numpy as np

        if any(_specs(question.features) != self.inputs for question in questions):
            raise ChampionChanged("The champion changed meanwhile, and takes other inputs.", next_step="ask again")
        features = {name: np.concatenate([question.features[name] for question in questions]) for name in self.inputs}
        tensors = tensors_of(self.champion, self._call_model(features))
        ends = np.cumsum([len(question) for question in questions])
        return [
            TensorsAnswered(
                self.champion.version, {name: array[end - len(question) : end] for name, array in tensors.items()}
            )
            for question, end in zip(questions, ends, strict=True)
        ]

    @property
    def is_series(self) -> bool:
        """Whether the rows of a question are answered by each other."""
        return isinstance(self.champion.form, Rows) and self.champion.form.is_series

    @property
    def _form(self) -> Rows | Stack:
        assert self.champion.form is not None  # rows are asked about only where there is a form
        return self.champion.form

    def _read(self, rows: Sequence[Row]) -> Inputs:
        return self._form.inputs(to_content(self._form, rows))

    def describe_rules(self) -> dict[str, str]:
        """What is asked of each field, in words."""
        from validation.rows import describe_rules

        return describe_rules(self._rules or [])

    def _check(self, frame: pd.DataFrame) -> dict[int, str]:
        from validation.rows import find_offending_rows, rules_of_one_row
        from validation.single_rows import quick_test

        if self._rules is None:
            self._rules = rules_of_one_row(self.problem.expectations(), [str(column) for column in frame])
            self._surely_keeps = quick_test(self._rules)
        if len(frame) <= FEW_ROWS and self._surely_keeps(frame):
            return {}
        return find_offending_rows(frame, self._rules)

    def _call_model(self, features: Mapping[str, Any]) -> np.ndarray:
        """With the next power of two as the size of the batch, so that few sizes are compiled."""
        num_rows = len(next(iter(features.values())))
        return predict_in_batches(self.engine, features, min(self._most, 1 << (num_rows - 1).bit_length()))


# --- what goes in and out ------------------------------------------------------------------------------------------


def _require_fixed_inputs(champion: LoadedChampion) -> None:
    """Raises CannotBeServed where an input has no name or no fixed shape."""
    shapes = {name: spec.shape for name, spec in champion.engine.inputs.items()}
    if not shapes or any(size < 0 for shape in shapes.values() for size in shape):
        raise CannotBeServed(
            f"The model of {champion.version.run} cannot be served.",
            expected="inputs with names and fixed shapes",
            received=", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "inputs without names",
            next_step="give keras.Model a dictionary of inputs in the problem's build()",
        )


def _specs(features: Mapping[str, np.ndarray]) -> dict[str, TensorSpec]:
    kinds = {"object": "string"}
    return {
        name: TensorSpec(kinds.get(str(array.dtype), str(array.dtype)), array.shape[1:])
        for name, array in features.items()
    }


def _zeros(spec: TensorSpec) -> np.ndarray:
    """Of one example; or empty texts."""
    import numpy as np

    shape = (1, *spec.shape)
    return np.full(shape, "", object) if spec.dtype == "string" else np.zeros(shape, spec.dtype)


def blank_row(form: Rows | Stack) -> Row:
    """Of zeros and texts that say nothing."""
    import datetime

    import numpy as np

    if isinstance(form, Stack):
        return {form.name: np.zeros(form.shape, form.dtype)}
    values = {"int64": 0, "float64": 0.0, "str": "-", "bool": False, "date": datetime.datetime(2000, 1, 1)}
    return {name: values[kind] for name, kind in form.columns.items()}


def records(champion: LoadedChampion, outputs: np.ndarray) -> list[dict[str, Any]]:
    """Each row's predictions as JSON; of classes all probabilities by name."""
    if isinstance(champion.objective, Classification):
        shares, names = champion.judge(outputs)
        classes = champion.objective.classes
        return [
            {"predicted": name, "probabilities": dict(zip(classes, share, strict=True))}
            for name, share in zip(names, shares.tolist(), strict=True)
        ]
    predictions = champion.predictions(outputs)
    names = list(map(str, predictions))
    return [dict(zip(names, values, strict=True)) for values in predictions.to_numpy(object).tolist()]


def tensors_of(champion: LoadedChampion, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """The predictions' columns as arrays (n,); but of classes the probabilities as one array, float32 (n, classes)."""
    import numpy as np

    if isinstance(champion.objective, Classification):
        shares, names = champion.judge(outputs)
        return {"probabilities": shares.astype(np.float32), "predicted": np.array(names, object)}
    predictions = champion.predictions(outputs)
    return {str(name): predictions[name].to_numpy() for name in predictions}
