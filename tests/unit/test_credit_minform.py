"""PURE: worked-out advantages, a plain loop, the limits of its temperature."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.minform import least_weights_U, pure
from journeyman.credit.turns import returns
from tests.unit.credit_batches import GROUPS, Earned, by_turn, scored, to_go

LN3 = math.log(3)
A, B = (LN3 + 1, [0.0, LN3]), (-0.5, [-0.5])
"""At temperature 1 A's steps weigh 1 : e^-ln3 = .75 : .25 and come to 0 and .27465; B's comes to -.5. Verdicts 1 and 0."""


def credit(function: Callable[..., Floats], *groups: Earned, tokens: Any = None, **options: Any) -> list[list[float]]:
    batch, turn_rewards = scored(*groups, tokens=tokens)
    return by_turn(batch, function(batch, turn_rewards_U=turn_rewards, **options))


def test_pure_by_hand() -> None:
    two = [2, 2, 1]
    # verdicts less the other's: 1, -1. To go .27465, .27465; -.5
    assert credit(pure, [A, B], tokens=two, temperature=1.0, baseline="none") == [
        pytest.approx([1.27465, 1.27465], abs=1e-5),
        pytest.approx([-1.5], abs=1e-5),
    ]
    # others' rewards a token: for A -.5 / 1, so 2 * -.5 a turn; for B .27465 / 4 = .06866, one token
    assert credit(pure, [A, B], tokens=two, temperature=1.0) == [
        pytest.approx([2.27465 + 1, 1.27465 + 1], abs=1e-5),
        pytest.approx([-0.56866 - 1], abs=1e-5),
    ]
    # others' rewards a step: for A -.5, for B .27465 / 2 = .13733
    assert credit(pure, [A, B], tokens=two, temperature=1.0, baseline="step") == [
        pytest.approx([1.27465 + 1, 0.77465 + 1], abs=1e-5),
        pytest.approx([-0.63733 - 1], abs=1e-5),
    ]
    # without the verifiable part
    assert credit(pure, [A, B], tokens=two, temperature=1.0, baseline="none", outcome=0.0)[1] == pytest.approx([-0.5])


def test_cold_is_the_least_and_hot_is_the_mean() -> None:
    steps = [0.8, -0.6, 0.4]
    cold = credit(pure, [(0.6, steps)], temperature=0.001, baseline="none")
    assert cold == [pytest.approx([-0.6, -0.6, 0], abs=1e-6)]
    hot = credit(pure, [(0.6, steps)], temperature=1e6, baseline="none")
    assert hot == [pytest.approx([0.2, -0.0666667, 0.1333333], abs=1e-5)]
    batch, rewards = scored([(0.6, steps)])
    summed = by_turn(batch, returns(batch, turn_rewards_U=rewards))
    assert summed == [pytest.approx([0.6, -0.2, 0.4])]  # the sum form: three times the hot one


@settings(max_examples=50)
@given(GROUPS)
def test_pure_against_a_plain_loop(groups: list[Any]) -> None:
    expected = []
    for group in groups:
        least = []
        for _, turns in group:
            raised = [math.exp((min(turns) - r) / 0.1) for r in turns]
            least.append([w / sum(raised) * r for w, r in zip(raised, turns, strict=True)])
        verdicts = [reward - sum(turns) for reward, turns in group]
        for i, own in enumerate(least):
            others = [j for j in range(len(group)) if j != i]
            tokens = sum(len(least[j]) for j in others)
            rate = sum(sum(least[j]) for j in others) / tokens if others else 0
            rest = verdicts[i] - (sum(verdicts[j] for j in others) / len(others) if others else verdicts[i])
            expected.append([r + rest for r in to_go([r - rate for r in own])])
    assert credit(pure, *groups) == [pytest.approx(row, abs=1e-9) for row in expected]


@given(GROUPS)
def test_weights_sum_to_one_and_the_worst_step_weighs_most(groups: list[Any]) -> None:
    batch, rewards = scored(*groups)
    weights = least_weights_U(batch, rewards, 0.1)
    assert batch.sum_turns(weights) == pytest.approx(np.ones(len(batch.turns_B)))
    for row in range(len(batch.turns_B)):
        own = batch.row_U == row
        assert weights[own][rewards[own].argmin()] == weights[own].max()


def test_extreme_rewards_and_lone_trajectories() -> None:
    assert np.isfinite(credit(pure, [(0.0, [1e4, -1e4])])[0]).all()
    assert credit(pure, [(1.0, [0.0])]) == [[0]]
    assert len(pure(ScoredBatch.of([]), turn_rewards_U=np.empty(0))) == 0
