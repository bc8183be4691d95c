"""Training as the course's book does it, beside `modelkeep train` on the same data.

    python -m benchmarks.book_scripts [NAME ...] [--repeats 1] [--json FILE]

A script here has the book's settings: its arrays, layers, batches, epochs, the training that it does twice, evaluation
and prediction; that of `cifar10`, for which the book has none, is our network without augmentation as the book would
write it, three epochs of both. Seconds and peak memory are those of whole processes, imports included, with a Prefect
server running and an empty store. "model s" are the seconds until the model and its predictions for the test rows are
kept, which is what a script does; intervals, probes, exports, references for drift, report and registry come after it.
"faster" compares these, "whole" the processes.
"bfloat16" is modelkeep with MODELKEEP_PRECISION=mixed_bfloat16, where the CPU has instructions for it; "by hand" the
same training in numpy, with a sparse first layer or with the folds as one batch (benchmarks/peers).
MODELKEEP_MIRROR must name a mirror with the data sets. The rows take turns; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.peers.bench import MODELKEEP, Bench, Measured, leave_out

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


def cifar10(file: Path) -> float:
    """The course's first network for CIFAR-10, without augmentation: 3 epochs, with a tenth of the rows watched."""
    import numpy as np
    from keras import Input, Sequential, layers

    from problems.cifar10 import CLASSES

    pictures, labels = read_photos(file, CLASSES)
    order = np.random.RandomState(0).permutation(len(pictures["train"]))
    x_train, x_test = pictures["train"][order].astype("float32") / 255, pictures["test"].astype("float32") / 255
    blocks: list[Any] = []
    for number, filters in enumerate((24, 48, 96)):
        blocks += [layers.Conv2D(filters, 3, use_bias=False), *([layers.MaxPooling2D(2)] if number < 2 else [])]
        blocks += [layers.BatchNormalization(momentum=0.98), layers.Activation("relu")]
    ends = [layers.Flatten(), layers.Dense(192, activation="relu"), layers.Dense(10, activation="softmax")]
    model = Sequential([Input((32, 32, 3)), *blocks, *ends])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, labels["train"][order], epochs=3, batch_size=128, validation_split=0.1, verbose=0)
    return float(model.evaluate(x_test, labels["test"], verbose=0)[1])


@dataclass(frozen=True)
class Job:
    """A script, the file that it reads, and what `modelkeep train` is told."""

    script: Callable[[Path], float]
    file: str
    options: tuple[str, ...] = ()
    metric: str = "accuracy"


JOBS = {
    "movie_reviews": Job(movie_reviews, "imdb.npz"),
    "newswires": Job(newswires, "reuters.npz", ("--variant", "book")),
    "housing": Job(housing, "boston_housing.npz", metric="mae"),
    "digits": Job(digits, "mnist.npz", ("--full",)),
    "cifar10": Job(cifar10, "cifar-10-python.tar.gz", ("--variant", "plain", "--set", "epochs=3")),
}
BY_HAND = {"movie_reviews": "benchmarks.peers.sparse_reviews", "housing": "benchmarks.peers.batched_folds"}
MIXED = {"MODELKEEP_PRECISION": "mixed_bfloat16"}


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


def read_photos(file: Path, classes: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """uint8 (n, 32, 32, 3) and labels (n,) by part, of an archive with part/class/name."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    pictures: dict[str, list[Any]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    with tarfile.open(file) as archive:
        for member in archive:
            names = Path(member.name).parts
            if member.isfile() and len(names) >= 3 and names[-3] in pictures and names[-2] in classes:
                content = archive.extractfile(member)
                assert content
                pictures[names[-3]].append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                labels[names[-3]].append(classes.index(names[-2]))
    return (
        {part: np.stack(found) for part, found in pictures.items()},
        {part: np.array(found) for part, found in labels.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(JOBS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--script", type=Path, help=argparse.SUPPRESS)  # this process is the script, on that file
    arguments = parser.parse_args()
    if arguments.script:
        print(f"result {JOBS[arguments.names[0]].script(arguments.script):.4f}")
        return
    if not os.environ.get("MODELKEEP_MIRROR"):
        leave_out("set MODELKEEP_MIRROR to a mirror with the data sets")
    kept: dict[str, Any] = {}
    heads = "".join(
        f"{head:>8}" for head in ("result", "wall s", "model s", "CPU s", "GB", "faster", "whole", "leaner")
    )
    print(f"{'':<16}{'':<12}{heads}")
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        bench = Bench(Path(folder))
        bench.environment["MODELKEEP_MIRROR"] = os.environ["MODELKEEP_MIRROR"]
        bench.command("-m", "flows.server", "start")
        try:
            for name in arguments.names:
                kept[name] = compare(bench, name, arguments.repeats)
                show(name, kept[name])
        finally:
            bench.command("-m", "flows.server", "stop")
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1, default=vars))


@dataclass(frozen=True)
class Turn:
    """`to_model`: seconds until there is a model with its predictions."""

    used: Measured
    to_model: float
    result: float


def compare(bench: Bench, name: str, repeats: int) -> dict[str, list[Turn]]:
    file = verified_file(name, bench)
    script = [sys.executable, "-m", "benchmarks.book_scripts", name, "--script", str(file)]
    turns: dict[str, list[Turn]] = {"script": [], "modelkeep": []}
    for seed in range(repeats):
        turns["script"].append(measure_script(bench, script))
        for way, settings in ways(name).items():
            turns.setdefault(way, []).append(measure_ours(bench, name, seed, settings))
        if name in BY_HAND:
            by_hand = [sys.executable, "-m", BY_HAND[name], str(file)]
            turns.setdefault("by hand", []).append(measure_script(bench, by_hand))
    return turns


def ways(name: str) -> dict[str, dict[str, str]]:
    """Settings by what a row is called."""
    from problems.outline.catalogue import load_problem

    features = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has_bfloat16 = "avx512_bf16" in features or "amx_bf16" in features
    return {"modelkeep": {}} | ({"bfloat16": MIXED} if has_bfloat16 and load_problem(name).mixed_precision else {})


def show(name: str, turns: dict[str, list[Turn]]) -> None:
    """Times as fast: to the model, and as a whole process."""
    floor: Turn | None = None
    for way, measured in turns.items():
        used = (statistics.median(getattr(turn.used, field) for turn in measured) for field in
                ("wall", "cpu", "server_cpu", "peak_mb"))  # fmt: skip
        to_model, result = (statistics.median(getattr(turn, field) for turn in measured) for field in
                            ("to_model", "result"))  # fmt: skip
        middle = Turn(Measured(*used), to_model, result)
        floor = floor or middle
        gained = floor.to_model / to_model, floor.used.wall / middle.used.wall, floor.used.peak_mb / middle.used.peak_mb
        cpu, gigabytes = middle.used.cpu + middle.used.server_cpu, middle.used.peak_mb / 1024
        told = [f"{result:.4f}", *(f"{seconds:.1f}" for seconds in (middle.used.wall, to_model, cpu))]
        told += [f"{number:.2f}" for number in (gigabytes, *gained)]
        print(f"{name:<16}{way:<12}" + "".join(f"{one:>8}" for one in told), flush=True)


def verified_file(name: str, bench: Bench) -> Path:
    """The problem's raw file, found and verified as `ingest` does it."""
    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.ingest import Wanted, fetch

    problem = load_problem(name)
    source = next(source for source in problem.sources if source.name == JOBS[name].file)
    store = open_store(str(bench.folder / "raw"))
    return store.local_path(
        fetch(source, store, Wanted(name, bench.environment["MODELKEEP_MIRROR"], data="", full=True)).ref
    )


def measure(bench: Bench, command: list[str], settings: dict[str, str] | None = None) -> tuple[Measured, float, str]:
    """What a whole process used, when it began (time.time()), and what it printed."""
    begin = time.time()
    with tempfile.TemporaryFile("w+") as said:
        # A model that is trained for a few epochs only may be refused, which is exit code 1.
        used = bench.measure(command, said, environment={**bench.environment, **(settings or {})}, exit_codes=(0, 1))
        said.seek(0)
        return used, begin, said.read()


def measure_script(bench: Bench, command: list[str]) -> Turn:
    used, _, said = measure(bench, command)
    found = re.search(r"result ([\d.]+)", said)
    assert found, said
    return Turn(used, used.wall, float(found[1]))


def measure_ours(bench: Bench, name: str, seed: int, settings: dict[str, str]) -> Turn:
    shutil.rmtree(bench.store, ignore_errors=True)
    command = [*MODELKEEP, "train", name, *JOBS[name].options, "--seed", str(seed)]
    used, begin, _ = measure(bench, command, settings)
    fitted = max(path.stat().st_mtime for path in bench.store.glob("steps/*/f*/*.json@/*"))
    (manifest,) = bench.store.glob("runs/*/*/manifest.json")
    return Turn(used, fitted - begin, json.loads(manifest.read_text())["metrics"][JOBS[name].metric])


if __name__ == "__main__":
    main()
