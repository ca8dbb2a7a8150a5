"""Beam search over turns: of all ways in which the attempts so far go on, the best are kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

from journeyman.rollout.attempt import Attempt
from journeyman.rollout.job import Beam, RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.tree import apart
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

SPENT = "tokens_spent"
"""Key of a made trajectory's provenance: tokens that the policy wrote and tools returned, dropped attempts included."""


@dataclass(frozen=True, slots=True)
class _Path:
    """An attempt in the beam."""

    attempt: Attempt
    value: float


async def search(agent: Agent, job: RolloutJob) -> Trajectory:
    """The best attempt that a beam of `job.beam` finds, with what the whole search took as `SPENT` in its provenance.

    Each round continues every kept attempt that has not ended by one turn in some ways; ended and continued ones are
    ranked together, and the search is over when all that are kept have ended. Attempts that end through no fault of the
    policy rank last. All follows from the job's seed. `max_seconds` counts anew with every turn.

    Raises `InfrastructureError` as `Agent.attempt` does.
    """
    assert job.beam is not None, "called for jobs with a beam"
    root = await agent.start(job)
    prompt = _length(root)
    kept, spent, number = [_Path(root, 0.0)], 0, 0
    while any(path.attempt.stop_reason is None for path in kept):
        live = [path.attempt for path in kept if path.attempt.stop_reason is None]
        try:
            grown = await _grown(agent, job, live, number)
        except BaseException:
            await _abandon([path.attempt for path in kept])
            raise
        spent += sum(_length(path.attempt) - _length(parent) for path, parent in grown)
        ranked = [path for path in kept if path.attempt.stop_reason is not None] + [path for path, _ in grown]
        ranked.sort(key=lambda path: (_scorable(path.attempt), path.value), reverse=True)  # stable: ties as they came
        kept, dropped = ranked[: job.beam.width], ranked[job.beam.width :]
        await _abandon([*live, *(path.attempt for path in dropped)])
        number += 1
    await _abandon([path.attempt for path in kept[1:]])
    made = await kept[0].attempt.finish()
    spent = spent or len(made.token_ids) - prompt
    return replace(made, sample=job.sample, provenance={**made.provenance, SPENT: spent})


async def _grown(agent: Agent, job: RolloutJob, live: Sequence[Attempt], number: int) -> list[tuple[_Path, Attempt]]:
    """Every attempt continued by a turn in `continuations` ways, each with the one it continues."""
    assert job.beam is not None
    grown: list[tuple[Attempt, Attempt]] = []
    try:
        for place, parent in enumerate(live):
            for branch in range(job.beam.continuations):
                seeded = replace(job, seed=derive(job.seed, "beam", number, place, branch))
                grown.append((agent.resume(apart(parent.snapshot()), seeded), parent))
        steps = (agent.step(attempt) for attempt, _ in grown if attempt.stop_reason is None)
        # All come to their end, so that none goes on in a world that is closed.
        for failure in filter(None, await asyncio.gather(*steps, return_exceptions=True)):
            raise failure
    except BaseException:
        await _abandon([attempt for attempt, _ in grown])
        raise
    return [(_Path(attempt, value(attempt.snapshot().trajectory, job.beam)), parent) for attempt, parent in grown]


def value(trajectory: Trajectory, beam: Beam) -> float:
    """How likely the policy finds what it wrote: mean log-probability a token of each turn, in nats, taken together.

    `mean`: over all tokens; `min`: of the least likely turn; `last`: of the last turn. 0 before the first turn.
    """
    turns = [trajectory.logprobs[turn.start : turn.stop] for turn in trajectory.turns if turn.stop > turn.start]
    if not turns:
        return 0.0
    match beam.criterion:
        case "mean":
            return fsum(map(fsum, turns)) / sum(map(len, turns))
        case "min":
            return min(fsum(turn) / len(turn) for turn in turns)
        case "last":
            return fsum(turns[-1]) / len(turns[-1])


def _scorable(attempt: Attempt) -> bool:
    return attempt.stop_reason is None or attempt.stop_reason.scorable


def _length(attempt: Attempt) -> int:
    return len(attempt.snapshot().trajectory.token_ids)


async def _abandon(attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        await attempt.abandon()
