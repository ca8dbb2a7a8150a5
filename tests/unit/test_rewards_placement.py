"""Where rewards are paid: milestones, and dense rewards that are shared out over turns."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.expressions import yields
from journeyman.rewards import VOCABULARY, Group, build_reward
from journeyman.rewards.placement import dense, milestones
from journeyman.trajectory import Trajectory
from tests.unit.calling import LOST, against, attempt, call, turn
from tests.unit.given import steps

FIRST, SECOND, OTHER = call("f", a=1), call("g", b=2), call("f", a=9)


def ended(*turns: tuple, correct: bool | None = True) -> Trajectory:
    return replace(attempt(*(turn(*calls) for calls in turns), answer=None), correct=correct)


def test_milestones_by_hand() -> None:
    won = ended((FIRST,), (OTHER,), (SECOND,), ())
    again = ended((FIRST,), (FIRST,), (), correct=False)
    at_once = ended((SECOND, FIRST), (), correct=False)
    scores = milestones(against([FIRST, SECOND], won, again, at_once, LOST))
    # the right answer is paid at its turn; the first call, made twice, once; two in one turn are no more than one
    assert [score.turns for score in scores] == [(1, 0, 1, 1), (1, 0, 0), (1, 0), ()]
    assert [score.total for score in scores] == [3, 1, 1, None]


def test_milestones_are_unknown_without_reference_calls() -> None:
    assert [score.total for score in milestones(Group(trajectories=(ended(()),)))] == [None]


def test_dense_by_hand() -> None:
    won, lost = ended((), (), (), ()), ended((), (), (), (), correct=False)
    group = against([FIRST, SECOND], won, lost, won)
    scores = dense(steps((0, 1, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0)), most=4)(group)
    # won: n = 2 positive rewards; lost: n = 4; won without any: n = max(1, 0) = 1, and all that there is to share is 0
    assert [score.turns for score in scores] == [(0, 0.5, 0, 0.5), (0, 0.25, 0, 0), (0, 0, 0, 0)]
    assert [score.total for score in scores] == [1, 0.25, 0]


def test_dense_takes_the_most_from_the_reference_and_leaves_out_what_the_end_pays() -> None:
    lost = ended((FIRST,), (), correct=False)
    (score,) = dense(steps((1, 0), end=5.0))(against([FIRST, SECOND], lost))
    assert score.turns == pytest.approx((1 / 3, 0)) and score.total == pytest.approx(1 / 3)  # two calls and an answer
    assert [s.total for s in dense(steps((1, 0)))(Group(trajectories=(lost,)))] == [None]  # nobody knows the most
    assert [s.total for s in dense(steps(()), most=2)(against([], LOST))] == [None]


@given(st.lists(st.lists(st.sampled_from([FIRST, SECOND, OTHER]), max_size=2), min_size=1, max_size=6), st.booleans())
def test_a_win_by_milestones_adds_up_to_one_and_a_loss_to_less(calls: list, correct: bool) -> None:
    (score,) = build_reward("dense(milestones)")(against([FIRST, SECOND], ended(*calls, correct=correct)))
    assert score.total == pytest.approx(1) if correct else score.total is not None and score.total < 1


def test_dense_pays_turn_by_turn() -> None:
    assert "turns" in yields("dense(milestones)", VOCABULARY)
