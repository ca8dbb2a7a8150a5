"""Stage sft: supervised fine-tuning."""

from prefect import flow

from journeyman.config import SftConfig
from tasks.reap import mark_cancelled, mark_crashed
from tasks.run import continue_run
from tasks.stage import perform, result
from tasks.training import train_sft


@flow(name="sft", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def sft(from_run: str = "latest", options: SftConfig | None = None) -> str:
    """Train a base model on the kept trajectories of an earlier run. Returns the run's id.

    Args:
        from_run: The run whose artifacts are the inputs: its id, a pipeline's name (its latest run) or `latest`.
        options: The stage's options, all of them. Empty: as in that run.
    """
    with continue_run(from_run, "sft", sft=options) as run:
        perform(train_sft, run, "sft")
    return result(run, "sft")
