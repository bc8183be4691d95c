"""A search and a cross-validation on two hosts, and a search that loses one of them.

    python benchmarks/hosts.py [--trials 8] [--epochs 260] [--json FILE]

The hosts are two network namespaces of this machine (Linux, root). One has the flow, a Prefect server, the store in S3
(SeaweedFS), the studies in PostgreSQL, Dask's scheduler and a worker; the other has a worker, and reaches all this by
address, over a pair of virtual Ethernet devices. They share this machine's cores: the table shows what the way over
the network costs beside one process and beside processes of one host, not what another machine's cores would bring.
Then a search is begun twice, and in its middle the cable is cut, or the other host's worker killed. The whole needs the
extras `dask`, `s3` and `postgres`, and PostgreSQL's programs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.peers.bench import MARK, MODELKEEP, Bench, end, leave_out, marked
from benchmarks.scale import name_jobs
from flows.runner import share_of_cores

HERE, THERE = "10.77.0.1", "10.77.0.2"
API, SCHEDULER, POSTGRES = 4200, 8786, 5432
ADDRESS = f"dask://{HERE}:{SCHEDULER}"
INSIDE = "MODELKEEP_BENCH_INSIDE"
Variables = dict[str, str]


@dataclass(frozen=True)
class Cut:
    """`seconds` from the cut until the search had ended; `states` how many trials are in which state."""

    cause: str
    exit_code: int
    seconds: float
    states: dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=260)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if missing := name_missing():
        leave_out(f"Not run: two hosts on one machine need {missing}.")
    if INSIDE not in os.environ:  # again, in a network of its own, which ends with the process
        os.execvpe("unshare", ["unshare", "--net", *sys.orig_argv], {**os.environ, INSIDE: "1"})
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder, other_host() as host:
        bench = Bench(Path(folder))
        with services(bench) as shared:
            walls = measure(bench, shared, host, name_jobs(arguments.trials, arguments.epochs))
            cuts = [lose_host(bench, shared, host, cause, arguments.trials) for cause in ("killed", "cable cut")]
    show(walls, cuts)
    if arguments.json:
        arguments.json.write_text(json.dumps({"walls": walls, "cuts": [vars(cut) for cut in cuts]}, indent=1))


def name_missing() -> str:
    """What this machine lacks, in words; empty where it lacks nothing."""
    from tests.stores import find_seaweed

    needed = ("ip", "unshare", "nsenter", "runuser", "initdb", "postgres")
    programs = [name for name in needed if not shutil.which(name)]
    modules = {"prefect_dask": "dask", "psycopg2": "postgres"}
    lacking = {
        "root, on Linux": sys.platform != "linux" or os.geteuid() != 0,
        f"the programs {', '.join(programs)}": programs,
        "SeaweedFS (the extra s3)": find_seaweed() is None,
        **{f"the extra {extra}": importlib.util.find_spec(name) is None for name, extra in modules.items()},
    }
    return "; ".join(what for what, lacks in lacking.items() if lacks)


# --- the hosts and what is on them ---------------------------------------------------------------------------------


@contextmanager
def other_host() -> Iterator[int]:
    """A process in the network of the other host, which a cable joins to this one's."""
    with running(["unshare", "--net", "sleep", "infinity"], {**os.environ}) as process:
        network = Path(f"/proc/{process.pid}/ns/net")
        wait_until(lambda: network.readlink() != Path("/proc/self/ns/net").readlink(), "another network")
        call("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(process.pid))
        for address, enter in ((HERE, []), (THERE, on_host(process.pid))):
            call(*enter, "ip", "address", "add", f"{address}/24", "dev", "cable")
            call(*enter, "ip", "link", "set", "cable", "up")
            call(*enter, "ip", "link", "set", "lo", "up")
        yield process.pid


def on_host(pid: int) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net", "--"]


@contextmanager
def services(bench: Bench) -> Iterator[Variables]:
    """A Prefect server, an S3 server with a bucket and PostgreSQL on this host; the variables that name them."""
    from tests.stores import boto3_environment, find_seaweed, make_bucket, seaweed_server

    program, s3 = find_seaweed(), bench.folder / "s3"
    assert program is not None
    s3.mkdir()
    with ExitStack() as stack:
        endpoint = stack.enter_context(seaweed_server(program, s3, HERE))
        stack.enter_context(postgres())
        server = ["-m", "prefect", "server", "start", "--host", HERE, "--port", str(API)]
        stack.enter_context(running([sys.executable, *server], bench.environment))
        url = f"http://{HERE}:{API}/api"
        wait_until(lambda: answers(url), "the Prefect server", 180)
        bucket = make_bucket(endpoint)
        yield {
            **bench.environment,
            **boto3_environment(endpoint),
            "PREFECT_API_URL": url,
            "MODELKEEP_STORE": f"s3://{bucket}",
        }


def answers(url: str) -> bool:
    from flows.server import answers

    return answers(url, timeout_seconds=1.0)


@contextmanager
def postgres() -> Iterator[None]:
    """PostgreSQL that trusts both hosts, in a folder that its own user may enter."""
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as folder:
        shutil.chown(folder, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        call(*as_postgres, "initdb", "-D", f"{folder}/data", "-A", "trust", "--no-sync")
        with Path(folder, "data/pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {THERE}/32 trust\nhost all all {HERE}/32 trust\n")
        command = ["postgres", "-D", f"{folder}/data", "-h", HERE, "-p", str(POSTGRES), "-k", folder]
        with running([*as_postgres, *command], {**os.environ}):
            wait_until(lambda: query("postgres", "select 1") is not None, "PostgreSQL")
            yield


def query(database: str, statement: str) -> list[tuple[object, ...]] | None:
    """The rows of an answer; None where there is none yet."""
    import psycopg2

    try:
        connection = psycopg2.connect(host=HERE, port=POSTGRES, user="postgres", dbname=database)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    except (psycopg2.OperationalError, psycopg2.errors.UndefinedTable):
        return None


@contextmanager
def cluster(environment: Mapping[str, str], host: int) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler here and a worker on each host; the other host's worker."""
    from distributed import Client

    environment = {**environment, **share_of_cores(2), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
    python, address = [sys.executable, "-m"], f"tcp://{HERE}:{SCHEDULER}"
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", HERE, "--port", str(SCHEDULER), "--no-dashboard"]
    worker = [*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--host"]
    with running(scheduler, environment), running([*worker, HERE], environment):
        with running([*on_host(host), *worker, THERE], environment) as there:
            with Client(address) as client:
                client.wait_for_workers(2, timeout=120)
            yield there


@contextmanager
def running(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is asked to end; what it started and is still there is killed."""
    mark, quiet = f"{time.monotonic_ns()}", subprocess.DEVNULL
    process = subprocess.Popen(command, env={**environment, MARK: mark}, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        end(marked(mark))
        process.wait()


def call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def wait_until(come: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not come():
        if time.monotonic() > deadline:
            sys.exit(f"{what} was waited for in vain, for {seconds:.0f} s")
        time.sleep(0.1)


# --- what is measured ----------------------------------------------------------------------------------------------


def measure(bench: Bench, shared: Variables, host: int, jobs: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Wall seconds of each job in one process, in two of this host, and in one of each host, which are there before."""
    walls: dict[str, dict[str, float]] = {name: {} for name in jobs}
    for name, job in jobs.items():
        for runner, title in (("threads", "one process"), ("dask", "two processes"), (ADDRESS, "two hosts")):
            environment = new_place(shared, runner)
            with cluster(environment, host) if runner == ADDRESS else nullcontext():
                measured = bench.measure([*MODELKEEP, *job], environment=environment, exit_codes=(0, 1))
            walls[name][title] = measured.wall
            print(f"  {name}, {title}: {measured.wall:.1f} s", file=sys.stderr)
    return walls


def new_place(shared: Variables, runner: str) -> Variables:
    """As `shared`, with an empty store and an empty database of studies."""
    name = f"place{time.monotonic_ns()}"
    assert query("postgres", f"create database {name}") is not None
    return {
        **shared,
        "MODELKEEP_RUNNER": runner,
        "MODELKEEP_STORE": f"{shared['MODELKEEP_STORE']}/{name}",
        "MODELKEEP_STUDIES": f"postgresql://postgres@{HERE}:{POSTGRES}/{name}",
    }


def lose_host(bench: Bench, shared: Variables, host: int, cause: str, trials: int) -> Cut:
    """Begin a search on both hosts, and lose the other when two trials are done and two are under way."""
    environment = new_place(shared, ADDRESS)
    studies = environment["MODELKEEP_STUDIES"].rpartition("/")[2]
    [job] = [job for name, job in name_jobs(trials, 1).items() if name.startswith("tune")]
    with cluster(environment, host) as worker:
        process, _ = bench.start([*MODELKEEP, *job], environment=environment)
        wait_until(lambda: is_half_way(count_states(studies)), "the middle of the search", 600)
        if cause == "killed":
            end([worker.pid, *children(worker.pid)])
        else:
            call("ip", "link", "set", "cable", "down")
        begin = time.monotonic()
        exit_code = process.wait(1200)
        seconds = time.monotonic() - begin
    call("ip", "link", "set", "cable", "up")
    return Cut(cause, exit_code, seconds, count_states(studies))


def is_half_way(states: Mapping[str, int]) -> bool:
    return states.get("RUNNING", 0) >= 2 and sum(states.values()) >= 4


def count_states(database: str) -> dict[str, int]:
    rows = query(database, "select state::text, count(*) from trials group by state") or []
    return {str(state): int(str(number)) for state, number in rows}


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found]


def show(walls: Mapping[str, Mapping[str, float]], cuts: Sequence[Cut]) -> None:
    print(f"{'':<26}{'':<15}{'wall s':>8}{'speed-up':>10}")
    for name, row in walls.items():
        for title, wall in row.items():
            print(f"{name:<26}{title:<15}{wall:>8.1f}{row['one process'] / wall:>10.2f}")
    for cut in cuts:
        states = ", ".join(f"{number} {state.lower()}" for state, number in sorted(cut.states.items()))
        print(f"the other host {cut.cause}: exit code {cut.exit_code} after {cut.seconds:.0f} s; trials: {states}")


if __name__ == "__main__":
    main()
