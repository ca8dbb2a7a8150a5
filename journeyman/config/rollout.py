"""How the attempts of a group come about: part of `rl.*.rollout`, told apart by `type`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from journeyman.config.base import Config


class IndependentRollouts(Config):
    """Every attempt of a group begins anew."""

    type: Literal["independent"] = "independent"

    def begun(self, group: int) -> list[tuple[int, dict[str, Any]]]:
        """(sample, fields of its job) of each attempt of a group that begins anew."""
        return [(sample, {}) for sample in range(group)]


class TreeRollouts(Config):
    """Attempts of a group fork from each other between turns, so that siblings share all that went before."""

    type: Literal["tree"] = "tree"
    roots: int = Field(default=2, ge=1, description="Attempts of a group that begin anew; the others fork from them")

    def begun(self, group: int) -> list[tuple[int, dict[str, Any]]]:
        """The same; `branches` others fork from each."""
        roots = min(self.roots, group)
        ends = [group * (root + 1) // roots for root in range(roots)]
        return [(start, {"branches": end - start - 1}) for start, end in zip([0, *ends], ends, strict=False)]


RolloutConfig = Annotated[IndependentRollouts | TreeRollouts, Field(discriminator="type")]
