"""Rewards with a judge's grade in them, worked out by hand."""

import json
import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.rewards.base import Score
from journeyman.rewards.graded import (
    atom_searcher,
    atoms,
    confidence,
    ctrl_u,
    hybrid,
    judged,
    preferred,
    trust_grpo,
    uncertainty,
)
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

BROKEN = trajectory(stop_reason=StopReason.ENVIRONMENT, correct=None)


def saying(text: str, **fields: object) -> Trajectory:
    return trajectory(turns=(Turn(text=text),), **fields)


def grader(most: int = 10) -> RuleJudge:
    """Grades by the first number in what the policy wrote as `worth N`."""

    def grade(question: str) -> str:
        found = re.search(r"worth (\d+)", question)
        return f'{{"score": {min(most, int(found[1]))}}}' if found else "no idea"

    return RuleJudge(grade)


def totals(scores: list[Score]) -> list[float | None]:
    return [score.total for score in scores]


def test_judged_by_hand() -> None:
    judge = grader()
    attempts = group(saying("worth 7"), saying("worth nothing"), BROKEN, saying("worth 10", correct=None))
    assert totals(judged(attempts, judge=judge)) == [0.7, None, None, 1.0]
    assert len(judge.asked) == 3
    assert "<<< reference answer" not in judge.asked[0]
    judged(attempts, reference=True, judge=judge)
    assert "<<< reference answer\n42" in judge.asked[-1]


def test_judged_on_another_scale() -> None:
    assert totals(judged(group(saying("worth 4")), scale=5, judge=grader())) == [0.8]
    assert totals(judged(group(saying("worth 6")), scale=5, judge=grader())) == [None]


def comparer(question: str) -> str:
    """The one that is worth more; where both are worth 0, always the one shown first."""
    first, second = (int(number) for number in re.findall(r"worth (\d+)", question))
    return "A" if first > second or first == second == 0 else "B" if second > first else "tie"


def test_preferred_by_hand() -> None:
    judge = RuleJudge(comparer)
    attempts = group(saying("worth 3"), saying("worth 2"), saying("worth 2"), BROKEN)
    # 3 beats both; the 2s tie: (0 + .5) / 2
    assert totals(preferred(attempts, judge=judge)) == [1.0, 0.25, 0.25, None]
    assert len(judge.asked) == 6  # three pairs, both orders


def test_preferred_sees_a_tie_where_only_the_order_speaks() -> None:
    assert totals(preferred(group(saying("worth 0"), saying("worth 0")), judge=RuleJudge(comparer))) == [0.5, 0.5]
    assert totals(preferred(group(saying("worth 0")), judge=RuleJudge(comparer))) == [None]
    assert totals(preferred(group(saying("a"), saying("b")), judge=RuleJudge(lambda _: "hm"))) == [None, None]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_preferred_is_one_half_in_the_mean_whatever_the_order(worth: list[int], rng: random.Random) -> None:
    found = totals(preferred(group(*(saying(f"worth {w}") for w in worth)), judge=RuleJudge(comparer)))
    assert sum(one for one in found if one is not None) / len(worth) == pytest.approx(0.5)
    order = list(range(len(worth)))
    rng.shuffle(order)
    shuffled = preferred(group(*(saying(f"worth {worth[i]}") for i in order)), judge=RuleJudge(comparer))
    assert totals(shuffled) == [pytest.approx(found[i]) for i in order]


def test_uncertainty_by_hand() -> None:
    # .6 ln(.6/.9) + .4 ln(.4/.1) = -.2433 + .5545
    u = uncertainty((0.9, 0.1), (0.6, 0.4))
    assert u == pytest.approx(0.311, abs=5e-4)
    assert math.exp(-u) == pytest.approx(0.733, abs=5e-4)
    assert uncertainty((0.9, 0.1), (0.9, 0.1)) == 0
    assert uncertainty((0.9, 0.1), (0.6, 0.4), scale=2) == pytest.approx(2 * u)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=6))
def test_certainty_is_a_share(rows: list[tuple[float, float]]) -> None:
    p, q = ([row[i] / sum(r[i] for r in rows) for row in rows] for i in (0, 1))
    assert 0 < math.exp(-uncertainty(p, q)) <= 1 + 1e-12


def test_ctrl_u_by_hand() -> None:
    def read(question: str) -> str:
        plain = "OTHER" not in question
        return {"sure good": "1", "sure bad": "0"}.get(said(question), "1" if plain else "0")

    # Two bins, one vote: a reading is (.25, .75) for 1 and (.75, .25) for 0, half an answer added to each bin.
    # R: .75, .25, .75. Where both readings agree w = 1; the third has q = (.75, .25), p = (.25, .75):
    # u = .75 ln 3 + .25 ln(1/3) = .5 ln 3, w = 3^-.5 = .57735.
    w = 3**-0.5
    mean = (0.75 + 0.25 + 0.75 * w) / (2 + w)
    attempts = group(saying("sure good"), saying("sure bad"), saying("doubtful"), BROKEN)
    scores = ctrl_u(attempts, rubric="R", other="OTHER", bins=2, votes=1, judge=RuleJudge(read))
    assert totals(scores)[:3] == pytest.approx([0.75 - mean, 0.25 - mean, w * (0.75 - mean)])
    assert scores[3].total is None
    assert sum(score.total or 0 for score in scores) == pytest.approx(0)  # centred already
    assert scores[2].parts["certainty"] == pytest.approx(w)


def said(question: str) -> str:
    return question.split("<<< assistant, turn 1\n")[1].split("\n>>>")[0]


def test_ctrl_u_of_readings_that_agree_is_the_centred_grade() -> None:
    judge = RuleJudge(lambda question: "4" if "good" in question else "0")
    found = totals(ctrl_u(group(saying("good"), saying("bad")), votes=3, judge=judge))
    assert found[0] is not None and found[0] == pytest.approx(-(found[1] or 0)) and found[0] > 0
    assert totals(ctrl_u(group(saying("good"), saying("good")), votes=3, judge=judge)) == pytest.approx([0, 0])
    assert totals(ctrl_u(group(saying("good")), judge=RuleJudge(lambda _: "?"))) == [None]


def thinking(worth: int, right: bool) -> Trajectory:
    return saying(f"<think>worth {worth}</think><answer>x</answer>", correct=right)


def test_trust_grpo_by_hand() -> None:
    attempts = group(thinking(4, True), thinking(8, False), trajectory(correct=None), step=500)
    # mu_right = .4 < mu_wrong = .8: g = exp(-.4) = .670320; weight = .3 exp(-500/500) = .110364
    w, g = 0.3 * math.exp(-1), math.exp(-0.4)
    assert totals(trust_grpo(attempts, judge=grader())) == [
        pytest.approx(1 + w * g * 0.4),  # 1.029592
        pytest.approx(w * g * 0.8),  # .059184
        None,
    ]
    trusted = group(thinking(8, True), thinking(4, False))  # mu_right is not below: g = 1, step 0
    assert totals(trust_grpo(trusted, judge=grader())) == pytest.approx([1.24, 0.12])


def test_trust_grpo_as_released_scores_no_thought_behind_a_wrong_answer() -> None:
    attempts = group(thinking(4, True), thinking(8, False))
    # paper: g = exp(.4 - .8). Released: mu_wrong = 0, so g = 1, and the wrong one earns nothing.
    paper, code = trust_grpo(attempts, judge=grader()), trust_grpo(attempts, code_variant=True, judge=grader())
    assert totals(paper) == pytest.approx([1 + 0.3 * math.exp(-0.4) * 0.4, 0.3 * math.exp(-0.4) * 0.8])
    assert totals(code) == pytest.approx([1.12, 0.0])


@pytest.mark.parametrize("right", [True, False])
def test_trust_grpo_leaves_the_thoughts_out_where_all_came_to_the_same(right: bool) -> None:
    attempts = group(thinking(4, right), thinking(8, right))
    assert totals(trust_grpo(attempts, judge=grader())) == pytest.approx([float(right)] * 2)


def atom_judge(question: str) -> str:
    return json.dumps([int(worth) for worth in re.findall(r"worth (\d+)", question)])


def test_atom_searcher_by_hand() -> None:
    text = "<think><plan>worth 10</plan><doubt>worth 5</doubt></think><answer>6 times 7</answer>"
    t = saying(text, answer="the river Seine", reference="river Rhine")
    # R_atom = (1 + .5)/2 = .75; F1 of {river, seine} with {river, rhine} = 2*1/(2+2) = .5; t/T = 20/100: a = .4
    attempts = group(t, step=20, steps=100)
    found = atom_searcher(attempts, judge=RuleJudge(atom_judge))[0]
    assert found.total == pytest.approx(0.4 * 0.75 + 0.6 * 0.5)  # .6
    assert found.parts == pytest.approx({"well_formed": 1, "atoms": 0.75, "f1": 0.5, "atoms_weight": 0.4})


def test_atom_searcher_at_its_edges() -> None:
    thoughtless = saying("<answer>42</answer>")
    malformed = trajectory(turns=(Turn(text="<think>", error="<think> is not closed"),), answer=None)
    judge = RuleJudge(atom_judge)
    attempts = group(thoughtless, malformed, trajectory(reference=""), BROKEN)
    assert totals(atom_searcher(attempts, judge=judge)) == [0.5, -1.0, None, None]  # .5 * 0 + .5 * 1
    assert judge.asked == []
    thought = saying("<think>worth 4</think><answer>42</answer>")
    assert totals(atom_searcher(group(thought), judge=RuleJudge(lambda _: "?"))) == [None]
    assert totals(atom_searcher(group(thought, step=9, steps=9), judge=judge)) == [1.0]  # a = 0: F1 alone


def test_steps_name_themselves() -> None:
    t = saying("<think>so <plan>a <b>c</b></plan> and <open>d <check>e</check></think>f <no>g</no>")
    assert atoms(t) == ["plan: a <b>c</b>", "check: e"]
    assert atoms(saying("<think>just so</think>")) == ["just so"]
    assert atoms(saying("no thought")) == []
    assert len(atoms(saying(f"<think>{'<a>b</a>' * 99}</think>"))) == 50


@pytest.mark.parametrize(
    ("answer", "reference", "sure"),
    [
        *(("42", "41", 1.0), ("(B)", "C", 1.0), ("yes", "No.", 1.0), ("$1,500", "1500", 1.0)),
        *(("a long tale", "42", 0.5), ("Paris", "the capital of France", 0.0), ("", "", 0.0)),
    ],
)
def test_confidence_by_hand(answer: str, reference: str, sure: float) -> None:
    assert confidence(answer, reference) == sure


def test_hybrid_by_hand() -> None:
    sure = trajectory(tokens=11)  # 10 learned tokens; number against number: c = 1, the model has no say
    open_ = saying("worth 2", answer="worth 2", reference="42", tokens=21)  # c = .5, rule 1, model .2: .6; 20 tokens
    vague = saying("worth 2", answer="worth 2", reference="Paris", correct=False, tokens=10)  # c = 0: the model's .2
    scores = hybrid(group(sure, open_, vague, trajectory(correct=None)), judge=grader())
    # median of the right ones (10, 20): 15; the second is 1/3 longer
    assert totals(scores)[:3] == pytest.approx([1.0, 0.6 - 0.1 / 3, 0.2])
    assert scores[3].total is None
    assert scores[1].parts == pytest.approx(
        {"accuracy": 0.6, "confidence": 0.5, "instructions": 0, "excess_length": 1 / 3}
    )


def test_hybrid_asks_for_the_users_constraints() -> None:
    judge = RuleJudge(lambda question: "[true, false]")
    attempts = group(trajectory(), data={"constraints": ["in one word", "in French"]})
    assert totals(hybrid(attempts, judge=judge)) == pytest.approx([1 + 0.1 * 0.5])
    assert totals(hybrid(attempts, judge=RuleJudge(lambda _: "?"))) == [None]
    wrong = group(trajectory(correct=False, tokens=100), data={})
    assert totals(hybrid(wrong, judge=judge)) == [0.0]  # no right one to be longer than
