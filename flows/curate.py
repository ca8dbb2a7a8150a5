"""Stage curate: which demonstrations are kept."""

from prefect import flow

from journeyman.config import CurateConfig
from tasks.data import curate_trajectories
from tasks.reap import mark_cancelled, mark_crashed
from tasks.run import continue_run
from tasks.stage import perform, result


@flow(name="curate", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def curate(from_run: str = "latest", options: CurateConfig | None = None) -> str:
    """Choose among the demonstrations of an earlier run. Returns the run's id.

    Args:
        from_run: The run whose artifacts are the inputs: its id, a pipeline's name (its latest run) or `latest`.
        options: The stage's options, all of them. Empty: as in that run.
    """
    with continue_run(from_run, "curate", curate=options) as run:
        perform(curate_trajectories, run, "curate")
    return result(run, "curate")
