"""Credit among trajectories with the same number of calls."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import ScoredBatch
from journeyman.credit.group import group_normalized
from journeyman.credit.strata import strata_B, stratified
from tests.unit import naive_credit as naive
from tests.unit.batches import GROUPS, NUMBERS, attempt, each


def called(*rewards_and_calls: tuple[float, int]) -> ScoredBatch:
    """A group of one-turn trajectories with these rewards and numbers of calls."""
    return ScoredBatch.of([[attempt(reward, calls=(calls,)) for reward, calls in rewards_and_calls]])


def test_stratified_by_hand() -> None:
    batch = called((1, 1), (0, 1), (1, 2), (1, 2), (0, 0))
    # one call: mean 1/2, std 1/2: 1, -1; two calls: equal; none: alone
    assert each(batch, stratified(batch, alpha=1.0)) == pytest.approx([1, -1, 0, 0, 0], abs=1e-5)
    # the group's: mean .6, std sqrt(.24) = .4898979: .8164966 and -1.2247449
    group = [0.8164966, -1.2247449, 0.8164966, 0.8164966, -1.2247449]
    mixed = [0.5 * own + 0.5 * whole for own, whole in zip([1, -1, 0, 0, 0], group, strict=True)]
    assert each(batch, stratified(batch, alpha=0.5)) == pytest.approx(mixed, abs=1e-5)


def test_strata_are_those_of_one_group() -> None:
    pair = [attempt(1.0, calls=(1,)), attempt(0.0, calls=(3,))]
    batch = ScoredBatch.of([pair, pair])
    assert len(set(strata_B(batch).tolist())) == 4
    assert each(batch, stratified(batch, alpha=1.0)) == [0, 0, 0, 0]


@given(groups=GROUPS)
@settings(max_examples=40)
def test_stratified_is_what_a_plain_loop_makes(groups: naive.Groups) -> None:
    batch = ScoredBatch.of(groups)
    assert stratified(batch) == pytest.approx(np.concatenate(naive.stratified(groups)), abs=1e-6)


@given(rewards=st.lists(NUMBERS, min_size=1, max_size=6), calls=st.integers(0, 3))
@settings(max_examples=25)
def test_one_stratum_is_the_group_and_so_is_alpha_0(rewards: list[float], calls: int) -> None:
    same, different = called(*[(r, calls) for r in rewards]), called(*[(r, i) for i, r in enumerate(rewards)])
    assert stratified(same, alpha=0.7) == pytest.approx(group_normalized(same), abs=1e-9)
    assert stratified(different, alpha=0.0) == pytest.approx(group_normalized(different))


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 2)), min_size=1, max_size=6), st.randoms())
@settings(max_examples=25)
def test_stratified_goes_with_the_trajectory_wherever_it_stands(made: list[tuple[float, int]], order: Any) -> None:
    places = list(range(len(made)))
    order.shuffle(places)
    batch, moved = called(*made), called(*[made[i] for i in places])
    advantages = each(batch, stratified(batch))
    assert each(moved, stratified(moved)) == pytest.approx([advantages[i] for i in places], abs=1e-9)
