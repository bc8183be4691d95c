"""The house-price job as a plain script: the same data, checks, training, measures and files; no flow and no store.

    python benchmarks/peers/plain_housing.py FOLDER [--loop keras|modelkeep]

`--loop keras` trains with `Model.fit`, as one would by hand; `modelkeep` with the loop of `tasks/training.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--loop", choices=("keras", "modelkeep"), default="keras")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    train = {"keras": train_with_fit, "modelkeep": train_with_our_loop}[arguments.loop]

    from problems.housing import problem
    from problems.outline.problem import Files
    from validation.data_docs import render_data_docs
    from validation.gate import require, validate

    examples = problem.read(Files({"boston_housing.npz": packaged_file()}, frozenset({"boston_housing.npz"})))
    checked = validate(examples.frame, problem.expectations(), name="housing")
    require(checked)
    (arguments.folder / "validation.json").write_text(checked.to_json())
    (arguments.folder / "data-docs.html").write_text(render_data_docs(checked, title="housing"))
    rows = problem.split.divide(examples, 0)
    trained = [train(problem, examples, *fold) for fold in (*rows.folds, (rows.train, rows.test))]
    trained[-1][0].save(arguments.folder / "model.keras")
    *folds, fitted = [{"history": history, "predictions": predictions} for _, history, predictions in trained]
    for name, content in make_report(problem, examples, json.loads(checked.to_json()), folds, fitted).items():
        (arguments.folder / name).write_bytes(content)


def packaged_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    assert spec and spec.origin
    return Path(spec.origin).parent / "data" / "data" / "boston_housing.csv"


def build(problem: Any, examples: Any, train_rows: Any, settings: Mapping[str, int]) -> tuple[Any, Any]:
    import keras

    keras.utils.set_random_seed(0)
    hyperparameters = problem.hyperparameters(**settings)
    model = problem.build(hyperparameters, examples.take(train_rows))
    problem.objective.compile(model, hyperparameters)
    return model, hyperparameters


def train_with_fit(
    problem: Any, examples: Any, train_rows: Any, held_out: Any, settings: Mapping[str, int] = MappingProxyType({})
) -> tuple[Any, dict, Any]:
    model, hyperparameters = build(problem, examples, train_rows, settings)
    features, target = examples.features["attributes"], examples.target
    history = model.fit(
        {"attributes": features[train_rows]},
        target[train_rows],
        epochs=hyperparameters.epochs,
        batch_size=hyperparameters.batch_size,
        validation_data=({"attributes": features[held_out]}, target[held_out]),
        verbose=0,
    ).history
    return model, history, problem.objective.predictions(model.predict({"attributes": features[held_out]}, verbose=0))


def train_with_our_loop(
    problem: Any, examples: Any, train_rows: Any, held_out: Any, settings: Mapping[str, int] = MappingProxyType({})
) -> tuple[Any, dict, Any]:
    from tasks.engines import open_engine
    from tasks.training import Training

    model, hyperparameters = build(problem, examples, train_rows, settings)
    first = {name: array[:1] for name, array in examples.features.items()}
    with open_engine(model, first, problem.objective.training_target(examples.target[:1])) as engine:
        training = Training(engine, problem.objective, examples, train_rows, held_out, hyperparameters, seed=0)
        training.run(lambda: None)
        predictions = problem.objective.predictions(training.predict(held_out))
        return engine.model, training.position.history, predictions


def make_report(problem: Any, examples: Any, validation: dict, folds: Sequence[dict], fitted: dict) -> dict[str, bytes]:
    """Names and contents of the files that tell how good the model is. `folds` and `fitted` have the curves of a
    training (history) and its predictions of the rows that were held out of it."""
    from problems.outline.catalogue import read_card
    from problems.outline.plots import learning_curves
    from tasks.evaluation import evaluate
    from tasks.report_page import ReportContent, figure_png, picture, render_report

    rows, history, predictions = problem.split.divide(examples, 0), fitted["history"], fitted["predictions"]
    target, frame = examples.target[rows.test], examples.frame.iloc[rows.test].reset_index(drop=True)
    baseline = problem.objective.baseline(examples.target[rows.train], frame)
    held_out = [(examples.target[part[1]], fold["predictions"]) for part, fold in zip(rows.folds, folds, strict=True)]
    evaluation = evaluate(
        problem,
        target=target,
        predictions=predictions,
        baseline=baseline,
        frame=frame,
        folds=held_out,
        rows=rows.test,
    )
    plots = {
        "learning": learning_curves(history, [fold["history"] for fold in folds]),
        **problem.objective.figures(target, predictions, frame, baseline),
    }
    files = {f"{name}.png": figure_png(plot.figure) for name, plot in plots.items()}
    pictures = {name: picture(name, plot) for name, plot in plots.items()}
    files |= {f"{name}.svg": drawn.svg.encode() for name, drawn in pictures.items()}
    content = ReportContent(
        problem="housing",
        outcome="kept",
        decision="A plain script decides nothing.",
        card=read_card("housing"),
        validation=validation,
        learning=pictures.pop("learning"),
        evaluation=evaluation,
        pictures=list(pictures.values()),
    )
    return files | {
        "report.html": render_report(content).encode(),
        "evaluation.json": json.dumps(evaluation).encode(),
        "predictions.parquet": predictions.to_parquet(),
    }


if __name__ == "__main__":
    main()
