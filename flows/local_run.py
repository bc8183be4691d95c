"""Running flows on this machine: what the command line does around them."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flows.runner import HERE
from problems.outline.catalogue import ProblemName, load_problem
from tasks.comparison import choose_variants
from tasks.devices import Gpu, settle_gpu
from tasks.requests import Request, backend_name
from tasks.runs import problem_of
from tasks.settings import load_settings

if TYPE_CHECKING:
    from flows.server import ServerAddress
    from flows.train import Trained
    from tasks.monitor import Monitored
    from tasks.retraining import Retrained
    from tasks.score import Scored

logger = logging.getLogger("modelkeep")


def run_train(request: Request, gpu: Gpu = "prefer") -> Trained:
    """Train here, seen by the local Prefect server, which is started if there is none. Raises what the flow raises."""
    load_problem(request.problem).complete(
        request.variant, request.settings
    )  # a mistake is told before anything starts
    quiet_libraries()
    if gpu == "require" or load_settings().devices != 1:
        import_keras()  # which tells whether there is one
    settle_gpu(gpu)
    with seen_by_prefect(request.problem):
        from flows.train import train

        return train(**flow_parameters(request), gpu=gpu)


def run_reproduce(store: str, run: str) -> dict[str, Any]:
    """Train a run again and compare. Raises what the flow raises."""
    with seen_by_prefect(problem_of(run)):
        from flows.reproduce import reproduce

        return reproduce(run=run, store=store)


def run_compare(request: Request, variants: list[str], seeds: int) -> dict[str, Any]:
    """Compare variants; those of the request are its `settings`, which all have. Raises what the flow raises."""
    choose_variants(load_problem(request.problem), variants, request.settings)
    with seen_by_prefect(request.problem, imports_keras=load_settings().runner == HERE):
        from flows.compare import compare

        asked = {name: value for name, value in flow_parameters(request).items() if name not in ("variant", "seed")}
        return compare(variants=variants, seeds=seeds, **asked)


def run_tune(request: Request, trials: int, seeds: int) -> dict[str, Any]:
    """Search hyperparameters; those of the request are fixed. Raises what the flow raises."""
    load_problem(request.problem).complete(request.variant, request.settings)
    with seen_by_prefect(request.problem, imports_keras=load_settings().runner == HERE):
        from flows.tune import tune

        asked = {name: value for name, value in flow_parameters(request).items() if name != "seed"}
        return tune(trials=trials, seeds=seeds, **asked)


def run_explore(request: Request) -> dict[str, Any]:
    """Look at the data of a problem. Raises what the flow raises."""
    with seen_by_prefect(request.problem, imports_keras=False):
        from flows.explore import explore

        wanted = ("problem", "sample", "data", "full", "store")
        return explore(**{name: value for name, value in flow_parameters(request).items() if name in wanted})


def run_predict(problem: str, window: str, output: str, store: str) -> Scored:
    """Score a window here. Raises what the flow raises, and what is wrong with the request before anything starts."""
    from store import open_store
    from tasks.champion import needs_keras
    from tasks.windows import plan_outputs

    found = load_problem(problem)
    imports_keras = needs_keras(open_store(store), problem, in_bulk=True)
    plan_outputs(found, window, output)
    with seen_by_prefect(problem, imports_keras=imports_keras):
        from flows.predict import predict

        return predict(ProblemName(problem), window, output, store)


def run_monitor(problem: str, window: str, data: str, labels: str, store: str) -> Monitored:
    """Monitor a window here. Raises what the flow raises, and what is wrong with the request before anything starts."""
    from store import open_store
    from tasks.champion import find_champion, needs_keras
    from tasks.embeddings import compares_embeddings
    from tasks.kept_windows import choose_window
    from tasks.performance import check_labels
    from tasks.windows import require_rows, require_window

    check_labels(labels, load_problem(problem))
    kept_in = open_store(store)
    if data:
        run, imports_keras = find_champion(kept_in, problem).run, needs_keras(kept_in, problem, in_bulk=True)
        require_window(load_problem(problem), data)
    else:
        require_rows(load_problem(problem))
        run, imports_keras = choose_window(kept_in, problem, window).run, False
    with seen_by_prefect(problem, imports_keras=imports_keras or compares_embeddings(kept_in, run)):
        from flows.monitor import monitor

        return monitor(ProblemName(problem), window, data, labels, store)


def run_retrain(problem: str, data: str, reason: str, cooldown_hours: float, store: str) -> Retrained:
    """Retrain here. Raises what the flow raises; nothing is started where there is nothing to do."""
    from store import open_store
    from tasks.retraining import plan_retraining, stay

    plan = plan_retraining(open_store(store), problem, data, reason, cooldown_hours)
    if plan.stay:
        return stay(problem, plan.stay, plan.cause)
    with seen_by_prefect(problem):
        from flows.retrain import retrain

        return retrain(ProblemName(problem), data, reason, cooldown_hours, store)


def run_simulate(
    problem: str, start: str, every: int, settings: dict[str, Any], variant: str, seed: int, store: str
) -> dict[str, Any]:
    """Simulate here. Raises what the flow raises, and what is wrong with the request before anything starts."""
    from tasks.recent import check_simulation

    found = load_problem(problem)
    check_simulation(found, start)
    found.complete(variant, settings)
    with seen_by_prefect(problem):
        from flows.simulate import simulate

        return simulate(ProblemName(problem), start, every, settings, variant, seed, store)


def flow_parameters(request: Request) -> dict[str, Any]:
    """The request as parameters of the flow `train`."""
    return {
        "problem": request.problem,
        "hyperparameters": dict(request.settings),
        "variant": request.variant,
        "seed": request.seed,
        "sample": request.sample,
        "data": request.data,
        "full": request.full,
        "store": request.store,
    }


@contextmanager
def seen_by_prefect(problem: str, *, imports_keras: bool = True) -> Iterator[None]:
    """A Prefect server is up, this process reports to it, and runs that a killed process left are closed.

    While the server starts, Keras is imported, which takes about as long, unless it is not needed.
    """
    quiet_libraries()
    from flows.run_tags import local_run_tags
    from flows.server import begin_server, close_stale_runs, local_run_settings, use_server

    starting = begin_server(on_progress=logger.info)
    use_server(starting.address)
    if imports_keras:
        import_keras()
    address = starting.wait()
    stop = "; stop it with `modelkeep server stop`" if address.is_local else ""
    logger.info("Prefect   %s%s", address.ui_url, stop)
    from prefect import tags

    with local_run_settings():
        for run in close_stale_runs():
            logger.info("closed the run %s, whose process was gone", run.name)
        with tags(problem, *local_run_tags()), _server_loss_told(address):
            yield


@contextmanager
def _server_loss_told(address: ServerAddress) -> Iterator[None]:
    """Raises ServerUnavailable where the server stays away for longer than Prefect asks it again."""
    from httpx import ConnectError

    from flows.server import ServerUnavailable

    try:
        yield
    except ConnectError as fault:
        raise ServerUnavailable(
            "The Prefect server went away and did not come back.",
            where=address.api_url,
            received=str(fault),
            next_step="start it, and give the same command again: it goes on where it stopped",
        ) from None


def import_keras() -> None:
    """Keras and its backend, without what they say; a fifth faster with the garbage collector off meanwhile."""
    gc.disable()
    with silent_native_code():
        import keras  # noqa: F401
    gc.freeze()
    gc.enable()

    # Each model is traced anew, which is meant.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextmanager
def silent_native_code() -> Iterator[None]:
    """TensorFlow's C++ parts write to standard error while they are loaded, whatever they are told; show it only if
    that fails."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def quiet_libraries() -> None:
    """Only our own lines in the terminal; everything still reaches the Prefect UI."""
    quiet: Mapping[str, str] = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "modelkeep",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # A part of a GPU's memory for what is needed, not all of it at once: TensorFlow, then JAX.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # A server that is gone is asked again for four minutes, not for one.
        "PREFECT_CLIENT_MAX_RETRIES": "7",
        # Keras would also read a file in the home folder, of which the steps' keys know nothing.
        "KERAS_BACKEND": backend_name(),
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def show_log_lines() -> None:
    """Our own log lines as plain text on standard error; but for what is said again as the answer, where a terminal
    shows both."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stdout.isatty() and sys.stderr.isatty():
        handler.addFilter(lambda record: not getattr(record, "is_answer", False))
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
