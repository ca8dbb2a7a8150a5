"""Ends what a local Ray cluster leaves behind when its owner is killed. A script that imports nothing of ours.

Ray's agents notice that their raylet is gone, and then try for a minute to report it to a server that is gone as well.

usage: python guard.py OWNER   with a pipe from the owner as standard input, which closes when the owner ends
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


def processes() -> Iterator[Path]:
    """Their folders in /proc."""
    return (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())


def raylet_of(owner: int) -> str:
    """The process id of the raylet that the owner started; empty where there is none."""
    for folder in processes():
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it ended meanwhile, here as below
        if name == "raylet" and int(rest.split()[1]) == owner:
            return folder.name
    return ""


def kill_children(raylet: str) -> None:
    """Ray names the raylet in the environment of whatever it starts; so it is inherited by what that starts."""
    mark = f"RAY_RAYLET_PID={raylet}".encode()
    for folder in processes():
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue


def main(owner: int) -> None:
    raylet = raylet_of(owner)
    sys.stdin.read()
    if raylet:
        kill_children(raylet)


if __name__ == "__main__":
    main(int(sys.argv[1]))
