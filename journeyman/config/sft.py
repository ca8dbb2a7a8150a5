"""Stage sft: supervised fine-tuning on the kept trajectories."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with


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


class SftConfig(Config):
    steps: int = Field(default=430, ge=1, description="Optimizer steps")
    batch: int = Field(default=32, ge=1, description="Trajectories a step, bucketed by length")
    optimizer: OptimizerConfig = OptimizerConfig(type="muon", learning_rate=3e-3, weight_decay=0.01, final_fraction=0.0)
    microbatch_tokens: int = Field(
        default=16384, ge=64, description="Most tokens, padding included, in one forward pass"
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps between checkpoints to resume from")
