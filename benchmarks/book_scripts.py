"""Training as the course's book does it, beside `modelkeep train` on the same data.

    python -m benchmarks.book_scripts [NAME ...] [--repeats 1] [--json FILE]

A script here has the book's settings: its arrays, layers, batches, epochs, the training that it does twice, evaluation
and prediction. Seconds and peak memory are those of whole processes, imports included; what modelkeep does beyond the
script (checks, intervals, report, registry) is in its time, and a Prefect server is running. MODELKEEP_MIRROR must name
a mirror with the data sets. The rows take turns; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.peers.bench import MODELKEEP, Bench, Measured

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def movie_reviews(file: Path) -> float:
    """DLWP 2nd ed. §4.1: multi-hot vectors of 10,000 words as float, 20 epochs watched, 4 epochs anew."""
    import numpy as np
    from keras import Sequential, layers

    arrays = load(file)

    order = np.arange(25_000)
    np.random.RandomState(113).shuffle(order)  # as keras.datasets.imdb does
    x_train, x_test = multi_hot(arrays["x_train"][order]), multi_hot(arrays["x_test"])
    y_train, y_test = arrays["y_train"][order].astype("float32"), arrays["y_test"].astype("float32")

    def build() -> Any:
        hidden = [layers.Dense(16, activation="relu") for _ in range(2)]
        model = Sequential([*hidden, layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
        return model

    watched = (x_train[:10_000], y_train[:10_000])
    build().fit(x_train[10_000:], y_train[10_000:], epochs=20, batch_size=512, validation_data=watched, verbose=0)
    model = build()
    model.fit(x_train, y_train, epochs=4, batch_size=512, verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    model.predict(x_test, verbose=0)
    return float(accuracy)


def newswires(file: Path) -> float:
    """DLWP 2nd ed. §4.2: multi-hot vectors, 20 epochs watched, 9 epochs anew. The first 8,982 are for training."""
    import numpy as np
    from keras import Sequential, layers, utils

    arrays = load(file)
    order = np.arange(len(arrays["x"]))
    np.random.RandomState(113).shuffle(order)  # as keras.datasets.reuters does

    dense = multi_hot(arrays["x"][order])
    labels = utils.to_categorical(arrays["y"][order])
    x_train, y_train, x_test, y_test = dense[:8982], labels[:8982], dense[8982:], labels[8982:]

    def build() -> Any:
        hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
        model = Sequential([*hidden, layers.Dense(46, activation="softmax")])
        model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
        return model

    watched = (x_train[:1000], y_train[:1000])
    build().fit(x_train[1000:], y_train[1000:], epochs=20, batch_size=512, validation_data=watched, verbose=0)
    model = build()
    model.fit(x_train, y_train, epochs=9, batch_size=512, verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    model.predict(x_test, verbose=0)
    return float(accuracy)


def housing(file: Path) -> float:
    """DLWP 2nd ed. §4.3: 4 folds of 500 epochs with their curves, then 130 epochs on all. The first 404 are for
    training, in the order of `keras.datasets.boston_housing`."""
    import numpy as np
    from keras import Sequential, layers

    arrays = load(file)
    order = np.arange(len(arrays["x"]))
    np.random.RandomState(113).shuffle(order)
    x, y = arrays["x"][order], arrays["y"][order]
    mean, deviation = x[:404].mean(axis=0), x[:404].std(axis=0)
    x_train, y_train, x_test, y_test = (x[:404] - mean) / deviation, y[:404], (x[404:] - mean) / deviation, y[404:]

    def build() -> Any:
        model = Sequential([*(layers.Dense(64, activation="relu") for _ in range(2)), layers.Dense(1)])
        model.compile(optimizer="rmsprop", loss="mse", metrics=["mae"])
        return model

    for fold in range(4):
        held = slice(fold * 101, (fold + 1) * 101)
        kept = np.r_[0 : held.start, held.stop : 404]
        watched = (x_train[held], y_train[held])
        build().fit(x_train[kept], y_train[kept], validation_data=watched, epochs=500, batch_size=16, verbose=0)
    model = build()
    model.fit(x_train, y_train, epochs=130, batch_size=16, verbose=0)
    return float(model.evaluate(x_test, y_test, verbose=0)[1])


def digits(file: Path) -> float:
    """DLWP 2nd ed. §8.1: the convnet on 60,000 digits as float, 5 epochs."""
    from keras import Input, Sequential, layers

    arrays = load(file)
    x_train, x_test = (arrays[name].reshape(-1, 28, 28, 1).astype("float32") / 255 for name in ("x_train", "x_test"))
    model = Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, arrays["y_train"], epochs=5, batch_size=64, verbose=0)
    return float(model.evaluate(x_test, arrays["y_test"], verbose=0)[1])


SCRIPTS: dict[str, tuple[Callable[[Path], float], str, list[str]]] = {
    "movie_reviews": (movie_reviews, "imdb.npz", []),
    "newswires": (newswires, "reuters.npz", ["--variant", "book"]),
    "housing": (housing, "boston_housing.npz", []),
    "digits": (digits, "mnist.npz", ["--full"]),
}


def multi_hot(sequences: Any) -> Any:
    """float32 (n, 10000), 1 for every word that is in the text; written as the book does it."""
    import numpy as np

    dense = np.zeros((len(sequences), 10_000), "float32")
    for row, sequence in enumerate(sequences):
        for rank in sequence:
            dense[row, rank + 3 if rank + 3 < 10_000 else 2] = 1.0
    return dense


def load(file: Path) -> dict[str, Any]:
    """The arrays of a raw file whose SHA-256 was compared before: the lists in it are pickled."""
    import numpy as np

    with np.load(file, allow_pickle=True) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SCRIPTS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--script", type=Path, help=argparse.SUPPRESS)  # this process is the script, on that file
    arguments = parser.parse_args()
    if arguments.script:
        print(f"result {SCRIPTS[arguments.names[0]][0](arguments.script):.4f}")
        return
    if not os.environ.get("MODELKEEP_MIRROR"):
        raise SystemExit("set MODELKEEP_MIRROR to a mirror with the data sets")
    kept: dict[str, Any] = {}
    print(f"{'':<16}{'':<12}{'result':>9}{'wall s':>8}{'CPU s':>8}{'GB':>6}{'faster':>8}{'leaner':>8}")
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        bench = Bench(Path(folder))
        bench.environment["MODELKEEP_MIRROR"] = os.environ["MODELKEEP_MIRROR"]
        bench.command("-m", "flows.server", "start")
        try:
            for name in arguments.names:
                kept[name] = compare(bench, name, arguments.repeats)
        finally:
            bench.command("-m", "flows.server", "stop")
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))


def compare(bench: Bench, name: str, repeats: int) -> dict[str, Any]:
    file = verified_file(name, bench)
    script = [sys.executable, "-m", "benchmarks.book_scripts", name, "--script", str(file)]
    ours = [*MODELKEEP, "train", name, *SCRIPTS[name][2], "--json"]
    turns: dict[str, list[tuple[Measured, float]]] = {"script": [], "modelkeep": []}
    for seed in range(repeats):
        turns["script"].append(measure(bench, script, r"result ([\d.]+)"))
        metric = "mae" if name == "housing" else "accuracy"
        turns["modelkeep"].append(measure(bench, [*ours, "--seed", str(seed)], rf'"{metric}": ([\d.]+)'))
    floor: Measured | None = None
    for way, measured in turns.items():
        middle = Measured(*(statistics.median(getattr(one, field) for one, _ in measured) for field in
                            ("wall", "cpu", "server_cpu", "peak_mb")))  # fmt: skip
        floor = floor or middle
        result = statistics.median(value for _, value in measured)
        print(
            f"{name:<16}{way:<12}{result:>9.4f}{middle.wall:>8.1f}{middle.cpu + middle.server_cpu:>8.1f}"
            f"{middle.peak_mb / 1024:>6.2f}{floor.wall / middle.wall:>8.2f}{floor.peak_mb / middle.peak_mb:>8.2f}"
        )
    return {way: [{**vars(one), "result": value} for one, value in measured] for way, measured in turns.items()}


def verified_file(name: str, bench: Bench) -> Path:
    """The problem's raw file, found and verified as `ingest` does it."""
    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.ingest import Wanted, fetch

    problem = load_problem(name)
    source = next(source for source in problem.sources if source.name == SCRIPTS[name][1])
    store = open_store(str(bench.folder / "raw"))
    return store.local_path(
        fetch(source, store, Wanted(name, bench.environment["MODELKEEP_MIRROR"], data="", full=True)).ref
    )


def measure(bench: Bench, command: list[str], pattern: str) -> tuple[Measured, float]:
    """What a whole process used, and the number that it printed."""
    with tempfile.TemporaryFile("w+") as said:
        measured = bench.measure(command, said)
        said.seek(0)
        found = re.search(pattern, said.read())
    assert found, command
    return measured, float(found[1])


if __name__ == "__main__":
    main()
