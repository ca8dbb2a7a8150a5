"""Made-up batches for the tests of credit: groups of (reward, what each turn earned), a learned token or more a turn."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch

Earned = Sequence[tuple[float, Sequence[float]]]
"""A group: the reward of each trajectory, and what of it each turn earned."""


def scored(
    *groups: Earned, tokens: Sequence[int] | None = None, calls: Sequence[int] | None = None
) -> tuple[ScoredBatch, Floats]:
    """(batch, turn rewards). `tokens`: learned ones of each turn, 1 else; before each turn stands a token off the mask."""
    flat = [one for group in groups for one in group]
    turns_B = np.array([len(turns) for _, turns in flat], np.int64)
    tokens_U = np.array(tokens if tokens is not None else [1] * int(turns_B.sum()), np.int64)
    turn_T = [number for turn, count in enumerate(tokens_U) for number in (-1, *[turn] * count)]
    batch = ScoredBatch(
        rewards_B=np.array([reward for reward, _ in flat], np.float64),
        group_B=np.repeat(np.arange(len(groups)), [len(group) for group in groups]),
        turns_B=turns_B,
        calls_U=np.array(calls if calls is not None else [0] * len(tokens_U), np.int64),
        tokens_U=tokens_U,
        mask_T=np.array(turn_T, np.int64) >= 0,
        turn_T=np.array(turn_T, np.int64),
    )
    return batch, np.array([r for _, turns in flat for r in turns], np.float64)


def by_turn(batch: ScoredBatch, values_T: Floats) -> list[list[float]]:
    """The advantage of each turn of each trajectory: the same on all its learned tokens, 0 off the mask."""
    assert values_T.shape == batch.mask_T.shape and not values_T[~batch.mask_T].any()
    found = []
    for row, (first, last) in enumerate(zip(batch.first_B, batch.last_B, strict=True)):
        assert row == batch.row_U[first]
        found.append([])
        for turn in range(first, last + 1):
            [value] = set(values_T[batch.turn_T == turn])
            found[-1].append(float(value))
    return found


NUMBER = st.integers(-8, 8).map(lambda x: x / 4)
TRAJECTORY = st.tuples(NUMBER, st.lists(NUMBER, min_size=1, max_size=4))
GROUPS = st.lists(st.lists(TRAJECTORY, min_size=1, max_size=4), min_size=1, max_size=3)
"""Groups of (reward, what each turn earned)."""


def z(values: Sequence[float], epsilon: float = 1e-6) -> list[float]:
    """The plain way."""
    mean = sum(values) / len(values)
    std = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    return [(v - mean) / (std + epsilon) for v in values]


def to_go(values: Sequence[float], gamma: float = 1.0) -> list[float]:
    """The plain way."""
    return [sum(gamma ** (k - t) * values[k] for k in range(t, len(values))) for t in range(len(values))]


def paid(reward: float, turns: Sequence[float]) -> list[float]:
    """What each turn is paid where the last one gets what the whole earned."""
    return [*turns[:-1], turns[-1] + reward - sum(turns)]
