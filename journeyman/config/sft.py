"""Stage sft: supervised fine-tuning on the kept trajectories."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with
from journeyman.config.checks import HubOrLocal, expand_home

Share = Annotated[float, Field(gt=0)]


class OptimizerConfig(Config):
    """AdamW, or Muon for matrices with AdamW for the rest."""

    type: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=5e-4, gt=0, description="AdamW's")
    muon_learning_rate: float = Field(default=0.02, gt=0, description="Muon's; used with type muon")
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=5, ge=0)
    decay_fraction: float = Field(
        default=0.5, ge=0, le=1, description="Last share of the steps, over which the rate falls"
    )
    final_fraction: float = Field(default=0.1, ge=0, le=1, description="Share of the rate that is left at the end")

    @field_validator("muon_learning_rate")
    @classmethod
    def _muon_only(cls, value: float, info: ValidationInfo) -> float:
        return only_with(cls, value, info, other="type", is_in=("muon",))


class LoraConfig(Config):
    """Low-rank adapters are trained instead of the weights (LoRA, arXiv 2106.09685); what leaves the stage is merged."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1, description="The adapters' product counts alpha / rank times")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Of the adapters' input; above 0 micro-batching changes what is drawn"
    )
    targets: list[str] = Field(
        default=[],
        description="Layers by the end of their names; empty: every linear layer but the head",
        examples=[["q_proj", "v_proj"]],
    )


class KeyTokensConfig(Config):
    """Tokens that decide which tool is called, and with what, weigh more in the loss (TL-Training, #7)."""

    max_weight: float = Field(
        default=9.0, gt=1, description="They weigh as much as the other tokens together, each at most this"
    )
    arguments: bool = Field(
        default=True, description="Also where names and values of arguments begin; the authors' code leaves these at 1"
    )


class LinesConfig(Config):
    """Updates are scaled by depth after training, so that shallow layers stay near the base model (LiNeS, #200)."""

    alpha: float = Field(default=0.1, ge=0, description="Scale of the first block's update, and of what is in none")
    beta: float = Field(default=0.9, description="What is added to it up to the last block and the head")


class DistillConfig(Config):
    """The policy is also held near the token distributions of a teacher."""

    teacher: Annotated[str, HubOrLocal(folder=True)] = Field(
        description="Folder or Hub name of a model with the same tokenizer"
    )
    weight: float = Field(default=0.5, gt=0, le=1, description="Of the divergence; the likelihood has the rest")
    temperature: float = Field(default=1.0, gt=0, description="At which both distributions are compared")

    _home = field_validator("teacher")(expand_home)


class PhaseConfig(Config):
    """A stretch of the stage with its own mixture."""

    share: Share = Field(default=1.0, description="Of the steps, against the shares of the other phases")
    mixture: dict[str, Share] = Field(
        default={},
        description="Kind of trajectory to its share of each batch; a kind stands for what begins with it and a slash. "
        "Empty: all kinds as they come",
        examples=[{"trajectory": 3, "reflection": 1}],
    )


class SftConfig(Config):
    steps: int = Field(default=430, ge=0, description="Optimizer steps; 0: the base model is handed on as it is")
    epochs: int | None = Field(default=None, ge=1, description="Passes over the rows, instead of steps")
    batch: int = Field(default=32, ge=1, description="Trajectories a step, bucketed by length")
    optimizer: OptimizerConfig = OptimizerConfig(type="muon", learning_rate=3e-3, weight_decay=0.01, final_fraction=0.0)
    microbatch_tokens: int = Field(
        default=16384, ge=64, description="Most tokens, padding included, in one forward pass"
    )
    packing: bool = Field(
        default=False,
        description="Rows of different length share sequences without seeing each other: same loss, less padding "
        "computed. Pays off with mixtures and micro-batches of many lengths",
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps between checkpoints to resume from")
    evaluate_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between greedy attempts at dev problems, under evaluate's limits; the best policy is kept. "
        "Empty: never, and the last is kept",
    )
    dev_problems: int = Field(default=64, ge=1, description="Dev problems that are attempted; used with evaluate_every")
    mixture: dict[str, Share] = Field(
        default={},
        description="Kind of trajectory to its share of each batch, such as trajectory, world_model, reflection (#3); "
        "empty: all kinds as they come",
        examples=[{"trajectory": 3, "world_model": 1}],
    )
    phases: list[PhaseConfig] = Field(
        default=[],
        description="Stretches with mixtures of their own, such as world_model first; empty: one",
        examples=[[{"share": 1, "mixture": {"world_model": 1}}, {"share": 3, "mixture": {"trajectory": 1}}]],
    )
    key_tokens: KeyTokensConfig | None = Field(
        default=None, title="Key tokens", description="Which tokens weigh more; empty: all weigh the same"
    )
    lora: LoraConfig | None = Field(default=None, title="LoRA", description="Adapters; empty: all weights are trained")
    distill: DistillConfig | None = Field(default=None, title="Distill", description="A teacher; empty: none")
    lines: LinesConfig | None = Field(
        default=None, title="LiNeS", description="Scales the update of the policy by depth; empty: it stays as it is"
    )

    @field_validator("epochs")
    @classmethod
    def _one_length(cls, epochs: int | None, info: ValidationInfo) -> int | None:
        usual = cls.model_fields["steps"].default
        if epochs is not None and info.data.get("steps", usual) != usual:
            raise ValueError(f"the stage's length is given twice; give steps or epochs (then leave steps at {usual})")
        return epochs

    @field_validator("evaluate_every", "distill", "lora", "lines")
    @classmethod
    def _of_training(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("steps") == 0 and info.data.get("epochs") is None:
            raise ValueError("has no effect with steps 0: nothing is trained")
        return value

    @field_validator("dev_problems")
    @classmethod
    def _for_evaluation(cls, count: int, info: ValidationInfo) -> int:
        if info.data.get("evaluate_every", 1) is None and count != cls.model_fields["dev_problems"].default:
            raise ValueError("has no effect without evaluate_every")
        return count

    @field_validator("phases")
    @classmethod
    def _one_mixture(cls, phases: list[PhaseConfig], info: ValidationInfo) -> list[PhaseConfig]:
        if phases and info.data.get("mixture"):
            raise ValueError("have mixtures of their own; take sft.mixture out")
        for phase in phases:
            _check_room(phase.mixture, info)
        return phases

    @field_validator("mixture")
    @classmethod
    def _room_for_all(cls, mixture: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        _check_room(mixture, info)
        return mixture

    def stretches(self) -> list[PhaseConfig]:
        """The phases; without any, the whole stage as one."""
        return self.phases or [PhaseConfig(mixture=self.mixture)]


def _check_room(mixture: dict[str, float], info: ValidationInfo) -> None:
    if len(mixture) > info.data.get("batch", len(mixture)):
        raise ValueError(
            f"a batch of {info.data['batch']} has no row for each of {len(mixture)} kinds; raise sft.batch"
        )
