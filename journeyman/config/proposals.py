"""New problems during training: part of `rl.*.proposals`, told apart by `type`."""

from typing import Annotated, Literal

from pydantic import Field

from journeyman.config.base import Config
from journeyman.config.judge import JudgeConfig, SamplerJudge


class BaseProposals(Config):
    """What proposals have in common. The defaults are ours."""

    every: int = Field(default=5, ge=1, description="Steps between two rounds of proposals")
    count: int = Field(default=8, ge=1, description="Problems that are tried in a round")
    attempts: int = Field(default=4, ge=2, description="Attempts at each, that its pass rate is of")
    most: int = Field(default=1000, ge=1, description="Problems that are taken in at most")


class WrittenProposals(BaseProposals):
    """What proposals have in common that a model writes."""

    writer: JudgeConfig = Field(
        default_factory=SamplerJudge, description="Who writes and says whether that can be done; the policy by default"
    )
    low: float = Field(
        default=0.05, ge=0, le=1, description="Least value of the critic, or pass rate without one (#223)"
    )
    high: float = Field(default=0.75, ge=0, le=1, description="Largest (#223)")


class MutatedProposals(WrittenProposals):
    """Variants of problems that failed."""

    type: Literal["mutated"] = "mutated"


class ProposedProposals(WrittenProposals):
    """Tasks thought out from what a world offers."""

    type: Literal["proposed"] = "proposed"


class ConjecturedProposals(BaseProposals):
    """Problems that worlds generate, of the sorts that are barely solvable."""

    type: Literal["conjectured"] = "conjectured"
    high: float = Field(default=0.25, gt=0, le=1, description="Largest pass rate of a barely solvable one (#201)")


ProposalsConfig = Annotated[
    MutatedProposals | ProposedProposals | ConjecturedProposals,
    Field(discriminator="type"),
]
