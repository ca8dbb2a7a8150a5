"""A run in progress: its record, its progress file, its parent run in MLflow, its place in Prefect."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run as current_flow_run

from journeyman.artifacts import Artifact, ArtifactStore, Recipe, home
from journeyman.config import PipelineConfig
from journeyman.config.base import Config
from journeyman.config.load import check_names
from journeyman.errors import ArtifactError
from journeyman.provenance import git_commit
from journeyman.runs import RunRecord, RunStore, StageRecord, Status, ended
from journeyman.tracking import RunTracker, StageTracker, Tracker
from tasks.board import Board
from tasks.pages import flow_run_url, link, table
from tasks.reap import crash_in_prefect
from tasks.recipes import ladder, plan

Progress = Callable[[float, float, str], None]

if TYPE_CHECKING:
    from journeyman.actors.cluster import Connection

_open_run: ContextVar["Run | None"] = ContextVar("open_run", default=None)


@contextmanager
def start_run(
    config: PipelineConfig, *, stages: Sequence[str] = (), source: RunRecord | None = None
) -> Iterator["Run"]:
    """A new run of `stages` (all of the pipeline's where none are named); what comes before is taken from `source`.

    Raises `UserError` before anything is begun where names or paths of the config are wrong or the disk is too full.
    """
    check_names(config)
    store, runs = ArtifactStore(home()), RunStore(home())
    store.require_space()
    store.sweep()
    crash_in_prefect(runs.reap())
    with _open(config, list(stages) or ladder(config), source, store=store, runs=runs) as run:
        token = _open_run.set(run)
        try:
            yield run
        finally:
            _open_run.reset(token)


@contextmanager
def continue_run(from_run: str, stage: str, **changes: Config | Sequence[Config] | None) -> Iterator["Run"]:
    """The run that a stage records in: `from_run` itself while it is in progress here, else a new one made from it.

    Args:
        from_run: a run's id, a pipeline's name (its latest run), or `latest`.
        stage: what will be made; what comes before it is taken from `from_run`.
        changes: parts of the config that differ from those of `from_run`; None: they don't.
    """
    run = _open_run.get()
    if run is not None and run.id == from_run:
        assert not any(changes.values()), "a run in progress has its config"
        _name_flow_run(f"{stage} of {run.id}")
        yield run
        return
    source = RunStore(home()).find(from_run)
    parts = {part: options for part, options in changes.items() if options is not None}
    config = PipelineConfig.model_validate({**dict(source.pipeline_config()), **parts})
    with start_run(config, stages=[stage], source=source) as run:
        yield run


def config_of(from_run: str) -> PipelineConfig:
    """The config of a run, named as in `continue_run`. Raises `UserError`."""
    return RunStore(home()).find(from_run).pipeline_config()


@dataclass(slots=True, kw_only=True)
class Run:
    """What the stages of a run share. Leaving the context ends it."""

    config: PipelineConfig
    store: ArtifactStore
    runs: RunStore
    record: RunRecord
    lock: IO[str]
    """Open as long as the run goes on: by it others know that the process lives."""
    board: Board
    tracker: Tracker
    tracked: RunTracker
    """The parent run in MLflow."""
    started: float
    """`time.monotonic()`."""
    cluster: "Connection | None" = None
    """Ray, as soon as a stage has needed it."""

    @property
    def id(self) -> str:
        return self.record.id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
        status = outcome(error)
        self.save(seconds=round(time.monotonic() - self.started, 3))
        self.record = ended(self.record, status, error="" if error is None else f"{type(error).__name__}: {error}")
        self.runs.save(self.record)
        self.board.close(status)
        if status in (Status.COMPLETED, Status.FAILED):
            table("stages", _rows(self.record), f"The stages of run {self.id}: {status}")
        self.tracked.finish(mlflow_status(status))
        self.tracker.close()
        self.lock.close()

    def connect(self) -> None:
        """Join Ray once for all stages: to start a local cluster takes seconds."""
        from journeyman.actors.cluster import Connection

        if self.cluster is None:
            self.cluster = Connection(self.config.compute, namespace=f"journeyman-{self.id}")
            self.cluster.open()

    def disconnect(self) -> None:
        """Leave Ray, and end the cluster where it is ours."""
        if self.cluster is not None:
            self.cluster.close()
            self.cluster = None

    def plan_inputs(self, stage: str) -> dict[str, str]:
        """Role to the stage whose artifact it is. Raises `ArtifactError` where the run has none."""
        needs = plan(self.config, stage, list(self.keys())).inputs
        for needed in needs.values():
            if needed not in self.keys():
                message = f"stage {stage} reads the artifact of stage {needed}, which run {self.id} has not"
                remedy = f"name a run that has it, or make it: journeyman stage {needed}"
                raise ArtifactError(message, place=self.record.from_run or self.id, remedy=remedy)
        return dict(needs)

    def recipe(self, stage: str) -> Recipe:
        """What the stage would be made from now. Raises `ArtifactError` like `plan_inputs`."""
        self.plan_inputs(stage)
        return plan(self.config, stage, list(self.keys())).recipe(self.config, self.keys())

    def inputs(self, stage: str) -> dict[str, Artifact]:
        """Role to artifact. Raises `ArtifactError` where one is missing or damaged."""
        keys = self.keys()
        return {role: self.store.require(needed, keys[needed]) for role, needed in self.plan_inputs(stage).items()}

    def keys(self) -> dict[str, str]:
        """Stage to the key of its artifact, for those that are made."""
        done = (Status.COMPLETED, Status.CACHED)
        return {name: made.key for name, made in self.record.stages.items() if made.status in done}

    def begin(self, stage: str, recipe: Recipe) -> None:
        """Note that a stage is being made."""
        self.board.start(stage)
        url = flow_run_url(str(current_flow_run.get_id() or ""))
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.save_stage(stage, status=Status.RUNNING, key=recipe.key, started=started, prefect_url=url)

    def end(self, stage: str, status: Status, seconds: float, note: str = "") -> None:
        """Note how a stage ended."""
        self.board.end(stage, status, seconds, note)
        self.save_stage(stage, status=status, seconds=round(seconds, 3))

    def start_stage_tracking(self, recipe: Recipe, on_progress: Progress) -> StageTracker:
        """The stage's child run in MLflow: the observer of its body."""
        tags = run_tags(self.record) | {"stage.key": recipe.key, "seed": str(recipe.seed)}
        work = self.store.work(recipe.key)
        return self.tracked.start_stage(recipe.stage, work, recipe.config, tags, on_progress=on_progress)

    def save(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self.runs.save(self.record)

    def save_stage(self, stage: str, **changes: Any) -> None:
        stages = dict(self.record.stages)
        stages[stage] = replace(stages.get(stage, StageRecord()), **changes)
        self.save(stages=stages)


def _rows(record: RunRecord) -> list[dict[str, Any]]:
    return [
        {"stage": name, "status": stage.status, "seconds": stage.seconds, "artifact": stage.key}
        for name, stage in record.stages.items()
    ]


def mlflow_status(status: Status) -> str:
    """MLflow's word for how a run or a stage ended."""
    if status in (Status.COMPLETED, Status.CACHED):
        return "FINISHED"
    return "FAILED" if status == Status.FAILED else "KILLED"


def run_tags(record: RunRecord) -> dict[str, str]:
    """MLflow tags that name a run's place elsewhere."""
    tags = {"git.sha": git_commit(), "run": record.id}
    if record.from_run:
        tags["from_run"] = record.from_run
    if record.flow_run_id:
        tags |= {"prefect.flow_run_id": record.flow_run_id, "prefect.url": record.prefect_url}
    return tags


def _open(
    config: PipelineConfig, stages: list[str], source: RunRecord | None, *, store: ArtifactStore, runs: RunStore
) -> Run:
    started = time.monotonic()
    record, lock = runs.create(config, from_run=source.id if source else "")
    flow_run_id = str(current_flow_run.get_id() or "")
    record = replace(
        record,
        stages={**_inherited(config, source, stages[0]), **{name: StageRecord() for name in stages}},
        flow_run_id=flow_run_id,
        prefect_url=flow_run_url(flow_run_id),
    )
    runs.save(record)
    board = Board(runs.folder(record.id) / "progress.json", run=record.id, pipeline=config.name, stages=stages)
    _name_flow_run(record.id)
    tracker, tracked = _track(config, record)
    record = replace(record, mlflow_run_id=tracked.run_id, mlflow_url=tracked.url)
    runs.save(record)
    link("mlflow", tracked.url, "Run in MLflow", "Parameters, metrics, models and traces of this run")
    return Run(
        config=config,
        store=store,
        runs=runs,
        record=record,
        lock=lock,
        board=board,
        tracker=tracker,
        tracked=tracked,
        started=started,
    )


def _track(config: PipelineConfig, record: RunRecord) -> tuple[Tracker, RunTracker]:
    tracker = Tracker(os.environ.get("MLFLOW_TRACKING_URI"), home())
    tracker.reap()
    params = config.model_dump(mode="json", exclude={"description"})
    tracked = tracker.start_run(config.name, record.id, params, run_tags(record) | {"seed": str(config.seed)})
    note = f"[Run in Prefect]({record.prefect_url})" if record.prefect_url else f"Run {record.id}"
    tracked.set_note(f"{config.description}\n\n{note}".strip())
    return tracker, tracked


def _inherited(config: PipelineConfig, source: RunRecord | None, first: str) -> Mapping[str, StageRecord]:
    """What the source has of the stages before the first wanted one."""
    if source is None:
        return {}
    order, made = ladder(config), source.stages
    done = (Status.COMPLETED, Status.CACHED)
    before = [name for name in order[: order.index(first)] if name in made and made[name].status in done]
    return {name: replace(made[name], inherited=True) for name in before}


def outcome(error: BaseException | None) -> Status:
    """How what ended with this error ended. An `Exception` is a failure; what is none of those is a signal to stop."""
    if error is None:
        return Status.COMPLETED
    return Status.FAILED if isinstance(error, Exception) else Status.CANCELLED


def _name_flow_run(name: str) -> None:
    """Give the current flow run our name for it."""
    if flow_run_id := current_flow_run.get_id():
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(UUID(flow_run_id), name)
