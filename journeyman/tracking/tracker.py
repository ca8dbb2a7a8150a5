"""Runs for MLflow. Nothing here waits for a server longer than it says, and nothing is lost while one is down."""

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeyman.metrics import known
from journeyman.tracking import process
from journeyman.tracking.outbox import Outbox, RunFolder, RunRecord, new_uid
from journeyman.tracking.sender import Sender
from journeyman.tracking.server import UID_TAG, Server, Unreachable
from journeyman.tracking.spool import Spool
from journeyman.trajectory import Trajectory, to_row

EXPERIMENT = "journeyman"
Progress = Callable[[float, float, str], None]


class Tracker:
    """The way to an MLflow server.

    Args:
        uri: the server, or a store such as sqlite:///...; None: nothing is tracked, spools are still written.
        home: the library's home folder; `tracking/` in it holds what is not sent yet.
        patience_s: the longest that the start and the end of a run wait for the server.
    """

    def __init__(self, uri: str | None, home: Path, *, patience_s: float = 20.0) -> None:
        self._outbox = Outbox(home / "tracking")
        self._server = Server(uri, EXPERIMENT) if uri else None
        self._sender = Sender(self._server, self._outbox) if self._server else None
        self.patience_s = patience_s

    def start_run(
        self, pipeline: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> "RunTracker":
        """The parent run of a pipeline run. `params` may be nested: keys are then joined by dots."""
        folder = self.open_run(run_name, params, {"kind": "pipeline", "pipeline": pipeline, **tags}, parent="")
        return RunTracker(self, folder, pipeline)

    def resend(self) -> int:
        """Send what dead processes left, within the tracker's patience; returns how many runs are wholly sent.

        Runs that they left without an end get the status KILLED.
        """
        if self._sender is None:
            return 0
        left = list(self._outbox.adopt())
        for run in left:
            self._sender.take(run)
        uids = [run.record.uid for run in left]
        self._sender.wait(lambda: not any(self._holds(uid) for uid in uids), self.patience_s)
        return sum(not self._holds(uid) for uid in uids)

    def reap(self) -> int:
        """Set to KILLED what the server calls running though its process on this machine is dead; returns how many.

        What such a process had not sent is sent too.
        """
        killed = self.resend()
        if self._server is None:
            return killed
        own = process.tags()
        ours = self._outbox.uids()
        try:
            for run in self._server.running({"process.host": own["process.host"]}):
                tags = run.data.tags
                alive = process.is_alive(int(tags["process.pid"]), tags.get("process.start", ""))
                if not alive and tags.get(UID_TAG, "") not in ours:
                    self._server.kill(run.info.run_id)
                    killed += 1
        except Unreachable:
            return killed  # the next start will find them
        return killed

    def close(self) -> None:
        """Send what can be sent within the tracker's patience; the rest stays for `resend`."""
        if self._sender is not None:
            self._sender.wait(self._sender.is_idle, self.patience_s)
            self._sender.close()

    def open_run(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, parent: str
    ) -> RunFolder | None:
        """Begin a run; None where nothing is tracked."""
        if self._sender is None:
            return None
        source = {"mlflow.user": getpass.getuser(), "mlflow.source.name": "journeyman", "mlflow.source.type": "LOCAL"}
        every = {**source, **process.tags(), **{key: str(value) for key, value in tags.items()}}
        start = time.time_ns() // 1_000_000
        folder = self._outbox.create(RunRecord(uid=new_uid(), parent=parent, name=name, tags=every, start_ms=start))
        if params:
            folder.add("params", values=flatten(params))
        self._sender.take(folder)
        self._sender.wait(lambda: bool(folder.sent.run_id), self.patience_s)
        return folder

    def drain(self, folder: RunFolder) -> None:
        """Wait until a run is wholly sent, with patience."""
        if self._sender is not None:
            self._sender.wait(lambda: folder.sent.finished, self.patience_s)

    def url(self, folder: RunFolder | None) -> str:
        """Where a run can be looked at; empty while there is no such page."""
        if folder is None or self._server is None or not folder.sent.run_id:
            return ""
        if not self._server.uri.startswith(("http://", "https://")):
            return ""
        return f"{self._server.uri.rstrip('/')}/#/experiments/{folder.sent.experiment_id}/runs/{folder.sent.run_id}"

    def _holds(self, uid: str) -> bool:
        return self._sender is not None and self._sender.holds(uid)


class _Run:
    """What parent and child have in common. Calls return at once; a thread sends."""

    def __init__(self, tracker: Tracker, folder: RunFolder | None) -> None:
        self._tracker, self._folder = tracker, folder
        self._ended = False

    @property
    def run_id(self) -> str:
        """MLflow's id; empty while the server could not be reached, or without one."""
        return self._folder.sent.run_id if self._folder else ""

    @property
    def url(self) -> str:
        """The run's page; empty like `run_id`."""
        return self._tracker.url(self._folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._add("tags", values={key: str(value) for key, value in tags.items()})

    def set_note(self, markdown: str) -> None:
        """What the run's page shows as its description."""
        self._add("tags", values={"mlflow.note.content": markdown})

    def finish(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED. Waits for the sending, with the tracker's patience."""
        assert status in ("FINISHED", "FAILED", "KILLED"), status
        self._add("finish", status=status, end_ms=time.time_ns() // 1_000_000)
        self._ended = True
        if self._folder is not None:
            self._tracker.drain(self._folder)

    def _add(self, operation: str, **fields: Any) -> None:
        assert not self._ended, f"{operation} after the end of the run"
        if self._folder is not None:
            self._folder.add(operation, **fields)


class RunTracker(_Run):
    """The parent run of a pipeline run."""

    def __init__(self, tracker: Tracker, folder: RunFolder | None, pipeline: str) -> None:
        super().__init__(tracker, folder)
        self._pipeline = pipeline

    def start_stage(
        self,
        stage: str,
        work: Path,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        on_progress: Progress | None = None,
    ) -> "StageTracker":
        """The child run of a stage. `work/metrics.jsonl` keeps its metrics from one try of the stage to the next."""
        own = {"kind": "stage", "stage": stage, "pipeline": self._pipeline, **tags}
        parent = self._folder.record.uid if self._folder else ""
        folder = self._tracker.open_run(stage, params, own, parent=parent)
        return StageTracker(self._tracker, folder, work, on_progress)

    def headline(self, metrics: Mapping[str, float]) -> None:
        """Figures of the whole pipeline run, for the table that compares runs."""
        _check_names(metrics)
        values = {name: float(value) for name, value in metrics.items()}
        self._add("metrics", values=values, step=0, time_ms=time.time_ns() // 1_000_000)


class StageTracker(_Run):
    """The child run of a stage: an `Observer`."""

    def __init__(
        self, tracker: Tracker, folder: RunFolder | None, work: Path, on_progress: Progress | None = None
    ) -> None:
        super().__init__(tracker, folder)
        self._spool = Spool(work / "metrics.jsonl", folder.metrics if folder else None)
        self._on_progress = on_progress

    def progress(self, done: float, total: float, note: str = "") -> None:
        if self._on_progress is not None:
            self._on_progress(done, total, note)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log values at a step. Raises `ValueError` for a name that `journeyman.metrics` doesn't list."""
        _check_names(values)
        self._spool.add(values, step=step, time_ms=time.time_ns() // 1_000_000)

    def trajectories(self, batch: Sequence[Trajectory], *, step: int) -> None:
        """Each becomes a trace of this run."""
        for trajectory in batch:
            row = to_row(replace(trajectory, token_ids=(), loss_mask=(), logprobs=()))
            self._add("trace", row=row, step=step, time_ns=time.time_ns())

    def rewind(self, step: int) -> None:
        """The stage resumes from the checkpoint of `step`: what an earlier try logged behind it is dropped.

        To be called before the first metrics; without it they cut at their own step.
        """
        self._spool.rewind(step)

    def log_input(self, name: str, path: Path, digest: str, rows: int) -> None:
        """A data set that the stage reads."""
        self._add("input", name=name, path=str(path), digest=digest, rows=rows)

    def log_artifacts(self, folder: Path, name: str = "") -> None:
        """The files of a folder, under `name`. The folder has to stay: it is read later, from the side."""
        self._add("artifacts", folder=str(folder.resolve()), name=name)

    def log_model(self, folder: Path, name: str) -> None:
        """A model in Hugging Face format, as a logged model of this run. The folder has to stay."""
        self._add("model", folder=str(folder.resolve()), name=name)

    def finish(self, status: str = "FINISHED") -> None:
        self._spool.settle()
        super().finish(status)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `sft.optimizer.type`; the items of a list by their `name` where they have one."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(f"{prefix}{key}", value)
    return flat


def _flat(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return flatten(value, f"{key}.")
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        named = {
            str(item.get("name", at)) if isinstance(item, Mapping) else str(at): item for at, item in enumerate(value)
        }
        return flatten(named, f"{key}.")
    return {key: str(value)}


def _check_names(values: Mapping[str, float]) -> None:
    unknown = [name for name in values if not known(name)]
    if unknown:
        raise ValueError(f"metrics {unknown} are not in journeyman.metrics.METRICS; add them there")
