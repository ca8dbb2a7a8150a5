"""The tasks of the stages that train."""

from tasks.recipes import block_named, handed_on
from tasks.stage import Desk, Summary, stage_task


@stage_task
def train_sft(desk: Desk) -> Summary:
    """The base model, and the policy that has learned from the kept trajectories."""
    from journeyman.training.sft import run_sft

    with desk.workers() as workers:
        return run_sft(
            desk.config,
            desk.inputs["curated"].path,
            out=desk.out,
            work=desk.work,
            workers=workers,
            observer=desk.observer,
            problems=desk.inputs["problems"].path if "problems" in desk.inputs else None,
        )


@stage_task
def train_rl(desk: Desk) -> Summary:
    """The policy of the stage before, after one named block of reinforcement learning."""
    from journeyman.monitors import Monitors
    from journeyman.training.inheritance import HANDED_ON
    from journeyman.training.reinforce import Inputs, run_rl

    stage, inputs = block_named(desk.config, desk.stage.removeprefix("rl-")), desk.inputs
    with desk.workers() as workers:
        return run_rl(
            desk.config,
            stage,
            Inputs(
                policy=inputs["policy"].path / "policy",
                problems=inputs["problems"].path,
                demonstrations=inputs["demonstrations"].path if "demonstrations" in inputs else None,
                taught=inputs["taught"].path if "taught" in inputs else None,
                reference=inputs["reference"].path / "policy" if "reference" in inputs else None,
                before=inputs["policy"].path / HANDED_ON if stage.inherits else None,
            ),
            out=desk.out,
            work=desk.work,
            workers=workers,
            observer=desk.observer,
            watch=Monitors(stage.monitors),
            hands_on=handed_on(desk.config, stage),
        )
