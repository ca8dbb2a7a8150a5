"""Stage rl: a named block of reinforcement learning; a pipeline has several."""

from typing import Literal

from pydantic import Field

from journeyman.config.base import Config
from journeyman.config.sft import OptimizerConfig


class ReplayConfig(Config):
    """Past successes that are learned from again."""

    capacity: int = Field(0, ge=0, description="Trajectories kept; 0: no replay")
    fraction: float = Field(0.0, ge=0, le=1, description="Share of a batch that comes from the buffer")
    max_age: int = Field(10, ge=1, description="Steps after which a trajectory is dropped")


class CurriculumConfig(Config):
    type: Literal["uniform", "weakest"] = Field(
        "uniform", description="`weakest`: families with a low running pass rate come more often"
    )


class ObjectiveConfig(Config):
    """What the learner minimises: a part of `journeyman.training.objective`."""

    type: Literal["grpo", "nll"] = Field(
        "grpo", description="`grpo`: clipped policy gradient; `nll`: likelihood of rows with positive advantage"
    )
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.28, gt=0, description="Clip-higher (DAPO)")
    importance_cap: float = Field(2.0, gt=0, description="Truncation of learner-to-sampler importance weights")
    negative_scale: float = Field(0.2, ge=0, le=1, description="Factor on negative advantages")


class RlConfig(Config):
    name: str = Field(description="Name of the block; the stage is called rl-NAME", pattern=r"^[a-z][a-z0-9-]*$")
    reward: str = Field("correct", description="Key of `journeyman.rewards.REWARDS`")
    credit: str = Field("group", description="Key of `journeyman.credit.CREDITS`")
    objective: ObjectiveConfig = ObjectiveConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    replay: ReplayConfig = ReplayConfig()
    steps: int = Field(30, ge=1, description="Sample-and-learn rounds")
    problems: int = Field(48, ge=1, description="Fresh problems a step")
    group: int = Field(8, ge=2, description="Trajectories a problem")
    minibatch: int = Field(96, ge=1, description="Trajectories an optimizer step")
    temperature: float = Field(1.0, gt=0)
    max_turns: int = Field(6, ge=1)
    max_new_tokens: int = Field(96, ge=1, description="Most tokens in one turn")
    optimizer: OptimizerConfig = OptimizerConfig()
    microbatch_tokens: int = Field(16384, ge=64)
    dynamic_sampling: bool = Field(True, description="Groups whose rewards are all equal are dropped (DAPO)")
    checkpoint_every: int = Field(5, ge=1, description="Steps between checkpoints to resume from")
    dev_every: int = Field(0, ge=0, description="Steps between evaluations on the dev set; 0: never")
    sync_tolerance: float = Field(
        0.0, ge=0, description="Largest difference of log-probabilities after a weight sync; 0: by precision"
    )
