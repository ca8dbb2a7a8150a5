"""Monitors of the policy cliff: groups in which next to nothing decides between two ways to go."""

from collections.abc import Sequence

import numpy as np

from journeyman.monitors.base import Past, Reading, Step
from journeyman.trajectory import Trajectory

CLOSE = 0.01
"""Rewards closer than this are as good as equal (ours)."""
JITTER = 0.1
"""How far each weight of a reward is moved, as a share of it (ours)."""


def tied_best(step: Step, past: Past) -> Reading:
    """Share of the groups whose best attempts, two that behave differently, have as good as the same reward (Policy
    Cliff, #110, secondary; the estimate is ours).

    There whatever is added to the reward, however small, decides which of them is learned. Behaviour is the sequence of
    calls; rewards are as good as the same within .01. Of the groups with two behaviours or more. Rewards of 0 and 1 tie
    often: what tells is a change.
    """
    gaps = [gap for group in step.groups if (gap := _gap(group)) is not None]
    return Reading(value=sum(gap < CLOSE for gap in gaps) / len(gaps) if gaps else None)


def flip_rate(step: Step, past: Past) -> Reading:
    """Share of the groups in which another behaviour would be best if the weights of the reward's parts were moved by up
    to a tenth (Policy Cliff, #110, secondary; the estimate is ours).

    Each weight by itself, the worst case of all. Weights are found by least squares of the rewards in their parts
    over the step. Nothing where the reward is no weighted sum of its parts, and where no group has two behaviours.
    """
    scored = [[t for t in group if t.reward is not None] for group in step.groups]
    groups = [group for group in scored if len({_behaviour(t) for t in group}) > 1]
    weights = _weights([t for group in scored for t in group])
    if not groups or weights is None:
        return Reading()
    return Reading(value=sum(_flips(group, weights) for group in groups) / len(groups))


def _behaviour(trajectory: Trajectory) -> str:
    return str([(call.name, sorted(call.arguments.items())) for call in trajectory.calls])


def _gap(group: Sequence[Trajectory]) -> float | None:
    """Between the best attempts of the two best behaviours; None where there is only one."""
    best: dict[str, float] = {}
    for t in group:
        if t.reward is not None:
            best[_behaviour(t)] = max(t.reward, best.get(_behaviour(t), t.reward))
    ordered = sorted(best.values(), reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else None


def _weights(trajectories: Sequence[Trajectory]) -> dict[str, float] | None:
    """What each part weighs in the reward, next to a constant; None where it is no weighted sum."""
    names = sorted({name for t in trajectories for name in t.reward_parts})
    if not names:
        return None
    parts_BK = np.array([[*(t.reward_parts.get(name, 0.0) for name in names), 1.0] for t in trajectories])
    rewards_B = np.array([t.reward for t in trajectories])
    found_K = np.linalg.lstsq(parts_BK, rewards_B, rcond=None)[0]
    exact = np.allclose(parts_BK @ found_K, rewards_B, atol=1e-6)
    return dict(zip(names, found_K[:-1].tolist(), strict=True)) if exact else None


def _flips(group: Sequence[Trajectory], weights: dict[str, float]) -> bool:
    """Whether some attempt that behaves otherwise overtakes the best one."""
    best = max(group, key=lambda t: t.reward or 0.0)
    others = [t for t in group if _behaviour(t) != _behaviour(best)]
    return any(_reach(best, other, weights) > (best.reward or 0.0) - (other.reward or 0.0) for other in others)


def _reach(best: Trajectory, other: Trajectory, weights: dict[str, float]) -> float:
    """How far the difference of two rewards can be moved. It is linear in the weights, so each goes to an end."""
    return JITTER * sum(
        abs(weight * (best.reward_parts.get(name, 0.0) - other.reward_parts.get(name, 0.0)))
        for name, weight in weights.items()
    )
