"""Stage evaluate: every policy of the ladder on the held-out problems."""

from pydantic import Field

from journeyman.config.base import Config


class EvaluateConfig(Config):
    samples: int = Field(default=4, ge=1, description="Samples a problem at temperature 1")
    temperature: float = Field(default=1.0, gt=0)
    max_turns: int = Field(default=6, ge=1)
    max_new_tokens: int = Field(default=96, ge=1)
    bootstrap: int = Field(default=1000, ge=100, description="Resamples of problems for the 95 % intervals")
