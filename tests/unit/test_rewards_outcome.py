"""Form, calls that worked, bonuses, levels: by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import ToolCall, ToolResult
from journeyman.rewards.outcome import (
    call_success,
    gra,
    graded,
    spear_tool,
    tool_star,
    tool_success,
    used_tools,
    well_formed,
    world,
)
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import group

BROKEN = trajectory(stop_reason=StopReason.INFRASTRUCTURE, correct=None)
EMPTY = trajectory(turns=(), stop_reason=StopReason.MAX_TOKENS, correct=False, answer=None)


def turn(*worked: bool, name: str = "calculator", **fields) -> Turn:
    """A turn with a call for each of `worked`."""
    return Turn(
        text="",
        calls=tuple(ToolCall(name=name, arguments={}) for _ in worked),
        results=tuple(ToolResult(name=name, ok=ok, output="") for ok in worked),
        **fields,
    )


def of(*turns: Turn, **fields) -> Trajectory:
    return trajectory(turns=turns, **fields)


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_well_formed_by_hand() -> None:
    half = of(turn(), turn(error="no such tool"), correct=False)
    assert totals(well_formed([half, trajectory(), EMPTY, BROKEN])) == [0.5, 1.0, 0.0, None]
    assert totals(well_formed([half, trajectory()], strict=True)) == [0.0, 1.0]


def test_tool_success_by_hand() -> None:
    one = of(turn(True, True), turn(True, False), turn())
    [whole], [share] = tool_success([one]), tool_success([one], share=True)
    assert (whole.turns, whole.total) == ((1.0, 0.0, 0.0), 1.0)
    assert (share.turns, share.total) == ((1.0, 0.5, 0.0), 1.5)
    assert totals(tool_success([EMPTY, BROKEN])) == [0.0, None]


def test_call_success_by_hand() -> None:
    three_of_four = of(turn(True, True), turn(True, False))
    assert totals(call_success([three_of_four, trajectory(calls=0), EMPTY, BROKEN])) == [0.75, 1.0, 1.0, None]


def test_used_tools_by_hand() -> None:
    failed = of(turn(False, name="search"), turn(True, name="python"))
    assert totals(used_tools([failed, trajectory(calls=0), BROKEN])) == [1.0, 0.0, None]
    assert totals(used_tools([failed], tools=("search", "python"))) == [1.0]
    assert totals(used_tools([failed], tools=("search", "python"), worked=True)) == [0.0]
    assert totals(used_tools([failed], tools=("sql",))) == [0.0]


def test_world_by_hand() -> None:
    [score] = world([of(turn(reward=0.5), turn(reward=-0.25))])
    assert (score.turns, score.total) == ((0.5, -0.25), 0.25)


def test_graded_by_hand() -> None:
    partial = trajectory(score=0.75, score_parts={"rows": 0.5}, correct=False)
    [score, none] = graded([partial, trajectory()])
    assert (score.total, score.parts) == (0.75, {"graded": 0.75, "rows": 0.5})
    assert none.total is None


def test_tool_star_by_hand() -> None:
    both = (turn(True, name="search"), turn(False, name="python"))
    assert totals(
        tool_star(
            [
                of(*both),  # F1 1 and both tools, one of them in vain
                of(both[0]),  # F1 1, one tool
                of(*both, answer="41", correct=False),  # F1 0: no bonus
                of(*both, reference="six times seven", answer="seven", correct=False),  # F1 2*1/(1+3) = 0.5
                of(*both, turn(error="two calls in one")),  # right, in bad form
                BROKEN,
            ]
        )
    ) == pytest.approx([1.1, 1.0, 0.0, 0.6, -1.0, None])
    assert totals(tool_star([of(*both)], tools=("search", "sql"), bonus=0.5)) == [1.0]


def test_gra_by_hand() -> None:
    steps = (turn(True), turn(False), turn(error="no"))  # 0.05 + 0.05, 0.05, 0
    right, wrong = of(*steps), of(*steps, correct=False)
    empty, none = of(*steps, correct=False, answer=" "), of(*steps, correct=False, answer=None)
    scores = gra([right, wrong, empty, none, BROKEN])
    # the gate at 0.5 is open for a wrong answer, shut for an empty one and none
    assert totals(scores) == pytest.approx([1.15, 0.65, 0.1, 0.0, None])
    assert scores[0].turns == pytest.approx((0.1, 0.05, 0.0)) and scores[2].turns == (0.0, 0.0, 0.0)
    assert scores[0].parts == pytest.approx({"outcome": 1.0, "steps": 0.15})
    assert totals(gra([wrong], at=1.0)) == [0.5]
    assert totals(gra([wrong], outcomes=(-1, -0.5, 0, 1), at=0, form=1, valid=0)) == [2.0]


def test_spear_tool_by_hand() -> None:
    three, twenty, none = trajectory(calls=3), trajectory(calls=20), trajectory(calls=0)

    def at(step: int, **options) -> list[float | None]:
        return totals(spear_tool(group(three, twenty, none, step=step), **options))

    assert at(0) == pytest.approx([0.3, 1.0, 0.0])
    assert at(50) == pytest.approx([0.15, 0.5, 0.0])  # mu = (1 + cos(pi / 2)) / 2
    assert at(25) == pytest.approx([0.3 * (1 + math.sqrt(0.5)) / 2, (1 + math.sqrt(0.5)) / 2, 0.0])
    assert at(100) == pytest.approx([0.0, 0.0, 0.0]) and at(101) == [0.0, 0.0, 0.0]
    assert at(101, schedule="constant") == pytest.approx([0.3, 1.0, 0.0])
    # Qwen3: right ones are paid flat, wrong ones as before
    assert at(50, variant="qwen3") == pytest.approx([0.5, 0.5, 0.0])
    wrong = trajectory(calls=3, correct=False)
    assert totals(spear_tool(group(wrong, step=50), variant="qwen3")) == pytest.approx([0.15])


@given(st.lists(st.lists(st.booleans(), max_size=3), max_size=4))
def test_turn_rewards_sum_to_the_total_whatever_the_turns(made: list[list[bool]]) -> None:
    one = of(*(turn(*worked) for worked in made))
    for [score] in (tool_success([one]), tool_success([one], share=True), world([one])):
        assert len(score.turns) == len(made) and score.total == pytest.approx(sum(score.turns))
    worked = [ok for turns in made for ok in turns]
    naive = worked.count(True) / len(worked) if worked else 1.0
    assert call_success([one])[0].total == pytest.approx(naive)
