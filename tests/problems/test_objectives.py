"""Objectives: metrics as scikit-learn's, with and without weights, predictions and targets that are checked."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from modelkeep.errors import ModelkeepError
from problems.outline import Binary, Costs, Hyperparameters, Multiclass, Objective, Regression
from problems.outline.metrics import Metric
from problems.outline.objectives import PredictionsInvalid, TargetInvalid

COSTS = Costs(missed=3, false_alarm=1, unit="€")
REGRESSION = Regression(unit="k$")
BINARY = Binary(positive="churn", negative="stay", costs=COSTS, least_precision=0.7)
LETTERS = Multiclass(classes=tuple("abcdefghijkl"))
NUM_ROWS = 60


def regression_rows() -> tuple[np.ndarray, pd.DataFrame]:
    random = np.random.default_rng(1)
    target = random.normal(5, 4, NUM_ROWS)
    return target, REGRESSION.predictions(target[:, None] + random.normal(0, 2, (NUM_ROWS, 1)))


def binary_rows() -> tuple[np.ndarray, pd.DataFrame]:
    """With many ties among the probabilities, over classes too."""
    random = np.random.default_rng(2)
    target = random.integers(0, 2, NUM_ROWS)
    return target, BINARY.predictions(np.round(0.3 * target + 0.7 * random.random(NUM_ROWS), 1)[:, None])


def letter_rows() -> tuple[np.ndarray, pd.DataFrame]:
    """The last class is neither true nor ever predicted."""
    random = np.random.default_rng(3)
    target = random.integers(0, 11, NUM_ROWS)
    scores = random.random((NUM_ROWS, 12)) + np.eye(12)[target]
    scores[:, 11] = 1e-3
    return target, LETTERS.predictions(scores / scores.sum(axis=1, keepdims=True))


def rows_like(num_rows: int) -> pd.DataFrame:
    """A frame of rows of which nothing is known."""
    return pd.DataFrame(index=range(num_rows))


ROWS = {"regression": (REGRESSION, *regression_rows()), "binary": (BINARY, *binary_rows())} | {
    "multiclass": (LETTERS, *letter_rows())
}
EACH_METRIC = [
    pytest.param(metric, target, predictions, id=f"{kind}-{metric.name}")
    for kind, (objective, target, predictions) in ROWS.items()
    for metric in objective.metrics()
]


def best_recall(target: np.ndarray, probability: np.ndarray) -> float:
    precision, recall, _ = reference.precision_recall_curve(target, probability)
    return float(recall[precision >= 0.7].max())


def reference_value(kind: str, name: str, target: np.ndarray, predictions: pd.DataFrame) -> float:
    if kind == "regression":
        guess, above = predictions["prediction"].to_numpy(float), target > 0
        return {
            "mae": lambda: reference.mean_absolute_error(target, guess),
            "rmse": lambda: reference.root_mean_squared_error(target, guess),
            "median_absolute_error": lambda: reference.median_absolute_error(target, guess),
            "mape": lambda: reference.mean_absolute_percentage_error(target[above], guess[above]),
            "r2": lambda: reference.r2_score(target, guess),
        }[name]()
    if kind == "binary":
        probability = predictions["probability"].to_numpy()
        predicted = (predictions["predicted"] == "churn").astype(int)
        return {
            "roc_auc": lambda: reference.roc_auc_score(target, probability),
            "pr_auc": lambda: reference.average_precision_score(target, probability),
            "accuracy": lambda: reference.accuracy_score(target, predicted),
            "precision": lambda: reference.precision_score(target, predicted),
            "recall": lambda: reference.recall_score(target, predicted),
            "f1": lambda: reference.f1_score(target, predicted),
            "recall_at_precision": lambda: best_recall(target, probability),
            "cost": lambda: reference.confusion_matrix(target, predicted).ravel() @ [0, 1, 3, 0] / NUM_ROWS,
            "log_loss": lambda: reference.log_loss(target, probability),
            "brier": lambda: reference.brier_score_loss(target, probability),
        }[name]()
    probabilities, numbers = predictions.drop(columns="predicted").to_numpy(), range(12)
    predicted = predictions["predicted"].cat.codes
    return {
        "accuracy": lambda: reference.accuracy_score(target, predicted),
        "top_5_accuracy": lambda: reference.top_k_accuracy_score(target, probabilities, k=5, labels=numbers),
        "macro_f1": lambda: reference.f1_score(target, predicted, average="macro"),
        "log_loss": lambda: reference.log_loss(target, probabilities, labels=numbers),
        "brier": lambda: reference.brier_score_loss(target, probabilities, labels=numbers),
    }[name]()


@pytest.mark.parametrize(("metric", "target", "predictions"), EACH_METRIC)
def test_a_metric_has_the_value_that_scikit_learn_gives_it(
    request: pytest.FixtureRequest, metric: Metric, target: np.ndarray, predictions: pd.DataFrame
) -> None:
    kind = request.node.callspec.id.split("-")[0]
    expected = reference_value(kind, metric.name, target, predictions)
    assert metric.compute(target, predictions, None) == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize(("metric", "target", "predictions"), EACH_METRIC)
def test_weights_are_as_good_as_rows_that_are_there_several_times(
    metric: Metric, target: np.ndarray, predictions: pd.DataFrame
) -> None:
    counts = np.random.default_rng(4).multinomial(NUM_ROWS, np.full(NUM_ROWS, 1 / NUM_ROWS), size=5)
    resampled = [np.repeat(np.arange(NUM_ROWS), count) for count in counts]
    expected = [metric.compute(target[rows], predictions.iloc[rows], None)[0] for rows in resampled]
    assert metric.compute(target, predictions, counts.astype(float)) == pytest.approx(expected, rel=1e-9)


def test_a_resample_without_positives_leaves_the_area_undefined() -> None:
    target, predictions = np.array([0, 0, 1]), BINARY.predictions(np.array([[0.1], [0.4], [0.8]]))
    area = BINARY.metric("roc_auc").compute(target, predictions, np.array([[2.0, 1, 0], [1, 1, 1]]))
    assert np.isnan(area[0])
    assert area[1] == 1


def test_an_alarm_is_raised_from_the_probability_at_which_it_is_cheaper_than_silence() -> None:
    """Missing costs 3, a false alarm 1: at a probability of 1/4 both are expected to cost 3/4."""
    assert COSTS.threshold == 0.25
    cautious = Binary(costs=COSTS, threshold=COSTS.threshold)
    predictions = cautious.predictions(np.array([[0.24], [0.25], [0.9]]))
    assert predictions["predicted"].tolist() == ["no", "yes", "yes"]
    assert cautious.metric("cost").compute(np.array([1, 0, 1]), predictions, None) == pytest.approx([4 / 3])


def test_no_recall_is_precise_enough_where_every_alarm_is_false_first() -> None:
    target, predictions = np.array([0, 0, 1]), BINARY.predictions(np.array([[0.9], [0.8], [0.1]]))
    assert BINARY.metric("recall_at_precision").compute(target, predictions, None).tolist() == [0]


@pytest.mark.parametrize("objective", [REGRESSION, BINARY, LETTERS], ids=lambda objective: objective.kind)
def test_the_main_metric_is_one_of_the_metrics(objective: Objective) -> None:
    assert objective.metric(objective.main_metric).name == objective.main_metric
    with pytest.raises(ModelkeepError, match="no metric 'speed'"):
        objective.metric("speed")


def test_the_baseline_is_what_common_sense_says() -> None:
    assert REGRESSION.baseline(np.array([1, 2, 30]), rows_like(2))["prediction"].tolist() == [2, 2]
    assert Regression(main_metric="rmse").baseline(np.array([1, 2, 30]), rows_like(1))["prediction"].tolist() == [11]
    assert BINARY.baseline(np.array([0, 0, 0, 1]), rows_like(1)).to_dict("list") == {
        "probability": [0.25],
        "predicted": ["stay"],
    }
    shares = LETTERS.baseline(np.array([2, 2, 0]), rows_like(1))
    assert shares["predicted"].tolist() == ["c"]
    assert shares["probability_2"].tolist() == pytest.approx([2 / 3])


@pytest.mark.parametrize(
    ("objective", "outputs", "message"),
    [
        (REGRESSION, [[1.0], [np.nan], [np.inf]], "2 of 3 predictions are not finite numbers.\n.*rows 1, 2"),
        (REGRESSION, [[1.0, 2.0]], "wrong shape"),
        (BINARY, [[0.5], [1.5]], "1 of 2 model outputs are not probabilities.\n.*rows 1\n(.*\n)*.*sigmoid"),
        (Multiclass(classes=("a", "b")), [[0.9, 0.9]], "not probabilities.\n(.*\n)*.*2 units with a softmax"),
    ],
)
def test_outputs_that_cannot_be_predictions_are_refused(
    objective: Objective, outputs: list[list[float]], message: str
) -> None:
    with pytest.raises(PredictionsInvalid, match=message):
        objective.predictions(np.array(outputs))


@pytest.mark.parametrize(
    ("objective", "target"),
    [(REGRESSION, [1.0, np.nan]), (REGRESSION, [[1.0, 2.0]]), (BINARY, [0, 2]), (LETTERS, [-1]), (LETTERS, [0.5])],
)
def test_a_target_that_cannot_be_learnt_is_refused(objective: Objective, target: list[float]) -> None:
    with pytest.raises(TargetInvalid):
        objective.training_target(np.array(target))


def test_predictions_are_columns_with_the_names_of_the_classes() -> None:
    predictions = Multiclass(classes=("cat", "dog")).predictions(np.array([[0.2, 0.8]], np.float64))
    assert predictions["predicted"].tolist() == ["dog"]
    assert predictions["probability_1"].dtype == np.float32


def test_values_are_told_with_unit_and_sensible_digits() -> None:
    mae, accuracy = REGRESSION.metric("mae"), BINARY.metric("accuracy")
    assert REGRESSION.describe(2.4123, mae) == "2.41 k$"
    assert REGRESSION.describe(None, mae) == "undefined"
    assert REGRESSION.describe_range([1.7612, 2.4466], mae) == "1.76 to 2.45 k$"
    assert BINARY.describe(0.97344, accuracy) == "97.3 %"
    assert BINARY.describe_range([0.9551, 0.9783], accuracy) == "95.5 to 97.8 %"
    assert BINARY.describe_range([0.0, 0.0], accuracy) == "0.0 to 0.0 %"
    assert REGRESSION.describe_range([-0.1234, 0.3], mae) == "−0.12 to 0.30 k$"
    assert BINARY.describe_difference(0.0123, accuracy) == "1.2 points"


@pytest.mark.parametrize("kind", ROWS)
def test_every_figure_says_in_words_what_it_shows(kind: str) -> None:
    objective, target, predictions = ROWS[kind]
    baseline = objective.baseline(target, rows_like(len(target)))
    figures = objective.figures(target, predictions, pd.DataFrame(index=range(len(target))), baseline)
    assert len(figures) >= 3
    for plot in figures.values():
        assert any(character.isdigit() for character in plot.alt)
        assert plot.title
        assert plot.note.endswith(".")


@pytest.mark.parametrize(
    ("objective", "target", "last_layer"),
    [(REGRESSION, [1.5, 3.0], (1, None)), (BINARY, [0, 1], (1, "sigmoid")), (LETTERS, [3, 11], (12, "softmax"))],
    ids=["regression", "binary", "multiclass"],
)
def test_a_compiled_model_learns_the_training_target(
    objective: Objective, target: list[float], last_layer: tuple[int, str | None]
) -> None:
    import keras

    units, activation = last_layer
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, activation=activation)])
    objective.compile(model, Hyperparameters(optimizer="adam", learning_rate=0.25))
    assert float(model.optimizer.learning_rate) == 0.25
    history = model.fit(np.ones((2, 3)), objective.training_target(np.array(target)), epochs=1, verbose=0).history
    assert len(history) >= 2
    assert all(np.isfinite(values[0]) for values in history.values())
    assert len(objective.predictions(model.predict(np.ones((2, 3)), verbose=0))) == 2


def test_an_unknown_optimizer_is_named() -> None:
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ModelkeepError, match="no optimizer 'rocket'"):
        REGRESSION.compile(model, Hyperparameters(optimizer="rocket"))


def test_importing_objectives_imports_nothing_heavy() -> None:
    heavy = "numpy", "pandas", "keras", "tensorflow", "matplotlib", "sklearn"
    code = f"import sys, problems.outline.objectives; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_classes_get_the_names_that_the_raw_files_tell() -> None:
    named = LETTERS.named([f"letter {letter}" for letter in LETTERS.classes])
    assert named.target_labels(np.array([2])) == ["letter c"]
    assert LETTERS.named(()) is LETTERS
    with pytest.raises(TargetInvalid, match="names of the classes"):
        LETTERS.named(("a", "b"))
    with pytest.raises(TargetInvalid, match="names of the classes"):
        LETTERS.named(("a",) * len(LETTERS.classes))


def test_without_training_rows_the_baseline_takes_all_classes_for_alike() -> None:
    baseline = LETTERS.baseline(np.zeros(0), pd.DataFrame(index=range(3)))
    assert baseline.drop(columns="predicted").to_numpy() == pytest.approx(1 / len(LETTERS.classes))


def test_pictures_of_many_classes_show_those_that_occur() -> None:
    many = Multiclass(classes=tuple(f"class {number}" for number in range(1000)))
    target = np.array([3, 500, 999])
    predictions = many.predictions(np.eye(1000, dtype="float32")[[3, 501, 999]])
    figures = many.figures(target, predictions, pd.DataFrame(), predictions)
    assert "class 500 taken for class 501" in figures["confusion"].alt
    assert "of 4 classes" in figures["confusion"].alt
