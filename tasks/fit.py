"""Fit: train the model, with checkpoints in the store and an exact resume.

A checkpoint holds every variable (weights, optimizer, metrics, the seeds of dropout) and the position, so that a
training that was killed goes on at the next step and ends with the weights that it would have had. Its place in the
store belongs to the lease under which it was written: a process taken for dead that lives on is refused.
"""

from __future__ import annotations

import io
import logging
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from modelkeep.errors import GateFailed
from problems.outline.catalogue import load_problem
from problems.outline.hyperparameters import FineTuned
from problems.outline.objectives import Asked
from problems.outline.problem import Examples, Problem
from store.artifacts import ArtifactRef, Store
from store.steps import Lease, StepRecord
from tasks.devices import DevicesUnavailable, held_devices, num_sharing
from tasks.engines import Engine, open_engine, weights_digest
from tasks.examples import load_examples, put_classes, with_named_classes
from tasks.inference import num_cores
from tasks.ingest import RawFile
from tasks.precision import built_in, keep_in_float32, precision_of
from tasks.prepare import load_rows
from tasks.pretrained import fetch_pretrained, load_pretrained
from tasks.progress import Progress, describe, open_progress
from tasks.seeds import seeded
from tasks.steps import Products, Run, digests, do_once, package_versions
from tasks.training import Pace, Position, Training, rows_at_once

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.hyperparameters import Hyperparameters

logger = logging.getLogger("modelkeep")

_NUM_RELOADED = 256
_UNTRACED_BYTES = 1 << 20  # of features: outside a trace Keras holds the outputs of all layers until the last


class ModelCannotBeKept(GateFailed):
    """The saved model cannot be loaded back, or does not predict as it did before."""


@task(name="fit", cache_policy=NO_CACHE, task_run_name="fit {run.problem}")
def fit(run: Run, examples: StepRecord, prepared: StepRecord) -> StepRecord:
    """Train on all training rows; keep the model, its curves and its predictions for validation and test rows.

    Raises ModelCannotBeKept, LeaseLost.
    """
    return _fit(run, examples, prepared, "fit", fold=None)


@task(name="fit fold", cache_policy=NO_CACHE, task_run_name="fit {run.problem} fold {fold}")
def fit_fold(run: Run, examples: StepRecord, prepared: StepRecord, fold: int) -> StepRecord:
    """Train on all folds but one, and keep the curves and the predictions for the rows of that one."""
    return _fit(run, examples, prepared, f"fold-{fold}", fold=fold)


def _fit(run: Run, examples: StepRecord, prepared: StepRecord, step: str, fold: int | None) -> StepRecord:
    problem = load_problem(run.problem)
    pretrained = fetch_pretrained(problem, run)
    precision, num_devices = precision_of(problem, run.gpu), num_sharing(run.gpu)
    return do_once(
        run,
        step,
        lambda lease: _train(problem, run, examples, prepared, pretrained, lease, fold),
        module=__name__,
        inputs=[*digests(examples), *digests(prepared), *([pretrained.ref.sha256] if pretrained else [])],
        parameters={
            "hyperparameters": dict(run.hyperparameters),
            "seed": run.seed,
            "backend": run.backend,
            "fold": fold,
            **({"precision": precision} if precision != "float32" else {}),
            **({"devices": num_devices} if num_devices > 1 else {}),
        },
    )


def _train(
    problem: Problem,
    run: Run,
    ingested: StepRecord,
    prepared: StepRecord,
    pretrained: RawFile | None,
    lease: Lease,
    fold: int | None,
) -> Products:
    store = run.open_store()
    examples, rows = load_examples(store, ingested), load_rows(store, prepared)
    problem = with_named_classes(problem, examples)
    train_rows, watched_rows = rows.folds[fold - 1] if fold else (rows.train, rows.validation)
    predicted = {"held_out": watched_rows} if fold else {"validation": rows.validation, "test": rows.test}
    title = f"fit {run.problem}" + (f", fold {fold} of {len(rows.folds)}" if fold else "")
    with open_training(problem, run, examples, pretrained, train_rows, watched_rows) as training:
        resumed = _resume(training, store, lease)
        with open_progress(title) as progress:
            training.run(_after_block(training, lease, progress, Pace(run.checkpoint_seconds)))
        logger.info("%-9s %s", "fit" if fold is None else f"fold {fold}", describe(training))
        keep_in_float32(training, problem, examples)
        kept = _keep(problem, training, lease, predicted, resumed)
    return Products(kept.artifacts, {**kept.facts, "sources": [pretrained.to_dict()] if pretrained else []})


@contextmanager
def open_training(
    problem: Problem,
    run: Run,
    examples: Examples,
    pretrained: RawFile | None,
    train_rows: np.ndarray,
    watched_rows: np.ndarray,
) -> Iterator[Training]:
    """A training by the run's hyperparameters and seed, at its beginning; its engine is let go of at the end."""
    hyperparameters = problem.hyperparameters.from_settings(run.hyperparameters)
    _require_even_shares(hyperparameters.batch_size, num_sharing(run.gpu))
    precision = precision_of(problem, run.gpu)
    with held_devices(run.gpu) as device:
        with seeded(run.seed):
            model = built_in(precision, problem, hyperparameters, examples.take(train_rows))
        load_pretrained(problem, model, pretrained, run.open_store())
        problem.objective.compile(model, hyperparameters)
        examples = examples.only(input_names(model, examples))
        features = {name: array[:1] for name, array in examples.features.items()}
        with open_engine(model, features, problem.objective.training_target(examples.target[:1])) as engine:
            weights = _weigh(problem, hyperparameters, examples, train_rows)
            training = Training(
                engine, problem.objective, examples, train_rows, watched_rows, hyperparameters, run.seed, weights
            )
            training.device, training.precision = device.title, precision
            thaw = problem.pretrained.thaw if problem.pretrained and pretrained else None
            if thaw and isinstance(hyperparameters, FineTuned):
                training.frozen_epochs = hyperparameters.frozen_epochs
                training.thaw = partial(_thaw, problem, hyperparameters, thaw, engine)
            yield training


def _require_even_shares(batch_size: int, num_devices: int) -> None:
    if batch_size % num_devices:
        raise DevicesUnavailable(
            f"Batches of {batch_size} examples cannot be shared evenly between {num_devices} devices.",
            where="the hyperparameter batch_size",
            expected=f"a multiple of {num_devices}",
            next_step="give another batch_size with --set, or another MODELKEEP_DEVICES",
        )


def _thaw(problem: Problem, hyperparameters: FineTuned, thaw: Callable[[keras.Model], None], engine: Engine) -> None:
    thaw(engine.model)
    problem.objective.compile(engine.model, hyperparameters.thawed())
    engine.begin_stage()
    logger.info("fit       goes on with %d trainable variables", len(engine.model.trainable_variables))


def _weigh(
    problem: Problem, hyperparameters: Hyperparameters, examples: Examples, train_rows: np.ndarray
) -> np.ndarray | None:
    """The problem's weights of the training rows, at their places among all examples: float32 (len(examples),)."""
    import numpy as np

    if problem.weights is None:
        return None
    weights = np.zeros(len(examples), np.float32)
    weights[train_rows] = problem.weights(hyperparameters, examples.take(train_rows))
    return weights


# --- checkpoints ---------------------------------------------------------------------------------------------------


def _resume(training: Training, store: Store, lease: Lease) -> int:
    """Go to the last checkpoint, if there is one. The number of steps that need not be made again."""
    if lease.checkpoint is None:
        return 0
    training.go_to(Position.from_dict(lease.checkpoint.position))
    states = _read_states(store, lease.checkpoint.products["state"])
    training.engine.load_state(states["current"])
    training.best_state = states.get("best")
    position = training.position
    logger.info("fit       goes on at epoch %d, step %d", position.epoch + 1, position.step)
    return position.epoch * training.steps_per_epoch + position.step


def _after_block(training: Training, lease: Lease, progress: Progress, pace: Pace) -> Callable[[], None]:
    def after_block() -> None:
        lease.ensure_held()
        progress.update(training)
        if pace.is_due() and not training.position.finished:
            _save_checkpoint(training, lease)

    return after_block


def _save_checkpoint(training: Training, lease: Lease) -> None:
    position = training.position
    states = {"current": training.engine.state()}
    if training.best_state is not None:
        states["best"] = training.best_state
    name = f"checkpoint-{position.epoch:05d}-{position.step:07d}.npz"
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = Path(folder, name)
        _write_states(path, states)
        ref = lease.put_file(name, path, kind="npz")
    lease.save_checkpoint({"state": ref}, position.to_dict())


def _write_states(path: Path, states: Mapping[str, list[np.ndarray]]) -> None:
    import numpy as np

    np.savez(
        path,
        allow_pickle=False,
        **{f"{name}.{number:05d}": array for name, arrays in states.items() for number, array in enumerate(arrays)},
    )


def _read_states(store: Store, ref: ArtifactRef) -> dict[str, list[np.ndarray]]:
    import numpy as np

    states: dict[str, list[np.ndarray]] = {}
    with np.load(io.BytesIO(store.read_bytes(ref)), allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            states.setdefault(name.split(".")[0], []).append(arrays[name])
    return states


# --- what is kept --------------------------------------------------------------------------------------------------


def _keep(
    problem: Problem, training: Training, lease: Lease, parts: Mapping[str, np.ndarray], resumed: int
) -> Products:
    """Predictions for the rows of each part; and the model with what is kept beside it, if one is the test part."""
    outputs = {part: training.predict(rows) for part, rows in parts.items() if len(rows)}
    with tempfile.TemporaryDirectory(prefix="modelkeep-") as folder:
        path = Path(folder, "predictions.parquet")
        _predictions(problem, training, parts, outputs).to_parquet(path, index=False)
        artifacts = {"predictions": lease.put_file(path.name, path, kind="parquet")}
        if "test" in parts:
            path = Path(folder, "model.keras")
            training.engine.model.save(path)
            _check_reloaded(path, training, parts["test"], outputs["test"])
            artifacts["model"] = lease.put_file(path.name, path, kind="keras")
            if training.examples.classes:
                artifacts["classes"] = put_classes(training.examples.classes, lease)
            for name, table in problem.objective.keepsakes(_asked(training, parts["test"])).items():
                path = Path(folder, f"{name}.parquet")
                table.to_parquet(path, index=False)
                artifacts[name] = lease.put_file(path.name, path, kind="parquet")
    return Products(artifacts, _facts(training, resumed))


def _predictions(
    problem: Problem,
    training: Training,
    parts: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Row number, part, target and the objective's prediction columns, for every row that was held back."""
    import pandas as pd

    frames = []
    for part, values in outputs.items():
        rows = parts[part]
        frame = complete_predictions(problem, training, rows, values)
        frame.insert(0, "row", rows)
        frame.insert(1, "part", part)
        frame.insert(2, "target", training.examples.target[rows])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def complete_predictions(problem: Problem, training: Training, rows: np.ndarray, outputs: np.ndarray) -> pd.DataFrame:
    """The objective's columns for the model's outputs of some rows."""
    return problem.objective.complete(problem.objective.predictions(outputs), _asked(training, rows))


def _asked(training: Training, rows: np.ndarray) -> Asked:
    import numpy as np

    known = np.setdiff1d(np.union1d(training.train_rows, training.validation_rows), rows)
    return Asked(training.examples, rows, known, training.engine.predict)


def _check_reloaded(path: Path, training: Training, rows: np.ndarray, expected: np.ndarray) -> None:
    """The model as saved must load (in Keras' safe mode) and predict what the trained one predicted.

    Weights equal to the bit; outputs within 1e-5 of their scale, since another trace may add in another order.
    """
    import numpy as np

    rows = rows[:_NUM_RELOADED]
    model = load_model(path)
    if weights_digest(model) != weights_digest(training.engine.model):
        raise _not_kept(path, "the same weights", "other weights")
    received = predict_with(model, training.examples, rows)
    difference = float(np.abs(received - expected[: len(rows)]).max())
    scale = max(1.0, float(np.abs(expected).max()))
    if not difference <= 1e-5 * scale:
        raise _not_kept(path, "the same predictions", f"predictions that differ by up to {difference:.3g}")


def _not_kept(path: Path, expected: str, received: str) -> ModelCannotBeKept:
    return ModelCannotBeKept(
        f"The model was trained, but {path.name} does not bring it back.",
        expected=expected,
        received=received,
        next_step="look for a layer of the problem's build() whose state or configuration is not saved",
    )


def load_model(path: Path) -> keras.Model:
    """A model from its .keras file, in safe mode. Raises ModelCannotBeKept."""
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as fault:  # Keras raises many kinds here; all mean the same to the user.
        raise ModelCannotBeKept(
            f"{path.name} cannot be loaded: {fault}",
            next_step="register own layers with keras.saving.register_keras_serializable, and avoid Lambda",
        ) from fault


def input_names(model: keras.Model, examples: Examples) -> list[str]:
    """The features that the model takes: those it has inputs for, all where it does not name its inputs."""
    inputs = getattr(model, "input", None)
    return [name for name in examples.features if not isinstance(inputs, dict) or name in inputs]


def predict_with(model: keras.Model, examples: Examples, rows: np.ndarray) -> np.ndarray:
    """A loaded model's outputs for some rows, float32 (len(rows), outputs). One call: meant for a few thousand rows."""
    import numpy as np

    examples = examples.only(input_names(model, examples))
    batch = rows_at_once(examples, _UNTRACED_BYTES)
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return np.concatenate(
        [outputs_of(model, {name: array[part] for name, array in examples.features.items()}) for part in parts]
    )


def outputs_of(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """A loaded model's outputs for values of its inputs, arrays (n, …) by name, in one batch."""
    from keras import ops

    outputs: np.ndarray = ops.convert_to_numpy(model(dict(features), training=False))
    return outputs


def _facts(training: Training, resumed: int) -> dict[str, Any]:
    position = training.position
    return {
        "history": position.history,
        "num_epochs": position.epoch,
        "best_epoch": position.best_epoch or position.epoch,
        "num_parameters": training.engine.model.count_params(),
        "weights_digest": weights_digest(training.engine.model),
        "resumed_steps": resumed,
        "device": training.device,
        "precision": training.precision,
        "threads": _num_threads(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": package_versions(),
    }


def _num_threads() -> int:
    """Among which TensorFlow divides an operation: with another number convolutions add up in another order."""
    return int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or num_cores()
