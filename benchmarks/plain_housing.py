"""The house-price job as a plain script: the same data, checks, training, measures and files; no flow and no store.

    python benchmarks/plain_housing.py FOLDER [--loop keras|modelkeep]

`--loop keras` trains with `Model.fit`, as one would by hand; `modelkeep` with the loop of `tasks/training.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

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
    folds = [train(problem, examples, *fold) for fold in rows.folds]
    model, history, predictions = train(problem, examples, rows.train, rows.test)
    model.save(arguments.folder / "model.keras")
    write_results(arguments.folder, problem, examples, rows, history, predictions, folds, checked)


def packaged_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    assert spec and spec.origin
    return Path(spec.origin).parent / "data" / "data" / "boston_housing.csv"


def build(problem: Any, examples: Any, train_rows: Any) -> tuple[Any, Any]:
    import keras

    keras.utils.set_random_seed(0)
    hyperparameters = problem.hyperparameters()
    model = problem.build(hyperparameters, examples.take(train_rows))
    problem.objective.compile(model, hyperparameters)
    return model, hyperparameters


def train_with_fit(problem: Any, examples: Any, train_rows: Any, held_out: Any) -> tuple[Any, dict, Any]:
    model, hyperparameters = build(problem, examples, train_rows)
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


def train_with_our_loop(problem: Any, examples: Any, train_rows: Any, held_out: Any) -> tuple[Any, dict, Any]:
    from tasks.engines import open_engine
    from tasks.training import Training

    model, hyperparameters = build(problem, examples, train_rows)
    first = {name: array[:1] for name, array in examples.features.items()}
    with open_engine(model, first, problem.objective.training_target(examples.target[:1])) as engine:
        training = Training(engine, problem.objective, examples, train_rows, held_out, hyperparameters, seed=0)
        training.run(lambda: None)
        predictions = problem.objective.predictions(training.predict(held_out))
        return engine.model, training.position.history, predictions


def write_results(
    folder: Path, problem: Any, examples: Any, rows: Any, history: dict, predictions: Any, folds: Any, checked: Any
) -> None:
    from problems.outline.catalogue import read_card
    from problems.outline.plots import learning_curves
    from tasks.evaluation import evaluate
    from tasks.report_page import ReportContent, figure_png, picture, render_report

    target, frame = examples.target[rows.test], examples.frame.iloc[rows.test].reset_index(drop=True)
    baseline = problem.objective.baseline(examples.target[rows.train], frame)
    evaluation = evaluate(
        problem,
        target=target,
        predictions=predictions,
        baseline=baseline,
        frame=frame,
        folds=[(examples.target[fold[1]], result[2]) for fold, result in zip(rows.folds, folds, strict=True)],
        rows=rows.test,
    )
    plots = {
        "learning": learning_curves(history, [fold[1] for fold in folds]),
        **problem.objective.figures(target, predictions, frame, baseline),
    }
    pictures = {name: picture(name, plot) for name, plot in plots.items()}
    for name, plot in plots.items():
        (folder / f"{name}.png").write_bytes(figure_png(plot.figure))
        (folder / f"{name}.svg").write_text(pictures[name].svg)
    content = ReportContent(
        problem="housing",
        outcome="kept",
        decision="A plain script decides nothing.",
        card=read_card("housing"),
        validation=json.loads(checked.to_json()),
        learning=pictures.pop("learning"),
        evaluation=evaluation,
        pictures=list(pictures.values()),
    )
    (folder / "report.html").write_text(render_report(content))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    predictions.to_parquet(folder / "predictions.parquet")


if __name__ == "__main__":
    main()
