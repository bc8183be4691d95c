"""What the data gate costs beside Great Expectations used directly, on clean data.

    python -m benchmarks.data_checks [--json PATH] [--repeats N]

Each suite is run in turn by Great Expectations alone (ephemeral context, BOOLEAN_ONLY: the least that it can do),
by Great Expectations with SUMMARY, and by `validation.gate.validate`; the medians of CPU seconds and their ratios
to the first are printed. The frames have the shapes of the Boston house prices (506 x 14) and of the credit card
fraud data (284,807 x 31). The cost of importing and of a refusal is measured too.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

if TYPE_CHECKING:
    import pandas as pd


def make_frame(num_rows: int, num_columns: int) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    values = np.random.default_rng(0).normal(size=(num_rows, num_columns))
    return pd.DataFrame(values, columns=[f"v{number}" for number in range(num_columns)])


def make_suite(frame: pd.DataFrame, num_expectations: int) -> list[Any]:
    from great_expectations import expectations as gxe

    suite: list[Any] = [gxe.ExpectTableRowCountToBeBetween(min_value=1)]
    for column in frame.columns:
        suite += [
            gxe.ExpectColumnValuesToNotBeNull(column=column),
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=-100, max_value=100),
        ]
    return suite[:num_expectations]


def run_directly(frame: pd.DataFrame, suite: list[Any], result_format: str) -> bool:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
    return bool(batch.validate(gx.ExpectationSuite("suite", expectations=suite), result_format=result_format).success)


def median_seconds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each way. They take turns, so that a noisy moment falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):  # the first turn warms up
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def measure(num_rows: int, num_columns: int, num_expectations: int, repeats: int) -> dict[str, float]:
    from validation.gate import validate

    frame = make_frame(num_rows, num_columns)
    spoilt = frame.assign(v0=frame["v0"].where(frame.index != 7), v1=frame["v1"] * 1000)
    suite = make_suite(frame, num_expectations)
    assert validate(frame, suite, name="clean").success
    assert len(validate(spoilt, suite, name="spoilt").failures) == 2
    ways: dict[str, Callable[[], object]] = {
        "Great Expectations, BOOLEAN_ONLY": lambda: run_directly(frame, suite, "BOOLEAN_ONLY"),
        "Great Expectations, SUMMARY": lambda: run_directly(frame, suite, "SUMMARY"),
        "modelkeep's gate": lambda: validate(frame, suite, name="clean"),
        "modelkeep's gate, two checks fail": lambda: validate(spoilt, suite, name="spoilt"),
    }
    return median_seconds(ways, repeats)


def measure_summaries(repeats: int) -> dict[str, float]:
    import numpy as np

    from validation.summaries import summarise_images, summarise_sequences

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28), dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 470, 25_000))])
    tokens = rng.integers(0, 10_000, offsets[-1], dtype=np.int32)
    ways: dict[str, Callable[[], object]] = {
        "60,000 images of 28 x 28": lambda: summarise_images(images),
        f"25,000 sequences, {len(tokens):,} tokens": lambda: summarise_sequences(tokens, offsets),
    }
    return median_seconds(ways, repeats)


def import_seconds(repeats: int) -> dict[str, float]:
    """CPU seconds of a fresh process for each import. Its byte code is compiled by the first, which is not counted."""
    program = "import time; started = time.process_time(); import {}; print(time.process_time() - started)"

    def once(module: str) -> float:
        command = [sys.executable, "-c", program.format(module)]
        root = Path(__file__).resolve().parent.parent
        return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)

    modules = ("pandas", "great_expectations", "validation.gate", "problems.outline.raw")
    return {module: statistics.median([once(module) for _ in range(repeats + 1)][1:]) for module in modules}


def print_table(title: str, seconds: dict[str, float], *, with_ratios: bool) -> None:
    print(f"\n{title}")
    base = next(iter(seconds.values()))
    for name, taken in seconds.items():
        print(f"  {name:<40} {taken:8.4f} s{f'   x {taken / base:5.2f}' if with_ratios else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures there")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is measured (default: 7)")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for shape in ((506, 14, 20), (284_807, 31, 60)):
        title = f"{shape[0]:,} x {shape[1]}, {shape[2]} expectations, CPU seconds"
        figures[title] = measure(*shape, arguments.repeats)
        print_table(title, figures[title], with_ratios=True)
    figures["summaries"] = measure_summaries(arguments.repeats)
    print_table("Summaries, CPU seconds", figures["summaries"], with_ratios=False)
    figures["imports"] = import_seconds(min(3, arguments.repeats))
    print_table("Imports in a fresh process, CPU seconds", figures["imports"], with_ratios=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
