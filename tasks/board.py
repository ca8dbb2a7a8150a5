"""How far a run is, told in two places: `runs/<run id>/progress.json`, and a bar on the Prefect page."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from journeyman.artifacts import write_atomically
from journeyman.runs import Status

FILE_EVERY_S, PAGE_EVERY_S = 0.2, 2.0


@dataclass(slots=True, kw_only=True)
class StageProgress:
    """One line of the display."""

    name: str
    state: Status = Status.PENDING
    done: float = 0.0
    total: float = 0.0
    """0: not known yet."""
    note: str = ""
    started: float | None = None
    """Unix time; None: not yet."""
    seconds: float | None = None
    """None: not at its end."""


class Board:
    """Keeps progress.json: `{run, pipeline, pid, status, stages: [StageProgress]}`, replaced as a whole."""

    def __init__(self, path: Path, *, run: str, pipeline: str, stages: Iterable[str]) -> None:
        self._path, self._written = path, 0.0
        self._head: dict[str, Any] = {"run": run, "pipeline": pipeline, "pid": os.getpid(), "status": Status.RUNNING}
        self._stages = {name: StageProgress(name=name) for name in stages}
        self._write()

    def start(self, stage: str) -> None:
        self._stages[stage] = StageProgress(name=stage, state=Status.RUNNING, started=time.time())
        self._write()

    def progress(self, stage: str, done: float, total: float, note: str) -> None:
        """Cheap: the file is written a few times a second at most."""
        line = self._stages[stage]
        line.done, line.total, line.note = done, total, note
        if time.monotonic() - self._written > FILE_EVERY_S:
            self._write()

    def end(self, stage: str, state: Status, seconds: float, note: str = "") -> None:
        line = self._stages[stage]
        line.state, line.seconds, line.note = state, seconds, note or line.note
        if state in (Status.COMPLETED, Status.CACHED):
            line.done = line.total = line.total or 1.0
        self._write()

    def close(self, status: Status) -> None:
        """The run's end, and that of the stage that was running."""
        self._head["status"] = status
        for line in self._stages.values():
            if line.state == Status.RUNNING and line.started is not None:
                line.state, line.seconds = status, time.time() - line.started
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        stages = [asdict(stage) for stage in self._stages.values()]
        write_atomically(self._path, json.dumps({**self._head, "stages": stages}, ensure_ascii=False))


class Beat:
    """Publishes the newest of many values from a thread of its own, at most every `every_s` seconds.

    The stage never waits for the publisher. Use as a context manager: the last value goes out at its end.
    """

    def __init__(self, publish: Callable[[float, str], None], *, every_s: float = PAGE_EVERY_S) -> None:
        self._publish, self._every_s = publish, every_s
        self._newest: tuple[float, str] | None = None
        self._ending = threading.Event()
        context = copy_context()  # the Prefect client looks its run up there
        self._thread = threading.Thread(target=lambda: context.run(self._loop), name="progress", daemon=True)

    def offer(self, percent: float, note: str) -> None:
        self._newest = percent, note

    def __enter__(self) -> "Beat":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        told = None
        while True:
            ending = self._ending.wait(self._every_s)
            newest = self._newest
            if newest is not None and newest != told:
                self._publish(*newest)
                told = newest
            if ending:
                return
