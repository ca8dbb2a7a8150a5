"""What an attempt cost: amounts, and rewards that weigh them."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import ToolCall, ToolResult
from journeyman.rewards.base import History
from journeyman.rewards.cost import call_cost, calls, needless_calls, orchestra, router_r1, seconds, turns
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import group

BROKEN = trajectory(stop_reason=StopReason.ENVIRONMENT, correct=None)


def paid(*costs: float, name: str = "search", took: float = 0.0, **fields) -> Trajectory:
    """One call a turn, at these costs."""
    made = [
        Turn(
            text="",
            calls=(ToolCall(name=name, arguments={}),),
            results=(ToolResult(name=name, ok=True, output="", cost=cost, seconds=took),),
        )
        for cost in costs
    ]
    return trajectory(turns=(*made, Turn(text="<answer>42</answer>")), **fields)


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_calls_by_hand() -> None:
    assert totals(calls([trajectory(calls=0), trajectory(calls=3), BROKEN])) == [0.0, 3.0, None]


def test_needless_calls_by_hand() -> None:
    group_ = [trajectory(calls=0), trajectory(calls=3), trajectory(calls=3, min_calls=2), BROKEN]
    assert totals(needless_calls(group_)) == [0.0, 2.0, 1.0, None]


def test_turns_by_hand() -> None:
    assert totals(turns([trajectory(calls=2), trajectory(turns=()), BROKEN])) == [3.0, 0.0, None]


def test_call_cost_by_hand() -> None:
    assert totals(call_cost([paid(0.25, 0.5), trajectory(), BROKEN])) == [0.75, 0.0, None]


def test_seconds_by_hand() -> None:
    assert totals(seconds([paid(1, 1, took=0.5), trajectory(), BROKEN])) == [1.0, 0.0, None]


def test_what_has_no_verdict_still_has_a_cost() -> None:
    assert totals(calls([trajectory(correct=None)])) == [1.0]


def routed(made: Sequence[Trajectory], **options) -> list[float | None]:
    return totals(router_r1(made, history=History(), **options))


def test_router_r1_by_hand() -> None:
    made = [paid(0), paid(1), paid(4), paid(4, correct=False, answer="7"), paid(4, answer="7 or 42", correct=False)]
    # roots 0, 1, 2, 2, 2: by linear interpolation q05 = 0.2, q95 = 2; R_cost = 1, 1 - 0.8 / 1.8, 0, 0, 0
    plain = router_r1(made, history=History())
    assert totals(plain) == pytest.approx([1, 1, 1, 0, 0.5])  # F1 of "7 or 42": 2 * 1 / (3 + 1)
    # a = 0.9: 0.1 * 1 + 0.9 * 1, 0.1 + 0.9 * 5 / 9, 0.1, no F1: 0, 0.1 * 0.5
    assert routed(made, weight=0.9) == pytest.approx([1.0, 0.6, 0.1, 0.0, 0.05])


def test_router_r1_in_bad_form_without_a_window_and_without_a_spread() -> None:
    bad = trajectory(turns=(Turn(text="", error="no"),))
    assert routed([bad, BROKEN]) == [-1.0, None]
    assert routed([paid(3)], weight=1.0) == [0.5]  # one attempt makes no window
    assert routed([paid(3), paid(3)], weight=1.0) == [0.5, 0.5]  # all equal


def test_router_r1_remembers_a_window_of_attempts() -> None:
    history = History()
    router_r1([paid(0), paid(0)], window=3, history=history)
    # the window is 0, 0, 2 now: q05 = 0, q95 = 1.8
    [score] = router_r1([paid(4)], window=3, weight=1.0, history=history)
    assert score.total == 0.0
    # 0, 2, 0 with the oldest gone: 1 - 0
    [score] = router_r1([paid(0)], window=3, weight=1.0, history=history)
    assert score.total == 1.0


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12))
def test_router_r1_against_numpys_percentiles(costs: list[float]) -> None:
    low, high = np.percentile(np.sqrt(costs), [5, 95])
    naive = [0.5 if high <= low else 1 - np.clip((math.sqrt(c) - low) / (high - low), 0, 1) for c in costs]
    if high - low > 1e-9:
        assert routed([paid(c) for c in costs], weight=1.0) == pytest.approx(naive, abs=1e-6)


def test_orchestra_by_hand() -> None:
    made = (
        paid(1, 1, took=1),  # cost 2, 2 s
        paid(4, took=4),  # cost 4, 4 s
        paid(0, took=3),  # cost 0, 3 s
        paid(0, took=0, correct=False),
        BROKEN,
    )
    # scaled -cost: 0.5, 0, 1, 1; scaled -seconds (2, 4, 3, 0): 0.5, 0, 0.25, 1; outcome: 1, 1, 1, 0
    assert totals(orchestra(group(*made))) == pytest.approx([2.0, 1.0, 2.25, 0.0, None])
    # calls of search are 2, 1, 1, 1: scaled 1, 0, 0, 0
    preferred = {"search": 3.0, "outcome": 1.0}
    assert totals(orchestra(group(*made), preferences=preferred)) == pytest.approx([4.0, 1.0, 1.0, 0.0, None])
    # the problem's own come first
    own = group(*made, data={"preferences": {"cost": 1.0}})
    assert totals(orchestra(own, preferences=preferred)) == pytest.approx([0.5, 0.0, 1.0, 0.0, None])


def test_orchestra_where_nothing_differs() -> None:
    assert totals(orchestra(group(trajectory(), trajectory()))) == [0.0, 0.0]
    assert totals(orchestra(group(trajectory()))) == [0.0] and orchestra(group()) == []
    assert totals(orchestra(group(BROKEN))) == [None]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6), st.integers(1, 9))
def test_orchestra_is_blind_to_scale_and_shift_of_the_cost(made: list[tuple[int, bool]], scale: int) -> None:
    one = orchestra(group(*(paid(cost, correct=right) for cost, right in made)))
    other = orchestra(group(*(paid(cost * scale + 3, correct=right) for cost, right in made)))
    assert totals(one) == pytest.approx(totals(other))
