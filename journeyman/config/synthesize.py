"""Stage synthesize: cold-start trajectories."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with


class SynthesizeConfig(Config):
    teacher: Literal["scripted", "annotations"] = Field(
        default="scripted",
        description="`scripted`: an imperfect expert; `annotations`: what the data set's rows contain",
    )
    demonstrations: int = Field(default=2400, ge=1, description="Trajectories to make (rows to convert, at most)")
    mistakes: float = Field(
        default=0.5, ge=0, le=1, description="Share with one typical mistake, unverified as real logs are"
    )
    repeats: float = Field(default=0.5, ge=0, le=1, description="Share of the others that repeat a call needlessly")
    broken: float = Field(
        default=0.04, ge=0, le=1, description="Share with broken format, tool errors, duplicates or leaks"
    )

    @field_validator("mistakes", "repeats", "broken")
    @classmethod
    def _scripted_only(cls, value: float, info: ValidationInfo) -> float:
        return only_with(cls, value, info, other="teacher", is_in=("scripted",))
