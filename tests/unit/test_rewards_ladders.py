"""Ladders of errors, of actions, of tools in a chain, and the laws that books keep to."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.rewards.ladders import (
    action_reward,
    adareasoner,
    call_error,
    call_quality,
    chain_quality,
    shop_r1,
    tl_ladder,
    tool_chain,
)
from journeyman.rewards.laws import conservation, ledger_residual, linear_residual
from journeyman.rewards.reference import schemas_of
from journeyman.trajectory import Trajectory, Turn
from tests.unit.calling import LOST, against, attempt, call, rejected, totals, turn, turns
from tests.unit.supplies import group

WANTED = call("f", a=1, b=2)
SCHEMAS = schemas_of(attempt())


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (call("h", a=1), -2.0),  # no such tool
        (call("g", x=1), -1.5),  # the wrong one
        (call("f", a=1, c=1, z=1), -1.8),  # z is none of its parameters, c is not needed, b is missing
        (call("f", a=1, z=1), -1.3),
        (call("f", a=1, b=2, c=1, z=1), -1.3),
        (call("f", a=1, c=1), -1.0),
        (call("f", a=1, b=2, z=1), -0.8),
        (call("f", a=1), -0.5),
        (call("f", a=1, b=2, c=1), -0.5),
        (call("f", a=1, b=3), -0.25),
        (WANTED, 1.0),
    ],
)
def test_tl_ladder_by_hand(made: Any, value: float) -> None:
    matched = WANTED if made.name == "f" else None
    assert call_error(made, matched, SCHEMAS) == value
    assert turns(tl_ladder(against([WANTED], attempt(turn(made))))) == [(value, 0.0)]


def test_tl_ladder_pays_turns_by_the_likest_reference_calls() -> None:
    gold = [WANTED, call("g", x=1)]
    two = attempt(turn(call("g", x=2), call("f", a=1, b=2)), turn(WANTED), answer=None)
    # (-0.25 + 1) / 2, and a second f that nobody asked for
    assert turns(tl_ladder(against(gold, two))) == [(0.375, -1.5)]
    assert turns(tl_ladder(against(gold, rejected()))) == [(-2.0,)]
    silent = attempt()
    assert totals(tl_ladder(against(gold, silent, LOST), missed=1.5)) == [-3.0, None]
    assert totals(tl_ladder(group(silent))) == [None] and totals(tl_ladder(against(gold, silent))) == [0.0]


# --- AdaReasoner ------------------------------------------------------------------------------------------------------

FULL, TOOL_ONLY = call("f", a=1, b=2), call("f")


def test_adareasoner_by_hand() -> None:
    assert [call_quality(c, SCHEMAS) for c in (FULL, TOOL_ONLY)] == [4.0, 2.0]
    wrong: dict[str, Any] = {"correct": False}
    attempts = (
        attempt(),  # right without a call
        attempt(turn(FULL), turn(TOOL_ONLY), **wrong),  # 4, 2, and the answer's 0 that doesn't count: 3
        attempt(**wrong),
        attempt(Turn(text="", error="no tag"), correct=True),
        attempt(turn(FULL), Turn(text="hm"), turn(TOOL_ONLY), **wrong),  # (4 + 0 + 2) / 3
        rejected(),
        attempt(turn(FULL), correct=None),
    )
    assert totals(adareasoner(attempts)) == [8.0, 3.0, 0.0, 0.0, 2.0, 0.0, None]
    assert totals(adareasoner(attempts[:1], right=4.5)) == [4.5]


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (call("h", a=1), 1.0),
        (call("f", a=1), 3.5),  # half of the required names, all values valid
        (call("f", a="x"), 2.5),  # no value is
        (call("f", a=1, b=2, z=3), 3 + 2 / 3),
        (call("g"), 4.0),  # nothing is required
    ],
)
def test_a_calls_quality_is_its_place_on_the_ladder(made: Any, value: float) -> None:
    assert call_quality(made, SCHEMAS) == pytest.approx(value)


# --- Shop-R1 ----------------------------------------------------------------------------------------------------------


def test_shop_r1_by_hand() -> None:
    click, typed, end = (
        call("click", name="buy now"),
        call("type_and_submit", name="search box", text="red shoes"),
        call("terminate"),
    )
    # one of two words each: ROUGE-L 1/2; 0.5 + 0.3 + 0.2 + 1000 / 2
    assert turns(shop_r1(against([click], attempt(turn(call("click", name="buy it")))))) == [(501.0, 0.0)]
    # ROUGE-L of "search" and "search box" is 2/3
    made = call("type_and_submit", name="search", text="red shoes")
    expected = 0.5 + 0.3 + 0.1 + 0.1 + 0.1 * 2 / 3 + 1000
    assert turns(shop_r1(against([typed], attempt(turn(made)))))[0][0] == pytest.approx(expected)
    assert totals(shop_r1(against([end], attempt(turn(end)), attempt(turn(click)), rejected(), attempt(), LOST))) == [
        *(0.8, 0.5, 0.0, 0.0, None)
    ]


def test_shop_r1_pays_nothing_behind_the_last_reference_call() -> None:
    end = call("terminate")
    assert turns(shop_r1(against([end], attempt(turn(end), turn(end), answer=None)))) == [(0.8, 0.0)]
    assert totals(shop_r1(group(attempt(turn(end))))) == [None]


def test_actions_of_other_tools_share_the_details_out() -> None:
    wanted = call("find", what="red shoes", where="attic")
    # 0.3 + 2 * 0.1 + (1 + 0) / 2
    assert action_reward(call("find", what="red shoes", where="cellar"), wanted, 1.0) == pytest.approx(1.0)
    assert action_reward(call("find", what="red shoes"), wanted, 1.0) == pytest.approx(0.9)
    assert action_reward(call("find"), call("find"), 1.0) == 0.3


# --- ChipSeek-R1 ------------------------------------------------------------------------------------------------------

REFERENCE = {"calls": 4, "tokens": 1000, "seconds": 2.0}


def run(calls: int, tokens: int, seconds: float, **fields: Any) -> Trajectory:
    made = [turn(call("f")) for _ in range(calls)]
    first = replace(made[0], results=(replace(made[0].results[0], seconds=seconds),))
    return attempt(first, *made[1:], loss_mask=(1,) * tokens, **fields)


def test_tool_chain_by_hand() -> None:
    runs = (run(2, 1000, 2), run(8, 2000, 4), run(4, 1000, 2), run(2, 1000, 2, correct=False), run(4, 0, 2), LOST)
    asked = group(*runs, data={"reference_run": REFERENCE})
    # products of reference / actual: 2, 1/8, 1, unpaid, 0
    assert totals(tool_chain(asked)) == pytest.approx([3.0, 1.125, 2.0, 0.2, 1.1, None])
    # geometric means 2^(1/3) = 1.259921 and 1/2
    assert totals(tool_chain(asked, quality="gain")) == pytest.approx([1.1559526, 1.0, 1.0, 0.2, 1.0, None])
    assert totals(tool_chain(asked, quality="root")) == pytest.approx([1.659921, 1.41, 1.41, 0.2, 1.41, None])
    # as in the code: what only runs is paid for its quality
    assert totals(tool_chain(asked, gate="ran"))[3] == pytest.approx(2.2)


def test_tool_chain_names_how_far_an_attempt_came() -> None:
    failed = attempt(turn(call("f"), ok=False), correct=False)
    scores = tool_chain(group(rejected(), failed, attempt(correct=False)))
    assert totals(scores) == [0.0, 0.0, 0.0]
    assert scores[1].parts == {"ran": 0.0, "passed": 0.0, "quality": 0.0}
    # without a reference run the calls are compared with the fewest: 1 / 2
    assert totals(tool_chain(group(attempt(turn(call("f"), call("f")), min_calls=1)))) == [1.5]


@given(ratios=st.lists(st.floats(0.1, 10), min_size=1, max_size=3))
def test_quality_stays_in_its_bounds(ratios: list[float]) -> None:
    assert chain_quality(ratios, "ratio") >= 0.1
    assert 0.41 <= chain_quality(ratios, "root") <= 1
    assert 0 <= chain_quality(ratios, "gain") <= 0.6
    assert [chain_quality([], form) for form in ("ratio", "root", "gain")] == pytest.approx([0.1, 0.41, 0.0])


def test_a_reference_run_has_only_what_can_be_measured() -> None:
    with pytest.raises(ValueError, match="area"):
        tool_chain(group(attempt(), data={"reference_run": {"area": 1}}))


# --- laws -------------------------------------------------------------------------------------------------------------

LAW = {"quantity": "balance", "start": 10, "effects": {"debit": ["amount", -1], "credit": ["amount", 1]}}


def books(*claims: float, amount: float = 3, **fields: Any) -> Trajectory:
    """Debits, and what is claimed to be left before each and at the end."""
    told = [Turn(text=f"The balance is {claim:g}.", calls=(), results=()) for claim in claims]
    paid = turn(call("debit", amount=amount))
    made = [replace(one, calls=paid.calls, results=paid.results) for one in told[:-1]]
    return attempt(*made, *told[-1:], answer=None, min_calls=2, **fields)


def test_conservation_by_hand() -> None:
    idle = attempt(Turn(text="The balance is 10."), min_calls=2)
    asked = group(books(10, 7, 4), books(10, 7, 5), idle, attempt(min_calls=2), LOST, data={"law": LAW})
    # residuals 0; (0 + 1) / 2; nothing done, twice
    assert totals(conservation(asked)) == pytest.approx([1.0, math.exp(-0.5), 0.0, 0.0, None])
    assert totals(conservation(group(books(10, 7)))) == [None]


def test_conservation_asks_for_the_entities_too() -> None:
    asked = group(books(10, 7, 4), books(10, 7, 4, source="b"), data={"law": {**LAW, "entities": ["balance", "rent"]}})
    assert totals(conservation(asked)) == [0.5, 0.5]


def test_conservation_counts_calls_that_went_well_alone() -> None:
    failed = replace(
        books(10, 10, 10),
        turns=tuple(
            replace(one, results=tuple(replace(r, ok=False) for r in one.results)) for one in books(10, 10, 10).turns
        ),
    )
    (score,) = conservation(group(failed, data={"law": LAW}))
    assert score.parts == {"law": 1.0, "guard": 0.0}


def test_conservation_by_the_papers_law() -> None:
    asked = group(books(10, 7, 4), books(10, 7, 5), data={"law": LAW})
    assert totals(conservation(asked, law="linear")) == pytest.approx([1.0, math.exp(-1)])  # (5 - 2 * 7 + 10)^2


def test_residuals() -> None:
    assert ledger_residual(10, [(7, -3), (5, -3)], 2) == 0.5
    assert ledger_residual(10, [], 0) == 0.0 and linear_residual([1, 5]) == 0.0
    assert linear_residual([0, 1, 4]) == 4.0


@settings(max_examples=40)
@given(start=st.integers(-50, 50), slope=st.integers(-9, 9), count=st.integers(3, 8))
def test_a_straight_line_has_no_residual(start: int, slope: int, count: int) -> None:
    assert linear_residual([start + slope * t for t in range(count)]) == 0.0
