"""Attempts that fork: one from the beginning, others that go on from between two turns of those there are."""

import asyncio
import random
from copy import deepcopy
from dataclasses import dataclass, field, replace

from journeyman.rollout.attempt import Attempt, Snapshot
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory


async def grow(agent: Agent, job: RolloutJob) -> list[Trajectory]:
    """1 + `job.branches` trajectories: the job's own attempt, as it is without branches, then those that forked.

    A leaf forks from a place between two turns of those before it, all places being as likely: attempts with many turns are
    forked more often, so that what leaves share is not quite what the policy begins with; what follows the fork is the
    policy's own. Where no attempt had a second turn it begins anew. All follows from (job.seed, leaf): the first
    leaves of a larger tree are those of a smaller one.

    Every leaf is a whole trajectory and learns from all of its tokens, so that a shared beginning is learned from once
    a leaf, with each leaf's own credit: its sum over the leaves, as with attempts that happen to begin alike.

    Raises `InfrastructureError` as `Agent.attempt` does.
    """
    tree = [await _Leaf().complete(agent, await agent.start(job))]
    while len(tree) <= job.branches:
        wave = range(len(tree), min(2 * len(tree), job.branches + 1))
        places = [place for leaf in tree for place in leaf.places]
        tree += await asyncio.gather(*(_branch(agent, _leaf_job(job, leaf), places) for leaf in wave))
    return [leaf.made for leaf in tree]


@dataclass(slots=True)
class _Leaf:
    """An attempt, and where others can fork from it: places that it does not share with the one it forked from."""

    made: Trajectory = field(init=False)
    places: list[Snapshot] = field(default_factory=list)

    async def complete(self, agent: Agent, attempt: Attempt) -> "_Leaf":
        self.made = await agent.complete(attempt, between=self._remember)
        return self

    def _remember(self, attempt: Attempt) -> None:
        self.places.append(apart(attempt.snapshot()))


def _leaf_job(job: RolloutJob, leaf: int) -> RolloutJob:
    return replace(job, sample=job.sample + leaf, seed=derive(job.seed, "leaf", leaf), branches=0)


async def _branch(agent: Agent, job: RolloutJob, places: list[Snapshot]) -> _Leaf:
    if not places:
        return await _Leaf().complete(agent, await agent.start(job))
    place = random.Random(derive(job.seed, "place")).choice(places)
    return await _Leaf().complete(agent, agent.resume(apart(place), job))


def apart(snapshot: Snapshot) -> Snapshot:
    """With a state that no attempt changes: worlds may hand out what they go on writing in."""
    return replace(snapshot, episode=deepcopy(snapshot.episode))
