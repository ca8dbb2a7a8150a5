"""Stage evaluate: every policy of the ladder on the held-out problems."""

from typing import Annotated

from pydantic import Field

from journeyman.config.limits import AttemptLimits


class EvaluateConfig(AttemptLimits):
    samples: int = Field(default=4, ge=1, description="Samples a problem at temperature 1")
    k: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 4],
        description="k of pass@k, pass^k, maj@k and CoT-pass@k; those above the samples are left out",
    )
    temperature: float = Field(default=1.0, gt=0)
    bootstrap: int = Field(default=1000, ge=100, description="Resamples of problems for the 95 % intervals")
