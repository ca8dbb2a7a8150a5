"""The progress of a run in the terminal: which stage, how far, how long still. Plain lines where it is no terminal.

It only reads what the run writes: the record in `runs/*/run.json` and `runs/<run id>/progress.json`.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.estimate import Rates, expected_seconds, remaining
from journeyman.runs import RunStore, Status

POLL_S = 0.3
LINE_EVERY_S = 10.0
MARKS = {
    Status.PENDING: ("·", "dim"),
    Status.RUNNING: ("▶", "bold cyan"),
    Status.COMPLETED: ("✓", "green"),
    Status.CACHED: ("✓", "dim green"),
    Status.FAILED: ("✗", "bold red"),
    Status.CANCELLED: ("✗", "yellow"),
    Status.CRASHED: ("✗", "bold red"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One line of progress.json."""

    name: str
    state: Status
    done: float
    total: float
    """0: not known yet."""
    note: str
    started: float | None
    """Unix time."""
    seconds: float | None
    """None: not at its end."""

    @property
    def share(self) -> float:
        """Done of it, 0..1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def elapsed(self, now: float) -> float:
        if self.seconds is not None:
            return self.seconds
        return now - self.started if self.started is not None else 0.0


def read_progress(path: Path) -> list[Stage]:
    """The stages of a progress.json; none where it isn't there yet."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return [Stage(**{**row, "state": Status(row["state"])}) for row in rows]


class Display:
    """Shows the run of this process, from a thread. Use as a context manager around the run.

    Args:
        home: the home folder.
        pid: the process whose run it is.
        terminal: where to show it; standard output may be elsewhere meanwhile.
        found: is told the run's folder once it is there.
    """

    def __init__(
        self, home: Path, *, pid: int, terminal: IO[str], found: Callable[[Path], None] = lambda folder: None
    ) -> None:
        self._runs, self._pid, self._found = RunStore(home), pid, found
        self.console = Console(file=terminal, highlight=False)
        self._since = time.time() - 1  # records are rounded
        self._expected: Mapping[str, float] | None = None
        self._pipeline = ""
        self._rates = Rates()
        self._printed: dict[str, tuple[Status, float]] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="display", daemon=True)
        self.run: str | None = None
        """The run's id, once it is known."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _loop(self) -> None:
        if not self.console.is_terminal:
            return self._refresh(self._print_lines)
        with Live(console=self.console, redirect_stdout=False, redirect_stderr=False, auto_refresh=False) as live:
            self._refresh(lambda stages, now: live.update(self.picture(stages, now), refresh=True))

    def _refresh(self, show: Callable[[list[Stage], float], None]) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(POLL_S)
            stages, now = self._read(), time.time()
            self._rates.watch(stages, now)
            if stages:
                show(stages, now)

    def _read(self) -> list[Stage]:
        if self.run is None:
            record = self._runs.of_process(self._pid)
            if record is None or datetime.fromisoformat(record.started).timestamp() < self._since:
                return []
            self.run, self._pipeline = record.id, record.pipeline
            self._found(self._runs.folder(self.run))
        stages = read_progress(self._runs.folder(self.run) / "progress.json")
        if stages and self._expected is None:
            names = [stage.name for stage in stages]
            self._expected = expected_seconds(self._runs.all(), self._pipeline, names)
        return stages

    def picture(self, stages: Sequence[Stage], now: float) -> Group:
        """The stages, a line each, and the whole below."""
        left = remaining(stages, self._expected or {}, self._rates, now)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(no_wrap=True)
        grid.add_column(width=24)
        for _ in ("share", "elapsed", "left"):
            grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for stage in stages:
            mark, style = MARKS[stage.state]
            bar = ProgressBar(total=1.0, completed=stage.share, width=24, pulse=_pulses(stage), animation_time=now)
            began = stage.state != Status.PENDING
            grid.add_row(
                Text(mark, style),
                Text(stage.name, style),
                bar,
                f"{100 * stage.share:.0f} %" if stage.total else "",
                clock(stage.elapsed(now)) if began else "",
                _left(left[stage.name]) if stage.state in (Status.RUNNING, Status.PENDING) else str(stage.state),
                Text(stage.note, "dim"),
            )
        return Group(grid, Text(f"  {whole(stages, left, now)}", "bold"))

    def _print_lines(self, stages: Sequence[Stage], now: float) -> None:
        """A line when a stage begins or ends, and at most one in ten seconds between."""
        left = remaining(stages, self._expected or {}, self._rates, now)
        for stage in stages:
            state, when = self._printed.get(stage.name, (Status.PENDING, 0.0))
            late = stage.state == Status.RUNNING and now - when >= LINE_EVERY_S
            if stage.state != state or late:
                self._printed[stage.name] = (stage.state, now)
                text = f"{line(stage, left[stage.name], now)} | {whole(stages, left, now)}"
                self.console.print(text, soft_wrap=True, markup=False)


def line(stage: Stage, left: float | None, now: float) -> str:
    """A stage on one line of text."""
    words = [f"{stage.name}: {stage.state}"]
    if stage.state == Status.RUNNING:
        words += [f"{100 * stage.share:.0f} %"] if stage.total else []
        words += [stage.note] if stage.note else []
        words += [_left(left)] if left is not None else []
    elif stage.seconds is not None:
        words.append(clock(stage.elapsed(now)))
    return ", ".join(words)


def whole(stages: Sequence[Stage], left: Mapping[str, float | None], now: float) -> str:
    """How long the run took and takes."""
    began = [stage.started for stage in stages if stage.started is not None]
    passed = clock(now - min(began)) if began else clock(0)
    known = [seconds for seconds in left.values() if seconds is not None]
    if not any(stage.state in (Status.RUNNING, Status.PENDING) for stage in stages):
        return f"{passed} in all"
    if not any(known):
        return f"{passed} passed"
    bound = "at least " if len(known) < len(left) else "about "
    return f"{passed} passed, {bound}{clock(sum(known))} left"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {clock(seconds)} left"


def _pulses(stage: Stage) -> bool:
    return stage.state == Status.RUNNING and not stage.total
