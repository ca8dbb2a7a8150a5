"""Credit relative to the group or the batch: worked-out advantages, plain loops, invariances, degenerate groups."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit import CREDITS, VOCABULARY, build_credit
from journeyman.credit.algebra import blend, whiten
from journeyman.credit.base import ScoredBatch, discounted, turn_of_tokens
from journeyman.credit.group import (
    batch_mean,
    batch_normalized,
    best,
    group_mean,
    group_normalized,
    pf_ppo,
    reinforce,
    rloo,
    self_critical,
)
from journeyman.expressions import needs_of
from tests.unit import naive_credit as naive
from tests.unit.batches import GROUPS, NUMBERS, attempt, each, rewarded
from tests.unit.fakes import trajectory

REWARDS = st.lists(NUMBERS, min_size=1, max_size=9)
ALONE = [name for name, credit in CREDITS.items() if not needs_of(credit, VOCABULARY)]
"""Credits that need nothing but rewards."""


def values(credit: Callable[..., Any], *groups: list[float], **options: Any) -> list[float]:
    """The advantage of each trajectory of groups with these rewards."""
    batch = rewarded(*groups)
    return each(batch, credit(batch, **options))


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
def test_group_by_hand(rewards: list[float], advantages: list[float]) -> None:
    assert values(group_normalized, rewards) == pytest.approx(advantages, abs=1e-5)


def test_reinforce_by_hand() -> None:
    assert values(reinforce, [1, 0.25], [-2]) == [1, 0.25, -2]


def test_rloo_by_hand() -> None:
    # 1 - 0; 0 - 1/3 thrice
    assert values(rloo, [1, 0, 0, 0]) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    # 1 - (2 + 3) / 2, 2 - (1 + 3) / 2, 3 - (1 + 2) / 2; another group has no say
    assert values(rloo, [1, 2, 3], [7, 5]) == [-1.5, 0, 1.5, 2, -2]
    assert values(rloo, [3]) == [0]


def test_group_mean_by_hand() -> None:
    assert values(group_mean, [1, 0, 0, 0]) == [0.75, -0.25, -0.25, -0.25]
    assert values(group_mean, [1, 2, 3]) == [-1, 0, 1]


def test_best_by_hand() -> None:
    assert values(best, [1, 0.5, 1, 0]) == [1, 0, 1, 0]
    assert values(best, [0.2, 0.5, 0.3]) == [0, 1, 0]
    assert values(best, [0, 0, 0]) == [0, 0, 0]  # nobody succeeded
    assert values(best, [-1, -2]) == [0, 0]


def test_batch_mean_by_hand() -> None:
    # mean of 1, 0, 4, 3 is 2
    assert values(batch_mean, [1, 0], [4, 3]) == [-1, -2, 2, 1]


def test_batch_normalized_by_hand() -> None:
    # tokens: 3 x 1, 4 x 0, 3 x 4, 4 x 3. mean 27 / 14; mean square 87 / 14; std sqrt(87/14 - (27/14)^2) = 1.5795246
    advantages = [(r - 27 / 14) / 1.5795246 for r in (1, 0, 4, 3)]
    assert values(batch_normalized, [1, 0], [4, 3]) == pytest.approx(advantages, abs=1e-5)
    # less the groups' means +-1/2: mean (1.5 - 2 + 1.5 - 2) / 14 = -1 / 14, std sqrt(1/4 - 1/196) = .4948717
    centered = [(s / 2 + 1 / 14) / 0.4948717 for s in (1, -1, 1, -1)]
    assert values(batch_normalized, [1, 0], [4, 3], baseline="group") == pytest.approx(centered, abs=1e-5)


def test_self_critical_by_hand() -> None:
    # .7 - .5 and .5 - .5; the second greedy attempt failed: 1 - 0 and 0 - 1 of the others
    greedy = np.array([0.5, np.nan])
    assert values(self_critical, [0.7, 0.5], [1, 0], greedy_rewards_P=greedy) == pytest.approx([0.2, 0, 1, -1])
    # alone in its group
    assert values(self_critical, [0.7], greedy_rewards_P=np.array([0.5])) == pytest.approx([0.2])
    assert values(self_critical, [0.7], greedy_rewards_P=np.array([np.nan])) == [0]


def test_pf_ppo_by_hand() -> None:
    # group_mean: mean 2: (-1, 2, 0, -1); the best is the second, the worst the last of the two with 1
    def kept(keep: Any) -> list[float]:
        return values(pf_ppo(group_mean, keep=keep), [1, 4, 2, 1])

    assert kept("best_worst") == [0, 2, 0, -1]
    assert kept("best") == [0, 2, 0, 0]
    assert kept("best_random") == [-1, 2, 0, 0]
    # the first is the best: the second is another one
    assert values(pf_ppo(group_mean, keep="best_random"), [4, 2, 0], [3]) == [2, 0, 0, 0]
    assert values(pf_ppo(reinforce, keep="best_random"), [4, 2, 0], [3]) == [4, 2, 0, 3]


def test_blend_by_hand() -> None:
    # .5 * (.75, -.25, ...) + 2 * best
    mixed = values(blend((0.5, group_mean), (2.0, best)), [1, 0, 0, 0])
    assert mixed == [2.375, -0.125, -0.125, -0.125]
    assert values(build_credit("0.5 * group_mean + 2 * best"), [1, 0, 0, 0]) == mixed


def test_whiten_by_hand() -> None:
    # tokens: 3 x 1, 4 x 0: mean 3/7, std sqrt(3/7 * 4/7) = .4948717
    assert values(whiten(reinforce), [1, 0]) == pytest.approx([4 / 7 / 0.4948717, -3 / 7 / 0.4948717], abs=1e-5)


def test_advantages_stand_on_the_sampled_tokens_alone() -> None:
    group = [
        trajectory(tokens=5, loss_mask=(0, 0, 1, 0, 1)).scored(1.0, {}),
        trajectory(tokens=2, loss_mask=(0, 1)).scored(0.0, {}),
    ]
    batch = ScoredBatch.of([group])
    first, second = batch.split(group_mean(batch))
    assert first.tolist() == [0, 0, 0.5, 0, 0.5] and second.tolist() == [0, -0.5]


@pytest.mark.parametrize("name", ALONE)
def test_nothing_comes_of_nothing(name: str) -> None:
    empty = ScoredBatch.of([])
    assert CREDITS[name](empty).shape == (0,) and empty.split(CREDITS[name](empty)) == []
    unlearned = ScoredBatch.of([[attempt(1.0, turns=(0,)), attempt(0.0, turns=())]])
    assert CREDITS[name](unlearned).tolist() == [0] * 4


@given(groups=GROUPS)
@settings(max_examples=40)
@pytest.mark.parametrize(
    ("credit", "loop"),
    [
        (group_normalized, naive.by_group(naive.z)),
        (rloo, naive.by_group(naive.rloo)),
        (batch_normalized, naive.batch_normalized),
    ],
    ids=["group", "rloo", "batch_normalized"],
)
def test_whole_batches_are_what_a_plain_loop_makes(credit: Callable, loop: Callable, groups: naive.Groups) -> None:
    batch = ScoredBatch.of(groups)
    assert credit(batch) == pytest.approx(np.concatenate(loop(groups)), abs=1e-6)


@pytest.mark.parametrize("credit", [group_normalized, group_mean, rloo, batch_mean])
@given(rewards=REWARDS, shift=st.integers(-5, 5))
@settings(max_examples=40)
def test_relative_credit_has_zero_mean_ignores_shifts_and_keeps_the_order(
    credit: Callable, rewards: list[float], shift: int
) -> None:
    advantages = values(credit, rewards)
    assert sum(advantages) == pytest.approx(0, abs=1e-4)
    assert values(credit, [r + shift for r in rewards]) == pytest.approx(advantages, abs=1e-3)
    ranked = sorted(zip(rewards, advantages, strict=True))
    assert all(low <= high + 1e-9 for (_, low), (_, high) in pairwise(ranked))


@pytest.mark.parametrize("name", ALONE)
@given(rewards=REWARDS, order=st.randoms())
@settings(max_examples=25)
def test_credit_goes_with_the_trajectory_wherever_it_stands(name: str, rewards: list[float], order: Any) -> None:
    group = [attempt(r, turns=(1 + i % 3, 2)) for i, r in enumerate(rewards)]
    shuffled = list(range(len(rewards)))
    order.shuffle(shuffled)
    batch, moved = ScoredBatch.of([group]), ScoredBatch.of([[group[i] for i in shuffled]])
    rows, again = batch.split(CREDITS[name](batch)), moved.split(CREDITS[name](moved))
    for i, row in zip(shuffled, again, strict=True):
        assert row == pytest.approx(rows[i], abs=1e-9)


@given(REWARDS.filter(lambda r: len(set(r)) > 1))
@settings(max_examples=40)
def test_normalized_credit_has_spread_one_and_ignores_the_scale(rewards: list[float]) -> None:
    advantages = values(group_normalized, rewards)
    assert sum(a * a for a in advantages) / len(advantages) == pytest.approx(1, abs=1e-2)
    assert values(group_normalized, [8 * r for r in rewards]) == pytest.approx(advantages, abs=1e-2)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -3.7])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_groups_of_equals_and_of_one_give_nothing_to_compare(reward: float, size: int) -> None:
    for credit in (group_normalized, group_mean, rloo, batch_mean, batch_normalized):
        assert values(credit, [reward] * size) == pytest.approx([0] * size, abs=1e-9)
    assert values(best, [reward] * size) == [float(reward > 0)] * size


@given(rewards=REWARDS)
@settings(max_examples=25)
def test_group_mean_is_leave_one_out_but_for_the_scale(rewards: list[float]) -> None:
    scale = (len(rewards) - 1) / len(rewards)
    assert values(group_mean, rewards) == pytest.approx([scale * a for a in values(rloo, rewards)], abs=1e-9)


def test_what_could_not_be_scored_must_be_set_aside_before() -> None:
    with pytest.raises(AssertionError, match="set aside"):
        ScoredBatch.of([[attempt(1.0), attempt(None)]])


@given(groups=GROUPS)
@settings(max_examples=40)
def test_tokens_are_counted_with_the_turn_that_they_were_sampled_in(groups: naive.Groups) -> None:
    batch, first = ScoredBatch.of(groups), 0
    for t, owners in zip(batch.trajectories, batch.split(batch.turn_T.astype(float)), strict=True):
        own = [number if m else -1 for number, m in zip(naive.turn_owning(t), t.loss_mask, strict=True)]
        assert turn_of_tokens(t).tolist() == own
        assert owners.tolist() == [number + first if number >= 0 else -1 for number in own]
        first += max(1, len(t.turns))
    assert batch.tokens_U.sum() == batch.mask_T.sum() and len(batch.tokens_U) == first


@given(
    rows=st.lists(st.lists(NUMBERS, max_size=6), max_size=6),
    factor=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=40)
def test_discounted_sums_run_backwards_in_each_stretch(rows: list[list[float]], factor: float) -> None:
    expected = [sum(factor**k * v for k, v in enumerate(row[i:])) for row in rows for i in range(len(row))]
    flat, lengths = np.array([v for row in rows for v in row]), np.array([len(row) for row in rows], np.int64)
    assert discounted(flat, lengths, factor) == pytest.approx(np.array(expected))


def test_discounted_sums_are_the_same_however_many_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 6, 50)
    flat = rng.normal(size=int(lengths.sum()))
    whole = discounted(flat, lengths, 0.9)
    monkeypatch.setattr("journeyman.credit.base.STRETCHES", 7)
    assert discounted(flat, lengths, 0.9).tolist() == whole.tolist()
