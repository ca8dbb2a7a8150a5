"""Monitors that hold the reward against gold, the policy against the reference, and the best attempts against each other."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.monitors.base import Numbers, Reading, Step
from journeyman.monitors.cliff import flip_rate, tied_best
from journeyman.monitors.proxy import (
    fitted,
    optimum,
    over_optimisation,
    reward_distance,
    reward_hacking,
    standard_error,
    starc_distance,
)
from journeyman.monitors.reference import log_ratios, reference_chi_square, reference_kl
from journeyman.training.mismatch import CAP
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import trajectory


def step(*groups: Sequence[Trajectory], gold: Numbers | None = None, ratios: Sequence[float] | None = None) -> Step:
    return Step(
        groups=groups,
        metrics={},
        version=0,
        gold=None if gold is None else lambda: gold,
        log_ratios=None if ratios is None else lambda: ratios,
    )


def paid(*rewards: float | None) -> list[Trajectory]:
    return [trajectory(reward=reward) for reward in rewards]


# ---- distance of rewards


def test_reward_distance_by_hand() -> None:
    # centred: (2, -1, -1)/3 and (-1, 2, -1)/3, norms sqrt(6)/3, so their cosine is (-2 - 2 + 1)/6 = -1/2:
    # half of sqrt(2 - 2 * -1/2)
    one = step(paid(1, 0, 0), gold=[[0, 1, 0]])
    assert reward_distance(one, []).value == pytest.approx(math.sqrt(3) / 2)
    # another group's shift and a factor don't matter; groups of one attempt, and attempts without a reward, are left out
    same = step(paid(3, 1, None), paid(12, 16), paid(9), gold=[[1, 0, 5], [0.5, 2.5], [0]])
    assert reward_distance(same, []).value == pytest.approx(0)
    assert reward_distance(step(paid(0, 1), gold=[[1, 0]]), []).value == pytest.approx(1)
    # gold that says nothing is 0 after its norm: half of the other's 1
    assert reward_distance(step(paid(0, 1), gold=[[1, 1]]), []).value == pytest.approx(0.5)
    assert reward_distance(step(paid(1), gold=[[1]]), []) == reward_distance(step(), []) == Reading()


def test_gold_is_the_verdict_where_nothing_else_is_said() -> None:
    right, wrong = trajectory(reward=2.0), trajectory(reward=1.0, correct=False)
    unknown = trajectory(reward=9.0, correct=None)
    failed = trajectory(reward=9.0, stop_reason=StopReason.INFRASTRUCTURE)
    assert step([right, wrong, unknown, failed], [unknown]).pairs() == [[(2, 1), (1, 0)]]
    assert step([right, wrong]).means() == (1.5, 0.5)
    assert step([unknown]).means() is None


def test_starc_distance_by_hand() -> None:
    # One state, three actions, a uniform policy, gamma 0: R less its mean, as above.
    bandit = {"transitions": np.ones((1, 3, 1)), "policy": np.full((1, 3), 1 / 3), "gamma": 0.0}
    first, second = np.array([[[1.0], [0], [0]]]), np.array([[[0.0], [1], [0]]])
    assert starc_distance(first, second, **bandit) == pytest.approx(math.sqrt(3) / 2)
    assert starc_distance(first, -first, **bandit) == pytest.approx(1)
    assert starc_distance(first, np.full((1, 3, 1), 7.0), **bandit) == pytest.approx(0.5)
    # With gamma 1/2 and R = (1, 0, 0): V = 1/3 / (1 - 1/2) = 2/3, c = R - 2/3 + 1/2 * 2/3 = R - 1/3: the same.
    assert starc_distance(first, second, **{**bandit, "gamma": 0.5}) == pytest.approx(math.sqrt(3) / 2)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(0, 0.95))
def test_starc_distance_sees_neither_shaping_nor_scale(seed: int, scale: float, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    reward, transitions = rng.normal(size=(4, 3, 4)), rng.dirichlet(np.ones(4), size=(4, 3))
    world: dict[str, Any] = {
        "transitions": transitions,
        "policy": rng.dirichlet(np.ones(3), size=4),
        "gamma": gamma,
    }
    potential = rng.normal(size=4)
    shaped = scale * (reward + gamma * potential[None, None, :] - potential[:, None, None])
    assert starc_distance(reward, shaped, **world) == pytest.approx(0, abs=1e-7)
    other = rng.normal(size=(4, 3, 4))
    there, back = starc_distance(reward, other, **world), starc_distance(other, reward, **world)
    assert there == pytest.approx(back) and 0 <= there <= 1


# ---- hacking


def test_reward_hacking_by_hand() -> None:
    now = step(paid(2, 4), gold=[[0, 0.5]])  # means 3 and 1/4
    assert reward_hacking(now, []) == Reading(value=0, noted=(3, 0.25))
    # reward up by 2, gold down by .5: the lesser
    assert reward_hacking(now, [[1, 0.75], [0, 0]]).value == 0.5
    assert reward_hacking(now, [[2.9, 0.75]]).value == pytest.approx(0.1)
    # gold has risen by .05; the reward has fallen by 1
    assert reward_hacking(now, [[1, 0.2]]).value == pytest.approx(-0.05)
    assert reward_hacking(now, [[4, 0.75]]).value == -1
    assert reward_hacking(step(paid(None), gold=[[1]]), []) == Reading()


def law(d: float) -> float:
    """alpha 1, b 1/2."""
    return d * (1 - 0.5 * math.log(d)) if d else 0.0


def test_over_optimisation_by_hand() -> None:
    assert optimum(1, 0.5) == pytest.approx(math.e)
    assert fitted([0, 1, 2, 3, 4], [law(d) for d in (0, 1, 2, 3, 4)]) == pytest.approx((1, 0.5), abs=1e-9)
    # gold is counted from the first point; d = sqrt(16): 4 of e
    past = [[d, d, 7 + law(d), 0] for d in (0, 1, 2, 3)]
    now = step(paid(4), gold=[[7 + law(4)]], ratios=[15.0, 17.0])
    found = over_optimisation(now, past)
    assert found.value == pytest.approx(4 / math.e) and found.kept
    assert found.noted == pytest.approx((4, 4, 7 + law(4), 0))
    # four points are too few, and a policy that hasn't moved is nowhere near
    assert over_optimisation(now, past[1:]).value is None
    assert over_optimisation(step(paid(4), gold=[[7]], ratios=[-0.1]), past).value is None
    # gold that rises with d ever faster has no optimum
    rising = [[d, d, d * math.log(d) if d else 0, 0] for d in (0, 1, 2, 3)]
    assert over_optimisation(step(paid(4), gold=[[4 * math.log(4)]], ratios=[16.0]), rising).value == 0
    assert over_optimisation(step(paid(4), gold=[[7]]), past) == Reading()


def test_over_optimisation_sees_gold_fall_while_the_reward_rises() -> None:
    # Problems differ by .2 around .4: an error of .2 / sqrt(2) / sqrt(2) = .1. Below .8: .5 + 2 * .1 by .1, .4 + .2 by .2.
    now = step(paid(3), paid(3), gold=[[0.3], [0.5]], ratios=[9.0])
    assert standard_error([[0.3], [0.2, 0.8]]) == pytest.approx(0.1) and standard_error([[1, 2]]) == 0
    past = [[0, 1, 0.8, 0.1], [2, 2, 0.5, 0.1]]
    assert over_optimisation(now, past).value == pytest.approx(1.1)
    assert over_optimisation(now, [[0, 4, 0.8, 0.1], [2, 2, 0.5, 0.1]]).value is None  # the reward was 4 there
    assert over_optimisation(now, [[0, 1, 0.8, 0.1], [2, 2, 0.7, 0.1]]).value is None  # only the last one
    assert over_optimisation(now, past[1:]).value is None


# ---- the reference


class Flat:
    """A reference under which every token has log-probability -2 / temperature; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, list[tuple[int, ...]]]] = []

    def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        self.asked.append((temperature, [tuple(row) for row in rows]))
        return [[-2 / temperature] * (len(row) - 1) for row in rows]


def test_log_ratios_are_summed_over_sampled_tokens() -> None:
    plain = trajectory(tokens=4)  # three tokens, -1 - -2 each
    warm = replace(trajectory(tokens=3), temperature=2.0)  # two, -1 - -1
    cut = replace(
        trajectory(),
        token_ids=(5, 6, 7, 8, 9),
        cuts=(2,),
        loss_mask=(0, 1, 0, 0, 1),
        logprobs=(0.0, -0.5, 0.0, 0.0, -3.0),
    )  # -.5 + 2 in the first context, -3 + 2 in the second
    greedy, unsampled = replace(plain, temperature=0.0), replace(plain, loss_mask=(0, 0, 0, 0))
    reference = Flat()
    found = log_ratios(reference, [plain, greedy, warm, unsampled, cut])  # pyright: ignore[reportArgumentType]
    assert found == [3, 0, 0.5]
    assert reference.asked == [(1, [(0, 1, 2, 3), (5, 6), (7, 8, 9)]), (2, [(0, 1, 2)])]
    assert log_ratios(reference, []) == []  # pyright: ignore[reportArgumentType]


def test_reference_kl_by_hand() -> None:
    assert reference_kl(step(ratios=[3.0, -1.0]), []).value == 1
    assert reference_kl(step(ratios=[]), []) == reference_kl(step(), []) == Reading()


def test_reference_chi_square_by_hand() -> None:
    # ratios 3 and 1/2: (2 - 1/2) / 2
    ratios = [math.log(3), -math.log(2)]
    assert reference_chi_square(step(ratios=ratios), []).value == pytest.approx(0.75)
    assert reference_chi_square(step(ratios=[1e9]), []).value == pytest.approx(math.expm1(CAP))
    assert reference_chi_square(step(), []) == Reading()


# ---- the cliff


def going(calls: int, reward: float | None, **parts: float) -> Trajectory:
    return trajectory(calls=calls, reward=reward, reward_parts=parts)


def test_tied_best_by_hand() -> None:
    tied = [going(1, 1.0), going(2, 0.995), going(3, 0.0)]
    apart = [going(1, 1.0), going(1, 0.999), going(2, 0.2), going(3, None)]  # the two best behave alike
    alike = [going(1, 1.0), going(1, 1.0)]
    assert tied_best(step(tied, apart, alike), []).value == 0.5
    assert tied_best(step(alike), []) == Reading()


def test_flip_rate_by_hand() -> None:
    # a + b. First 1 against .95: apart by .05, and a tenth moves them by .1 * (1 + .95).
    # Then 2 against .95: apart by 1.05, and a tenth moves them by .1 * (1 + .05); what overtakes there behaves alike.
    close = [going(1, 1.0, a=1, b=0), going(2, 0.95, a=0, b=0.95)]
    clear = [going(1, 2.0, a=1, b=1), going(1, 1.99, a=1.5, b=0.49), going(2, 0.95, a=0, b=0.95), going(3, None)]
    alike = [going(1, 1.0, a=1, b=0), going(1, 0.95, a=0, b=0.95)]
    assert flip_rate(step(close, clear, alike), []).value == 0.5
    # one part alone: whatever it weighs, its order stays
    assert flip_rate(step([going(1, 2.0, a=1), going(2, 1.98, a=0.99)]), []).value == 0
    # no weighted sum: a reward of .3 next to parts that say 0, and 0 next to the same ones
    bent = [going(1, 0.3, a=0), going(2, 0.0, a=0)]
    assert flip_rate(step(bent), []) == flip_rate(step(alike), []) == flip_rate(step(), []) == Reading()


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_flip_rate_is_found_by_trying_all_corners(rows: list[tuple[int, float, float]]) -> None:
    group = [going(calls, 2 * a - b, a=a, b=b) for calls, a, b in rows]
    matrix = np.array([[a, b, 1.0] for _, a, b in rows])
    if len({calls for calls, _, _ in rows}) < 2 or np.linalg.cond(matrix.T @ matrix) > 1e4:
        return
    best = max(range(len(rows)), key=lambda i: group[i].reward or 0.0)
    margins = [
        wa * (rows[i][1] - rows[best][1]) - wb * (rows[i][2] - rows[best][2])
        for wa in (1.8, 2.2)
        for wb in (0.9, 1.1)
        for i in range(len(rows))
        if rows[i][0] != rows[best][0]
    ]
    if abs(max(margins)) > 1e-6:
        assert flip_rate(step(group), []).value == float(max(margins) > 0)
