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


class _Searching(Config):
    """What searches share."""

    direct: int = Field(
        default=4, ge=0, description="Attempts of a group that begin anew and are not searched for; 0: always search"
    )
    below: float = Field(
        default=0.25, gt=0, le=1, description="Search where the share of right ones among the direct attempts is below"
    )

    def begun(self, group: int) -> list[tuple[int, dict[str, Any]]]:
        """One job, which makes the whole group."""
        return [(0, {"branches": group - 1, "search": self})]


class SearchRollouts(_Searching):
    """DeepSearch (#168, secondary): where direct attempts seldom succeed, a tree over turns grows from the most promising
    of all open places.

    F(s) = quality tanh(Q of the parent) + uncertainty H + depth sqrt(d / max_turns); H is estimated by the mean -log p of the
    turn's own tokens. 4 direct attempts, .25, UCT's 2 and the three weights are the authors'; their width is 8, and a node
    of theirs has up to 256 tokens where ours is a turn. Rounds are ours. Meant for the credit `deepsearch`.
    """

    type: Literal["search"] = "search"
    width: int = Field(default=4, ge=1, description="Next turns that are tried from a place (the authors': 8)")
    rounds: int = Field(default=8, ge=1, description="Rounds of the search while nothing right is found")
    exploration: float = Field(default=2.0, ge=0, description="UCT's bonus among siblings")
    quality: float = Field(default=0.4, ge=0)
    uncertainty: float = Field(default=0.4, ge=0)
    depth: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0, description="e in the values' tanh(q / e) q_max; ours")
    most: float = Field(default=1.0, gt=0, description="q_max; ours")


class ValueSearchRollouts(_Searching):
    """ReST-MCTS* (#45, derived): attempts go on from where Monte-Carlo values of turns point, and step values are inferred
    from the right ones.

    All numbers are ours; that only problems with few right direct attempts are searched is DeepSearch's (#168). Values of a
    critic or a process reward model are open to callers of the library. Meant for the credit `rest_mcts`.
    """

    type: Literal["value_search"] = "value_search"
    width: int = Field(default=3, ge=1, description="Next turns that are tried from a place")
    exploration: float = Field(default=1.4, ge=0, description="UCT's bonus among siblings")


RolloutConfig = Annotated[
    IndependentRollouts | TreeRollouts | SearchRollouts | ValueSearchRollouts, Field(discriminator="type")
]
