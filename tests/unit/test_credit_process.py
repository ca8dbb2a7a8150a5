"""Credit from a process reward model."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.group import group_normalized, rloo, whitened_T
from journeyman.credit.process import oprl, prime
from tests.unit import naive_credit as naive
from tests.unit.batches import GROUPS, attempt, rewarded, turn_by_turn


def process_for(batch: ScoredBatch, *learned: float) -> Floats:
    """Process rewards of the learned tokens; nonsense elsewhere, which nobody may read."""
    process_T = np.full(len(batch.mask_T), 99.0)
    process_T[batch.mask_T] = learned
    return process_T


def test_oprl_by_hand() -> None:
    batch = ScoredBatch.of([[attempt(1.0, turns=(2, 1)), attempt(0.0, turns=(1,))]])
    # steps: .1 + .2 = .3; -.3; 0: mean 0, std sqrt(.18 / 3) = .244949: 1.2247449, -1.2247449, 0; rewards: 1, -1
    process_T = process_for(batch, 0.1, 0.2, -0.3, 0.0)
    first, second = turn_by_turn(batch, oprl(batch, process_T=process_T))
    assert first == pytest.approx([2.2247449, -0.2247449], abs=1e-4) and second == pytest.approx([-1], abs=1e-4)
    first, second = turn_by_turn(batch, oprl(batch, alpha=0.5, process_T=process_T))
    assert first == pytest.approx([1.6123724, 0.3876276], abs=1e-4)


def test_prime_by_hand() -> None:
    batch = ScoredBatch.of([[attempt(1.0, turns=(2,)), attempt(0.0, turns=(1,))]])
    process_T = process_for(batch, 0.1, 0.3, 0.4)
    # baselines: the other's mean token reward .4 and .2: -.3, -.1 and .2; to go -.4, -.1 and .2; outcomes 1 and -1
    assert prime(batch, whiten=False, process_T=process_T)[batch.mask_T] == pytest.approx([0.6, 0.9, -0.8])
    # released: 2 * (r - .3), of the mean of .2 and .4: -.4, 0 and .2; to go -.4, 0 and .2
    released = prime(batch, whiten=False, centered=True, process_T=process_T)
    assert released[batch.mask_T] == pytest.approx([0.6, 1.0, -0.8])
    # whitened .6, .9, -.8: mean .7/3, std sqrt((.36 + .81 + .64) / 3 - (.7/3)^2) = .7408704
    whitened = prime(batch, process_T=process_T)[batch.mask_T]
    assert whitened == pytest.approx([(a - 0.7 / 3) / 0.7408704 for a in (0.6, 0.9, -0.8)], abs=1e-4)
    # half of the process: 1 - .2, 1 - .05, -1 + .1
    half = prime(batch, whiten=False, process_weight=0.5, process_T=process_T)
    assert half[batch.mask_T] == pytest.approx([0.8, 0.95, -0.9])


@pytest.mark.parametrize(("credit", "loop"), [(oprl, naive.oprl), (prime, naive.prime)])
@given(groups=GROUPS, seed=st.integers(0, 9))
@settings(max_examples=40)
def test_process_credit_is_what_a_plain_loop_makes(
    credit: Callable, loop: Callable, groups: naive.Groups, seed: int
) -> None:
    batch = ScoredBatch.of(groups)
    process_T = np.random.default_rng(seed).normal(size=len(batch.mask_T))
    expected = np.concatenate(loop(groups, [row.tolist() for row in batch.split(process_T)]))
    assert credit(batch, process_T=process_T) == pytest.approx(expected, abs=1e-5)


@given(groups=GROUPS)
@settings(max_examples=20)
def test_a_process_model_that_says_nothing_leaves_the_outcome(groups: naive.Groups) -> None:
    batch = ScoredBatch.of(groups)
    silent = np.zeros(len(batch.mask_T))
    assert oprl(batch, process_T=silent) == pytest.approx(group_normalized(batch))
    assert prime(batch, process_T=silent) == pytest.approx(whitened_T(batch, rloo(batch)), abs=1e-6)
    assert prime(batch, process_T=silent, centered=True) == pytest.approx(prime(batch, process_T=silent), abs=1e-6)


def test_a_group_of_one_and_an_empty_batch_give_nothing() -> None:
    alone, empty = rewarded([1.0]), ScoredBatch.of([])
    assert not prime(alone, process_T=process_for(alone, 0.1, 0.5, -3.0)).any()
    assert oprl(empty, process_T=np.zeros(0)).shape == prime(empty, process_T=np.zeros(0)).shape == (0,)
