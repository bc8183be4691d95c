"""Trains the house prices on one and on two devices, which TensorFlow makes of the CPU only in a new process, and
prints what came out as JSON; for test_devices.py."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from problems.outline.catalogue import load_problem
from tasks.engines import weights_digest
from tasks.examples import load_examples
from tasks.fit import fit, load_model, open_training
from tasks.ingest import ingest
from tasks.prepare import load_rows, prepare
from tasks.steps import Run


class Killed(BaseException):
    """Stands for the end of a process between two blocks of steps."""


def train(run: Run, num_devices: int) -> dict[str, Any]:
    os.environ["MODELKEEP_DEVICES"] = str(num_devices)
    ingested = ingest.fn(run)
    prepared = prepare.fn(run, ingested)
    fitted = fit.fn(run, ingested, prepared)
    model = load_model(run.open_store().local_path(fitted.products["model"]))
    told = {name: fitted.facts[name] for name in ("device", "history", "weights_digest")}
    return {"key": fitted.key, "weights": model.get_weights(), **told}


def train_in_two_parts(run: Run) -> str:
    """The digest of the weights where another engine goes on after three epochs."""
    store = run.open_store()
    examples, rows = load_examples(store, ingest.fn(run)), load_rows(store, prepare.fn(run, ingest.fn(run)))
    asked = (load_problem(run.problem), run, examples, None, rows.train, rows.validation)
    with open_training(*asked) as training:
        position, engine = training.position, training.engine

        def stop_after_three_epochs() -> None:
            if (position.epoch, position.step) == (3, 0):
                raise Killed

        try:
            training.run(stop_after_three_epochs)
        except Killed:
            state = engine.state()
    with open_training(*asked) as training:
        training.go_to(position)
        training.engine.load_state(state)
        training.run(lambda: None)
        return weights_digest(training.engine.model)


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    run = Run(**{**json.loads(sys.argv[1]), "checkpoint_seconds": 1e9})
    one, two = train(run, 1), train(run, 2)
    weights = zip(one.pop("weights"), two.pop("weights"), strict=True)
    difference = max(float(np.abs(first - second).max()) for first, second in weights)
    print(json.dumps({"one": one, "two": two, "difference": difference, "resumed": train_in_two_parts(run)}))
