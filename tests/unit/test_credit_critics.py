"""Credit by a critic: worked-out advantages, a plain loop, and what exact values give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.critics import archer, gae, q_targets_U, turn_td
from tests.unit import naive_credit as naive
from tests.unit.batches import GROUPS, attempt, turn_by_turn


def values_for(batch: ScoredBatch, *learned: float) -> Floats:
    """Values of the learned tokens; nonsense elsewhere, which nobody may read."""
    values_T = np.full(len(batch.mask_T), 99.0)
    values_T[batch.mask_T] = learned
    return values_T


def learned(batch: ScoredBatch, advantages_T: Floats) -> list[float]:
    assert not advantages_T[~batch.mask_T].any()
    return advantages_T[batch.mask_T].tolist()


def test_gae_by_hand() -> None:
    # two turns of 2 and 1 tokens; the first earned .5, the whole 1 besides; values .2, .4, .6
    batch = ScoredBatch.of([[attempt(1.5, turns=(2, 1), turn_rewards=(0.5, 0.0))]])
    values_T = values_for(batch, 0.2, 0.4, 0.6)
    # deltas: .4 - .2 = .2; .5 + .6 - .4 = .7; 1 - .6 = .4, for what stands between the turns takes no time
    assert learned(batch, gae(batch, values_T=values_T, lambda_=0.0)) == pytest.approx([0.2, 0.7, 0.4])
    # lambda 1: return-to-go less value: 1.5 - .2, 1.5 - .4, 1 - .6
    assert learned(batch, gae(batch, values_T=values_T, lambda_=1.0)) == pytest.approx([1.3, 1.1, 0.4])
    # lambda .5: .4; .7 + .5 * .4 = .9; .2 + .5 * .9 = .65
    assert learned(batch, gae(batch, values_T=values_T, lambda_=0.5)) == pytest.approx([0.65, 0.9, 0.4])
    # gamma .5 as well: deltas .2 - .2 = 0; .5 + .3 - .4 = .4; .4; then .4 + .25 * .4 = .5; 0 + .25 * .5 = .125
    assert learned(batch, gae(batch, values_T=values_T, lambda_=0.5, gamma=0.5)) == pytest.approx([0.125, 0.5, 0.4])
    # whitened .2, .7, .4: mean 1.3/3, std sqrt((.16 + .49 + .04) / 3 - (1.3/3)^2) = .2054805 of lambda 0's
    whitened = learned(batch, gae(batch, values_T=values_T, lambda_=0.0, whiten=True))
    assert whitened == pytest.approx([(d - 1.3 / 3) / 0.2054805 for d in (0.2, 0.7, 0.4)], abs=1e-4)


def test_gae_stops_at_the_end_of_a_trajectory_and_passes_turns_without_tokens() -> None:
    paid = attempt(3.0, turns=(0, 1, 0), turn_rewards=(1.0, 0.0, 2.0))
    batch = ScoredBatch.of([[paid, attempt(5.0, turns=(0,)), attempt(0.0, turns=(1,))]])
    # all that the first earned is paid at its only token; the second has none; the third's value is its own affair
    assert learned(batch, gae(batch, values_T=values_for(batch, 0.5, 0.25), lambda_=1.0)) == [2.5, -0.25]


@given(
    groups=GROUPS, gamma=st.sampled_from([1.0, 0.9]), lambda_=st.sampled_from([0.0, 0.95, 1.0]), seed=st.integers(0, 9)
)
@settings(max_examples=60)
def test_gae_is_what_a_plain_loop_makes(groups: naive.Groups, gamma: float, lambda_: float, seed: int) -> None:
    batch = ScoredBatch.of(groups)
    values_T = np.random.default_rng(seed).normal(size=len(batch.mask_T))
    expected = naive.gae(groups, [row.tolist() for row in batch.split(values_T)], gamma, lambda_)
    assert gae(batch, values_T=values_T, gamma=gamma, lambda_=lambda_) == pytest.approx(np.concatenate(expected))


@given(groups=GROUPS)
@settings(max_examples=20)
def test_gae_of_a_critic_that_knows_nothing_is_the_reward_to_go(groups: naive.Groups) -> None:
    batch = ScoredBatch.of(groups)
    advantages_T = gae(batch, values_T=np.zeros(len(batch.mask_T)), lambda_=1.0)
    for t, row in zip(batch.trajectories, batch.split(advantages_T), strict=True):
        if any(t.loss_mask):
            assert row[t.loss_mask.index(1)] == pytest.approx(t.reward, abs=1e-9)


def two_turns() -> ScoredBatch:
    """Turns that earned .5 and -.25, with 1 for the whole; and a turn that earned 2."""
    first = attempt(1.25, turns=(2, 1), turn_rewards=(0.5, -0.25))
    return ScoredBatch.of([[first, attempt(2.0, turns=(3,))]])


def test_archer_by_hand() -> None:
    # Q - V: .8 - .5, .9 - 1.1, 1 - 1
    advantages_T = archer(two_turns(), values_U=np.array([0.5, 1.1, 1.0]), q_values_U=np.array([0.8, 0.9, 1.0]))
    first, second = turn_by_turn(two_turns(), advantages_T)
    assert first == pytest.approx([0.3, -0.2]) and second == [0]


def test_turn_td_by_hand() -> None:
    values_U = np.array([0.5, 1.1, 1.0])
    # targets: .5 + .9 * 1.1 = 1.49; -.25 + 1 = .75, the last; 2, the other's last
    assert q_targets_U(two_turns(), values_U, 0.9) == pytest.approx(np.array([1.49, 0.75, 2.0]))
    first, second = turn_by_turn(two_turns(), turn_td(two_turns(), values_U=values_U))
    # less V: .99, -.35; 1
    assert first == pytest.approx([0.99, -0.35]) and second == pytest.approx([1])


def test_q_targets_ignore_the_next_trajectory() -> None:
    batch = ScoredBatch.of([[attempt(1.0, turns=(1,)), attempt(0.0, turns=(1,))]])
    assert q_targets_U(batch, np.array([7.0, 8.0]), 1.0).tolist() == [1, 0]


def test_critics_give_nothing_for_an_empty_batch() -> None:
    empty, nothing = ScoredBatch.of([]), np.zeros(0)
    assert gae(empty, values_T=nothing, whiten=True).shape == (0,)
    assert turn_td(empty, values_U=nothing).shape == archer(empty, values_U=nothing, q_values_U=nothing).shape == (0,)
