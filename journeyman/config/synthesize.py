"""Stage synthesize: cold-start trajectories."""

from typing import Literal

from pydantic import Field

from journeyman.config.base import Config


class SynthesizeConfig(Config):
    teacher: Literal["scripted", "annotations"] = Field(
        "scripted", description="`scripted`: an imperfect expert; `annotations`: what the data set's rows contain"
    )
    demonstrations: int = Field(2400, ge=1, description="Trajectories to make (rows to convert, at most)")
    mistakes: float = Field(0.5, ge=0, le=1, description="Share with one typical mistake, unverified as real logs are")
    repeats: float = Field(0.5, ge=0, le=1, description="Share of the others that repeat a call needlessly")
    broken: float = Field(0.04, ge=0, le=1, description="Share with broken format, tool errors, duplicates or leaks")
