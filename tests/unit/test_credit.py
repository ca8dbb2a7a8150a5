"""Credit: worked-out advantages, invariances, degenerate groups."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.credit import CREDITS
from journeyman.credit.group import best, group_mean, group_normalized
from journeyman.trajectory import Trajectory
from tests.unit.fakes import trajectory


def group(*rewards: float) -> list[Trajectory]:
    return [trajectory(tokens=3 + i % 3).scored(reward, {}) for i, reward in enumerate(rewards)]


def values(credit: str, rewards: list[float]) -> list[float]:
    """The advantage of each trajectory; the same on all its learned tokens, 0 elsewhere."""
    made = group(*rewards)
    found = []
    for one, advantages in zip(made, CREDITS[credit](made), strict=True):
        assert len(advantages) == len(one.token_ids)
        assert all(a == 0 for a, m in zip(advantages, one.loss_mask, strict=True) if not m)
        [value] = {a for a, m in zip(advantages, one.loss_mask, strict=True) if m}
        found.append(value)
    return found


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        # mean 1/2, standard deviation 1/2: +-(1/2) / (1/2)
        ([1, 0, 0, 1], [1, -1, -1, 1]),
        # mean 1/4, variance (9/16 + 3/16) / 4 = 3/16: (3/4) / .4330127 and (-1/4) / .4330127
        ([1, 0, 0, 0], [1.7320508, -0.5773503, -0.5773503, -0.5773503]),
        # mean 2, variance (1 + 0 + 1) / 3: 1 / .8164966
        ([1, 2, 3], [-1.2247449, 0, 1.2247449]),
    ],
)
def test_group_normalized_by_hand(rewards: list[float], advantages: list[float]) -> None:
    assert values("group", rewards) == pytest.approx(advantages, abs=1e-5)


def test_group_mean_and_best_by_hand() -> None:
    assert values("group-mean", [1, 0, 0, 0]) == [0.75, -0.25, -0.25, -0.25]
    assert values("group-mean", [1, 2, 3]) == [-1, 0, 1]
    assert values("best", [1, 0.5, 1, 0]) == [1, 0, 1, 0]
    assert values("best", [0.2, 0.5, 0.3]) == [0, 1, 0]
    assert values("best", [0, 0, 0]) == [0, 0, 0]  # nobody succeeded
    assert values("best", [-1, -2]) == [0, 0]


def test_advantages_stand_on_the_sampled_tokens_alone() -> None:
    made = [
        trajectory(tokens=5, loss_mask=(0, 0, 1, 0, 1)).scored(1.0, {}),
        trajectory(tokens=2, loss_mask=(0, 1)).scored(0.0, {}),
    ]
    first, second = group_mean(made)
    assert first == (0, 0, 0.5, 0, 0.5) and second == (0, -0.5)


REWARDS = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=1, max_size=9)


@pytest.mark.parametrize("credit", ["group", "group-mean"])
@given(rewards=REWARDS, shift=st.integers(-5, 5))
def test_relative_credit_has_zero_mean_ignores_shifts_and_keeps_the_order(
    credit: str, rewards: list[float], shift: int
) -> None:
    advantages = values(credit, rewards)
    assert sum(advantages) == pytest.approx(0, abs=1e-4)
    assert values(credit, [r + shift for r in rewards]) == pytest.approx(advantages, abs=1e-3)
    ranked = sorted(zip(rewards, advantages, strict=True))
    assert all(low <= high for (_, low), (_, high) in pairwise(ranked))


@pytest.mark.parametrize("credit", CREDITS)
@given(rewards=REWARDS, order=st.randoms())
def test_credit_goes_with_the_trajectory_wherever_it_stands(credit: str, rewards: list[float], order) -> None:
    shuffled = list(range(len(rewards)))
    order.shuffle(shuffled)
    advantages = values(credit, rewards)
    assert values(credit, [rewards[i] for i in shuffled]) == pytest.approx([advantages[i] for i in shuffled], abs=1e-9)


@given(REWARDS.filter(lambda r: len(set(r)) > 1))
def test_normalized_credit_has_spread_one_and_ignores_the_scale(rewards: list[float]) -> None:
    advantages = values("group", rewards)
    assert sum(a * a for a in advantages) / len(advantages) == pytest.approx(1, abs=1e-2)
    assert values("group", [8 * r for r in rewards]) == pytest.approx(advantages, abs=1e-2)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -3.7])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_groups_of_equals_and_of_one_give_nothing_to_compare(reward: float, size: int) -> None:
    assert values("group", [reward] * size) == pytest.approx([0] * size, abs=1e-9)
    assert values("group-mean", [reward] * size) == pytest.approx([0] * size, abs=1e-12)
    assert values("best", [reward] * size) == [float(reward > 0)] * size


@pytest.mark.parametrize("credit", [group_normalized, group_mean, best])
def test_what_could_not_be_scored_must_be_set_aside_before(credit) -> None:
    with pytest.raises(AssertionError, match="set aside"):
        credit([trajectory().scored(1.0, {}), trajectory()])
