"""A ladder of stages that take no time, beside the real keys, cache, records and pages; and one that takes too long."""

import os
import subprocess
import time
from collections.abc import Callable

from prefect import flow

from journeyman.config import PipelineConfig
from tasks.reap import mark_cancelled, mark_crashed
from tasks.recipes import ladder
from tasks.run import continue_run, start_run
from tasks.stage import Desk, StageTask, Summary, perform, result, stage_task

CONFIG = PipelineConfig.model_validate(
    {
        "name": "toy",
        "problems": {"type": "generated", "train": 12, "dev": 3, "heldout": 6},
        "synthesize": {"demonstrations": 30},
        "rl": [{"name": "accuracy", "steps": 2}, {"name": "efficiency", "reward": "otc", "steps": 2}],
    }
)


def toy_body(made: list[str]) -> Callable[[Desk], Summary]:
    """A body that writes what it was given, and notes that it ran."""

    def toy(desk: Desk) -> Summary:
        """Made of nothing."""
        made.append(desk.stage)
        lines = [f"{role} {artifact.key}" for role, artifact in desk.inputs.items()]
        for name in ("demonstrations.parquet", "kept.parquet"):
            _table(desk, name)
        for name in ("train", "heldout"):
            _table(desk, f"problems/{name}.parquet")
        (desk.out / "data.txt").write_text("\n".join([desk.stage, *lines]))
        desk.observer.progress(1, 2, "half way")
        desk.observer.metrics({"time/stage_s": 0.0}, step=0)
        return {"counts": {"rows": 1}, "loss": 0.25}

    return toy


def toy_ladder(made: list[str]) -> Callable[[PipelineConfig], str]:
    stage = stage_task(toy_body(made))

    @flow(name="toy-stage")
    def toy_stage(from_run: str, name: str) -> str:
        with continue_run(from_run, name) as run:
            perform(stage, run, name)
        return result(run, name)

    @flow(name="toy-pipeline")
    def toy_pipeline(config: PipelineConfig) -> str:
        with start_run(config) as run:
            for name in ladder(config):
                toy_stage(run.id, name)
        return run.id

    return toy_pipeline


def _table(desk: Desk, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (desk.out / name).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"x": [1, 2, 3]}), desk.out / name)


def failing(error: Exception, tries: list[int]) -> StageTask:
    """A stage that always fails with an error; its tries are counted."""

    def fails(desk: Desk) -> Summary:
        tries.append(len(tries))
        (desk.out / "half").write_text("x")
        raise error

    return stage_task(fails)


@flow(name="toy-failing")
def toy_failing(task: StageTask, config: PipelineConfig = CONFIG) -> None:
    with start_run(config, stages=["synthesize"]) as run:
        perform(task, run, "synthesize")


def _sleep(desk: Desk) -> Summary:
    """Writes a checkpoint and sleeps, until it is stopped; a second try finds the checkpoint."""
    checkpoint, closed = desk.work / "checkpoint", desk.work / "closed"
    if checkpoint.exists():
        (desk.out / "resumed").write_text(checkpoint.read_text())
        return {"resumed": True}
    checkpoint.write_text("step 5")
    try:
        for second in range(90):
            desk.observer.progress(second, 90, "sleeping")
            time.sleep(1)
    finally:
        closed.write_text(str(os.getpid()))  # stands for the actors that a stage ends
    return {"resumed": False}


sleep_long = stage_task(_sleep)


@stage_task
def sleep_on_ray(desk: Desk) -> Summary:
    """The same with a local Ray cluster, whose raylet's process id is noted."""
    with desk.workers():
        (desk.work / "raylet").write_text(str(_raylet()))
        return _sleep(desk)


def _raylet() -> int:
    children = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return next(int(line.split()[0]) for line in children.stdout.splitlines() if line.split()[1] == "raylet")


@flow(name="slow-stage", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def slow_stage(from_run: str, on_ray: bool) -> None:
    with continue_run(from_run, "synthesize") as run:
        perform(sleep_on_ray if on_ray else sleep_long, run, "synthesize")


@flow(name="slow", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def slow(on_ray: bool = False) -> str:
    """A pipeline whose first stage takes too long."""
    with start_run(CONFIG, stages=["synthesize"]) as run:
        slow_stage(run.id, on_ray)
    return run.id
