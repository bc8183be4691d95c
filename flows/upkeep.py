"""`modelkeep gc` and `modelkeep doctor`: what may go, and what is missing or unsafe."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from modelkeep.addresses import without_secrets
from modelkeep.errors import ModelkeepError
from store import open_store
from store.diagnosis import Finding, diagnose
from store.retention import plan_removal
from store.retention import remove as remove_planned
from tasks.requests import backend_name
from tasks.settings import load_settings


def collect_garbage(store: str, keep_runs: int, keep_days: float, remove: bool) -> tuple[dict[str, Any], str]:
    """What would go or went: as facts for scripts, and as text."""
    kept = open_store(store)
    plan = plan_removal(kept, keep_runs=keep_runs, keep_steps_days=keep_days)
    removals = [*plan.files, *plan.unfinished]
    freed = remove_planned(kept, plan) if remove else 0
    told = {"removed": remove, "files": len(removals), "bytes": plan.size, "freed": freed}
    if not removals:
        return told, "there is nothing to remove"
    reasons = Counter(removal.reason for removal in removals)
    lines = [f"  {count:>6} files: {reason}" for reason, count in reasons.most_common()]
    size = f"{plan.size / 1e6:,.1f} MB"
    end = f"removed, {freed / 1e6:,.1f} MB freed" if remove else f"{size} in all; `modelkeep gc --remove` removes them"
    return told, "\n".join([*lines, end])


def examine(store: str) -> list[Finding]:
    """Python, the backend, the mirror, Prefect's server and workers and the store, each with what to do if not well."""
    return [_python(), _backend(), _mirror(), _server(), _workers(), *_store(store)]


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("python", "ok", version)
    return Finding("python", "error", version, "use Python 3.11, 3.12 or 3.13")


def _backend() -> Finding:
    name = backend_name()
    if importlib.util.find_spec(name):
        return Finding("keras backend", "ok", name)
    return Finding(
        "keras backend", "error", f"{name} is not installed", f"install {name}, or set KERAS_BACKEND to another"
    )


def _mirror() -> Finding:
    mirror = load_settings().mirror
    if not mirror:
        return Finding("mirror", "ok", "none is set; raw files come from packages and their public addresses")
    if "://" in mirror or Path(mirror).expanduser().is_dir():
        return Finding("mirror", "ok", without_secrets(mirror))
    return Finding("mirror", "error", f"{mirror} is not a directory", "correct MODELKEEP_MIRROR")


def _server() -> Finding:
    from flows.server import find_server

    if "PREFECT_API_URL" in os.environ:
        return Finding("prefect", "ok", f"flows report to {without_secrets(os.environ['PREFECT_API_URL'])}")
    server = find_server()
    text = (
        f"a local server runs at {server.ui_url}" if server else "no server runs; the first training starts a local one"
    )
    return Finding("prefect", "ok", text)


def _workers() -> Finding:
    from flows.workers import find_workers

    told = [f"pool {worker.pool}, process {worker.pid} in {worker.folder}" for worker in find_workers()]
    return Finding("workers", "ok", "; ".join(told) or "none on this machine; `modelkeep up` starts one")


def _store(uri: str) -> list[Finding]:
    try:
        return diagnose(open_store(uri))
    except ModelkeepError as fault:
        return [Finding("store", "error", fault.what, fault.next_step)]
