"""What credit is: the scored trajectories of a step, as flat arrays, to an advantage for each of their tokens.

Dimensions: P problem, B trajectory (in the order of the groups), U turn of any trajectory, T token of any trajectory.
A credit function works on all groups at once, so that none of its loops runs in Python.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from journeyman.trajectory import Trajectory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ScoredBatch:
    """Scored trajectories, group by group. Every trajectory has at least one turn."""

    rewards_B: Floats
    """None of them is missing: what could not be scored is set aside before."""
    group_B: Ints
    """0..P-1, ascending."""
    turns_B: Ints
    """How many turns a trajectory has."""
    calls_U: Ints
    """How many calls a turn made."""
    tokens_U: Ints
    """Learned tokens of a turn: those that the policy sampled and the mask keeps."""
    mask_T: Bools
    """Which tokens are learned from."""
    turn_T: Ints
    """Index in U of the turn that a learned token belongs to; -1 elsewhere."""
    trajectories: tuple[Trajectory, ...] = ()
    """What the arrays were read from, for what only some credits need; empty where they were made up."""

    @classmethod
    def of(cls, groups: Sequence[Sequence[Trajectory]]) -> "ScoredBatch":
        """Read the arrays from scored trajectories. Raises `AssertionError` where one has no reward."""
        flat = tuple(t for group in groups for t in group)
        rewards = [t.reward for t in flat if t.reward is not None]
        assert len(rewards) == len(flat), "unscorable trajectories are set aside before credit"
        sizes = [len(group) for group in groups]
        turns_B = np.array([max(1, len(t.turns)) for t in flat], np.int64)
        turn_T = _turns_of_tokens(flat, turns_B)
        mask_T = turn_T >= 0
        return cls(
            rewards_B=np.array(rewards, np.float64),
            group_B=np.repeat(np.arange(len(sizes)), sizes),
            turns_B=turns_B,
            calls_U=np.array([len(turn.calls) for t in flat for turn in t.turns or _NO_TURN], np.int64),
            tokens_U=np.bincount(turn_T[mask_T], minlength=int(turns_B.sum())),
            mask_T=mask_T,
            turn_T=turn_T,
            trajectories=flat,
        )

    @cached_property
    def groups(self) -> int:
        """P."""
        return int(self.group_B[-1]) + 1 if len(self.group_B) else 0

    @cached_property
    def size_B(self) -> Floats:
        """How many trajectories the group of each has."""
        return self.per_group(np.ones_like(self.rewards_B))

    @cached_property
    def row_U(self) -> Ints:
        """Index in B of the trajectory of each turn."""
        return np.repeat(np.arange(len(self.turns_B)), self.turns_B)

    @cached_property
    def group_U(self) -> Ints:
        return self.group_B[self.row_U]

    @cached_property
    def index_U(self) -> Ints:
        """Place of each turn in its trajectory, from 0."""
        return np.arange(len(self.row_U)) - self.first_B[self.row_U]

    @cached_property
    def first_B(self) -> Ints:
        """Index in U of each trajectory's first turn."""
        return np.cumsum(self.turns_B) - self.turns_B

    @cached_property
    def last_B(self) -> Ints:
        """Index in U of each trajectory's last turn."""
        return np.cumsum(self.turns_B) - 1

    @cached_property
    def calls_B(self) -> Ints:
        """Calls of each trajectory."""
        return self.sum_turns(self.calls_U.astype(np.float64)).astype(np.int64)

    def per_group(self, values_B: Floats) -> Floats:
        """The sum over its group, for each trajectory."""
        return sums(self.group_B, values_B, self.groups)[self.group_B]

    def mean_B(self, values_B: Floats) -> Floats:
        """The group's mean, for each trajectory."""
        return self.per_group(values_B) / self.size_B

    def std_B(self, values_B: Floats) -> Floats:
        """The group's standard deviation, as a population, for each trajectory."""
        return np.sqrt(self.mean_B((values_B - self.mean_B(values_B)) ** 2))

    def sum_turns(self, values_U: Floats) -> Floats:
        """The sum over a trajectory's turns: B numbers."""
        return sums(self.row_U, values_U, len(self.turns_B))

    def to_go(self, rewards_U: Floats, gamma: float = 1.0) -> Floats:
        """Return of each turn: its reward plus gamma times the return of the trajectory's next one."""
        return discounted(rewards_U, self.turns_B, gamma)

    def from_rows(self, values_B: Floats) -> Floats:
        """One number a trajectory, on each of its learned tokens: T numbers, 0 elsewhere."""
        return self.from_turns(values_B[self.row_U])

    def from_turns(self, values_U: Floats) -> Floats:
        """One number a turn, on each of its learned tokens: T numbers, 0 elsewhere."""
        return np.append(values_U, 0.0)[self.turn_T]

    def split(self, values_T: Floats) -> list[Floats]:
        """T numbers as one array a trajectory. Only for a batch that was read from trajectories."""
        ends = np.cumsum([len(t.token_ids) for t in self.trajectories])
        return np.split(values_T, ends[:-1]) if len(ends) else []


Credit = Callable[[ScoredBatch], Floats]
"""Scored groups -> an advantage for each of the T tokens; 0 off the loss mask.

Keyword-only parameters are options; those that are named in `NEEDS` are supplied by the pipeline.
"""


@dataclass(frozen=True, slots=True)
class _NoTurn:
    """Stands for the turn of a trajectory that has none."""

    calls: tuple[()] = ()
    start: int = 0
    stop: int = 0


_NO_TURN = (_NoTurn(),)


def turn_of_tokens(trajectory: Trajectory) -> Ints:
    """For each token of a trajectory the turn that it was sampled in; -1 where it is not learned from.

    Learned tokens outside the turns that say where they stand are counted with the last turn.
    """
    return _turns_of_tokens((trajectory,), np.array([max(1, len(trajectory.turns))]))


def _turns_of_tokens(trajectories: Sequence[Trajectory], turns_B: Ints) -> Ints:
    """`turn_of_tokens` of many, with the turns numbered through."""
    # bytes() reads a tuple of small integers several times faster than numpy does.
    mask_T = np.frombuffer(b"".join(bytes(t.loss_mask) for t in trajectories), np.uint8)
    lengths_B = np.array([len(t.loss_mask) for t in trajectories], np.int64)
    spans = [(turn.start, turn.stop) for t in trajectories for turn in t.turns or _NO_TURN]
    starts_U, stops_U = np.array(spans, np.int64).reshape(-1, 2).T
    tokens_U = np.maximum(np.minimum(stops_U, np.repeat(lengths_B, turns_B)) - starts_U, 0)
    turn_T = np.repeat(np.cumsum(turns_B) - 1, lengths_B)
    begins_U = np.repeat(np.cumsum(lengths_B) - lengths_B, turns_B) + starts_U
    turn_T[places(begins_U, tokens_U)] = np.repeat(np.arange(len(tokens_U)), tokens_U)
    turn_T[mask_T == 0] = -1
    return turn_T


def sums(owners: Ints, values: Floats, count: int) -> Floats:
    """The sum of the values of each owner, 0..count-1."""
    return np.bincount(owners, values, count).astype(np.float64, copy=False)


def places(begins: Ints, lengths: Ints) -> Ints:
    """The indices of several stretches, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)


def discounted(values: Floats, lengths: Ints, factor: float) -> Floats:
    """In stretches of these lengths, one after the other: each value plus `factor` times the next one's result."""
    results = np.array(values, np.float64)
    ends = np.cumsum(lengths)
    # So many at a time that they stay in the processor's cache.
    for first in range(0, len(lengths), STRETCHES) if factor else ():
        _discount(results, lengths[first : first + STRETCHES], ends[first : first + STRETCHES], factor)
    return results


STRETCHES = 4096


def _discount(results: Floats, lengths: Ints, ends: Ints, factor: float) -> None:
    """One pass for each place from the end, over all stretches at once that are so long."""
    longest_first = ends[np.argsort(-lengths, kind="stable")]
    longer = len(lengths) - np.cumsum(np.bincount(lengths, minlength=1))
    for back in range(2, len(longer)):
        here = longest_first[: longer[back - 1]] - back
        results[here] += factor * results[here + 1]


NEEDS = {
    "turn_rewards_U": "the reward has to pay turn by turn",
    "spans": "the reward has to pay for stretches of text",
    "channels": "the reward has to be `channels(name=reward, ...)`",
    "forks_U": "set `rollout: {type: tree}` in the rl block, so that attempts fork",
    "searched": "set `rollout: {type: search}` or `value_search` in the rl block, so that problems are searched",
    "prefixes": "the rl stage supplies it",
    "moves": "the rl stage supplies it",
    "values_T": "set `critic` in the rl block",
    "values_U": "set `critic` in the rl block",
    "q_values_U": "set `critic` in the rl block",
    "process_T": "set `process` in the rl block: a process reward model that is trained along",
    "ranks_B": "the rl stage supplies it",
    "mean_ranks": "the rl stage supplies it",
    "greedy_rewards_P": "the rl stage supplies it: one greedy attempt a problem",
}
"""Keyword-only parameters that are read from the trajectories or supplied by the pipeline -> what it takes."""
