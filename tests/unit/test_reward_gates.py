"""Gates, levels, tiers, qualifying sets: numbers by hand, and what a closed gate keeps out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.algebra import channels, weighted_sum
from journeyman.rewards.base import Score
from journeyman.rewards.gates import gate, levels, lexicographic, when
from tests.unit.given import earned, members, steps, totals

SHARES = st.floats(0, 1)


def test_gate_by_hand() -> None:
    # G-RA: R_high + 1[R_high >= 0.5] * sum of step rewards (0.1 + 0.2)
    high = totals(1.0, 0.5, 0.25, None)
    low = steps((0.1, 0.2), (0.1, 0.2), (0.1, 0.2), (0.1, 0.2))
    whole = weighted_sum((1.0, high), (1.0, gate(high, low, at=0.5)))
    scores = whole(members(4))
    assert [score.total for score in scores] == [pytest.approx(1.3), pytest.approx(0.8), 0.25, None]
    assert [score.turns for score in scores] == [(0.1, 0.2), (0.1, 0.2), (), ()]


def test_a_closed_gate_pays_the_other_value_and_asks_nothing_of_what_it_closes() -> None:
    assert earned(gate(totals(0.0, 1.0), totals(None, None), otherwise=-1.0), 2) == [-1.0, None]


def test_whether_a_gate_was_open_is_logged() -> None:
    scores = gate(totals(0.0, 1.0, name="right"), totals(0.3, 0.3, name="few"))(members(2))
    assert scores[0].parts == {"right": 0.0, "few": 0.3, "gate_open": 0.0}
    assert scores[1].parts == {"right": 1.0, "few": 0.3, "gate_open": 1.0}


def test_levels_by_hand() -> None:
    # r1 + 1[r1 >= 1] (0.5 r2 + 1[r2 >= 0.6] 0.25 r3)
    made = levels(
        totals(1.0, 1.0, 0.5, 1.0), totals(0.8, 0.4, 1.0, None), totals(1.0, 1.0, 1.0, 1.0),
        weights=[1.0, 0.5, 0.25], at=[1.0, 0.6],
    )  # fmt: skip
    # 1 + 0.4 + 0.25; 1 + 0.2; 0.5; a level that was reached is missing
    assert earned(made, 4) == [1.65, 1.2, 0.5, None]


def test_levels_that_were_not_reached_may_be_missing() -> None:
    assert earned(levels(totals(0.0), totals(None)), 1) == [0.0]


def test_levels_are_told_of_lists_of_the_wrong_length() -> None:
    with pytest.raises(ValueError, match="one number each"):
        levels(totals(1.0), totals(1.0), weights=[1.0])
    with pytest.raises(ValueError, match="no rewards"):
        levels()


def test_lexicographic_by_hand() -> None:
    # weights 4/7, 2/7, 1/7
    made = lexicographic(totals(1.0, 1.0, 0.0, 1.0), totals(1.0, 0.0, 1.0, 0.5), totals(0.5, 1.0, 1.0, 1.0))
    # 4/7 + 2/7 + 0.5/7; 4/7; 0; 4/7 + 1/7
    assert earned(made, 4) == pytest.approx([6.5 / 7, 4 / 7, 0.0, 5 / 7])


@given(st.tuples(SHARES, SHARES), st.tuples(SHARES, SHARES))
def test_a_passed_tier_outweighs_all_lower_ones(one: tuple[float, float], other: tuple[float, float]) -> None:
    tiers = [totals(1.0, 0.0), totals(one[0], other[0]), totals(one[1], other[1])]
    passed, failed = earned(lexicographic(*tiers), 2)
    assert passed is not None and failed is not None and passed > failed


def test_when_by_hand() -> None:
    made = when(totals(1.0, 0.0, None, -1.0), totals(0.25, 0.5, 0.5, 0.5))
    assert earned(made, 4) == [0.25, None, None, None]


def test_the_qualifying_set_of_hdpo() -> None:
    right, few = totals(1.0, 0.0), totals(0.5, 1.0)
    scores = channels(accuracy=right, thrift=when(right, few))(members(2))
    assert [dict(score.channels) for score in scores] == [
        {"accuracy": 1.0, "thrift": 0.5},
        {"accuracy": 0.0, "thrift": None},
    ]
    assert [score.total for score in scores] == [1.5, 0.0]


def test_a_gate_in_a_group_of_none() -> None:
    assert gate(lambda group: list[Score](), lambda group: [])(members(0)) == []
