"""math-verify in a process of its own: a formula that never ends, or eats the memory, ends that process alone."""

import atexit
import json
import os
import subprocess
import sys
import threading

from journeyman.errors import InfrastructureError

SECONDS = 3.0
"""Longest processor time for one comparison, a quarter of the longest time at all; the start is not counted."""


class MathsWorker:
    """A process that compares formulas, started with the first and again after each that ended it. Safe in threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def equal(self, reference: str, prediction: str) -> bool | None:
        """Whether two texts hold the same mathematical object; None where that can't be told in time and memory.

        Raises `InfrastructureError` where the process can't start.
        """
        line = json.dumps({"reference": reference, "prediction": prediction, "seconds": self._seconds})
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = b""
            if not answer.endswith(b"\n"):
                self._end()
                return None
            return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a forked child: the process belongs to the parent, which alone may keep it alive."""
        process, idle = self._process, not self._lock.locked()
        self._lock, self._process = threading.Lock(), None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.returncode = 0  # it isn't this process's child: nothing to wait for
            if idle:
                process.stdin.close()
                process.stdout.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            command = [sys.executable, "-m", "journeyman.graders.maths_worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert self._process.stdout is not None
            if self._process.stdout.readline() != b"ready\n":
                self._end()
                raise InfrastructureError("math-verify can't be started: is it installed?")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


WORKER = MathsWorker()
"""Shared by all in this process."""
atexit.register(WORKER.close)
os.register_at_fork(after_in_child=WORKER.forget)
