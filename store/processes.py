"""Which process: a mark that stays true when the pid is used again, after a reboot and inside containers.

A pid alone names nobody: the kernel gives it to another process later. A pid with its start time, the boot and the
pid namespace it belongs to names one process for ever, so "that process is gone" can be proved and need not be guessed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class ProcessMark:
    """`text` is the mark in one word without colons or spaces, as it is kept in files and tags.

    `started` is clock ticks since boot on Linux and seconds since 1970 elsewhere.
    """

    pid: int
    started: str
    boot: str
    namespace: str
    machine: str

    @property
    def text(self) -> str:
        return ".".join([str(self.pid), self.started, self.boot, self.namespace, self.machine])

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """None where the text is not a mark: files and tags can be written by others."""
        parts = text.split(".")
        if len(parts) != 5 or not parts[0].isdigit():
            return None
        return cls(int(parts[0]), *parts[1:])


def mark_process(pid: int | None = None) -> ProcessMark | None:
    """The mark of a process of this machine (default: this process); None where no such process runs."""
    pid = pid or os.getpid()
    started = _start_of(pid)
    return ProcessMark(pid, started, _boot(), _namespace(), _machine()) if started else None


def is_alive(mark: ProcessMark) -> bool:
    return mark_process(mark.pid) == mark


def is_gone(mark: ProcessMark) -> bool:
    """True only where it is proved: the same machine, and another boot or no such process in this pid namespace."""
    if mark.machine != _machine():
        return False
    if mark.boot != _boot():
        return True
    return mark.namespace == _namespace() and _start_of(mark.pid) != mark.started


def _start_of(pid: int) -> str:
    """Empty where the process does not run; a zombie does not."""
    if not sys.platform.startswith("linux"):
        return _start_by_ps(pid)
    try:
        # The name (second field) may hold spaces and brackets: read on after the last bracket. proc_pid_stat(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _start_by_ps(pid: int) -> str:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        check=False,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "TZ": "UTC"},
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if not started or state.startswith("Z") else _short(started.strip())


@cache
def _boot() -> str:
    if sys.platform.startswith("linux"):
        return _short(Path("/proc/sys/kernel/random/boot_id").read_text())
    return _short(subprocess.run(["sysctl", "-n", "kern.boottime"], check=False, capture_output=True, text=True).stdout)


@cache
def _namespace() -> str:
    try:
        return "".join(filter(str.isdigit, str(Path("/proc/self/ns/pid").readlink())))
    except OSError:
        return "0"


@cache
def _machine() -> str:
    """Host name and machine id: either alone may be shared by containers or by cloned disks."""
    try:
        identity = Path("/etc/machine-id").read_text()
    except OSError:
        identity = ""
    return _short(f"{os.uname().nodename} {identity}")


def _short(text: str) -> str:
    return hashlib.blake2b(text.strip().encode(), digest_size=4).hexdigest()
