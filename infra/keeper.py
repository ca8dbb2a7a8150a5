"""Keeps one service: starts it, and ends all of it when nobody holds it any longer.

`python -m infra.keeper NAME -- COMMAND...` runs COMMAND as service NAME of the services folder (`JOURNEYMAN_HOME`),
and stays beside it in a session of its own. A service is held by every living owner (`owners/PID-START`) and by the
file `NAME.kept`. An owner that is killed cannot tidy up; the keeper sees that it is gone and does it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.processes import alive, descendants, identify, send, send_to

POLL_S = 0.25
GRACE_S = 8.0
"""For a server to end after SIGTERM."""
STRAGGLE_S = 1.0
"""For its children to end after it: Ray's agents would take a minute."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
OWNERS = "owners"


def services_folder(home: Path) -> Path:
    return home / "services"


def kept_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.kept"


def server_file(folder: Path, name: str) -> Path:
    """Pid and start of the server itself, for the case that its keeper is killed."""
    return folder / f"{name}.server"


def held(folder: Path, name: str) -> bool:
    """Whether anyone still wants a service: it was kept, or an owner lives."""
    return kept_file(folder, name).exists() or any(owner_alive(file) for file in (folder / OWNERS).glob("*-*"))


def owner_alive(file: Path) -> bool:
    pid, _, start = file.name.partition("-")
    return alive(int(pid), start)


def keep(name: str, command: list[str], folder: Path) -> int:
    """Run a service until it ends or nobody holds it; returns its exit status."""
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the service leaves orphaned comes to us, so that we can end it
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_dies_with(os.getpid(), prctl)
    )
    process = identify(server.pid)
    if process is not None:
        server_file(folder, name).write_text(json.dumps({"pid": process.pid, "start": process.start}))
    while (status := _reap(server.pid)) is None and not asked and held(folder, name):
        time.sleep(POLL_S)
    _end(server.pid)
    server_file(folder, name).unlink(missing_ok=True)
    kept_file(folder, name).unlink(missing_ok=True)
    return status if status is not None else 0


def _prctl() -> Callable[[int, int], int]:
    """Linux's prctl; elsewhere a function that does nothing, and polling alone has to do."""
    if sys.platform != "linux":
        return lambda option, value: 0
    library = ctypes.CDLL(None, use_errno=True)
    return lambda option, value: library.prctl(option, value, 0, 0, 0)


def _dies_with(keeper: int, prctl: Callable[[int, int], int]) -> Callable[[], None]:
    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died before we asked to die with it
            os._exit(1)

    return prepare


def _reap(server: int) -> int | None:
    """Collect children that ended, adopted ones too; the server's exit status if it is among them."""
    status = None
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status if status is not None else 0
        if pid == 0:
            return status
        if pid == server:
            status = os.waitstatus_to_exitcode(code)


def _end(server: int) -> None:
    """End the server's group, then whatever it started and left, wherever it moved."""
    send_to(server, signal.SIGTERM, group=True)
    _wait(lambda: identify(server) is None, GRACE_S)
    _wait(lambda: not descendants(os.getpid()), STRAGGLE_S)
    send_to(server, signal.SIGKILL, group=True)
    deadline = time.monotonic() + GRACE_S
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for process in left:
            send(process, signal.SIGKILL)
        _wait(lambda: not descendants(os.getpid()), POLL_S)


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
        _reap(0)


def main(arguments: list[str]) -> int:
    name, dashes, *command = arguments
    assert dashes == "--", "usage: infra.keeper NAME -- COMMAND..."
    return keep(name, command, services_folder(Path(os.environ["JOURNEYMAN_HOME"])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
