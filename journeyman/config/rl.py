"""Stage rl: a named block of reinforcement learning; a pipeline has several."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with
from journeyman.config.checks import Registered
from journeyman.config.limits import AttemptLimits
from journeyman.config.sft import OptimizerConfig


class ReplayConfig(Config):
    """Past successes that are learned from again."""

    capacity: int = Field(default=0, ge=0, description="Trajectories kept; 0: no replay")
    fraction: float = Field(default=0.0, ge=0, le=1, description="Share of a batch that comes from the buffer")
    max_age: int = Field(default=10, ge=1, description="Steps after which a trajectory is dropped")

    @field_validator("fraction")
    @classmethod
    def _buffer_and_share(cls, fraction: float, info: ValidationInfo) -> float:
        if fraction and not info.data.get("capacity", 1):
            raise ValueError("has no effect with capacity 0; set capacity too")
        if info.data.get("capacity") and not fraction:
            raise ValueError("is needed with a capacity above 0: nothing would be replayed")
        return fraction

    @field_validator("max_age")
    @classmethod
    def _age_of_something(cls, max_age: int, info: ValidationInfo) -> int:
        if not info.data.get("capacity", 1) and max_age != cls.model_fields["max_age"].default:
            raise ValueError("has no effect with capacity 0; set capacity too")
        return max_age


class CurriculumConfig(Config):
    type: Literal["uniform", "weakest"] = Field(
        default="uniform", description="`weakest`: families with a low running pass rate come more often"
    )


class ObjectiveConfig(Config):
    """What the learner minimises: a part of `journeyman.training.objective`."""

    type: Literal["grpo", "nll"] = Field(
        default="grpo", description="`grpo`: clipped policy gradient; `nll`: likelihood of rows with positive advantage"
    )
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.28, gt=0, description="Clip-higher (DAPO)")
    importance_cap: float = Field(default=2.0, gt=0, description="Truncation of learner-to-sampler importance weights")
    negative_scale: float = Field(default=0.2, ge=0, le=1, description="Factor on negative advantages")

    @field_validator("clip_low", "clip_high", "importance_cap", "negative_scale")
    @classmethod
    def _policy_gradient_only(cls, value: float, info: ValidationInfo) -> float:
        return only_with(cls, value, info, other="type", is_in=("grpo",))


class RlConfig(AttemptLimits):
    name: str = Field(description="Name of the block; the stage is called rl-NAME", pattern=r"^[a-z][a-z0-9-]*$")
    reward: Annotated[str, Registered("journeyman.rewards:REWARDS")] = Field(
        default="correct", description="Key of `journeyman.rewards.REWARDS`"
    )
    credit: Annotated[str, Registered("journeyman.credit:CREDITS")] = Field(
        default="group", description="Key of `journeyman.credit.CREDITS`"
    )
    objective: ObjectiveConfig = ObjectiveConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    replay: ReplayConfig = ReplayConfig()
    steps: int = Field(default=30, ge=1, description="Sample-and-learn rounds")
    problems: int = Field(default=48, ge=1, description="Fresh problems a step")
    group: int = Field(default=8, ge=2, description="Trajectories a problem")
    minibatch: int = Field(default=96, ge=1, description="Trajectories an optimizer step")
    temperature: float = Field(default=1.0, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    microbatch_tokens: int = Field(default=16384, ge=64)
    recompute_logprobs: bool = Field(
        default=True,
        description="The learner scores the batch before its first update; off: the sampler's values stand in",
    )
    dynamic_sampling: bool = Field(default=True, description="Groups whose rewards are all equal are dropped (DAPO)")
    checkpoint_every: int = Field(default=5, ge=1, description="Steps between checkpoints to resume from")
    sync_tolerance: float = Field(
        default=0.0, ge=0, description="Largest difference of log-probabilities after a weight sync; 0: by precision"
    )
