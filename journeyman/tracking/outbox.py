"""Tracked runs on disk, each a folder until MLflow has all of it.

`run.json` says what run it is, `operations.jsonl` and `metrics.jsonl` what is to be sent, `sent.json` how far that has
come. The owner holds a lock on the folder while it lives, so that what a dead process left can be told and sent.
"""

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from journeyman.artifacts import try_lock, write_atomically
from journeyman.tracking.lines import append_line, read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run is called when it is created."""

    uid: str
    """Ours; sorts by time, parents before their children."""
    parent: str
    """The parent's uid; empty for a parent."""
    name: str
    tags: Mapping[str, str]
    start_ms: int


@dataclass(slots=True, kw_only=True)
class Sent:
    """How much MLflow has."""

    run_id: str = ""
    experiment_id: str = ""
    tried: bool = False
    """A creation was begun: before another one, the server is asked for it."""
    operations: int = 0
    """Bytes of `operations.jsonl` that are done."""
    metrics: int = 0
    """Bytes of `metrics.jsonl` that are sent."""
    finished: bool = False
    models: dict[str, str] = field(default_factory=dict)
    """Logged models that were begun: offset of the operation to model id."""


def new_uid() -> str:
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"


class RunFolder:
    """One run's folder, held by this process."""

    def __init__(self, folder: Path, lock: IO) -> None:
        self.folder = folder
        self.record = RunRecord(**json.loads((folder / "run.json").read_bytes()))
        progress = folder / "sent.json"
        self.sent = Sent(**json.loads(progress.read_bytes())) if progress.exists() else Sent()
        self._lock, self._guard = lock, threading.Lock()

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def operations(self) -> Path:
        return self.folder / "operations.jsonl"

    def add(self, operation: str, **fields: Any) -> None:
        """Note an operation for the sender."""
        with self._guard:
            append_line(self.operations, {"operation": operation, **fields})

    def save(self) -> None:
        """Write down how far sending has come."""
        write_atomically(self.folder / "sent.json", json.dumps(asdict(self.sent)))

    def has_end(self) -> bool:
        return any(line.value["operation"] == "finish" for line in read_lines(self.operations, self.sent.operations))

    def is_caught_up(self) -> bool:
        """Whether all that is noted so far is sent."""
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self.operations, self.metrics)]
        return bool(self.sent.run_id) and [self.sent.operations, self.sent.metrics] == sizes

    def last_change_ms(self) -> int:
        paths = [path for path in (self.metrics, self.operations) if path.exists()]
        return max([self.record.start_ms, *(int(path.stat().st_mtime * 1000) for path in paths)])

    def remove(self) -> None:
        """Everything is sent: the folder goes."""
        gone = self.folder.with_name(f".{self.folder.name}")
        self.folder.rename(gone)  # at once, so that nobody sees half of it
        shutil.rmtree(gone)
        self._lock.close()

    def release(self) -> None:
        """Leave the folder to whoever comes next."""
        self._lock.close()


class Outbox:
    """The folder of all runs that are not wholly sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, record: RunRecord) -> RunFolder:
        """A new run's folder, held by this process; it is complete when others can see it."""
        folder = self.folder / record.uid
        fresh = self.folder / f".{record.uid}"
        fresh.mkdir(parents=True)
        lock = _lock(fresh)
        assert lock is not None, "nobody else knows this folder"
        (fresh / "run.json").write_text(json.dumps(asdict(record)))
        fresh.rename(folder)
        return RunFolder(folder, lock)

    def adopt(self) -> Iterator[RunFolder]:
        """The runs that dead processes left, now held by this one; a run without an end was killed."""
        for folder in self._folders():
            lock = _lock(folder)
            if lock is None:
                continue
            if not (folder / "run.json").exists():  # removed meanwhile, or half removed by a killed process
                lock.close()
                continue
            run = RunFolder(folder, lock)
            if not run.sent.finished and not run.has_end():
                run.add("finish", status="KILLED", end_ms=run.last_change_ms())
            yield run

    def has_children(self, uid: str) -> bool:
        """Whether a run is still needed as a parent."""
        return any(_parent(folder) == uid for folder in self._folders())

    def uids(self) -> set[str]:
        return {folder.name for folder in self._folders()}

    def reject(self, uid: str, operation: Mapping[str, Any], reason: str) -> Path:
        """Put aside what the server refuses for good."""
        path = self.folder / "rejected" / f"{uid}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, {"reason": reason, **operation})
        return path

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.name[0].isdigit() and (p / "run.json").exists())


def _parent(folder: Path) -> str:
    try:
        return json.loads((folder / "run.json").read_bytes())["parent"]
    except FileNotFoundError:  # sent and removed meanwhile
        return ""


def _lock(folder: Path) -> IO | None:
    """The lock of a folder, kept until the file is closed or the process ends; None where another process has it."""
    try:
        file = (folder / "lock").open("ab")
    except FileNotFoundError:
        return None
    if not try_lock(file.fileno()):
        file.close()
        return None
    assert not os.get_inheritable(file.fileno()), "a child process would keep the lock"
    return file
