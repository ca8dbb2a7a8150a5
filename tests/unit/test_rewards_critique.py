"""Rewards by critique of single turns, worked out by hand."""

import json
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.critique import agreed, capo, ppr, thought_rewards, tp_grpo
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

BROKEN = trajectory(stop_reason=StopReason.INFRASTRUCTURE, correct=None)


def turns(*texts: str, **fields: object) -> Trajectory:
    return trajectory(turns=tuple(Turn(text=text) for text in texts), **fields)


def grade_each(question: str) -> str:
    return json.dumps([int(worth) for worth in re.findall(r"worth (\d+)", question)])


class Critics:
    """A Judge whose samples differ: the n-th says the n-th."""

    def __init__(self, *says: str) -> None:
        self._says = says

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        return [list(self._says[:samples]) for _ in questions]


def test_ppr_by_hand() -> None:
    attempts = group(turns("worth 8", "worth 3"), turns("worth 8", "worth 3", correct=False), BROKEN)
    scores = ppr(attempts, judge=RuleJudge(grade_each))
    # r_p + r_o - 1: .8 + 1 - 1, .3 + 1 - 1; .8 + 0 - 1, .3 + 0 - 1
    assert scores[0].turns == pytest.approx((0.8, 0.3)) and scores[0].total == pytest.approx(1.1)
    assert scores[1].turns == pytest.approx((-0.2, -0.7)) and scores[1].total == pytest.approx(-0.9)
    assert scores[2].total is None and scores[2].turns == ()
    assert ppr(attempts, mu=0.5, judge=RuleJudge(grade_each))[0].turns == pytest.approx((1.3, 0.8))


@given(st.lists(st.integers(0, 10), min_size=1, max_size=6), st.booleans())
def test_no_step_of_a_wrong_attempt_beats_one_of_a_right(worth: list[int], right: bool) -> None:
    t = turns(*(f"worth {one}" for one in worth), correct=right)
    found = ppr(group(t), judge=RuleJudge(grade_each))[0]
    assert all((step >= -1e-12) if right else (step <= 1e-12) for step in found.turns)
    assert found.total == pytest.approx(sum(found.turns))


def test_ppr_grades_by_the_problems_principles() -> None:
    judge = RuleJudge(grade_each)
    ppr(group(turns("worth 1"), data={"principles": ["be brief"]}), principles=("be kind",), judge=judge)
    assert "1. be kind\n2. be brief" in judge.asked[0]
    ppr(group(turns("worth 1")), judge=judge)
    assert "well formed" in judge.asked[1]
    assert ppr(group(turns("worth 1", "x")), judge=judge)[0].total is None  # one grade for two turns
    assert ppr(group(trajectory(turns=())), judge=judge)[0].total is None


def test_capo_by_hand() -> None:
    attempts = [turns("a", "b", "c"), turns("a", "b", "c", correct=False), BROKEN]
    critics = Critics("[2, 3]", "[2]", "[2, 1]", "[2, 3]")
    # intersection {2}: 2 - 0, 2 - 1, 2 - 0; wrong: 0, -1, 0
    scores = capo(attempts, judge=critics)
    assert [score.turns for score in scores] == [(2, 1, 2), (0, -1, 0), ()]
    assert [score.total for score in scores] == [5, -1, None]
    # half of the critiques name 3: no majority; of three critiques two do
    assert capo(attempts, vote="majority", judge=critics)[0].turns == (2, 1, 2)
    assert capo(attempts, vote="majority", critiques=3, judge=Critics("[2, 3]", "[3]", "[]"))[0].turns == (2, 2, 1)
    assert capo(attempts, right=1, wrong=0.5, judge=critics)[0].turns == (1, 0.5, 1)


def test_capo_goes_by_the_critiques_that_can_be_read() -> None:
    assert capo([turns("a", "b")], judge=Critics("[1]", "nothing wrong", "[3]", "[1, 2]"))[0].turns == (1, 2)
    assert capo([turns("a", "b")], judge=Critics(*["?"] * 4))[0].total is None
    assert capo([turns("a", "b")], judge=Critics(*["[]"] * 4))[0].turns == (2, 2)


@given(st.lists(st.lists(st.integers(0, 5)), min_size=1, max_size=5))
def test_intersections_are_within_majorities(critiques: list[list[int]]) -> None:
    assert agreed(critiques, "intersection") == set.intersection(*map(set, critiques))
    assert agreed(critiques, "intersection") <= agreed(critiques, "majority")


def test_thoughts_are_runs_of_one_label_by_hand() -> None:
    # right right | wrong | right: three thoughts, a third each, at their last turns
    labels = [True, True, False, True]
    assert thought_rewards(labels, punish=True) == pytest.approx([0, 1 / 3, -1 / 3, 1 / 3])
    assert thought_rewards(labels, punish=False) == pytest.approx([0, 1 / 3, 0, 1 / 3])
    assert thought_rewards([], punish=True) == []


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.booleans())
def test_thought_rewards_are_those_of_a_plain_loop(labels: list[bool], punish: bool) -> None:
    ends = [i for i in range(len(labels)) if i + 1 == len(labels) or labels[i + 1] is not labels[i]]
    paid = {i: (1.0 if labels[i] else -1.0 if punish else 0.0) / len(ends) for i in ends}
    assert thought_rewards(labels, punish=punish) == pytest.approx([paid.get(i, 0.0) for i in range(len(labels))])


def label_each(question: str) -> str:
    return json.dumps(re.findall(r"\b(yes|no)\b", question.split("<<< assistant, turn 1")[1].split("Write a JSON")[0]))


def test_tp_grpo_by_hand() -> None:
    right, wrong = turns("yes", "no"), turns("no", "no", correct=False)
    # one of two right: 0.5 >= 0.5, so wrong thoughts are punished; weight .5
    scores = tp_grpo([right, wrong, BROKEN], judge=RuleJudge(label_each))
    assert scores[0].turns == pytest.approx((0.25, -0.25)) and scores[0].total == pytest.approx(1.0)
    assert scores[1].turns == pytest.approx((0, -0.5)) and scores[1].total == pytest.approx(-0.5)
    assert scores[2].total is None
    # one of three: they may explore
    scores = tp_grpo([right, wrong, wrong], judge=RuleJudge(label_each))
    assert scores[0].turns == pytest.approx((0.25, 0)) and scores[0].total == pytest.approx(1.25)
    assert scores[1].turns == (0, 0) and scores[1].total == 0
    assert tp_grpo([right], judge=RuleJudge(lambda _: "?"))[0].total is None
