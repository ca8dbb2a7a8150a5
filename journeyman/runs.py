"""The record of each run: `runs/<run id>/run.json`, readable without any server.

A run that is in progress holds the lock of its folder; the kernel frees it however the process ends, so a record that
says `running` without a holder belongs to a process that died.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from journeyman.artifacts import try_lock, write_atomically
from journeyman.config import PipelineConfig
from journeyman.errors import DataError

LATEST = "latest"


class Status(StrEnum):
    """Of a run, and of a stage in it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CACHED = "cached"
    """Of a stage: its artifact was there already."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    """The process died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What a run has of one stage."""

    status: Status = Status.PENDING
    key: str = ""
    """Key of its artifact; empty until it is known."""
    started: str = ""
    """ISO 8601, UTC."""
    seconds: float = 0.0
    """In this run; next to nothing where it was cached."""
    inherited: bool = False
    """Taken from the run that this one was made from."""
    prefect_url: str = ""
    mlflow_url: str = ""
    """The MLflow run that made the artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a pipeline or of a single stage."""

    id: str
    pipeline: str
    config: Mapping[str, Any]
    """The resolved config (JSON)."""
    seed: int
    status: Status = Status.RUNNING
    started: str = ""
    """ISO 8601, UTC."""
    seconds: float = 0.0
    from_run: str = ""
    """The run whose artifacts are the inputs; empty for a whole pipeline."""
    stages: Mapping[str, StageRecord] = field(default_factory=dict)
    """By stage name, in order: synthesize, curate, sft, rl-NAME..., evaluate."""
    error: str = ""
    flow_run_id: str = ""
    prefect_url: str = ""
    mlflow_run_id: str = ""
    mlflow_url: str = ""
    pid: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunRecord":
        stages = {name: StageRecord(**{**s, "status": Status(s["status"])}) for name, s in data["stages"].items()}
        return cls(**{**data, "status": Status(data["status"]), "stages": stages})

    def pipeline_config(self) -> PipelineConfig:
        return PipelineConfig.model_validate(self.config)


class RunStore:
    """The runs of one home folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / "runs"

    def folder(self, run: str) -> Path:
        return self._root / run

    def create(self, config: PipelineConfig, *, from_run: str = "") -> tuple[RunRecord, IO[str]]:
        """A new run in progress, and its open lock: keep it open as long as the run goes on."""
        started = time.time()
        run = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(started))}-{secrets.token_hex(2)}"
        self.folder(run).mkdir(parents=True)
        lock = (self.folder(run) / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = RunRecord(
            id=run,
            pipeline=config.name,
            config=config.model_dump(mode="json"),
            seed=config.seed,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            from_run=from_run,
            pid=os.getpid(),
        )
        self.save(record)
        return record, lock

    def save(self, record: RunRecord) -> None:
        write_atomically(self.folder(record.id) / "run.json", json.dumps(asdict(record), indent=2, ensure_ascii=False))

    def load(self, run: str) -> RunRecord:
        """The record of a run. Raises `DataError` where there is none."""
        path = self.folder(run) / "run.json"
        try:
            return RunRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise DataError(f"there is no run `{run}`", place=str(self._root), remedy=self._choices()) from error
        except (ValueError, TypeError, KeyError) as error:
            message, remedy = f"not the record of a run ({error})", "remove the folder"
            raise DataError(message, place=str(path), remedy=remedy) from error

    def all(self) -> list[RunRecord]:
        """Every run, the newest first."""
        names = [path.parent.name for path in self._root.glob("*/run.json")]
        return sorted((self.load(name) for name in names), key=lambda record: (record.started, record.id), reverse=True)

    def find(self, word: str = LATEST) -> RunRecord:
        """A run by its id, by a pipeline's name (its latest run), or `latest`. Raises `DataError` for no match."""
        if (self.folder(word) / "run.json").is_file():
            return self.load(word)
        for record in self.all():
            if word in (LATEST, record.pipeline):
                return record
        raise DataError(f"there is no run `{word}`", place=str(self._root), remedy=self._choices(word))

    def of_flow_run(self, flow_run_id: str) -> RunRecord | None:
        """The run that a Prefect flow run records."""
        return next((record for record in self.all() if record.flow_run_id == flow_run_id), None)

    def of_process(self, pid: int) -> RunRecord | None:
        """The newest run of a process."""
        return next((record for record in self.all() if record.pid == pid), None)

    def alive(self, run: str) -> bool:
        """Whether the process that a run belongs to is there."""
        path = self.folder(run) / "lock"
        if not path.exists():
            return False
        with path.open("a") as handle:
            return not try_lock(handle.fileno())

    def reap(self) -> list[RunRecord]:
        """Mark the runs of dead processes as crashed; returns those."""
        dead = [record for record in self.all() if record.status == Status.RUNNING and not self.alive(record.id)]
        crashed = [ended(record, Status.CRASHED, error="the process died") for record in dead]
        for record in crashed:
            self.save(record)
        return crashed

    def _choices(self, word: str = "") -> str:
        """The runs and pipelines whose names are like the word, else the newest runs."""
        records = self.all()
        names = [*(record.id for record in records), *dict.fromkeys(record.pipeline for record in records)]
        near = get_close_matches(word, names, n=5, cutoff=0.7)
        runs = near or [record.id for record in records[:5]]
        return "one of " + ", ".join(runs) if runs else "run a pipeline first: journeyman run quickstart"


def ended(record: RunRecord, status: Status, *, error: str = "") -> RunRecord:
    """A record with its end, and that of the stage that was running."""
    stages = {
        name: replace(stage, status=status, seconds=_since(stage.started)) if stage.status == Status.RUNNING else stage
        for name, stage in record.stages.items()
    }
    seconds = record.seconds or _since(record.started)
    return replace(record, status=status, error=error or record.error, seconds=seconds, stages=stages)


def _since(started: str) -> float:
    return round(time.time() - datetime.fromisoformat(started).timestamp(), 3)
