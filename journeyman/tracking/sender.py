"""A thread that sends what the outbox holds, while training goes on."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice

from journeyman.tracking.lines import read_lines
from journeyman.tracking.outbox import Outbox, RunFolder
from journeyman.tracking.server import Refused, Server, Unreachable

log = logging.getLogger(__name__)

PERIOD_S = 2.0
"""Metrics gather for so long before they are sent."""
LONGEST_PAUSE_S = 30.0
"""Between tries while the server cannot be reached."""
ROWS_A_PASS = 500
MOST_FAILURES = 5
"""Of a server that is there, at one operation: then that operation is put aside."""


class Sender:
    """Sends the runs that it is given, each in order: creation, metrics, operations, end."""

    def __init__(self, server: Server, outbox: Outbox) -> None:
        self._server, self._outbox = server, outbox
        self._runs: dict[str, RunFolder] = {}
        self._changed = threading.Condition(threading.RLock())
        self._asked = threading.Event()
        self._closed = False
        self._tries = 0
        self._failures = 0
        self._failed_at: Counter[tuple[str, int]] = Counter()
        self._thread: threading.Thread | None = None

    def take(self, run: RunFolder) -> None:
        """Send a run from now on, until its end is sent."""
        with self._changed:
            self._runs[run.record.uid] = run
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
            self._thread.start()

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Send at once and wait until `done`; False when time is up, or when the server could not be reached."""
        tries, deadline = self._tries, time.monotonic() + seconds
        self._asked.set()
        with self._changed:
            while not done():
                left = deadline - time.monotonic()
                unreachable = self._failures and self._tries > tries
                if left <= 0 or unreachable or self._thread is None or not self._thread.is_alive():
                    return False
                self._changed.wait(min(left, 0.5))
        return True

    def holds(self, uid: str) -> bool:
        return uid in self._runs

    def is_idle(self) -> bool:
        """Whether nothing is left to send, and no run left to put away."""
        with self._changed:
            return all(run.is_caught_up() and not self._is_over(run) for run in self._runs.values())

    def close(self) -> None:
        """Stop after the request under way; what is not sent stays in the outbox."""
        self._closed = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            if not self._thread.is_alive():
                for run in self._runs.values():
                    run.release()

    def _work(self) -> None:
        while not self._closed:
            failed = not self._pass()
            with self._changed:
                self._tries += 1
                self._failures = self._failures + 1 if failed else 0
                self._changed.notify_all()
            pause = min(LONGEST_PAUSE_S, 2.0**self._failures) if failed else PERIOD_S
            self._asked.wait(pause)
            self._asked.clear()

    def _pass(self) -> bool:
        """Send all there is. False as soon as the server cannot be reached."""
        with self._changed:
            runs = sorted(self._runs.values(), key=lambda run: run.record.uid)
        try:
            for run in runs:
                self._send(run)
        except Unreachable as error:
            if not self._failures:
                log.warning("MLflow at %s cannot be reached; nothing is lost: %s", self._server.uri, error)
            return False
        for run in reversed(runs):
            self._retire(run)
        return True

    def _send(self, run: RunFolder) -> None:
        if not run.sent.run_id:
            parent = self._runs.get(run.record.parent)
            self._server.create(run, parent.sent.run_id if parent else "")
            self._notify()
        self._send_metrics(run)
        for line in read_lines(run.operations, run.sent.operations):
            if self._closed:
                return
            if line.value["operation"] == "finish":
                self._send_metrics(run)  # what came in meanwhile; nothing comes after the end
            self._do(run, line.value)
            run.sent.operations = line.end
            run.save()
            self._notify()

    def _do(self, run: RunFolder, operation: dict) -> None:
        try:
            self._server.do(run, operation, run.sent.operations)
        except Refused as error:
            self._reject(run, operation, error)
        except Unreachable as error:
            if not error.answered or not self._is_stuck(run):
                raise
            self._reject(run, operation, error)
        if operation["operation"] == "finish":
            run.sent.finished = True

    def _send_metrics(self, run: RunFolder) -> None:
        while not self._closed:
            lines = list(islice(read_lines(run.metrics, run.sent.metrics), ROWS_A_PASS))
            if not lines:
                return
            rows = [line.value for line in lines]
            try:
                self._server.send_metrics(run, rows)
            except Refused as error:
                self._reject(run, {"operation": "metrics", "rows": rows}, error)
            run.sent.metrics = lines[-1].end
            run.save()

    def _is_stuck(self, run: RunFolder) -> bool:
        """Whether the server has failed at the run's next operation too often."""
        place = (run.record.uid, run.sent.operations)
        self._failed_at[place] += 1
        return self._failed_at[place] >= MOST_FAILURES

    def _reject(self, run: RunFolder, operation: dict, error: Exception) -> None:
        path = self._outbox.reject(run.record.uid, operation, str(error))
        log.warning("MLflow refused %s; what was to be sent is kept in %s: %s", operation["operation"], path, error)

    def _retire(self, run: RunFolder) -> None:
        """A run whose end is sent leaves the outbox; a parent stays while a child may need its id."""
        if not self._is_over(run):
            return
        with self._changed:
            del self._runs[run.record.uid]
        run.remove()
        self._notify()

    def _is_over(self, run: RunFolder) -> bool:
        return run.sent.finished and not self._outbox.has_children(run.record.uid)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
