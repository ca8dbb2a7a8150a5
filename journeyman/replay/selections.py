"""Which trajectories of a group are compared and learned from: by their rewards, their lengths, or what rates their steps."""

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from journeyman.errors import ConfigError
from journeyman.trajectory import Trajectory

Selection = Callable[[Sequence[Trajectory], int, int, str | None], list[int]]
"""(group, all of it scored; how many, less than it has; seed; part of the reward) -> places in the group."""


def contrastive(group: Sequence[Trajectory], keep: int, seed: int = 0, part: str | None = None) -> list[int]:
    """The best with the shortest reasoning are held against the worst: DCPO (#134, derived), which samples more than
    it learns from.

    Half of them are the best, equal rewards by sampled tokens; the others the worst of the rest. That of worst ones
    with equal rewards the longest come first, and the halves, are ours; an odd one is a best one.
    """
    order = _ranked(group, lambda t: (-_reward(t), sum(t.loss_mask)))
    return order[: keep - keep // 2] + order[len(order) - keep // 2 :]


def best(group: Sequence[Trajectory], keep: int, seed: int = 0, part: str | None = None) -> list[int]:
    """The highest rewards: PF-PPO's best of N (#225, derived); equal ones as they were sampled."""
    return _ranked(group, lambda t: (-_reward(t),))[:keep]


def best_random(group: Sequence[Trajectory], keep: int, seed: int = 0, part: str | None = None) -> list[int]:
    """The highest rewards and random others, where the middle of a reward model is unreliable: PF-PPO's BR (#225,
    derived). The halves are ours; an odd one is a best one."""
    order, half = _ranked(group, lambda t: (-_reward(t),)), keep - keep // 2
    return order[:half] + random.Random(seed).sample(order[half:], keep // 2)


def best_worst(group: Sequence[Trajectory], keep: int, seed: int = 0, part: str | None = None) -> list[int]:
    """The highest rewards and the lowest, where the middle of a reward model is unreliable: PF-PPO's BW (#225,
    derived). The halves are ours; an odd one is a best one."""
    order = _ranked(group, lambda t: (-_reward(t),))
    return order[: keep - keep // 2] + order[len(order) - keep // 2 :]


def consistent(group: Sequence[Trajectory], keep: int, seed: int = 0, part: str | None = None) -> list[int]:
    """Right trajectories whose steps are rated high and wrong ones whose steps are rated low: PROF (#163, verified),
    which filters each side by itself, drops more of the larger one, and leaves the reward as it is.

    A trajectory's rating is the mean over its turns of the part `part` of the reward, or the whole part where it pays
    no turns. How many each side keeps is ours: as equal as they can be, an odd one goes to the right side.
    NOT covered: a penalty on degenerate numbers of steps. Raises `ConfigError` where the reward has no such part.
    """
    right = _ranked(group, lambda t: (-_rating(t, part),), among=[i for i, t in enumerate(group) if t.correct])
    wrong = _ranked(group, lambda t: (_rating(t, part),), among=[i for i, t in enumerate(group) if not t.correct])
    of_right = min(len(right), max(keep - len(wrong), keep - keep // 2))
    return right[:of_right] + wrong[: keep - of_right]


SELECTIONS: Mapping[str, Selection] = {
    part.__name__: part for part in (contrastive, best, best_random, best_worst, consistent)
}


def determination(rewards: Sequence[float], verdicts: Sequence[float]) -> float:
    """R^2 of verdicts against rewards: how reliable rewards are among what a selection keeps (#225, derived).

    The squared correlation; 0 where either never differs.
    """
    x, y = np.array(rewards) - fmean(rewards), np.array(verdicts) - fmean(verdicts)
    spread = float((x @ x) * (y @ y))
    return float(x @ y) ** 2 / spread if spread else 0.0


def _ranked(
    group: Sequence[Trajectory],
    key: Callable[[Trajectory], tuple[float, ...]],
    among: Sequence[int] | None = None,
) -> list[int]:
    return sorted(range(len(group)) if among is None else among, key=lambda place: key(group[place]))


def _reward(trajectory: Trajectory) -> float:
    assert trajectory.reward is not None, "only what was scored is selected from"
    return trajectory.reward


def _rating(trajectory: Trajectory, part: str | None) -> float:
    turns = trajectory.turn_parts.get(part or "")
    if turns:
        return fmean(turns)
    if part is None or part not in trajectory.reward_parts:
        known = ", ".join(sorted({*trajectory.reward_parts, *trajectory.turn_parts}))
        raise ConfigError(
            f"the reward has no part `{part}`", place="replay.selection.part", remedy=f"it has {known or 'none'}"
        )
    return trajectory.reward_parts[part]
