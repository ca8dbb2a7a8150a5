"""What the rollout workers are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol

from journeyman.config.rollout import SearchRollouts, ValueSearchRollouts
from journeyman.errors import InfrastructureError
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import StopReason, Trajectory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """A search over turns instead of one attempt."""

    width: int = 2
    """Attempts that are kept after each turn."""
    continuations: int = 2
    """In how many ways each of them goes on."""
    criterion: Literal["mean", "min", "last"] = "mean"
    """How the likelihoods of turns are taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutJob:
    """One attempt to make."""

    problem: Problem
    sample: int = 0
    """Index in the problem's group."""
    seed: int = 0
    """From (run, step, problem, sample)."""
    temperature: float = 1.0
    max_turns: int = 6
    max_new_tokens: int = 96
    """Most tokens in one turn."""
    max_calls: int | None = None
    """Most calls in all; a turn that asks for more ends the attempt, and is not run."""
    max_seconds: float | None = None
    """Longest that the attempt may take; a tool that is running then is given up."""
    max_cost: float | None = None
    """Once its calls have cost so much, the attempt ends."""
    max_observation_tokens: int | None = None
    """Longer observations are cut in the middle."""
    program: str | Sequence[str] | None = None
    """An agent from outside that plays the loop: `module:function`, or a command line; None: the built-in loop."""
    branches: int = 0
    """How many other attempts fork from this one, and from each other, between two turns; they come back behind it.

    They take the samples after this one's.
    """
    beam: Beam | None = None
    """Search for the attempt instead of making the first best; without `branches`."""
    search: SearchRollouts | ValueSearchRollouts | None = None
    """Make it and its `branches` by a search where few direct attempts are right, instead of forking."""
    policy: str = ""
    """Who samples, where a sampler has several; empty: the policy that is trained."""
    source: str = "policy"
    """The trajectories' `source`."""

    def trajectory_id(self, thread: int = 0) -> str:
        """Of the attempt; of one of its threads beyond the first, where there are several."""
        return f"{derive(self.problem.id, self.seed, self.sample, *([thread] if thread else [])):016x}"


class SamplerPool(Protocol):
    """The sampler actors of a stage, or one in process: what the rl, sft and evaluate loops hold."""

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        """Make every attempt; trajectories come back in the order of the jobs, those that fork from one behind it."""
        ...

    def load_weights(self, weights: Mapping[str, "torch.Tensor"], version: int) -> None:
        """Weights by name, as `Learner.weights()` gives them; the pool wraps them for the wire."""
        ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """As `Sampler.score`, of one worker after another: every worker's answers, concatenated worker by worker."""
        ...


def attempt_all(pool: SamplerPool, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
    """Make every attempt; what failed through no fault of the model is dispatched once more, then left unscored.

    An attempt that others fork from is made again with all of them.
    Raises `InfrastructureError` where not one attempt came through.
    """
    trees = _trees(jobs, pool.rollout(jobs))
    # Only these: a tool or a world that breaks may do so because of what the policy did, and a second try would hide it.
    failed = [i for i, tree in enumerate(trees) if any(t.stop_reason is StopReason.INFRASTRUCTURE for t in tree)]
    if failed:
        lost = [jobs[i] for i in failed]
        for i, tree in zip(failed, _trees(lost, pool.rollout(lost)), strict=True):
            trees[i] = tree
    made = [trajectory for tree in trees for trajectory in tree]
    if made and not any(trajectory.stop_reason.scorable for trajectory in made):
        raise InfrastructureError(f"all {len(made)} attempts failed: {_reason(made[0])}")
    return made


def _trees(jobs: Sequence[RolloutJob], made: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """The trajectories of each job."""
    left = iter(made)
    trees = [list(islice(left, 1 + job.branches)) for job in jobs]
    assert sum(map(len, trees)) == len(made) == len(jobs) + sum(job.branches for job in jobs), "a trajectory a leaf"
    return trees


def _reason(trajectory: Trajectory) -> str:
    return f"{trajectory.stop_reason}: {trajectory.provenance.get('failure', 'no reason')}"
