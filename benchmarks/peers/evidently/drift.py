"""Evidently's DataDriftPreset, as its pages teach it, on the windows of `benchmarks/drift.py`; prints JSON.

python drift.py ROWS,… REPETITIONS        run by benchmarks/drift.py in an environment of Evidently's own
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from evidently import Report
from evidently.presets import DataDriftPreset

from benchmarks.drift import NUM_REFERENCE, NUM_SHIFTED, REFERENCE_ROWS, SHIFTS, WINDOW_ROWS, cpu_seconds, draw

if TYPE_CHECKING:
    import pandas as pd


def measure(reference: pd.DataFrame, window: pd.DataFrame) -> dict[str, Any]:
    """Which columns have drifted, and whether the data set has, by the preset's own limits."""
    found = Report([DataDriftPreset()]).run(window, reference).dict()["metrics"]
    counted, values = found[0], found[1:]
    drifted = {one["config"]["column"] for one in values if _is_drift(one)}
    assert len(drifted) == int(counted["value"]["count"]), counted
    return {"columns": drifted, "dataset": counted["value"]["share"] >= counted["config"]["drift_share"]}


def _is_drift(metric: dict[str, Any]) -> bool:
    """Distances drift upwards, p-values downwards."""
    value, threshold = float(metric["value"]), float(metric["config"]["threshold"])
    return value < threshold if "p_value" in metric["config"]["method"] else value >= threshold


def time_windows(sizes: list[int]) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    frame = draw(NUM_REFERENCE, random)
    measure(frame, frame[:600])  # what is imported at the first call
    windows = {size: draw(size, random) for size in sizes}
    return [{"rows": size, "seconds": cpu_seconds(partial(measure, frame, window))} for size, window in windows.items()]


def count_alarms(repetitions: int) -> list[dict[str, Any]]:
    rows = []
    for size in WINDOW_ROWS:
        for shift in SHIFTS:
            random, found = np.random.default_rng(1), []
            for _ in range(repetitions):
                found.append(measure(draw(REFERENCE_ROWS, random), draw(size, random, shift)))
            shifted = {f"c{number:02d}" for number in range(NUM_SHIFTED)}
            right = [one["columns"] and one["columns"] <= shifted for one in found]
            rows.append(
                {
                    "rows": size,
                    "shift": shift,
                    "any column": round(sum(bool(one["columns"]) for one in found) / repetitions, 3),
                    "data set": round(sum(one["dataset"] for one in found) / repetitions, 3),
                    "only shifted columns named": round(sum(map(bool, right)) / repetitions, 3) if shift else None,
                }
            )
    return rows


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1].split(",")]
    print(json.dumps({"cost": time_windows(sizes), "alarms": count_alarms(int(sys.argv[2]))}))
