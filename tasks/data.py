"""The tasks of the stages that make and choose data."""

from contextlib import ExitStack
from pathlib import Path

from journeyman.artifacts import home
from journeyman.config import ModelTeacherConfig, PolicyTeacherConfig
from tasks.stage import Desk, Summary, stage_task


@stage_task
def make_demonstrations(desk: Desk) -> Summary:
    """Problems in their splits, and cold-start demonstrations."""
    from journeyman.synthesis.stage import synthesize

    block = desk.config.synthesize
    cache = Path(block.cache).expanduser() if block.cache else home() / "synthesis-cache"
    with ExitStack() as ending:
        workers = None
        if isinstance(block.teacher, ModelTeacherConfig):
            workers = ending.enter_context(desk.workers(max_length=block.teacher.max_length))
        elif isinstance(block.teacher, PolicyTeacherConfig):
            workers = ending.enter_context(desk.workers())
        return synthesize(desk.config, desk.out, desk.observer, work=desk.work, workers=workers, cache=cache)


@stage_task
def curate_trajectories(desk: Desk) -> Summary:
    """The demonstrations that pass the curation rules; the others with their reasons."""
    from journeyman.curation.stage import curate

    synthesized = desk.inputs["demonstrations"].path
    if desk.config.curate.measure:
        _measure(desk, synthesized)
    return curate(desk.config, synthesized, desk.out, desk.observer, work=desk.work)


def _measure(desk: Desk, synthesized: Path) -> None:
    """Leaves attempts.parquet in the artifact, where the rules look for it."""
    from journeyman.evaluation.measure import measured

    with desk.workers() as workers:
        measured(desk.config, synthesized, out=desk.out, work=desk.work, workers=workers, observer=desk.observer)
