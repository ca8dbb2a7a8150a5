"""How a command without a run shows how far it is."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from journeyman.progress import Silent


class Steps(Silent):
    """An observer that draws a bar on the terminal's error stream; without a terminal it prints each note once."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("")
        self._console, self._told = console, ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def progress(self, done: float, total: float, note: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, description=note)
        if not self._console.is_terminal and note != self._told:
            self._console.print(note, highlight=False, markup=False)
            self._told = note
