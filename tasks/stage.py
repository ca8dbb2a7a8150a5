"""A stage as one Prefect task: cached by its artifact's key, retried once when the machinery fails, told everywhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import Task, get_run_logger, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Completed
from prefect.utilities.annotations import quote

from journeyman.artifacts import Artifact, Recipe
from journeyman.config import PipelineConfig
from journeyman.errors import InfrastructureError
from journeyman.progress import Observer
from journeyman.runs import Status
from journeyman.tracking import StageTracker
from tasks.board import Beat
from tasks.pages import link, markdown, progress_bar, summary_rows, table, with_pictures
from tasks.recipes import plan
from tasks.run import Run, mlflow_status, outcome

if TYPE_CHECKING:
    from journeyman.training.workers import Workers

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a stage's body is given."""

    run: Run
    stage: str
    inputs: Mapping[str, Artifact]
    """By role, as in `tasks.recipes`."""
    out: Path
    work: Path
    observer: Observer

    @property
    def config(self) -> PipelineConfig:
        return self.run.config

    @contextmanager
    def workers(self, max_length: int | None = None) -> "Iterator[Workers]":
        """The stage's actors; they end with the block, however that is left. What failed is not used for a retry.

        `max_length`: longest trajectory in tokens; None: the pipeline's own model's.
        """
        from journeyman.actors import RayWorkers

        self.run.connect()
        name, length = f"{self.run.id}-{self.stage}", max_length or self.config.model.max_length
        try:
            with RayWorkers(self.config.compute, max_length=length, run=name) as workers:
                yield workers
        except InfrastructureError:
            self.run.disconnect()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stage of a run, ready to be made."""

    run: Run
    recipe: Recipe


Body = Callable[[Desk], Summary]
StageTask = Task[[str, Job], dict[str, str]]


def stage_task(body: Body) -> StageTask:
    """The Prefect task of a stage's body. Its result is the artifact's name, never the data."""

    def make(key: str, job: Job) -> dict[str, str]:
        return _make(job, body)

    return task(
        name=body.__name__,
        description=body.__doc__,
        task_run_name="{key}",
        persist_result=True,
        result_serializer="json",
        cache_policy=CacheKeyFnPolicy(cache_key_fn=_cache_key),
        retries=1,
        retry_condition_fn=_machinery_failed,
    )(make)


def perform(stage_task: StageTask, run: Run, stage: str) -> Artifact:
    """Make a stage of a run, or find it made. Raises what the body raises."""
    started = time.monotonic()
    recipe = run.recipe(stage)
    run.begin(stage, recipe)
    whole = run.store.valid(stage, recipe.key) is not None
    # Prefect keeps the name of an artifact, not the artifact: a hit of its cache counts only where that is whole.
    fresh = stage_task.with_options(refresh_cache=not whole)
    job = quote(Job(run=run, recipe=recipe))  # quoted, for Prefect would search it for futures, item by item
    fresh(f"{stage}-{recipe.key}", cast(Job, job))
    artifact = run.store.require(stage, recipe.key)
    made_here = artifact.manifest.made_by.get("run") == run.id
    run.end(stage, Status.COMPLETED if made_here else Status.CACHED, time.monotonic() - started)
    _tell(run, artifact)
    return artifact


def result(run: Run, stage: str) -> str:
    """What a stage's flow returns: the run's id, in the state Cached where there was nothing to make."""
    if run.record.stages[stage].status != Status.CACHED:
        return run.id
    # Prefect takes a state that a flow returns for its own; who called the flow is given the data.
    return cast(str, Completed(name="Cached", message="Its artifact was there already.", data=run.id))


def _make(job: Job, body: Body) -> dict[str, str]:
    """The artifact's name, once it is there. What a killed try has left in the work folder is taken up again."""
    run, recipe = job.run, job.recipe
    with ExitStack() as ending:
        tracked: StageTracker | None = None
        with run.store.build(recipe) as draft:
            if draft.artifact is None:
                inputs = run.inputs(recipe.stage)
                tracked = _track(job, inputs, ending)
                draft.made_by = _maker(run, tracked)
                desk = Desk(
                    run=run, stage=recipe.stage, inputs=inputs, out=draft.out, work=draft.work, observer=tracked
                )
                draft.summary = body(desk)
        assert draft.artifact is not None, "a build ends with an artifact or an error"
        if tracked is not None:
            _keep(tracked, draft.artifact)
    run.store.discard_work(recipe.key)
    return {"stage": recipe.stage, "key": recipe.key}


def _track(job: Job, inputs: Mapping[str, Artifact], ending: ExitStack) -> StageTracker:
    """The child run in MLflow, which passes progress on to the display and to the Prefect page."""
    run, stage = job.run, job.recipe.stage
    beat = ending.enter_context(Beat(progress_bar(stage)))

    def progress(done: float, total: float, note: str) -> None:
        run.board.progress(stage, done, total, note)
        beat.offer(min(100.0, 100.0 * done / total) if total else 0.0, note)

    tracked = run.start_stage_tracking(job.recipe, progress)
    ending.push(lambda kind, error, trace: tracked.finish(mlflow_status(outcome(error))))
    run.save_stage(stage, mlflow_url=tracked.url)
    for role, name in plan(run.config, stage, list(run.keys())).tables.items():
        stored = inputs[role].manifest.files[name]
        tracked.log_input(Path(name).stem, inputs[role].path / name, stored.sha256, stored.rows or 0)
    link(f"{stage}-mlflow", tracked.url, f"{stage} in MLflow", "Parameters, curves, models and traces of this stage")
    page = run.record.stages[stage].prefect_url or run.record.prefect_url
    tracked.set_note(f"[Stage in Prefect]({page})" if page else f"Stage {stage} of run {run.id}")
    return tracked


def _maker(run: Run, tracked: StageTracker) -> dict[str, str]:
    return {
        "run": run.id,
        "prefect_url": run.record.prefect_url,
        "mlflow_run_id": tracked.run_id,
        "mlflow_url": tracked.url,
    }


def _keep(tracked: StageTracker, artifact: Artifact) -> None:
    """Hand the outputs to MLflow: the policy as a logged model, everything else as it is."""
    why = {key: artifact.manifest.summary[key] for key in ("ended", "stopped") if key in artifact.manifest.summary}
    tracked.set_tags({"artifact": str(artifact.path), **why})
    policy = artifact.path / "policy"
    if policy.is_dir():
        tracked.log_model(policy, artifact.stage)
    else:
        tracked.log_artifacts(artifact.path)


def _tell(run: Run, artifact: Artifact) -> None:
    """The stage's table on its Prefect page, and its place in the run's record."""
    stage, manifest = artifact.stage, artifact.manifest
    record = run.record.stages[stage]
    run.save_stage(stage, mlflow_url=manifest.made_by.get("mlflow_url", ""))
    made = "made" if record.status == Status.COMPLETED else f"cached, made by run {manifest.made_by.get('run')}:"
    get_run_logger().info("%s %s %s", stage, made, artifact.path)
    if why := manifest.summary.get("ended") or manifest.summary.get("stopped"):
        get_run_logger().info("%s ended after %s steps: %s", stage, manifest.summary["steps"], why)
    head = {"status": record.status, "seconds": record.seconds, "artifact": str(artifact.path)}
    if record.status == Status.CACHED:
        head["made by run"] = manifest.made_by.get("run", "")
    rows = summary_rows({**head, **manifest.summary})
    table(f"{stage}-summary", rows, f"Stage {stage} of run {run.id}: {record.status}")
    _show_card(artifact)


def _show_card(artifact: Artifact) -> None:
    """The data card of a stage that writes one, and where MLflow shows it with its pictures."""
    card, made_by = artifact.path / "card.md", artifact.manifest.made_by
    if card.is_file():
        address = made_by.get("mlflow_url", "")
        text = with_pictures(card.read_text(encoding="utf-8"), address, made_by.get("mlflow_run_id", ""))
        markdown(f"{artifact.stage}-card", text, f"Data card of {artifact.path}")
        page = address and f"{address}/artifacts/card.html"
        link(f"{artifact.stage}-card-page", page, "Data card in MLflow", "The same as a page, with its pictures")


def _cache_key(context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    return parameters["key"]


def _machinery_failed(task: Task[..., Any], task_run: TaskRun, state: State) -> bool:
    """Whether trying again may help: never for a `UserError`, nor for a fault in the code."""
    return isinstance(state.data, InfrastructureError)
