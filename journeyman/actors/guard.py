"""Ends what a local Ray cluster leaves behind when its owner is killed. A script that imports nothing of ours.

Ray's agents notice that their raylet is gone, and then try for a minute to report it to a server that is gone as well.

usage: python guard.py RAYLET   with a pipe from the cluster's owner as standard input, which closes when that ends
"""

import contextlib
import os
import select
import signal
import sys
from pathlib import Path

LOOK_EVERY_S = 1.0
Family = dict[int, str]
"""Process id to start time, which tells a process from a later one of the same id."""


def raylet_of(owner: int) -> str:
    """The process id of the raylet that the owner started; empty where there is none."""
    return next((str(pid) for pid, (name, parent, _) in processes().items() if (name, parent) == ("raylet", owner)), "")


def processes() -> dict[int, tuple[str, int, str]]:
    """Process id to (name, parent's id, start time)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                found[int(folder.name)] = (name, int(fields[1]), fields[19])
    return found


def descendants(raylet: int) -> Family:
    """The raylet's workers and agents, and whatever those have started."""
    every = processes()
    family, new = Family(), {raylet}
    while new:
        new = {pid for pid, (_, parent, _) in every.items() if parent in new and pid not in family}
        family |= {pid: every[pid][2] for pid in new}
    return family


def main(raylet: int) -> None:
    # Once the raylet is gone, nobody can tell whose its agents were: Ray's process titles overwrite their environment.
    family = descendants(raylet)
    while not _closed(LOOK_EVERY_S):
        family |= descendants(raylet)
    every = processes()
    for pid, started in family.items():
        if pid in every and every[pid][2] == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _closed(wait_s: float) -> bool:
    """Whether standard input ends within so many seconds."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], wait_s)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
