"""Stage evaluate: every policy of the ladder on the held-out problems."""

from pydantic import Field

from journeyman.config.limits import AttemptLimits


class EvaluateConfig(AttemptLimits):
    samples: int = Field(default=4, ge=1, description="Samples a problem at temperature 1")
    temperature: float = Field(default=1.0, gt=0)
    bootstrap: int = Field(default=1000, ge=100, description="Resamples of problems for the 95 % intervals")
