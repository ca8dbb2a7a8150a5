"""Processes that run queries: started where needed, kept for the next query, ended where one does not answer."""

import atexit
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from json import dumps, loads
from pathlib import Path
from typing import Any

from journeyman.errors import InfrastructureError
from journeyman.tools import sql_worker

KEPT = 2
"""Most idle processes that are kept."""
START_SECONDS = 60.0
"""Longest that a process may take to start on a busy machine."""
_ENVIRONMENT = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""All that a process sees of the environment."""


class SqlProcess:
    """A process that answers one query at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-B", str(Path(sql_worker.__file__))]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        self.owner = os.getpid()
        if self.receive(START_SECONDS) != {"ready": True}:
            self.kill()
            raise InfrastructureError(
                f"the process that runs SQL does not start; by hand it should say `ready`: {' '.join(command)} < /dev/null"
            )

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask. Where the process is gone, `receive` says so."""
        data = dumps(dict(request)).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack(">I", len(data)) + data)
        except BrokenPipeError:
            return

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The reply; None where there is none yet after some seconds; empty where the process died."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(0.0, seconds))[0]:
            return None
        head = self._read(4)
        data = self._read(struct.unpack(">I", head)[0]) if head else b""
        return loads(data) if data else {}

    def _read(self, count: int) -> bytes:
        """That many bytes; none where the process died before."""
        assert self._process.stdout is not None
        data = b""
        while len(data) < count:
            more = self._process.stdout.read(count - len(data))
            if not more:
                return b""
            data += more
        return data

    def kill(self) -> None:
        if self.owner == os.getpid():
            self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process by closing its input."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        if self.owner == os.getpid():
            self._process.wait()


class Running:
    """A query under way."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._process = _take()
        self._until = time.monotonic() + request["seconds"] + sql_worker.GRACE
        self._process.send(request)

    def wait(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The reply; None where there is none yet after some seconds.

        Without seconds to wait it takes as long as the query may, and `{"interrupted": True}` is the reply where the
        process had to be ended for it; `{}` where the process died, as it does where memory runs out.
        """
        left = self._until - time.monotonic()
        reply = self._process.receive(left if seconds is None else min(seconds, left))
        if reply and not reply["spent"]:
            _give_back(self._process)
        elif reply is not None:
            self._process.kill()
        elif seconds is None:
            self._process.kill()
            return {"interrupted": True}
        return reply


_IDLE: list[SqlProcess] = []


def _take() -> SqlProcess:
    while True:
        try:
            process = _IDLE.pop()
        except IndexError:  # asked for instead of looked for: other threads take, too
            return SqlProcess()
        if process.owner == os.getpid():  # not one that this process inherited by a fork
            return process


def _give_back(process: SqlProcess) -> None:
    if len(_IDLE) < KEPT:
        _IDLE.append(process)
    else:
        process.close()


@atexit.register
def close_idle() -> None:
    """End the processes that wait for a query."""
    while _IDLE:
        _IDLE.pop().close()
