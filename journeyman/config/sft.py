"""Stage sft: supervised fine-tuning on the kept trajectories."""

from typing import Literal

from pydantic import Field

from journeyman.config.base import Config


class OptimizerConfig(Config):
    """AdamW, or Muon for matrices with AdamW for the rest."""

    type: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(5e-4, gt=0, description="AdamW's")
    muon_learning_rate: float = Field(0.02, gt=0, description="Muon's; used with type muon")
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    warmup_steps: int = Field(5, ge=0)
    decay_fraction: float = Field(0.5, ge=0, le=1, description="Last share of the steps, over which the rate falls")
    final_fraction: float = Field(0.1, ge=0, le=1, description="Share of the rate that is left at the end")


class SftConfig(Config):
    steps: int = Field(430, ge=1, description="Optimizer steps")
    batch: int = Field(32, ge=1, description="Trajectories a step, bucketed by length")
    optimizer: OptimizerConfig = OptimizerConfig(
        type="muon", learning_rate=3e-3, weight_decay=0.01, final_fraction=0.0
    )
    microbatch_tokens: int = Field(16384, ge=64, description="Most tokens, padding included, in one forward pass")
    dev_every: int = Field(0, ge=0, description="Steps between samples on the dev set; 0: never")
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints to resume from")
