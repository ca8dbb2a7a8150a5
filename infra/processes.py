"""Processes by their identity: a pid alone may be given to another process, a pid and its start time may not."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process, as the system knew it when it was looked up."""

    pid: int
    start: str
    """When it began, as the system tells it: ticks since boot on Linux, a date elsewhere. Never changes, whatever the
    clock does."""
    parent: int
    """Pid of its parent at the time of the look-up."""

    @property
    def name(self) -> str:
        """Unique since boot."""
        return f"{self.pid}-{self.start}"


def identify(pid: int) -> Process | None:
    """The living process with this pid; None where there is none (a zombie is none)."""
    if sys.platform == "linux":
        return _read_stat(pid)
    return _ask_ps("-p", str(pid)).get(pid)


def alive(pid: int, start: str) -> bool:
    """Whether the very process that had this pid and start time still lives."""
    found = identify(pid)
    return found is not None and found.start == start


def this_process() -> Process:
    process = identify(os.getpid())
    assert process is not None, "a process that asks is alive"
    return process


def descendants(*roots: int) -> list[Process]:
    """Their children, the children of those and so on."""
    children: dict[int, list[Process]] = {}
    for process in _everything().values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = list(roots)
    while queue:
        below = children.pop(queue.pop(), [])
        found += below
        queue += [child.pid for child in below]
    return found


def send(process: Process, signal: int) -> None:
    """Signal a process if it is still the same one."""
    if alive(process.pid, process.start):
        send_to(process.pid, signal)


def send_to(pid: int, signal: int, *, group: bool = False) -> None:
    """Signal a pid, or the process group that it leads; gone is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group that has only zombies
        (os.killpg if group else os.kill)(pid, signal)


def port_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens on a port, or keeps it from being bound."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((host, port)) == 0:
            return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _read_stat(pid: int) -> Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before ")" may contain spaces; the state follows it
    state, parent, start = fields[0], int(fields[1]), fields[19]
    return None if state in "ZXx" else Process(pid=pid, start=start, parent=parent)


def _everything() -> dict[int, Process]:
    if sys.platform != "linux":
        return _ask_ps("-ax")
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return {pid: process for pid in pids if (process := _read_stat(pid))}


def _ask_ps(*which: str) -> dict[int, Process]:
    """macOS has no /proc. Columns: pid, parent, state, start (five words)."""
    command = ["ps", *which, "-o", "pid=,ppid=,stat=,lstart="]
    listing = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, *start = line.split()
        if not state.startswith("Z"):
            found[int(pid)] = Process(pid=int(pid), start="-".join(start), parent=int(parent))
    return found
