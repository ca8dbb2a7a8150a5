"""Which process a run belongs to, so that the runs of dead ones can be told."""

import os
import socket
from pathlib import Path


def stamp(pid: int) -> str:
    """When a process began, in the machine's own count; empty where that cannot be read or no process has the id."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot}/{words[19]}"


def tags() -> dict[str, str]:
    """Tags that name this process."""
    pid = os.getpid()
    return {"process.host": socket.gethostname(), "process.pid": str(pid), "process.start": stamp(pid)}


def is_alive(pid: int, start: str) -> bool:
    """Whether the process that began at `start` still runs, on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not start or stamp(pid) == start
