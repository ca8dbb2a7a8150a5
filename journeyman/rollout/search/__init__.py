"""Search instead of independent attempts: trees of turns for one problem, and searches over plans."""

import asyncio
from dataclasses import replace

from journeyman.config.rollout import SearchRollouts
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.search.frontier import frontier_search
from journeyman.rollout.search.guided import value_search
from journeyman.seeds import derive
from journeyman.trajectory import SOLUTION, Trajectory


async def searched(agent: Agent, job: RolloutJob) -> list[Trajectory]:
    """1 + `job.branches` trajectories: `direct` attempts, then what `job.search` finds where too few of them are right.

    Where `below` of the direct attempts with a verdict or more are right, or no place is open any more, the others are
    direct attempts, too: they come before the leaves. Right leaves are marked `SOLUTION`. The first direct attempt is
    the one without search. All follows from the job's seed; `max_seconds` counts anew with every turn.

    Raises `InfrastructureError` as `Agent.attempt` does.
    """
    assert job.search is not None, "called for jobs with a search"
    wanted = 1 + job.branches
    direct = await _direct(agent, job, 0, min(job.search.direct, wanted))
    leaves = [] if _solved(direct, job.search.below) else await _leaves(agent, job, wanted - len(direct), direct)
    others = await _direct(agent, job, len(direct), wanted - len(leaves))
    marked = [replace(one, provenance={**one.provenance, SOLUTION: True}) if one.correct else one for one in leaves]
    return [replace(one, sample=job.sample + i) for i, one in enumerate([*direct, *others, *marked])]


async def _leaves(agent: Agent, job: RolloutJob, wanted: int, direct: list[Trajectory]) -> list[Trajectory]:
    if not wanted:
        return []
    if isinstance(job.search, SearchRollouts):
        return await frontier_search(agent, job, job.search, wanted=wanted, direct=direct)
    assert job.search is not None
    return await value_search(agent, job, job.search, wanted=wanted)


async def _direct(agent: Agent, job: RolloutJob, first: int, stop: int) -> list[Trajectory]:
    plain = replace(job, branches=0, search=None)
    jobs = [
        replace(plain, sample=job.sample + i, seed=derive(job.seed, "direct", i) if i else job.seed)
        for i in range(first, stop)
    ]
    return list(await asyncio.gather(*map(agent.attempt, jobs)))


def _solved(direct: list[Trajectory], below: float) -> bool:
    """Whether a problem needs no search. Attempts without a verdict say nothing."""
    verdicts = [one.correct for one in direct if one.correct is not None]
    return bool(verdicts) and sum(verdicts) / len(verdicts) >= below


__all__ = ["frontier_search", "searched", "value_search"]
