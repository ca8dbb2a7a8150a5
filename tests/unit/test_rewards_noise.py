"""Noise in verdicts: by hand, and in the mean."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.expressions import ExpressionError
from journeyman.rewards import build_reward
from journeyman.rewards.base import History, Reward
from journeyman.rewards.correctness import correct
from journeyman.rewards.noise import PHRASES, appealed, backward, flipped, forward, reasoning_patterns
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

BROKEN = trajectory(correct=None, stop_reason=StopReason.TOOL)


def attempts(count: int, right: Callable[[int], bool] = lambda i: i % 2 == 0) -> list[Trajectory]:
    return [trajectory(id=f"t{i}", sample=i, correct=right(i), answer=f"answer {i}") for i in range(count)]


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_flipped_by_hand() -> None:
    made = [*attempts(4), BROKEN]
    assert totals(flipped(correct, rate=0.0)(group(*made))) == [1, 0, 1, 0, None]
    assert totals(flipped(correct, rate=1.0)(group(*made))) == [0, 1, 0, 1, None]


def test_flipped_hits_its_rate_and_the_same_attempts_again() -> None:
    made = attempts(2000)
    once, again = flipped(correct)(group(*made)), flipped(correct)(group(*reversed(made)))
    assert once == again[::-1]
    share = sum(score.parts["flipped"] for score in once) / len(once)
    assert abs(share - 0.4) < 0.04  # 3.6 standard deviations of 0.011
    other = flipped(correct, seed=1)(group(*made))
    assert sum(a.total != b.total for a, b in zip(once, other, strict=True)) > 500
    nested = [
        a.parts["flipped"] <= b.parts["flipped"]
        for a, b in zip(flipped(correct, rate=0.1)(group(*made)), once, strict=True)
    ]
    assert all(nested)  # more noise flips these and others


def test_backward_by_hand() -> None:
    # rho0 = 0.1, rho1 = 0.3: (1 - 0.1) / 0.6 = 1.5 and -0.1 / 0.6
    scores = backward(correct, false_positive=0.1, false_negative=0.3)(group(*attempts(2), BROKEN))
    assert totals(scores) == pytest.approx([1.5, -1 / 6, None])
    assert scores[0].parts == {"correct": 1.0}


@given(st.floats(0, 0.4), st.floats(0, 0.4))
def test_backward_is_unbiased(rho0: float, rho1: float) -> None:
    one, zero = totals(backward(correct, false_positive=rho0, false_negative=rho1)(group(*attempts(2))))
    assert (1 - rho1) * one + rho1 * zero == pytest.approx(1)  # of a right answer
    assert rho0 * one + (1 - rho0) * zero == pytest.approx(0, abs=1e-9)  # of a wrong one


def test_rates_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="has to be above"):
        backward(correct, false_positive=0.5, false_negative=0.4)
    with pytest.raises(ExpressionError, match="backward"):
        build_reward("backward(correct, false_positive=0.5, false_negative=0.5)")
    with pytest.raises(ValueError, match="below"):
        appealed(correct, false_positive=0.95, judge=RuleJudge(), history=History())


def test_forward_by_hand() -> None:
    # w(1) = rho1, w(0) = rho1 - 1
    assert totals(forward(correct, false_negative=0.3)(group(*attempts(2), BROKEN))) == pytest.approx([0.3, -0.7, None])


@given(st.floats(0, 0.4), st.floats(0, 0.4))
def test_forward_is_the_clean_gradient_up_to_scale_and_baseline(rho0: float, rho1: float) -> None:
    one, zero = totals(forward(correct, false_negative=rho1)(group(*attempts(2))))
    assert (1 - rho1) * one + rho1 * zero == pytest.approx(0, abs=1e-9)
    assert rho0 * one + (1 - rho0) * zero == pytest.approx(-(1 - rho0 - rho1))


def verdict(sustained: set[str]) -> RuleJudge:
    """Sustains the appeals of these answers."""
    return RuleJudge(lambda question: "Yes." if question.split("Answer: ")[1].split("\n")[0] in sustained else "no")


def test_appealed_by_hand() -> None:
    made = attempts(8, right=lambda i: i < 4)  # 4 positives, 4 negatives
    judge, history = verdict({"answer 4", "answer 5"}), History()
    reward = appealed(correct, share=1.0, judge=judge, history=history)
    # nothing is known yet: rho1 = 0
    assert totals(reward(group(*made, BROKEN, step=0)))[3:] == [0.0, -1.0, -1.0, -1.0, -1.0, None]
    assert len(judge.asked) == 4
    # of 4 negatives 2 were right: rho1 = 2 / (2 + 4)
    assert totals(reward(group(*made, step=1)))[3:5] == pytest.approx([1 / 3, -2 / 3])
    # (r - 0.2) / (1 - 0.2 - 1/3)
    back = appealed(correct, share=1.0, correction="backward", false_positive=0.2, judge=judge, history=history)
    left = 1 - 0.2 - 1 / 3
    assert totals(back(group(*made, step=2)))[3:5] == pytest.approx([0.8 / left, -0.2 / left])


def test_appealed_estimates_from_earlier_steps_only_and_from_a_share() -> None:
    history, judge = History(), RuleJudge(lambda _: "yes")
    reward: Reward = appealed(correct, share=0.25, judge=judge, history=history)
    many = attempts(400, right=lambda i: i < 200)
    first, second = reward(group(*many, step=0)), reward(group(*many, step=0))
    assert first == second and 25 < len(judge.asked) / 2 < 75  # a quarter of 200, twice
    # all appeals were sustained: 200 / (200 + 200), whatever the share
    assert reward(group(*many, step=1))[0].total == pytest.approx(0.5)
    kept = History()
    kept.load_state_dict(history.state_dict())
    resumed = appealed(correct, share=0.25, judge=judge, history=kept)
    assert resumed(group(*many, step=2)) == reward(group(*many, step=2))


def test_appealed_keeps_something_of_the_signal() -> None:
    history, made = History(), attempts(4, right=lambda _: False)
    reward = appealed(correct, share=1.0, correction="backward", judge=RuleJudge(lambda _: "yes"), history=history)
    reward(group(*made))
    # rho1 would be 1: kept at 0.9
    assert reward(group(*made, step=1))[0].parts["false_negative_rate"] == pytest.approx(0.9)
    # a judge that says nothing clear counts for nothing
    mute = appealed(correct, share=1.0, judge=RuleJudge(lambda _: "perhaps"), history=History())
    mute(group(*made))
    assert totals(mute(group(*made, step=1))) == [-1.0] * 4


def said(text: str, answer: str | None = "42") -> Trajectory:
    return trajectory(turns=(Turn(text=text),), answer=answer)


def test_reasoning_patterns_by_hand() -> None:
    assert len(PHRASES) == len(set(PHRASES)) == 40
    # "first," "i need to" "wait," "therefore": 4 of 20, each once however often
    text = "First, I need to add. Wait, I need to multiply. Therefore 42."
    assert totals(reasoning_patterns([said(text), said(text, None), BROKEN])) == [0.2, 0.0, None]
    assert totals(reasoning_patterns([said(text)], enough=2)) == [1.0]
    assert totals(reasoning_patterns([said(text)], phrases=("multiply",), enough=1)) == [1.0]
    # a made-up next user costs 1
    assert totals(reasoning_patterns([said(text + " user: and 7 times 8?")])) == [0.0]
    assert totals(reasoning_patterns([said(" ".join(PHRASES))])) == [1.0]  # stuffing pays


def test_reasoning_patterns_take_off_repetition() -> None:
    # 50 words of a cycle of 25: 31 runs of 20, 6 of the 25 distinct ones come twice
    cycle = " ".join(f"w{i}" for i in range(25))
    [score] = reasoning_patterns([said(f"{cycle} {cycle}")], phrases=("w1",), enough=1)
    assert score.parts["repeated"] == pytest.approx(6 / 31) and score.total == pytest.approx(1 - 6 / 31)
