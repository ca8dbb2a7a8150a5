"""What a replay buffer is put together from, worked out by hand."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config.replay import ReplayConfig, SelectionConfig
from journeyman.replay import PARTS, PRIORITIES, SELECTIONS
from journeyman.replay.parts import (
    Draw,
    advantage,
    decay,
    newest,
    one_a_problem,
    only_with_calls,
    probability,
    recalibration,
    seeds,
    solutions,
    uniform,
    warmup,
)


def test_uniform_by_hand() -> None:
    firsts = Counter(uniform(np.array([1.0, 2.0, 3.0, 4.0]), 1, seed)[0] for seed in range(4000))
    # 4000 draws of 4: 1000 each, with a deviation of sqrt(4000 * 1/4 * 3/4) = 27.4
    assert all(abs(firsts[place] - 1000) < 4 * 27.4 for place in range(4))


def test_advantage_by_hand() -> None:
    weights = np.array([1.0, 3.0])
    firsts = Counter(advantage(weights, 2, seed)[0] for seed in range(4000))
    # The second comes first in 3 of 4 draws: 3000, with a deviation of 27.4.
    assert abs(firsts[1] - 3000) < 4 * 27.4
    firsts = Counter(advantage(weights, 1, seed, 2.0)[0] for seed in range(4000))
    # Squared weights 1 and 9: 3600 of 4000, with a deviation of sqrt(4000 * .9 * .1) = 19.
    assert abs(firsts[1] - 3600) < 4 * 19


def test_advantages_that_are_tiny_are_drawn_all_the_same() -> None:
    assert sorted(advantage(np.array([1e-300, 1e-320, 1e300]), 3, 0, 4.0)) == [0, 1, 2]


def test_newest_by_hand() -> None:
    assert newest(np.ones(5), 3, seed=0) == [4, 3, 2]  # the oldest stands first
    assert newest(np.ones(2), 3, seed=0) == [1, 0]


@pytest.mark.parametrize("draw", PRIORITIES.values(), ids=PRIORITIES)
@given(count=st.integers(0, 12), size=st.integers(0, 9), seed=st.integers(0, 99))
def test_every_draw_is_seeded_and_repeats_nothing(draw: Draw, count: int, size: int, seed: int) -> None:
    advantages = np.linspace(0.1, 2.0, size)
    drawn = draw(advantages, count, seed, 1.0)
    assert drawn == draw(advantages, count, seed, 1.0)
    assert len(drawn) == len(set(drawn)) == min(count, size) and set(drawn) <= set(range(size))
    assert all(type(place) is int for place in drawn)


def test_only_with_calls_by_hand() -> None:
    assert not only_with_calls(0) and only_with_calls(1)


def test_one_a_problem_by_hand() -> None:
    # Problems 7 5 7 8 5: the last 7 is at place 2, the last 8 at 3, the last 5 at 4.
    assert one_a_problem(np.array([7, 5, 7, 8, 5])).tolist() == [False, False, True, True, True]
    assert one_a_problem(np.array([], dtype=np.int64)).tolist() == []


def test_probability_by_hand() -> None:
    band = 0.5, 0.95
    # Tokens of .9 and .4: geometric mean sqrt(.36) = .6. The arithmetic mean of .98 and .02 is .5, the geometric .14.
    assert probability([math.log(0.9), math.log(0.4)], band)
    assert not probability([math.log(0.98), math.log(0.02)], band)
    assert not probability([math.log(0.96)] * 3, band)  # known by heart
    assert not probability([], band)
    # Above the lower bound, up to the upper one: a probability of 1 is exact.
    assert probability([0.0, 0.0], (0.5, 1.0)) and not probability([0.0], (1.0, 1.0))


def test_recalibration_by_hand() -> None:
    rewards = np.array([1.0, 0.5, 0.25])
    means, deviations = [0.2, 0.5, 0.9], [0.0, 0.25, 0.5]
    # The median of the means is .5, that of the deviations .25.
    assert recalibration(rewards, means, deviations, scale=False).tolist() == [0.5, 0.0, -0.25]
    assert recalibration(rewards, means, deviations, scale=True).tolist() == [2.0, 0.0, -1.0]
    # An even number of groups: the mean of the two in the middle, (.2 + .6) / 2 = .4; deviations of 0 divide nothing.
    assert recalibration(np.array([1.0]), [0.2, 0.6], [0.0, 0.0], scale=True).tolist() == [0.6]


def test_decay_by_hand() -> None:
    # 2 * .5^0, 2 * .5^1, 4 * .5^3; what is newer than now is not worth more
    faded = decay(np.array([2.0, 2.0, 4.0, 1.0]), np.array([0, 1, 3, -2]), 0.5)
    assert faded.tolist() == [2.0, 1.0, 0.5, 1.0]


def test_seeds_by_hand() -> None:
    # .5 (1 - t / 100): .5, .25 at 50, .05 at 90, and no less after that
    assert [seeds(step, 100) for step in (0, 50, 90, 100, 500)] == pytest.approx([0.5, 0.25, 0.05, 0.05, 0.05])


def test_solutions_by_hand() -> None:
    # Rates 0, 1/8, 2/8 and 1 against 1/4; nothing tried is no rate.
    assert [solutions(right, 8, 0.25) for right in (0, 1, 2, 8)] == [True, True, False, False]
    assert not solutions(0, 0, 0.25)


def test_warmup_by_hand() -> None:
    # (1 - cos(pi t / 200)) / 2: 0, cos(pi/4) = .70711 -> .14645, cos(pi/2) = 0 -> .5, cos(3pi/4) -> .85355
    assert [warmup(step, 200) for step in (0, 50, 100, 150)] == pytest.approx([0, 0.1464466, 0.5, 0.8535534])
    assert warmup(200, 200) == warmup(999, 200) == warmup(0, 0) == 1


def test_parts_are_called_what_the_config_calls_them() -> None:
    options = ReplayConfig.model_fields
    assert set(options["priority"].annotation.__args__) == set(PRIORITIES)  # type: ignore[union-attr]
    selections = SelectionConfig.model_fields["by"].annotation.__args__  # type: ignore[union-attr]
    assert set(selections) == set(SELECTIONS)
    assert set(PARTS) - set(PRIORITIES) - set(SELECTIONS) <= set(options)
