"""Every problem trained with several seeds, and what came out, as one Markdown table.

    python -m benchmarks.results [PROBLEM ...] [--seeds 3] [--full] [--variants] [--json FILE]

Each training is `modelkeep train PROBLEM --seed N` with the settings of the environment (MODELKEEP_STORE,
MODELKEEP_MIRROR); what the store has already is not trained again. A problem whose data cannot be had here is said to
be without, and the rest goes on. Results are the median over seeds and their range; the interval beside it is the
bootstrap interval of the first seed. Seconds are those of the step fit, memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from problems.outline.catalogue import load_problem, problem_names, read_card

COLUMNS = ("problem", "data", "metric", "result", "95 % interval", "common sense", "book", "fit, s", "memory, GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=problem_names())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="whole data where a package carries only a part")
    parser.add_argument("--variants", action="store_true", help="every variant of a problem, and not its defaults only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join(["---"] * len(COLUMNS)) + " |"]
    kept: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.problems:
        for variant in load_problem(name).variants if arguments.variants else ("",):
            title = f"{name} {variant}".strip()
            print(f"training {title} ...", file=sys.stderr)
            runs = [train(name, seed, variant, full=arguments.full) for seed in range(arguments.seeds)]
            kept[title] = runs
            lines.append("| " + " | ".join(describe(name, title, runs)) + " |")
    print("\n".join(lines))
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))


def train(name: str, seed: int, variant: str, *, full: bool) -> dict[str, Any]:
    """What the run's manifest and evaluation say; `fault` in their place where it could not be trained."""
    command = [str(Path(sys.executable).with_name("modelkeep")), "train", name, "--seed", str(seed), "--json"]
    command += ["--variant", variant] if variant else []
    done = subprocess.run([*command, "--full"] if full else command, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        faults = [line for line in done.stderr.splitlines() if line.strip()]
        return {"fault": faults[0] if faults else f"exit code {done.returncode}"}
    return read_run(json.loads(done.stdout)["run"])


def read_run(run: str) -> dict[str, Any]:
    from store import open_store
    from store.artifacts import ArtifactRef
    from tasks.runs import read_manifest
    from tasks.settings import load_settings

    store = open_store(load_settings().store)
    manifest = read_manifest(store, run)
    reference = ArtifactRef.from_dict(manifest["artifacts"]["evaluate/evaluation.json"])
    return {"manifest": manifest, "judged": json.loads(store.read_bytes(reference))}


def describe(name: str, title: str, runs: list[dict[str, Any]]) -> list[str]:
    """The cells of one line."""
    done = [run for run in runs if "fault" not in run]
    if len(done) < len(runs):
        fault = next(run["fault"] for run in runs if "fault" in run)
        return [f"`{title}`", fault.replace("|", "/"), *["—"] * (len(COLUMNS) - 2)]
    first = done[0]["judged"]["evaluation"]
    metric = first["metrics"][first["main_metric"]]
    return [
        f"`{title}`",
        describe_data(done[0]["manifest"]),
        metric["title"] + (f", {metric['unit']}" if metric["unit"] else ""),
        describe_values([run["manifest"]["metrics"][first["main_metric"]] for run in done])
        + ("" if all(run["judged"]["accepted"] for run in done) else " (not accepted)"),
        metric["interval_text"],
        f"{metric['baseline_text']} ({first['baseline_name']})",
        read_card(name).get("book", "").split(";")[0],
        describe_values([run["manifest"]["seconds"].get("fit", 0.0) for run in done], "{:.1f}"),
        describe_values([run["manifest"]["peak_memory_bytes"] / 1e9 for run in done], "{:.2f}"),
    ]


def describe_data(manifest: dict[str, Any]) -> str:
    """How many examples, and whether they are the published ones."""
    differs = sorted({source["differs"] for source in manifest["sources"] if source["differs"]})
    return f"{manifest['num_examples']:,}, " + ("; ".join(differs) if differs else "as published")


def describe_values(values: list[float], form: str = "{:.4g}") -> str:
    texts = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


if __name__ == "__main__":
    main()
