"""Stage synthesize: the problems, and the demonstrations of a cold start."""

from prefect import flow

from journeyman.config import PipelineConfig
from tasks.data import make_demonstrations
from tasks.reap import mark_cancelled, mark_crashed
from tasks.run import continue_run, start_run
from tasks.stage import perform, result


@flow(name="synthesize", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def synthesize(config: PipelineConfig | None = None, from_run: str = "latest") -> str:
    """The first stage of a pipeline; the other stages can then be run from it one by one. Returns the run's id.

    Args:
        config: The pipeline, as in pipelines.yaml. Empty: that of the run below.
        from_run: A run's id, a pipeline's name (its latest run) or `latest`. Used where no pipeline is given.
    """
    with start_run(config, stages=["synthesize"]) if config else continue_run(from_run, "synthesize") as run:
        perform(make_demonstrations, run, "synthesize")
    return result(run, "synthesize")
