"""Checkpoints of an unfinished stage: written whole or not at all, the last one is what a next try goes on from."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

KEPT = 1
"""Checkpoints kept besides the newest."""


class Checkpoints:
    """Folders `step-N` in a stage's work folder; `state.json`, written last, makes one complete."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "checkpoints"

    def save(self, step: int, write: Callable[[Path], None], state: Mapping[str, Any]) -> None:
        """`write` fills a folder, `state` (JSON) goes with it; a reader sees all of it or nothing."""
        final, fresh = self._folder / f"step-{step:06d}", self._folder / f".step-{step:06d}-{os.getpid()}"
        for left_over in self._folder.glob(".step-*"):  # of a process that was killed
            shutil.rmtree(left_over)
        fresh.mkdir(parents=True)
        write(fresh)
        (fresh / "state.json").write_text(json.dumps({"step": step, **state}))
        for path in fresh.rglob("*"):
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(fresh, final)
        _flush(self._folder)
        for old in self._complete()[: -1 - KEPT]:
            shutil.rmtree(old)

    def last(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest complete checkpoint and its state."""
        complete = self._complete()
        return (complete[-1], json.loads((complete[-1] / "state.json").read_text())) if complete else None

    def _complete(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step-*") if (path / "state.json").is_file())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
