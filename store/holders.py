"""Which process holds something, and whether it is certainly gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path


def this_process() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "host_id": _host_id(),
        "pid": str(os.getpid()),
        "process_start": _process_start(os.getpid()) or "",
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def is_gone(holder: Mapping[str, str]) -> bool:
    """True only if the process ran on this very boot of this machine and is no more.

    The start time tells it from another process that was given its number since.
    """
    host_id, pid = holder.get("host_id"), holder.get("pid", "")
    if not host_id or host_id != _host_id() or not pid.isdigit():
        return False
    return _process_start(int(pid)) != holder.get("process_start")


def describe(holder: Mapping[str, str]) -> str:
    text = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
    known = {"host", "host_id", "pid", "process_start", "since"}
    return ", ".join([text, *(f"{name} {value}" for name, value in holder.items() if name not in known)])


def _host_id() -> str:
    """Host name, boot and process namespace (a container's process 1 is not the host's); empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Clock ticks from boot to the start of a process; None if there is none, or only an unreaped one."""
    try:
        # Fields after the name, which is in parentheses and may hold anything: man 5 proc_pid_stat.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
