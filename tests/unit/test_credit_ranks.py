"""Credit shaped by effective ranks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.group import group_normalized
from journeyman.credit.ranks import effective_rank, effective_rank_of, moved_means, potential_B, ranks_of
from tests.unit.batches import NUMBERS, each, rewarded

MEANS = np.array([2.0, 1.0, 0.5])


def test_effective_rank_of_by_hand() -> None:
    # centred already; singular values sqrt(2) and sqrt(2): entropy ln 2
    assert effective_rank_of(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])) == pytest.approx(2)
    # one direction
    assert effective_rank_of(np.array([[3.0, 1], [1, 1], [2, 1]])) == pytest.approx(1)
    # singular values 3 sqrt(2) and sqrt(2): shares 3/4, 1/4: exp(3/4 ln(4/3) + 1/4 ln 4) = 1.7547654
    assert effective_rank_of(np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])) == pytest.approx(1.7547654)
    assert (
        effective_rank_of(np.ones((5, 3)))
        == effective_rank_of(np.ones((1, 3)))
        == effective_rank_of(np.ones((0, 3)))
        == 0
    )


def test_ranks_of_by_hand() -> None:
    hidden = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0, 0], [0, 0]])
    # after 2 tokens: one direction, 1; after 4: 2; after all 6: 2. Velocities 2 - 1 = 1, 2 - 1.5 = .5; acceleration -.5
    assert ranks_of(hidden, stride=2) == pytest.approx([2, 0.75, -0.5])
    assert ranks_of(hidden, stride=6) == pytest.approx([2, 0, 0])
    assert ranks_of(hidden, stride=4) == pytest.approx([2, 0, 0])  # 2, then 2 again
    assert ranks_of(hidden[:0]).tolist() == [0, 0, 0]


def test_effective_rank_by_hand() -> None:
    batch = rewarded([1, 0])  # advantages +-1
    ranks_B = np.array([[3.0, 0.5, 0.5], [1.0, 2.0, 0.5]])
    # d(ER) = .5, -.5; d(ERV) = -.5, 1; d(ERA) = 0: b = 1/2
    # Phi = (tanh .5 - tanh .5) / 2 = 0; (-tanh .5 + tanh 1) / 2 = (-.4621172 + .7615942) / 2 = .1497385
    assert potential_B(ranks_B, MEANS) == pytest.approx([0, 0.1497385])
    shaped = effective_rank(group_normalized, ranks_B=ranks_B, mean_ranks=MEANS)
    assert each(batch, shaped(batch)) == pytest.approx([1, -1 + 0.1497385], abs=1e-5)
    # at most |A| / kappa = .1
    capped = effective_rank(group_normalized, kappa=10.0, ranks_B=ranks_B, mean_ranks=MEANS)
    assert each(batch, capped(batch)) == pytest.approx([1, -0.9], abs=1e-5)


def test_potential_goes_by_the_rank_where_its_growth_speeds_up() -> None:
    # d(ERA) = 5 at most, however far: b = sigmoid(7.5)
    speeding = np.array([[4.0, 0.0, 100.0]])
    b = 1 / (1 + math.exp(-7.5))
    assert potential_B(speeding, MEANS) == pytest.approx([b * math.tanh(1) + (1 - b) * math.tanh(-1)])
    assert potential_B(speeding, np.array([np.nan] * 3)).tolist() == [0]
    # a mean of 0: as far ahead as can be, and not at all where the trajectory has 0, too
    assert potential_B(np.array([[1.0, 0, 0], [0, 0, 0]]), np.zeros(3)) == pytest.approx([math.tanh(5) / 2, 0])


def test_moved_means_by_hand() -> None:
    ranks_B = np.array([[3.0, 1, 1], [1.0, 3, 0]])
    # .3 * 2 + .7 * 2, .3 * 1 + .7 * 2, .3 * .5 + .7 * .5
    assert moved_means(MEANS, ranks_B) == pytest.approx([2, 1.7, 0.5])
    assert moved_means(np.array([np.nan] * 3), ranks_B) == pytest.approx([2, 2, 0.5])


@given(rewards=st.lists(NUMBERS, min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_shaping_keeps_the_sign_and_never_lowers(rewards: list[float], seed: int) -> None:
    batch = rewarded(rewards)
    ranks_B = np.random.default_rng(seed).normal(size=(len(rewards), 3))
    plain = group_normalized(batch)
    shaped = effective_rank(group_normalized, ranks_B=ranks_B, mean_ranks=MEANS)(batch)
    assert (shaped >= plain).all() and (np.sign(shaped) == np.sign(plain)).all()


@given(seed=st.integers(0, 99), scale=st.sampled_from([0.1, 3.0]))
@settings(max_examples=25)
def test_effective_rank_ignores_scale_and_shift_and_is_at_most_the_rank(seed: int, scale: float) -> None:
    hidden = np.random.default_rng(seed).normal(size=(7, 4))
    assert effective_rank_of(scale * hidden + 5) == pytest.approx(effective_rank_of(hidden))
    assert 1 <= effective_rank_of(hidden) <= 4
