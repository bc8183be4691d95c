"""Which process holds something, and whether it is certainly gone."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from store import processes
from store.processes import ProcessMark, mark_process

_OWN = ("host", "pid", "process", "since")


def this_process() -> dict[str, str]:
    mark = mark_process()
    return {
        "host": socket.gethostname(),
        "pid": str(mark.pid) if mark else "",
        "process": mark.text if mark else "",
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def is_gone(holder: Mapping[str, str]) -> bool:
    """True only if it is proved: a process of this machine that is no more."""
    mark = ProcessMark.parse(holder.get("process", ""))
    return mark is not None and processes.is_gone(mark)


def describe(holder: Mapping[str, str]) -> str:
    text = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
    return ", ".join([text, *(f"{name} {value}" for name, value in holder.items() if name not in _OWN)])
