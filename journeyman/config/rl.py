"""Stage rl: a named block of reinforcement learning; a pipeline has several."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config
from journeyman.config.checks import Expressed, MeasuredByStep
from journeyman.config.curriculum import CurriculumConfig, UniformCurriculum
from journeyman.config.judge import EncoderConfig, HashedEncoding, JudgeConfig
from journeyman.config.limits import AttemptLimits
from journeyman.config.monitors import MonitorsConfig
from journeyman.config.objective import GrpoObjective, ObjectiveConfig
from journeyman.config.proposals import ProposalsConfig
from journeyman.config.replay import ReplayConfig
from journeyman.config.rollout import IndependentRollouts, RolloutConfig
from journeyman.config.sft import LoraConfig, OptimizerConfig


class AsynchronyConfig(Config):
    """How far sampling may run ahead of learning."""

    staleness: int = Field(
        default=0,
        ge=0,
        description="Steps that the weights of the sampler may lie behind those that learn from its attempts; "
        "0: sample and learn in turn, 1: one step off",
    )
    partial: bool = Field(
        default=False,
        description="Attempts go on while new weights come in, and a step takes the groups that are done first: "
        "nobody waits, but nothing follows from the seed any more",
    )


Metric = Annotated[str, MeasuredByStep()]


class TargetConfig(Config):
    """Something reached."""

    metric: Metric = Field(default="rollout/accuracy", description="One of a step's metrics")
    above: float = Field(description="The block ends when its mean over the last steps is above")
    steps: int = Field(default=3, ge=1, description="How many steps that mean is of")


class PlateauConfig(Config):
    """Nothing gained any more. The defaults are ours."""

    metric: Metric = Field(default="rollout/accuracy", description="One of a step's metrics")
    steps: int = Field(default=10, ge=2, description="The block ends when the mean over so many steps ...")
    gain: float = Field(default=0.01, ge=0, description="... is not above that of as many before by more than this")


class EndsConfig(Config):
    """What ends a block before its `steps`; its policy is handed on as it is. Monitors end it, too (`stop`)."""

    tokens: int | None = Field(default=None, ge=1, description="Sampled tokens that are enough; empty: any number")
    seconds: float | None = Field(
        default=None, gt=0, description="Time that is enough, as the machine has it, tries together; empty: any"
    )
    target: TargetConfig | None = Field(default=None, title="Target", description="Empty: none")
    plateau: PlateauConfig | None = Field(default=None, title="Plateau", description="Empty: none")


Inherited = Literal["optimizer", "curriculum", "replay", "history"]
"""State besides the policy that a block can take over from the one before."""


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
    rollout: RolloutConfig = Field(default_factory=IndependentRollouts)
    asynchrony: AsynchronyConfig = AsynchronyConfig()
    ends: EndsConfig = EndsConfig()
    inherits: list[Inherited] = Field(
        default=[],
        description="What the block takes over from the rl block before besides its policy; `history`: what its "
        "rewards remember",
    )
    reference: str | None = Field(
        default=None,
        description="Stage whose policy the objective holds the policy against; empty: what the block begins with",
    )
    critic: CriticConfig | None = Field(
        default=None, title="Critic", description="For credits that need values; empty: none"
    )
    process: ProcessConfig | None = Field(
        default=None, title="Process", description="For credits that need process rewards; empty: none"
    )
    curriculum: CurriculumConfig = Field(default_factory=UniformCurriculum)
    proposals: ProposalsConfig | None = Field(default=None, description="New problems during training; empty: none")
    replay: ReplayConfig = ReplayConfig()
    monitors: MonitorsConfig = MonitorsConfig()

    @property
    def uses_demonstrations(self) -> bool:
        """Whether the block reads what the cold start learned from."""
        return self.curriculum.uses_demonstrations or self.replay.seeds is not None

    @property
    def uses_taught(self) -> bool:
        """Whether the block reads the problems that were demonstrated, or those that are evaluated on."""
        return self.curriculum.uses_demonstrations or self.proposals is not None

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
