"""Trajectories with their advantages as the rows that a learner takes."""

import random
from collections.abc import Callable, Sequence

from journeyman.credit.base import Floats, turn_of_tokens
from journeyman.training.handle import Row
from journeyman.trajectory import StopReason, Trajectory

CUT_OFF = frozenset(
    {StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.MAX_CALLS, StopReason.MAX_SECONDS, StopReason.MAX_COST}
)


def rows_of(
    trajectory: Trajectory, advantages: Floats, group: int, *, weight: float = 1.0, weights: Floats | None = None
) -> list[Row]:
    """A row for each context in which the policy sampled; `weight`: of the rows, `weights`: T of the tokens in theirs."""
    turns = turn_of_tokens(trajectory)
    return [
        Row(
            token_ids=trajectory.token_ids[sample],
            mask=trajectory.loss_mask[sample],
            advantages=tuple(advantages[sample].tolist()),
            logprobs=trajectory.logprobs[sample],
            temperature=trajectory.temperature,
            turns=tuple(turns[sample].tolist()),
            group=group,
            reward=trajectory.reward,
            truncated=trajectory.stop_reason in CUT_OFF,
            weight=weight,
            weights=() if weights is None else tuple(weights[sample].tolist()),
        )
        for sample in trajectory.samples()
        if any(trajectory.loss_mask[sample])
    ]


def by_temperature(
    ids: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    score: Callable[[Sequence[Sequence[int]], float], list[list[float]]],
) -> list[list[float]]:
    """What `score` says of each row of ids at its own temperature."""
    found: dict[int, list[float]] = {}
    for temperature in dict.fromkeys(temperatures):
        places = [place for place, own in enumerate(temperatures) if own == temperature]
        found |= dict(zip(places, score([ids[place] for place in places], temperature), strict=True))
    return [found[place] for place in range(len(ids))]


def minibatches(rows: Sequence[Row], size: int, seed: int, *, whole_groups: bool) -> list[list[Row]]:
    """Rows in seeded order, `size` at a time; with `whole_groups` a minibatch ends where a group ends."""
    rng = random.Random(seed)
    if not whole_groups:
        shuffled = list(rows)
        rng.shuffle(shuffled)
        return [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    batches: list[list[Row]] = []
    for key in rng.sample(list(groups), len(groups)):
        if batches and len(batches[-1]) + len(groups[key]) <= size:
            batches[-1] += groups[key]
        else:
            batches.append(list(groups[key]))
    return batches
