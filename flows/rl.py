"""Stage rl: one named block of reinforcement learning."""

from prefect import flow

from journeyman.config import RlConfig
from tasks.reap import mark_cancelled, mark_crashed
from tasks.recipes import chosen_block
from tasks.run import config_of, continue_run
from tasks.stage import perform, result
from tasks.training import train_rl


@flow(name="rl", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def rl(from_run: str = "latest", block: RlConfig | str = "") -> str:
    """Train the policy of the stage before with one block of reinforcement learning. Returns the run's id.

    Args:
        from_run: The run whose artifacts are the inputs: its id, a pipeline's name (its latest run) or `latest`.
        block: The block's options, all of them, in place of those of the block of that name; or only its name, to
            run it as it was. Empty: the first block.
    """
    name, changed = chosen_block(config_of(from_run), block)
    with continue_run(from_run, f"rl-{name}", rl=changed) as run:
        perform(train_rl, run, f"rl-{name}")
    return result(run, f"rl-{name}")
