"""What drift measurement costs beside plain scipy, how often it alarms without drift, and which shifts it finds.

    python -m benchmarks.drift [--rows N ...] [--repetitions N] [--without-evidently] [--json PATH]

Costs: CPU seconds (the imports left out) of `tasks.drift.measure_drift` for a window of N × 30 numbers, against a
reference of 50,000 rows; of the same tests by scipy alone, on all rows; and of PSI alone for a window that is counted
in the reference's bins already. Evidently, the library that most would take, cannot be imported beside pandas 3; its
DataDriftPreset is run on the same windows, for alarms on a quarter of them, in an environment of its own that is
installed on demand.

Alarms: windows of 500 and 5,000 rows of 30 correlated columns (every two by 0.3), without drift, and with 3 columns
shifted by 0.1, 0.2 and 0.3 standard deviations. An alarm is a level of `warn` or above in one window.

Embeddings: windows of 500 real digits, straight and turned, against the embeddings of 1,000 others, of an mlp that
2,000 more have trained for five epochs; the only test of its window here. The area is the mean one under the ROC curve.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tasks.reference import Reference

NUM_COLUMNS = 30
NUM_SHIFTED = 3
NUM_REFERENCE = 50_000
REFERENCE_ROWS = 10_000  # of each repetition
WINDOW_ROWS = (500, 5000)
SHIFTS = (0.0, 0.1, 0.2, 0.3)
CORRELATION = 0.3


def draw(num_rows: int, random: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    common = random.normal(size=(num_rows, 1))
    values = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * random.normal(size=(num_rows, NUM_COLUMNS))
    values[:, :NUM_SHIFTED] += shift
    return pd.DataFrame(values, columns=[f"c{number:02d}" for number in range(NUM_COLUMNS)])


def predict(frame: pd.DataFrame) -> pd.DataFrame:
    """A model that goes by all columns alike."""
    return frame.mean(axis=1).to_frame("prediction")


def refer(frame: pd.DataFrame) -> Reference:
    import numpy as np

    from problems.outline import Examples, Regression, SplitRows
    from tasks.reference import make_reference

    rows = np.arange(len(frame))
    split = SplitRows(train=rows[:-100], validation=rows[:0], test=rows[-100:])
    return make_reference(Regression(), Examples({}, np.zeros(len(frame)), frame), split, [predict(frame)], seed=0)


def measure(reference: Reference, window: pd.DataFrame) -> dict[str, Any]:
    from problems.outline import Drift
    from tasks.drift import measure_drift

    profiles = {"data": reference.data, "predictions": reference.predictions}
    return measure_drift(profiles, {"data": window, "predictions": predict(window)}, Drift())


def measure_with_scipy(frame: pd.DataFrame, window: pd.DataFrame) -> list[tuple[float, float]]:
    """p and Wasserstein distance of each column, on all rows of both sides."""
    from scipy.stats import ks_2samp, wasserstein_distance

    found = []
    for name in frame:
        before, now = frame[name].to_numpy(), window[name].to_numpy()
        p = ks_2samp(before, now, method="asymp").pvalue
        found.append((float(p), float(wasserstein_distance(before, now) / before.std())))
    return found


def compare_counts(reference: Reference, counted: dict[str, np.ndarray]) -> list[float | None]:
    import numpy as np

    from tasks.drift import psi

    return [psi(np.asarray(reference.data.columns[name]["counts"]), counts) for name, counts in counted.items()]


def count(reference: Reference, window: pd.DataFrame) -> dict[str, np.ndarray]:
    import numpy as np

    from tasks.reference import count_in_bins

    return {
        name: count_in_bins(window[name].to_numpy(), np.asarray(profile["edges"]))
        for name, profile in reference.data.columns.items()
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return round(time.process_time() - begin, 3)


def time_windows(sizes: list[int]) -> list[dict[str, Any]]:
    import numpy as np

    random = np.random.default_rng(0)
    frame = draw(NUM_REFERENCE, random)
    reference = refer(frame)
    measure(reference, frame[:600])  # what is imported at the first call
    rows = []
    for size in sizes:
        window = draw(size, random)
        counted = count(reference, window)
        rows.append(
            {
                "rows": size,
                "columns": NUM_COLUMNS,
                "measure_drift": cpu_seconds(partial(measure, reference, window)),
                "scipy on all rows": cpu_seconds(partial(measure_with_scipy, frame, window)),
                "counting into bins": cpu_seconds(partial(count, reference, window)),
                "PSI of counts": cpu_seconds(partial(compare_counts, reference, counted)),
            }
        )
    return rows


def count_alarms(repetitions: int) -> list[dict[str, Any]]:
    """Each repetition has a reference and windows of its own."""
    import numpy as np

    rows = []
    for size in WINDOW_ROWS:
        for shift in SHIFTS:
            random = np.random.default_rng(1)
            levels: list[str] = []
            aspects: list[str] = []
            right = 0
            for _ in range(repetitions):
                told = measure(refer(draw(REFERENCE_ROWS, random)), draw(size, random, shift))
                levels.append(told["level"])
                findings = [one for one in told["findings"] if one["level"] != "none"]
                aspects += {one["aspect"] if one["part"] == "data" else "predictions" for one in findings}
                named = {one["column"] for one in findings if one["aspect"] == "values" and one["part"] == "data"}
                right += bool(named) and named <= {f"c{number:02d}" for number in range(NUM_SHIFTED)}
            rows.append(
                {
                    "rows": size,
                    "shift": shift,
                    "alarms": round(float(np.mean([level != "none" for level in levels])), 3),
                    "alerts": round(float(np.mean([level == "alert" for level in levels])), 3),
                    "only shifted columns named": round(right / repetitions, 3) if shift else None,
                    **{aspect: round(aspects.count(aspect) / repetitions, 3) for aspect in ("values", "together")},
                    "predictions": round(aspects.count("predictions") / repetitions, 3),
                }
            )
    return rows


def count_embedding_alarms(repetitions: int) -> list[dict[str, Any]]:
    import keras
    import numpy as np

    from problems.digits import problem, turned
    from problems.outline import Drift
    from store import open_store
    from tasks.embeddings import compare_embeddings, embed, embed_reference
    from tasks.ingest import read_sources

    with tempfile.TemporaryDirectory() as folder:
        examples = read_sources(problem, open_store(f"{folder}/store"), "", "", folder)
    examples = examples.take(np.random.default_rng(0).permutation(len(examples)))
    keras.utils.set_random_seed(0)
    model = problem.build(problem.hyperparameters.from_settings({"network": "mlp"}), examples)
    model.compile("rmsprop", problem.objective.loss())
    train = examples.take(np.arange(2000))
    model.fit({"image": train.features["image"][:]}, train.target, epochs=5, batch_size=128, verbose=0)
    reference = embed_reference(model, examples, np.arange(2000, 3000), seed=0)
    assert reference is not None
    rest, rows = examples.features["image"][:][3000:, ..., 0], []
    for degrees in (0, 5, 10, 20):
        moved = embed(model, {"image": turned(rest, degrees)[..., None]})
        assert moved is not None
        random, drift = np.random.default_rng(1), Drift()
        areas, levels = [], []
        for seed in range(repetitions):
            window = moved[random.choice(len(moved), drift.least_rows, replace=False)]
            (found,) = compare_embeddings(reference, window, drift, seed)
            areas.append(found.effect)
            levels.append(found.limits.level(found.effect) if found.p < drift.significance else "none")
        rows.append(
            {
                "degrees": degrees,
                "area": round(float(np.mean(areas)), 3),
                "alarms": round(float(np.mean([level != "none" for level in levels])), 3),
                "alerts": round(float(np.mean([level == "alert" for level in levels])), 3),
            }
        )
    return rows


def ask_evidently(sizes: list[int], repetitions: int) -> dict[str, list[dict[str, Any]]]:
    """What it costs and what it alarms for; nothing where it cannot be installed."""
    from benchmarks.peers.contestants import HERE, ROOT, install_peer

    programs = install_peer("evidently")
    if programs is None:
        return {}
    command = [
        str(programs / "python"),
        str(HERE / "evidently" / "drift.py"),
        ",".join(map(str, sizes)),
        str(repetitions),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found = json.loads(said.splitlines()[-1])
    return {f"evidently, {name}": rows for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--without-evidently", action="store_true")
    parser.add_argument("--json", type=Path, help="Write the figures to this file.")
    options = parser.parse_args()
    import pandas as pd

    found = {
        "cost": time_windows(options.rows),
        "alarms": count_alarms(options.repetitions),
        "embeddings": count_embedding_alarms(options.repetitions),
        **({} if options.without_evidently else ask_evidently(options.rows, -(-options.repetitions // 4))),
    }
    for name, rows in found.items():
        print(f"\n{name}\n{pd.DataFrame(rows).to_string(index=False)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
