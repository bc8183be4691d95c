"""The house-price job through modelkeep, other orchestrators and a plain script: time, memory, and what they survive.

    python benchmarks/main_job.py [--repeats 3] [--peers luigi,dvc,…] [--skip-hardships] [--json FILE]

All read the same rows, check them, cross-validate, train, evaluate and write the same files, with one and the same
training loop; “Model.fit” is the plain script with Keras' own. Peers are installed on demand (`benchmarks/peers`) and
used as their pages teach, Prefect naively: plain tasks, and the server that it starts for each run.

Cold is an empty folder, then one hyperparameter is another, then nothing is. The rows take turns, so that a change of
the machine's speed meets all; medians. Model.fit, which takes long, has one turn. CPU seconds count the process, those
that it waited for, and modelkeep's server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.peers.bench import ROOT, Bench, Measured
from benchmarks.peers.contestants import PEERS, Contestant, Modelkeep, Pipeline, install
from benchmarks.peers.hardships import Outcome, cut_model, kill, lose_model

FLOOR = "plain script"
OTHER_UNITS = 48
STATES = ("cold", "one changed", "nothing changed")
HARDSHIPS = {"model deleted": lose_model, "model cut short": cut_model, "kill -9 while fitting": kill}

Times = dict[str, dict[str, list[Measured]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS), help="which ones, with commas; empty for none")
    parser.add_argument("--skip-hardships", action="store_true", help="measure times and memory only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        bench = Bench(Path(folder))
        contestants = enter(bench, [name for name in arguments.peers.split(",") if name])
        bench.command("-m", "flows.server", "prepare")
        try:
            times = compete(bench, contestants, arguments.repeats)
            show(times)
            outcomes = {} if arguments.skip_hardships else suffer(contestants)
        finally:
            bench.command("-m", "flows.server", "stop")
    if arguments.json:
        arguments.json.write_text(json.dumps({"times": times, "hardships": outcomes}, indent=1, default=asdict))


def enter(bench: Bench, names: Sequence[str]) -> dict[str, Contestant]:
    contestants: dict[str, Contestant] = {
        "modelkeep": Modelkeep(bench, has_server=True),
        "modelkeep, no server": Modelkeep(bench, has_server=False),
    }
    for name in names:
        programs = install(name)
        if programs is None:
            print(f"{name} cannot be installed here", file=sys.stderr)
        else:
            contestants[name] = Pipeline(bench, PEERS[name], programs)
    return contestants


def compete(bench: Bench, contestants: dict[str, Contestant], repeats: int) -> Times:
    plain(bench, "modelkeep")  # the file cache is warm for everybody
    times: Times = {}
    for repeat in range(repeats):
        times.setdefault(FLOOR, {}).setdefault("cold", []).append(plain(bench, "modelkeep"))
        if repeat == 0:
            times[f"{FLOOR}, Model.fit"] = {"cold": [plain(bench, "keras")]}
        for name, contestant in contestants.items():
            contestant.begin_anew()
            row = times.setdefault(name, {})
            row.setdefault("cold", []).append(contestant.run())
            for state in STATES[1:]:
                row.setdefault(state, []).append(contestant.run(OTHER_UNITS))
            print(
                f"  {name}: " + ", ".join(f"{state} {row[state][-1].wall:.1f} s" for state in STATES), file=sys.stderr
            )
    return times


def plain(bench: Bench, loop: str) -> Measured:
    script = str(ROOT / "benchmarks" / "peers" / "plain_housing.py")
    return bench.measure([sys.executable, script, str(bench.folder / "plain"), "--loop", loop])


def show(times: Times) -> None:
    floor = middle(times[FLOOR]["cold"])
    print(f"{'':<24}{'cold':>14}{'':>7}{'one changed':>14}{'':>7}{'nothing changed':>17}{'peak':>8}")
    print(
        f"{'':<24}{'wall s':>7}{'CPU s':>7}{'×':>7}{'wall s':>7}{'CPU s':>7}{'×':>7}{'wall s':>9}{'CPU s':>8}{'MB':>8}"
    )
    for name, row in times.items():
        cells = f"{name:<24}"
        for state in STATES:
            one = middle(row[state]) if state in row else None
            if one is None:
                cells += f"{'–':>7}{'–':>7}{'–':>7}" if state != STATES[-1] else f"{'–':>9}{'–':>8}"
            elif state == STATES[-1]:
                cells += f"{one.wall:>9.2f}{one.cpu + one.server_cpu:>8.2f}"
            else:
                ratio = (one.cpu + one.server_cpu) / (floor.cpu + floor.server_cpu)
                cells += f"{one.wall:>7.1f}{one.cpu + one.server_cpu:>7.1f}{ratio:>7.2f}"
        print(f"{cells}{max(one.peak_mb for one in row['cold']):>8.0f}")
    print(f"× are CPU seconds over those of “{FLOOR}”, cold. Medians.")


def middle(measured: Sequence[Measured]) -> Measured:
    return Measured(
        *(statistics.median(values) for values in zip(*(vars(one).values() for one in measured), strict=True))
    )


def suffer(contestants: dict[str, Contestant]) -> dict[str, dict[str, Outcome]]:
    outcomes: dict[str, dict[str, Outcome]] = {}
    for name, contestant in contestants.items():
        if name == "modelkeep, no server":
            continue
        print(f"\n{name}")
        for hardship, meet in HARDSHIPS.items():
            met = outcomes.setdefault(name, {})[hardship] = meet(contestant, OTHER_UNITS)
            print(f"  {hardship:<24}{describe(met)}", flush=True)
    return outcomes


def describe(met: Outcome) -> str:
    end = "" if met.exit_code == 0 else f"exit code {met.exit_code}; "
    done = ", ".join(met.steps) or "nothing"
    orphans = f"; {met.orphans} processes lived on" if met.orphans else ""
    running = f"; {met.running} runs are running by its books" if met.running else ""
    return f"{end}done again: {done}; the model is {'whole' if met.is_whole else 'not whole'}{orphans}{running}"


if __name__ == "__main__":
    main()
