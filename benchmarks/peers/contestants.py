"""Who does the house-price job in `benchmarks/main_job.py`: modelkeep, and other orchestrators as their pages teach it.

A peer is installed on demand into an environment of its own under `.run/peers`, with the job's own packages in the
versions of requirements.lock; Prefect is modelkeep's own. None may send usage data.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.bench import MODELKEEP, ROOT, Bench, Measured
from benchmarks.peers.job import EPOCHS, UNITS

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".run" / "peers"
QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
STEP_LINE = re.compile(r"(ingest|validate|prepare|fold \d|fit|register) {2,}")


@dataclass(frozen=True)
class Peer:
    """`command` makes the job's command of units and epochs; `after_kill`, where it is another, is what the peer offers
    for going on. `product` is the model. `prepare` is done in each new folder and not measured. `books` is the SQLite
    database with the peer's runs, and the query that counts those that it takes for running."""

    name: str
    command: Callable[[int, int], Sequence[str]]
    after_kill: Sequence[str] = ()
    product: str = "products/model.keras"
    prepare: Sequence[Sequence[str]] = ()
    books: tuple[str, str] | None = None


def _options(*command: str) -> Callable[[int, int], Sequence[str]]:
    return lambda units, epochs: [*command, "--units", str(units), "--epochs", str(epochs)]


def _file(name: str, content: str, command: str) -> Callable[[int, int], Sequence[str]]:
    """A command whose parameters are in a file."""
    script = f'printf "{content}" "$0" "$1" > {name} && exec {command}'
    return lambda units, epochs: ["sh", "-c", script, str(units), str(epochs)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "luigi",
            _options("luigi", "--module", "pipeline", "Evaluate", "--local-scheduler"),
            product="products/units-{units}-epochs-{epochs}/model.keras",
        ),
        Peer("kedro", lambda units, epochs: ["kedro", "run", f"--params=units={units},epochs={epochs}"]),
        Peer(
            "dvc",
            _file("params.yaml", r"units: %s\nepochs: %s\n", "dvc repro"),
            prepare=(["git", "init", "--quiet"], ["dvc", "init", "--quiet"]),
        ),
        Peer("metaflow", _options("python", "flow.py", "run"), after_kill=["python", "flow.py", "resume"]),
        Peer(
            "dagster",
            _file(
                "run.yaml",
                "ops: {folds: {config: &c {units: %s, epochs: %s}}, fitted: {config: *c}}",
                "dagster asset materialize --select '*' -f definitions.py -c run.yaml",
            ),
            books=("history/runs.db", "select count(*) from runs where status in ('STARTING', 'STARTED')"),
        ),
        Peer(
            "prefect",
            _options("python", "flow.py"),
            prepare=(["prefect", "server", "database", "upgrade", "--yes"],),
            books=("prefect.db", "select count(*) from flow_run where state_type = 'RUNNING'"),
        ),
    )
}


class Contestant(ABC):
    """Does the job in a folder, and can be asked what it did."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.environment = bench.environment
        self.where = ROOT

    @abstractmethod
    def begin_anew(self) -> None:
        """Forget everything that was made."""

    @abstractmethod
    def command(self, units: int, epochs: int, *, after_kill: bool = False) -> Sequence[str]: ...

    @abstractmethod
    def steps_done(self) -> list[str]:
        """What the last command did, and did not find done."""

    @abstractmethod
    def products(self, units: int, epochs: int) -> list[Path]:
        """The file of the model, under all its names."""

    @abstractmethod
    def num_running(self) -> int | None:
        """How many runs are running by its own books; None where it keeps none."""

    @abstractmethod
    def prepare_run(self) -> None:
        """What has to be so before a command, and is not measured."""

    def run(self, units: int = UNITS, epochs: int = EPOCHS) -> Measured:
        self.prepare_run()
        return self.bench.measure(self.command(units, epochs), environment=self.environment, where=self.where)

    def is_fitting(self) -> bool:
        """Whether the model is being trained, the cross-validation being over."""
        return "train" in self.steps_done()


class Pipeline(Contestant):
    def __init__(self, bench: Bench, peer: Peer, programs: Path) -> None:
        super().__init__(bench)
        self.peer = peer
        self.where = bench.folder / peer.name
        self.home = self.where / "home"
        self.notes = self.where / "steps.txt"
        homes = dict.fromkeys(("HOME", "DAGSTER_HOME", "PREFECT_HOME", "DVC_SITE_CACHE_DIR"), str(self.home))
        self.environment = {
            **bench.environment,
            **QUIET,
            **homes,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}.",
            "HOUSING_STEPS": str(self.notes),
            "USERNAME": "bench",  # Metaflow asks who runs it
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }

    def begin_anew(self) -> None:
        shutil.rmtree(self.where, ignore_errors=True)
        shutil.copytree(HERE / self.peer.name, self.where)
        self.home.mkdir(exist_ok=True)
        for command in self.peer.prepare:
            subprocess.run(command, env=self.environment, cwd=self.where, check=True, capture_output=True)

    def prepare_run(self) -> None:
        self.notes.unlink(missing_ok=True)

    def command(self, units: int, epochs: int, *, after_kill: bool = False) -> Sequence[str]:
        return self.peer.after_kill if after_kill and self.peer.after_kill else self.peer.command(units, epochs)

    def steps_done(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []

    def products(self, units: int, epochs: int) -> list[Path]:
        return [self.where / self.peer.product.format(units=units, epochs=epochs)]

    def num_running(self) -> int | None:
        return count(self.home / self.peer.books[0], self.peer.books[1]) if self.peer.books else None


class Modelkeep(Contestant):
    """With the local Prefect server running, or started by each run. Checkpoints are made more often than every 5 s,
    so that a training that is killed after 1.5 s has one."""

    def __init__(self, bench: Bench, *, has_server: bool) -> None:
        super().__init__(bench)
        self.has_server = has_server
        self.store = bench.folder / f"store-{'with' if has_server else 'without'}-server"
        self.environment = {
            **bench.environment,
            "MODELKEEP_STORE": str(self.store),
            "MODELKEEP_CHECKPOINT_SECONDS": "0.5",
        }

    def begin_anew(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)

    def prepare_run(self) -> None:
        self.bench.command("-m", "flows.server", "start" if self.has_server else "stop")

    def command(self, units: int, epochs: int, *, after_kill: bool = False) -> Sequence[str]:
        return [*MODELKEEP, "train", "housing", "--set", f"units={units}", "--set", f"epochs={epochs}"]

    def steps_done(self) -> list[str]:
        """By its lines: every step says what it did, or that it is unchanged."""
        lines = [line for line in self.bench.errors.read_text().splitlines() if STEP_LINE.match(line)]
        return [" ".join(line.partition(",")[0].split()) for line in lines if not line.endswith("unchanged")]

    def products(self, units: int, epochs: int) -> list[Path]:
        newest = max(self.store.glob("runs/housing/*/fit/model.keras"), key=lambda path: path.stat().st_mtime_ns)
        return [path for path in self.store.rglob("model.keras") if path.samefile(newest)]

    def num_running(self) -> int | None:
        return count(Path(self.environment["PREFECT_HOME"], "prefect.db"), PEERS["prefect"].books[1])

    def is_fitting(self) -> bool:
        return any(line.startswith("fold 4") for line in self.bench.errors.read_text().splitlines())


def count(database: Path, query: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


def install(name: str) -> Path | None:
    """The folder with a peer's programs; None where it cannot be installed."""
    if name == "prefect":
        return Path(sys.executable).parent
    return install_peer(name, ["-r", str(HERE / "job.txt"), "--constraint", str(ROOT / "requirements.lock")])


def install_peer(name: str, besides: Sequence[str] = ()) -> Path | None:
    """An environment with what a peer's own file requires, and with what `besides` says as uv's options."""
    place, required = ENVIRONMENTS / name, HERE / name / "requirements.txt"
    ready, wanted = place / "ready", required.read_text()
    if ready.exists() and ready.read_text() == wanted:
        return place / "bin"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        return None
    into = ["--python", str(place / "bin" / "python"), "-r", str(required), *besides]
    print(f"installing {name} into {place} (once) ...", file=sys.stderr)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", *into],
    ):
        if subprocess.run(command, check=False).returncode:
            return None
    ready.write_text(wanted)
    return place / "bin"
