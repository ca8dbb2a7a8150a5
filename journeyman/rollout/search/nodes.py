"""Places of a tree of attempts, and how one grows out of another."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from journeyman.rollout.attempt import Attempt, Snapshot
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.search.values import surprise
from journeyman.rollout.tree import apart
from journeyman.seeds import derive
from journeyman.trajectory import SEARCH, Trajectory


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """An attempt as far as it is: between two turns, or at its end."""

    number: int
    """In the order in which the tree grew; 0 is the root."""
    reached: Trajectory
    place: Snapshot | None
    """Where it can go on from; None: it has ended."""
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    visits: int = 0
    value: float = 0.0
    """What was backed up, added."""
    right: bool = False
    """Whether a right leaf lies below it."""

    @property
    def depth(self) -> int:
        return len(self.reached.turns)

    @property
    def ended(self) -> bool:
        return self.place is None

    @property
    def entropy(self) -> float:
        """Of the turn that led here."""
        return surprise(self.reached, -1) if self.reached.turns else 0.0

    def path(self) -> list["Node"]:
        """From the first turn to this one; without the root."""
        above = self.parent.path() if self.parent else []
        return [*above, self] if self.parent else []

    def below(self) -> Iterator["Node"]:
        """This one and all under it, in the order of the tree."""
        yield self
        for child in self.children:
            yield from child.below()


def node_job(job: RolloutJob, number: int) -> RolloutJob:
    return replace(
        job, sample=job.sample + number, seed=derive(job.seed, "node", number), branches=0, search=None, beam=None
    )


async def root_of(agent: Agent, job: RolloutJob) -> Node:
    """The tree before its first turn. A world that can't begin has ended there."""
    return await _node(await agent.start(node_job(job, 0)), number=0)


async def expand(agent: Agent, job: RolloutJob, node: Node, numbers: Sequence[int]) -> list[Node]:
    """A child of each number: other next turns, each under a seed of (job.seed, number)."""
    made = await asyncio.gather(*(_grown(agent, job, node, number) for number in numbers))
    node.children += made
    return list(made)


async def _grown(agent: Agent, job: RolloutJob, parent: Node, number: int) -> Node:
    assert parent.place is not None, "what has ended can't go on"
    attempt = agent.resume(apart(parent.place), node_job(job, number))
    try:
        if attempt.stop_reason is None:
            await agent.step(attempt)
    except BaseException:
        await attempt.abandon()
        raise
    return await _node(attempt, number=number, parent=parent)


async def _node(attempt: Attempt, *, number: int, parent: Node | None = None) -> Node:
    if attempt.stop_reason is not None:
        return Node(number=number, reached=await attempt.finish(), place=None, parent=parent)
    try:
        place = apart(attempt.snapshot())
    finally:
        await attempt.abandon()
    return Node(number=number, reached=place.trajectory, place=place, parent=parent)


def told(
    leaf: Trajectory, nodes: Sequence[int], values: Sequence[float], *, mean: float | None, learned: bool = True
) -> Trajectory:
    """A leaf with what its tree says of it (`SEARCH`); where it was forked from is said by `nodes`.

    `nodes`: U numbers, of the node that each turn led to; equal numbers in a tree are one turn that leaves share.
    """
    rest = {key: one for key, one in leaf.provenance.items() if key not in ("forked_from", "forked_at_turn")}
    record = {"nodes": list(nodes), "values": list(values), "mean": mean, "learned": learned}
    return replace(leaf, provenance={**rest, SEARCH: record})
