"""Stage rl: a named block of reinforcement learning; a pipeline has several."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config
from journeyman.config.checks import Expressed
from journeyman.config.curriculum import CurriculumConfig, UniformCurriculum
from journeyman.config.judge import EncoderConfig, HashedEncoding, JudgeConfig
from journeyman.config.limits import AttemptLimits
from journeyman.config.monitors import MonitorsConfig
from journeyman.config.objective import GrpoObjective, ObjectiveConfig
from journeyman.config.replay import ReplayConfig
from journeyman.config.sft import LoraConfig, OptimizerConfig


class IndependentRollouts(Config):
    """Every attempt of a group begins anew."""

    type: Literal["independent"] = "independent"


class TreeRollouts(Config):
    """Attempts of a group fork from each other between turns, so that siblings share all that went before."""

    type: Literal["tree"] = "tree"
    roots: int = Field(default=2, ge=1, description="Attempts of a group that begin anew; the others fork from them")


class CriticConfig(Config):
    """A value head on the policy's last hidden state, trained along; its gradient doesn't reach the policy."""

    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=1, ge=1, description="Passes over a step's rows")
    gamma: float = Field(default=1.0, gt=0, le=1, description="Discount of the returns that it learns, by turn")
    polyak: float = Field(default=0.1, gt=0, le=1, description="How far slow copies follow; for credits that need Q")


class ProcessConfig(Config):
    """A process reward model that is trained along: beta times the log-ratio of a second model to its reference."""

    loss: Literal["outcome", "pairs"] = Field(
        default="outcome",
        description="`outcome`: cross-entropy with the verdict (PRIME); `pairs`: DPO on trajectories (OPRL)",
    )
    beta: float = Field(default=0.05, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)


class RlConfig(AttemptLimits):
    name: str = Field(description="Name of the block; the stage is called rl-NAME", pattern=r"^[a-z][a-z0-9-]*$")
    reward: Annotated[str, Expressed("journeyman.rewards:VOCABULARY")] = Field(
        default="correct",
        description="An expression over the rewards of `journeyman catalog --kind reward`",
        examples=["correct", "correct * otc", "correct + gate(correct, 0.1 * tool_success)"],
    )
    credit: Annotated[str, Expressed("journeyman.credit:VOCABULARY")] = Field(
        default="group",
        description="An expression over the credits of `journeyman catalog --kind credit`",
        examples=["group", "0.5 * group + 0.5 * turn_group"],
    )
    objective: ObjectiveConfig = Field(default_factory=GrpoObjective)
    judge: JudgeConfig | None = Field(
        default=None, description="Who is asked by rewards that need a judge; empty: nobody"
    )
    encoder: EncoderConfig = Field(
        default_factory=HashedEncoding, description="For rewards that compare texts by their vectors"
    )
    rollout: IndependentRollouts | TreeRollouts = Field(default_factory=IndependentRollouts, discriminator="type")
    critic: CriticConfig | None = Field(
        default=None, title="Critic", description="For credits that need values; empty: none"
    )
    process: ProcessConfig | None = Field(
        default=None, title="Process", description="For credits that need process rewards; empty: none"
    )
    curriculum: CurriculumConfig = Field(default_factory=UniformCurriculum)
    replay: ReplayConfig = ReplayConfig()
    monitors: MonitorsConfig = MonitorsConfig()

    @field_validator("lora")
    @classmethod
    def _weights_are_there(cls, lora: LoraConfig | None, info: ValidationInfo) -> LoraConfig | None:
        objective = info.data.get("objective")
        if lora and objective is not None and objective.anchor:
            raise ValueError("its objective holds all weights near the first ones; set its weight_anchor to 0")
        return lora

    @field_validator("reward", "credit")
    @classmethod
    def _on_one_line(cls, text: str) -> str:
        """As it is printed; what can't be read is told of with its place, when the pipeline is loaded."""
        from journeyman.expressions import ExpressionError, parse, render

        try:
            return render(parse(text))
        except ExpressionError:
            return text

    steps: int = Field(default=30, ge=1, description="Sample-and-learn rounds")
    problems: int = Field(default=48, ge=1, description="Fresh problems a step")
    group: int = Field(default=8, ge=2, description="Trajectories a problem")
    minibatch: int = Field(default=96, ge=1, description="Trajectories an optimizer step")
    temperature: float = Field(default=1.0, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    packing: bool = Field(
        default=False,
        description="Rows of different length share sequences in the learner: same loss, less padding computed",
    )
    lora: LoraConfig | None = Field(default=None, title="LoRA", description="Adapters; empty: all weights are trained")
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
