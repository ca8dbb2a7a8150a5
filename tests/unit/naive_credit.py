"""Credits once more as plain loops over trajectories, turns and tokens: slow, and easy to check by eye."""

import math
from collections.abc import Callable, Mapping, Sequence

from journeyman.trajectory import Trajectory

Groups = Sequence[Sequence[Trajectory]]
Advantages = list[list[float]]
"""One list a trajectory, one number a token."""
EPSILON = 1e-6


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    center = mean(values)
    return math.sqrt(sum((v - center) ** 2 for v in values) / len(values))


def z(values: Sequence[float]) -> list[float]:
    center, spread = mean(values), deviation(values)
    return [(v - center) / (spread + EPSILON) for v in values]


def others(values: Sequence[float], i: int) -> float:
    rest = [v for j, v in enumerate(values) if j != i]
    return mean(rest) if rest else values[i]


def spread_out(groups: Groups, advantages: Sequence[Sequence[float]]) -> Advantages:
    """One advantage a trajectory, on its learned tokens."""
    pairs = zip([t for group in groups for t in group], [a for row in advantages for a in row], strict=True)
    return [[a if m else 0.0 for m in t.loss_mask] for t, a in pairs]


def by_group(rule: Callable[[list[float]], list[float]]) -> Callable[[Groups], Advantages]:
    """A credit that looks at the rewards of a group."""
    return lambda groups: spread_out(groups, [rule([t.reward or 0.0 for t in group]) for group in groups])


def rloo(rewards: list[float]) -> list[float]:
    return [r - others(rewards, i) for i, r in enumerate(rewards)]


def whitened(rows: Advantages, groups: Groups) -> Advantages:
    masks = [t.loss_mask for group in groups for t in group]
    kept = [a for row, mask in zip(rows, masks, strict=True) for a, m in zip(row, mask, strict=True) if m]
    if not kept:
        return rows
    center, spread = mean(kept), deviation(kept)
    return [
        [(a - center) / (spread + EPSILON) if m else 0.0 for a, m in zip(row, mask, strict=True)]
        for row, mask in zip(rows, masks, strict=True)
    ]


def batch_normalized(groups: Groups) -> Advantages:
    return whitened(by_group(lambda rewards: rewards)(groups), groups)


def stratified(groups: Groups, alpha: float = 0.8) -> Advantages:
    def rule(group: Sequence[Trajectory]) -> list[float]:
        rewards = [t.reward or 0.0 for t in group]
        found = []
        for t, whole in zip(group, z(rewards), strict=True):
            peers = [other for other in group if len(other.calls) == len(t.calls)]
            ranked = z([other.reward or 0.0 for other in peers])
            own = ranked[[id(other) for other in peers].index(id(t))] if len(peers) > 1 else 0.0
            found.append(alpha * own + (1 - alpha) * whole)
        return found

    return spread_out(groups, [rule(group) for group in groups])


def per_channel(groups: Groups, weights: Mapping[str, float]) -> Advantages:
    def rule(group: Sequence[Trajectory]) -> list[float]:
        totals = [0.0] * len(group)
        for name, weight in weights.items():
            known = [i for i, t in enumerate(group) if t.reward_channels.get(name) is not None]
            if len(known) < 2:
                continue
            for i, value in zip(known, z([group[i].reward_channels[name] or 0.0 for i in known]), strict=True):
                totals[i] += weight * value
        return totals

    return spread_out(groups, [rule(group) for group in groups])


def turn_owning(t: Trajectory) -> list[int]:
    """The turn of each token."""
    owners = [max(0, len(t.turns) - 1)] * len(t.token_ids)
    for number, turn in enumerate(t.turns):
        owners[turn.start : turn.stop] = [number] * (turn.stop - turn.start)
    return owners


def token_rewards(t: Trajectory) -> dict[int, float]:
    """What is paid at which learned token: a turn's reward at its last one, or at the last one before it."""
    owners = turn_owning(t)
    learned = [i for i, m in enumerate(t.loss_mask) if m]
    paid = dict.fromkeys(learned, 0.0)
    if not learned:
        return paid
    steps = list(t.turn_rewards) or [0.0] * max(1, len(t.turns))
    steps[-1] += (t.reward or 0.0) - sum(steps)
    last: dict[int, int] = {}
    for i in learned:
        last[owners[i]] = i
    at = learned[0]
    for number, reward in enumerate(steps):
        at = max(at, last.get(number, at))
        paid[at] += reward
    return paid


def gae(groups: Groups, values: Sequence[Sequence[float]], gamma: float, lambda_: float) -> Advantages:
    rows = []
    for t, own in zip([t for group in groups for t in group], values, strict=True):
        row, advantage, value = [0.0] * len(t.token_ids), 0.0, 0.0
        for i, reward in sorted(token_rewards(t).items(), reverse=True):
            advantage = reward + gamma * value - own[i] + gamma * lambda_ * advantage
            row[i], value = advantage, own[i]
        rows.append(row)
    return rows


def oprl(groups: Groups, process: Sequence[Sequence[float]], alpha: float = 1.0) -> Advantages:
    rows, place = [], 0
    for group in groups:
        steps: dict[tuple[int, int], float] = {}
        for i, t in enumerate(group):
            for number, m, value in zip(turn_owning(t), t.loss_mask, process[place + i], strict=True):
                if m:
                    steps[i, number] = steps.get((i, number), 0.0) + value
        ranked = dict(zip(steps, z(list(steps.values())), strict=True)) if steps else {}
        for i, (t, whole) in enumerate(zip(group, z([t.reward or 0.0 for t in group]), strict=True)):
            owners = zip(turn_owning(t), t.loss_mask, strict=True)
            rows.append([whole + alpha * ranked[i, number] if m else 0.0 for number, m in owners])
        place += len(group)
    return rows


def prime(groups: Groups, process: Sequence[Sequence[float]]) -> Advantages:
    rows, place = [], 0
    for group in groups:
        own = [[v for v, m in zip(process[place + i], t.loss_mask, strict=True) if m] for i, t in enumerate(group)]
        means = [mean(values) if values else 0.0 for values in own]
        outcomes = [t.reward or 0.0 for t in group]
        for i, t in enumerate(group):
            row, to_go = [0.0] * len(t.token_ids), 0.0
            for k in reversed(range(len(row))):
                if t.loss_mask[k]:
                    to_go += process[place + i][k] - others(means, i) if len(group) > 1 else 0.0
                    row[k] = to_go + outcomes[i] - others(outcomes, i)
            rows.append(row)
        place += len(group)
    return whitened(rows, groups)
