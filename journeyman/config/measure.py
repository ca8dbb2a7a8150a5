"""Block `curate.measure`: a policy's attempts at the problems, before the rules are applied."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from journeyman.config.checks import HubOrLocal, expand_home
from journeyman.config.limits import AttemptLimits


class MeasureConfig(AttemptLimits):
    policy: Annotated[str, HubOrLocal(folder=True)] = Field(
        default="", description="Model folder or Hub name; empty: the pipeline's own pretrained model"
    )
    problems: Literal["demonstrated", "train", "both"] = Field(
        default="demonstrated", description="Which are attempted: those that have demonstrations, the train split, both"
    )
    most: int | None = Field(default=None, ge=1, description="Most problems, drawn by seed; empty: all")
    samples: int = Field(default=8, ge=1, description="Attempts a problem")
    without_tools: bool = Field(default=False, description="As many attempts again with no tools on offer")
    temperature: float = Field(default=1.0, ge=0, description="0: greedy")

    _home = field_validator("policy")(expand_home)
