"""Schedules: the weights of the sources, at the steps where they are known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.algebra import weighted_sum
from journeyman.rewards.schedules import anneal, two_stage
from tests.unit.given import earned, members, steps, totals


@pytest.mark.parametrize(
    ("shape", "step", "weight"),
    [
        *(("linear", 0, 1.0), ("linear", 25, 0.75), ("linear", 100, 0.0), ("linear", 200, 0.0)),
        # SPEAR: (1 + cos(pi t / T)) / 2, then 0
        *(("cosine", 0, 1.0), ("cosine", 50, 0.5), ("cosine", 25, 0.8535534), ("cosine", 150, 0.0)),
        # Trust-GRPO: exp(-t / T)
        *(("exponential", 0, 1.0), ("exponential", 100, 0.3678794), ("exponential", 200, 0.1353353)),
    ],
)
def test_anneal_by_hand(shape, step: int, weight: float) -> None:
    made = anneal(totals(2.0), over=100, shape=shape)
    assert earned(made, 1, step=step) == [pytest.approx(2 * weight, abs=1e-7)]


def test_the_schedule_of_atom_searcher() -> None:
    # a = 0.5 (1 - t / T); a * R_atom + (1 - a) * F1 with R_atom 0.8, F1 0.4
    atom, f1 = totals(0.8), totals(0.4)
    both = weighted_sum((1.0, anneal(atom, start=0.5, end=0.0)), (1.0, anneal(f1, start=0.5, end=1.0)))
    assert earned(both, 1, step=0, steps=10) == [pytest.approx(0.6)]  # 0.4 + 0.2
    assert earned(both, 1, step=4, steps=10) == [pytest.approx(0.52)]  # a = 0.3: 0.24 + 0.28
    assert earned(both, 1, step=10, steps=10) == [pytest.approx(0.4)]


def test_anneal_keeps_step_rewards_and_logs_its_weight() -> None:
    [score] = anneal(steps((1.0, 2.0)), over=4)(members(1, step=1))
    assert (score.total, score.turns, score.parts["steps_weight"]) == (2.25, (0.75, 1.5), 0.75)


def test_what_could_not_be_scored_counts_until_its_weight_is_gone() -> None:
    assert earned(anneal(totals(None), over=2), 1, step=1) == [None]
    assert earned(anneal(totals(None), over=2), 1, step=2) == [0.0]


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
@given(step=st.integers(0, 50), later=st.integers(0, 50))
def test_a_weight_only_falls(shape, step: int, later: int) -> None:
    made = anneal(totals(1.0), over=20, shape=shape)
    [before], [after] = earned(made, 1, step=step), earned(made, 1, step=step + later)
    assert before is not None and after is not None and 0 <= after <= before + 1e-12 <= 1 + 1e-9


def test_two_stage_by_hand() -> None:
    # ToolRL: before 30 format + corr / 3, from 30 on format / 2 + corr; format 1, corr 3
    form, corr = totals(1.0), totals(3.0)
    first, second = weighted_sum((1.0, form), (1 / 3, corr)), weighted_sum((0.5, form), (1.0, corr))
    made = two_stage(first, second, at=30)
    assert earned(made, 1, step=29) == [2.0]
    assert earned(made, 1, step=30) == [3.5]


def test_a_stage_asks_only_its_own_reward() -> None:
    def broken(group):
        raise AssertionError("asked")

    assert earned(two_stage(totals(1.0), broken, at=1), 1, step=0) == [1.0]
    assert math.isclose(earned(two_stage(broken, totals(2.0), at=1), 1, step=1)[0] or 0, 2.0)
