"""The whole system on one screen."""

from prefect import flow

from flows.curate import curate
from flows.evaluate import evaluate
from flows.rl import rl
from flows.sft import sft
from flows.synthesize import synthesize
from journeyman.config import PipelineConfig
from tasks.reap import mark_cancelled, mark_crashed
from tasks.run import start_run


@flow(name="pipeline", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def pipeline(config: PipelineConfig) -> str:
    """A model learns to use tools: synthesize -> curate -> sft -> rl, block after block -> evaluate.

    What an earlier run has made of the same is taken from there. Returns the run's id.

    Args:
        config: The pipeline, as in pipelines.yaml.
    """
    with start_run(config) as run:
        synthesize(from_run=run.id)
        curate(from_run=run.id)
        sft(from_run=run.id)
        for block in config.rl:
            rl(from_run=run.id, block=block.name)
        evaluate(from_run=run.id)
    return run.id
