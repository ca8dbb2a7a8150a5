"""Rewards: worked-out values, and what could not be scored is never 0."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.expressions import yields
from journeyman.metrics import known
from journeyman.rewards import REWARDS, VOCABULARY, Score, apply_reward, build_reward
from journeyman.rewards.correctness import correct
from journeyman.rewards.efficiency import otc, tool_efficiency
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import trajectory
from tests.unit.supplies import group, supplies

UNSCORABLE = trajectory(correct=None, stop_reason=StopReason.INFRASTRUCTURE, answer=None)


def test_correct_by_hand() -> None:
    group = [trajectory(correct=True), trajectory(correct=False), UNSCORABLE]
    assert correct(group) == [
        Score(total=1.0, parts={"correct": 1.0}),
        Score(total=0.0, parts={"correct": 0.0}),
        Score(total=None, parts={}),
    ]


@pytest.mark.parametrize(
    ("calls", "fewest", "value"),
    [
        # as few as possible
        *((0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (7, 7, 1.0)),
        # n = 0: cos(m pi / (2m + 6))
        (1, 0, 0.9238795),  # cos(pi / 8)
        (2, 0, 0.8090170),  # cos(2 pi / 10)
        (3, 0, 0.7071068),  # cos(3 pi / 12)
        # m > n: f = 2mn / (m + n), sin(f pi / 2n)
        (2, 1, 0.8660254),  # f = 4/3, sin(2 pi / 3)
        (3, 1, 0.7071068),  # f = 6/4, sin(3 pi / 4)
        (5, 1, 0.5),  # f = 10/6, sin(5 pi / 6)
        (6, 2, 0.7071068),  # f = 24/8, sin(3 pi / 4)
        # m < n, which only a wrong trajectory can have
        (1, 2, 0.8660254),  # f = 4/3, sin(pi / 3)
        (1, 3, 0.7071068),  # f = 6/4, sin(pi / 4)
        (0, 3, 0.0),  # f = 0
    ],
)
def test_tool_efficiency_by_hand(calls: int, fewest: int, value: float) -> None:
    assert tool_efficiency(calls, fewest) == pytest.approx(value, abs=1e-7)


@given(st.integers(0, 20), st.integers(0, 20))
def test_efficiency_falls_with_every_call_beyond_the_fewest(fewest: int, more: int) -> None:
    values = [tool_efficiency(fewest + extra, fewest) for extra in range(more + 2)]
    assert values[0] == pytest.approx(1)
    assert all(0 <= b < a for a, b in pairwise(values))


def test_otc_takes_the_fewest_calls_of_the_right_trajectories() -> None:
    group = [
        trajectory(calls=3),
        trajectory(calls=1),  # the fewest
        trajectory(calls=0, correct=False, answer="41"),  # fewer, but wrong: doesn't count
        trajectory(calls=2),
        UNSCORABLE,
    ]
    scores = otc(group)
    assert [s.total for s in scores[:4]] == pytest.approx([math.sqrt(0.5), 1.0, 0.0, math.sqrt(0.75)])
    assert scores[4] == Score(total=None)
    assert scores[0].parts == pytest.approx({"correct": 1.0, "tool_efficiency": math.sqrt(0.5)})
    # m = 0, n = 1: f = 0, so the wrong one's efficiency is 0 as well
    assert scores[2].parts == {"correct": 0.0, "tool_efficiency": 0.0}


def test_otc_where_nobody_is_right_or_nobody_called() -> None:
    wrong = [trajectory(calls=c, correct=False) for c in (0, 1, 2)]
    assert [s.total for s in otc(wrong)] == [0.0, 0.0, 0.0]
    assert [s.total for s in otc([trajectory(calls=0), trajectory(calls=1)])] == pytest.approx(
        [1, math.cos(math.pi / 8)]
    )
    assert [s.total for s in otc([trajectory(calls=4)])] == [1.0]  # alone, it is the best there is
    assert otc([]) == [] and [s.total for s in otc([UNSCORABLE])] == [None]


CALL = {"name": "calculator", "arguments": {"expression": "6*7"}}
DATA: dict[str, Any] = {
    "reference_calls": [CALL],
    "reference_outputs": ["42"],
    "checklist": [{"turn": 0, "criteria": [{"question": "Was the calculator used?", "weight": 1.0}]}],
    "goals": [{"tool": "calculator"}],
    "nuggets": [{"text": "The product is 42.", "weight": 1.0}],
    "rules": ["It calls a tool."],
    "principles": ["clear"],
    "questions": [{"question": "What is it?", "options": ["42", "41"], "answer": "42"}],
}
"""What the problems of various families hold: enough for every reward to have something to go by."""
REQUIRED = {"machine": "machine(order=['calculator'])", "temporal": "temporal(formula='F calculator')"}
"""Rewards that cannot be without options."""
TRAJECTORIES = st.builds(
    trajectory,
    calls=st.integers(0, 6),
    correct=st.sampled_from([True, False, None]),
    stop_reason=st.sampled_from([StopReason.ANSWER, StopReason.MAX_TURNS, StopReason.FORMAT_ERROR]),
    answer=st.sampled_from(["42", "41", None]),
)
NO_TURN = trajectory(turns=(), token_ids=(1, 2), loss_mask=(0, 0), logprobs=(0.0, 0.0), correct=False, answer=None)


def scores_of(name: str, trajectories: Sequence[Trajectory]) -> list[Score]:
    numbered = [replace(t, id=f"{i}", sample=i) for i, t in enumerate(trajectories)]
    reward = build_reward(REQUIRED.get(name, name), **supplies())
    return reward(group(*numbered, data=DATA))


@pytest.mark.parametrize("name", REWARDS)
@settings(max_examples=20)
@given(trajectories=st.lists(TRAJECTORIES, min_size=1, max_size=5))
def test_every_reward_scores_each_trajectory_and_does_so_again(name: str, trajectories: list[Trajectory]) -> None:
    scores = scores_of(name, trajectories)
    assert scores == scores_of(name, trajectories) and len(scores) == len(trajectories)
    for one, score in zip(trajectories, scores, strict=True):
        assert score.total is None or math.isfinite(score.total)
        assert all(math.isfinite(value) for value in score.parts.values())
        assert all(known(f"rollout/reward_mean/{part}") for part in score.parts)
        assert len(score.turns) in (0, len(one.turns))
        if score.turns or score.spans:
            assert {"turns", "spans"} & yields(name, VOCABULARY)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_bears_groups_that_have_nothing_in_them(name: str) -> None:
    for trajectories in (
        [NO_TURN],
        [trajectory(calls=0)] * 2,
        [UNSCORABLE],
        [NO_TURN, trajectory(calls=2), UNSCORABLE],
    ):
        assert len(scores_of(name, trajectories)) == len(trajectories)


@pytest.mark.parametrize("name", ["correct", "otc"])
@given(group=st.lists(TRAJECTORIES, min_size=1, max_size=6), order=st.randoms())
def test_rewards_of_the_answer_are_bounded_and_blind_to_the_order(name: str, group: list[Trajectory], order) -> None:
    reward = REWARDS[name]
    scores = reward(group)
    for one, score in zip(group, scores, strict=True):
        assert (score.total is None) == (one.correct is None)
        assert score.total is None or 0 <= score.total <= float(one.correct or 0)
    shuffled = list(range(len(group)))
    order.shuffle(shuffled)
    assert reward([group[i] for i in shuffled]) == [scores[i] for i in shuffled]


def test_scores_are_written_into_the_group_and_nothing_else_changes() -> None:
    group = [trajectory(), UNSCORABLE]
    first, second = apply_reward(correct, group)
    assert (first.reward, first.reward_parts) == (1.0, {"correct": 1.0})
    assert (second.reward, second.reward_parts) == (None, {})
    assert [t.scored(None, {}) for t in (first, second)] == group
