"""Bounds: clipping, reference rewards, and step rewards that telescope."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.algebra import whole_of
from journeyman.rewards.base import Group
from journeyman.rewards.bounds import bounded, clip, clip_steps, delta_steps, shaped
from tests.unit.fakes import trajectory
from tests.unit.given import earned, members, steps, totals
from tests.unit.supplies import group

TURNS = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def test_clip_by_hand() -> None:
    assert earned(clip(totals(-2.0, 0.25, 2.0, None), low=-1.0, high=0.5), 4) == [-1.0, 0.25, 0.5, None]
    assert earned(clip(totals(-2.0, 2.0), high=0.0), 2) == [-2.0, 0.0]


def test_clip_is_told_of_bounds_that_cross() -> None:
    with pytest.raises(ValueError, match="above"):
        clip(totals(1.0), low=1.0, high=0.0)


def asked(data: dict, count: int = 2) -> Group:
    return group(*[trajectory() for _ in range(count)], data=data)


def test_bounded_by_hand() -> None:
    # sigmoid(2 - 1) and sigmoid(2 - 3): 0.7310586, 0.2689414, mean 0.5; r = 3: sigmoid(2) and 0.5, mean 0.6903985
    scores = bounded(totals(2.0, 3.0))(asked({"reference_rewards": [1, 3]}))
    assert [score.total for score in scores] == pytest.approx([0.5, 0.6903985])
    # k = 2: sigmoid(2)
    assert earned(bounded(totals(2.0), k=2.0, reference=1.0), 1) == pytest.approx([0.8807971])


def test_bounded_in_other_shapes() -> None:
    assert earned(bounded(totals(1.5), reference=1.0, shape="tanh"), 1) == pytest.approx([math.tanh(0.5)])
    # log sigmoid(0) = -log 2
    assert earned(bounded(totals(1.0), reference=1.0, shape="log_sigmoid"), 1) == pytest.approx([-math.log(2)])


def test_bounded_is_none_without_a_reference() -> None:
    for data in ({}, {"reference_rewards": []}, {"reference_rewards": "x"}):
        assert [score.total for score in bounded(totals(1.0, None))(asked(data))] == [None, None]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_bounded_is_bounded_and_rises(one: float, other: float) -> None:
    low, high = earned(bounded(totals(min(one, other), max(one, other)), reference=0.0), 2)
    assert low is not None and high is not None
    assert 0 <= low <= high <= 1


def test_clip_steps_by_hand() -> None:
    # min(p - 0.5, 0); the outcome of 1 stays
    [score] = clip_steps(steps((0.9, 0.3, 0.5), end=1.0), threshold=0.5)(members(1))
    assert score.turns == (0.0, pytest.approx(-0.2), 0.0)
    assert score.total == pytest.approx(0.8)
    assert whole_of(score) == pytest.approx(1.0)


def test_delta_steps_by_hand() -> None:
    # 0.9 - 0.3, 0.3 - 0.5, 0.5, 0
    [score] = delta_steps(steps((0.9, 0.3, 0.5, 0.7), end=1.0))(members(1))
    assert score.turns == pytest.approx((0.6, -0.2, 0.5, 0.0))
    assert score.total == pytest.approx(1.9)
    assert delta_steps(steps((0.9,)))(members(1))[0].turns == (0.0,)


@given(TURNS)
def test_the_return_from_a_step_is_its_own_reward(turns: list[float]) -> None:
    [score] = delta_steps(steps(turns))(members(1))
    for k in range(len(turns) - 1):
        assert sum(score.turns[k:]) == pytest.approx(turns[k])


@given(TURNS, st.integers(1, 5))
def test_clip_and_delta_pay_nothing_for_repeated_steps(turns: list[float], repeats: int) -> None:
    both = delta_steps(clip_steps(steps(turns, [turns[0]] * repeats + turns), threshold=0.5))
    plain, longer = both(members(2))
    if len(turns) > 1:
        assert longer.total == pytest.approx(plain.total)
    assert all(total <= 1e-9 for total in (plain.total or 0.0, longer.total or 0.0))


def test_shaped_by_hand() -> None:
    # Phi = 0, 0.5, 0.8: 0.9 * 0.5 - 0 = 0.45, 0.9 * 0.8 - 0.5 = 0.22; 0.45 + 0.9 * 0.22 = 0.648 = 0.81 * 0.8
    [score] = shaped(steps((0.5, 0.8)), gamma=0.9)(members(1))
    assert score.turns == pytest.approx((0.45, 0.22))
    assert score.turns[0] + 0.9 * score.turns[1] == pytest.approx(0.648)
    # the end at 0: 0.45, 0.9 * 0 - 0.5
    assert shaped(steps((0.5, 0.8)), gamma=0.9, end_at_zero=True)(members(1))[0].turns == pytest.approx((0.45, -0.5))


@given(TURNS, st.floats(0, 1), st.floats(0, 1))
def test_shaped_rewards_telescope(turns: list[float], gamma: float, start: float) -> None:
    [score] = shaped(steps(turns), gamma=gamma, start=start)(members(1))
    discounted = sum(gamma**t * reward for t, reward in enumerate(score.turns))
    assert discounted == pytest.approx(gamma ** len(turns) * turns[-1] - start, abs=1e-9)
    [ended] = shaped(steps(turns), gamma=gamma, start=start, end_at_zero=True)(members(1))
    assert sum(gamma**t * r for t, r in enumerate(ended.turns)) == pytest.approx(-start, abs=1e-9)


@pytest.mark.parametrize("made", [lambda r: clip_steps(r, threshold=0.5), delta_steps, shaped])
def test_what_has_no_turns_is_left_as_it_is(made) -> None:
    assert earned(made(totals(1.0, None)), 2) == [1.0, None]
    assert made(steps(()))(members(1))[0].turns == ()
