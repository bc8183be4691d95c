"""Occlusion: how a prediction changes when a part of the example is left out, a patch of a picture or a word of a text
(Zeiler & Fergus 2014, §4.2; Li et al. 2016, "Understanding neural networks through representation erasure").

It shows what an answer hangs on, with no knowledge of the model; parts that stand for each other can each look idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from problems.outline.images import is_picture
from problems.outline.objectives import Classification
from problems.outline.problem import Examples, Problem
from problems.outline.words import FindFile
from tasks.fit import input_names, predict_with

if TYPE_CHECKING:
    import keras
    import numpy as np

NUM_PATCHES = 7  # along each side
MOST_WORDS = 5
_MOST_PARTS = 512
_LEAST = 1e-7  # float32 holds no probability nearer to 1


def explain_examples(
    problem: Problem, model: keras.Model, examples: Examples, rows: Sequence[int], file: FindFile
) -> dict[str, Any] | None:
    """What the answers to some examples hang on; None where the model takes neither pictures nor words, or words that
    no raw file names, by `file`.

        kind      "picture" or "words"
        examples  {row: {predicted, probability, drops}}: by how much the log-odds of the predicted class fall without a
                  part, since a probability near 1 hardly moves. Of a picture `drops` are the rows of a grid of 7 × 7
                  patches, which are painted with the picture's mean colour; of words [[word, drop]], the five that
                  matter most

    Row numbers are text, as JSON has them.
    """
    if not isinstance(problem.objective, Classification):
        return None
    for name in input_names(model, examples):
        array = examples.features[name]
        if name in problem.words:
            texts = problem.words[name].find(examples.take(_array(rows)), name, file)
            if texts is None:
                return None
            told = [
                _explain_words(problem.objective, model, examples, row, name, places)
                for row, places in zip(rows, texts, strict=True)
            ]
            return {"kind": "words", "examples": dict(zip(map(str, rows), told, strict=True))}
        if is_picture(array):
            told = [_explain_picture(problem.objective, model, examples, row, name) for row in rows]
            return {"kind": "picture", "examples": dict(zip(map(str, rows), told, strict=True))}
    return None


def _explain_picture(
    objective: Classification, model: keras.Model, examples: Examples, row: int, name: str
) -> dict[str, Any]:
    import numpy as np

    picture = examples.features[name][row]
    mean = picture.mean(axis=(0, 1)).round().astype(np.uint8)
    changed = np.repeat(picture[None], 1 + NUM_PATCHES**2, axis=0)
    edges = [np.linspace(0, size, NUM_PATCHES + 1).round().astype(int) for size in picture.shape[:2]]
    for place in range(NUM_PATCHES**2):
        down, across = divmod(place, NUM_PATCHES)
        top, bottom = edges[0][down : down + 2]
        left, right = edges[1][across : across + 2]
        changed[1 + place, top:bottom, left:right] = mean
    told, drops = _ask(objective, model, examples, row, name, changed)
    return {**told, "drops": np.round(drops, 4).reshape(NUM_PATCHES, NUM_PATCHES).tolist()}


def _explain_words(
    objective: Classification,
    model: keras.Model,
    examples: Examples,
    row: int,
    name: str,
    places: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    import numpy as np

    seen = examples.features[name][row]
    different = list(places)[-_MOST_PARTS:]
    changed = np.repeat(seen[None], 1 + len(different), axis=0)
    for number, word in enumerate(different, start=1):
        changed[number, places[word]] = 0
    told, drops = _ask(objective, model, examples, row, name, changed)
    first = np.argsort(-np.abs(drops), kind="stable")[:MOST_WORDS]
    return {**told, "drops": [[different[place], round(float(drops[place]), 4)] for place in first]}


def _ask(
    objective: Classification, model: keras.Model, examples: Examples, row: int, name: str, changed: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """The first of `changed` is the example as it is."""
    import numpy as np

    copies = examples.take(np.full(len(changed), row))
    features: Mapping[str, Any] = {**copies.features, name: changed}
    asked = Examples(features, copies.target, copies.frame, classes=examples.classes)
    predictions = objective.predictions(predict_with(model, asked, np.arange(len(changed))))
    probabilities = objective.probabilities(predictions)
    number = int(probabilities[0].argmax())
    of_class = probabilities[:, number].astype(np.float64)
    certain = of_class.clip(_LEAST, 1 - _LEAST)
    log_odds = np.log(certain / (1 - certain))
    return {"predicted": objective.classes[number], "probability": float(of_class[0])}, log_odds[0] - log_odds[1:]


def _array(rows: Sequence[int]) -> np.ndarray:
    import numpy as np

    return np.asarray(rows, np.int64)
