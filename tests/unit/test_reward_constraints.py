"""Objectives of expectations: the multiplier moves once a step, the weights are a utility's slopes."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.base import History
from journeyman.rewards.constraints import constrained, outer_nonlinear, slopes_of
from tests.unit.given import earned, members, steps, totals


def test_constrained_by_hand() -> None:
    history = History()
    made = constrained(totals(1.0, 0.0), totals(0.2, 0.4), limit=0.1, rate=0.5, history=history)
    # step 0: m = 0, so it is the reward alone
    assert earned(made, 2, step=0) == [1.0, 0.0]
    # step 1: mean cost 0.3, m = 0 + 0.5 * (0.3 - 0.1) = 0.1: (1 - 0.1 * 0.2) / 1.1, -0.1 * 0.4 / 1.1
    assert earned(made, 2, step=1) == pytest.approx([0.98 / 1.1, -0.04 / 1.1])
    # step 2: m = 0.2
    assert earned(made, 2, step=2) == pytest.approx([0.96 / 1.2, -0.08 / 1.2])


def test_the_multiplier_moves_once_a_step_by_all_of_its_groups() -> None:
    history, costs = History(), iter([(0.0, 0.2), (0.4, 0.6), (0.0, 0.0)])
    made = constrained(
        totals(1.0, 1.0), lambda group: totals(*next(costs))(group), limit=0.1, rate=1.0, history=history
    )
    assert [earned(made, 2, step=0) for _ in range(2)] == [[1.0, 1.0], [1.0, 1.0]]
    # mean of 0, 0.2, 0.4, 0.6 is 0.3: m = 0.2
    assert made(members(2, step=1))[0].parts["multiplier"] == pytest.approx(0.2)


def test_a_kept_constraint_leaves_the_reward_as_it_is() -> None:
    history = History()
    high = constrained(totals(1.0), totals(0.5), limit=0.1, rate=0.5, history=history)
    for step in range(3):
        high(members(1, step=step))
    low = constrained(totals(1.0), totals(0.0), limit=0.1, rate=0.5, history=history)  # same names, same multiplier
    found = [low(members(1, step=step))[0] for step in range(3, 20)]
    assert found[0].parts["multiplier"] == pytest.approx(0.6)
    assert (found[-1].parts["multiplier"], found[-1].total) == (0.0, 1.0)


def test_the_multiplier_survives_a_checkpoint() -> None:
    def run(steps_: range, history: History) -> list[float | None]:
        made = constrained(totals(1.0), totals(0.5), limit=0.1, history=history)
        return [made(members(1, step=step))[0].total for step in steps_]

    whole, resumed, after = History(), History(), History()
    straight = run(range(6), whole)
    first = run(range(3), resumed)
    after.load_state_dict(resumed.state_dict())
    assert first + run(range(3, 6), after) == straight


def test_threads_do_not_lose_a_cost() -> None:
    made = constrained(totals(1.0), totals(0.5), limit=0.0, rate=1.0, history=History())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: made(members(1, step=0)), range(64)))
    assert made(members(1, step=1))[0].parts["multiplier"] == pytest.approx(0.5)


def test_who_lacks_the_cost_is_none_once_it_counts() -> None:
    made = constrained(totals(1.0, 1.0, None), totals(0.5, None, 0.5), limit=0.1, history=History())
    assert earned(made, 3, step=0) == [1.0, 1.0, None]
    assert earned(made, 3, step=1) == [pytest.approx((1 - 0.02 * 0.5) / 1.02), None, None]


def test_slopes_by_hand() -> None:
    means = {"a": 0.5, "b": 0.25}
    assert slopes_of("log", means) == {"a": 2.0, "b": 4.0}
    assert slopes_of("product", means) == {"a": 0.25, "b": 0.5}
    assert slopes_of("min", means) == {"a": 0.0, "b": 1.0}
    assert slopes_of("min", {"a": 0.5, "b": 0.5}) == {"a": 0.5, "b": 0.5}
    assert slopes_of("log", {"a": 0.0}) == {"a": 100.0}


def test_outer_nonlinear_by_hand() -> None:
    # J = (0.5, 0.25), log: 2 a + 4 b
    made = outer_nonlinear(a=totals(1.0, 0.0), b=totals(0.0, 0.5), utility="log", history=History())
    assert earned(made, 2) == [2.0, 2.0]


def test_the_smallest_of_means_rewards_a_mixture() -> None:
    # one policy earns (1, 0), the other (0, 1): each trajectory's own minimum is 0, the minimum of means is 0.5
    made = outer_nonlinear(a=totals(1.0, 0.0), b=totals(0.0, 1.0), utility="min", history=History())
    assert earned(made, 2) == [0.5, 0.5]


def test_the_means_are_those_of_the_step_before() -> None:
    rows = iter([(1.0, 0.5), (0.0, 0.5), (1.0, 1.0)])
    drawn: list[tuple[float, float]] = []

    def a(group):
        drawn.append(next(rows))
        return totals(drawn[-1][0])(group)

    made = outer_nonlinear(a=a, b=lambda group: totals(drawn[-1][1])(group), utility="product", history=History())
    for _ in range(2):
        made(members(1, step=0))
    # J = (0.5, 0.5): 0.5 * 1 + 0.5 * 1
    assert earned(made, 1, step=1) == [1.0]


def test_outer_nonlinear_keeps_turns_and_leaves_out_what_is_missing() -> None:
    made = outer_nonlinear(a=steps((0.5, 0.0), (0.5, 0.0)), b=totals(0.5, None), utility="product", history=History())
    whole, missing = made(members(2))
    assert (whole.total, whole.turns) == (0.5, (0.25, 0.0))  # 0.5 * 0.5 + 0.5 * 0.5
    assert missing.total is None
    with pytest.raises(ValueError, match="no rewards"):
        outer_nonlinear(history=History())


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0.02, 1), min_size=1))
def test_slopes_are_the_utilitys_derivatives(means: dict[str, float]) -> None:
    h, utilities = 1e-6, {"log": lambda v: sum(map(math.log, v)), "product": math.prod}
    for name, utility in utilities.items():
        for key, slope in slopes_of(name, means).items():
            up, down = {**means, key: means[key] + h}, {**means, key: means[key] - h}
            difference = (utility(up.values()) - utility(down.values())) / (2 * h)
            assert slope == pytest.approx(difference, rel=1e-4)
