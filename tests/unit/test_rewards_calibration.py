"""Confidence, abstention, consensus: by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.credit.base import ScoredBatch
from journeyman.credit.group import group_mean, group_normalized
from journeyman.rewards.base import apply_reward
from journeyman.rewards.calibration import abstain, rlcr, stated_confidence, urpa
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory

BROKEN = trajectory(stop_reason=StopReason.TOOL, correct=None)


def sure(said: str, correct: bool = True) -> Trajectory:
    text = f"<answer>42</answer><confidence>{said}</confidence>"
    return trajectory(turns=(Turn(text=text),), correct=correct)


def answered(answer: str | None, correct: bool = False, **fields) -> Trajectory:
    return trajectory(answer=answer, correct=correct, **fields)


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_rlcr_by_hand() -> None:
    made = [sure("0.7"), sure("0.7", False), sure("0", False), sure("1", False), sure("1"), BROKEN]
    # y - (c - y)^2: 1 - 0.09, -0.49, 0, -1, 1
    assert totals(rlcr(made)) == pytest.approx([0.91, -0.49, 0.0, -1.0, 1.0, None])
    # log with a floor of 0.01: 1 + ln 0.7 / ln 100, ln 0.3 / ln 100, 0, -1, 1
    ln100 = math.log(100)
    expected = [1 + math.log(0.7) / ln100, math.log(0.3) / ln100, 0.0, -1.0, 1.0, None]
    assert totals(rlcr(made, rule="log")) == pytest.approx(expected)
    assert totals(rlcr(made, form=0.1))[:2] == pytest.approx([1.01, -0.39])


@pytest.mark.parametrize("said", ["high", "1.2", "-0.3", "", "nan", "0,7", "170%", "1e3", "9" * 400])
def test_an_unreadable_confidence_is_the_worst(said: str) -> None:
    # a right answer with c = 0 and a wrong one with c = 1 get as little
    assert totals(rlcr([sure(said), sure(said, False)], form=0.5)) == [0.0, -1.0]
    assert totals(rlcr([trajectory(turns=())])) == [0.0]


def test_the_last_confidence_of_the_last_turn_counts() -> None:
    twice = Turn(text="<confidence>0.2</confidence> no: <confidence> 70% </confidence>")
    assert stated_confidence(trajectory(turns=(twice,))) == pytest.approx(0.7)
    assert stated_confidence(trajectory(turns=(twice, Turn(text="<answer>42</answer>")))) is None


@given(st.floats(0, 1), st.integers(0, 100))
def test_the_brier_form_is_proper_and_never_pays_for_being_wrong(chance: float, said: int) -> None:
    """What is expected at a chance of being right is most where that chance is said, and rises with the chance."""

    def expected(confidence: float) -> float:
        right, wrong = rlcr([sure(f"{confidence:.6f}"), sure(f"{confidence:.6f}", False)])
        assert right.total is not None and wrong.total is not None and right.total >= wrong.total
        return chance * right.total + (1 - chance) * wrong.total

    honest = expected(round(chance, 6))
    assert honest >= expected(said / 100) - 1e-5
    assert honest == pytest.approx(chance - chance * (1 - chance), abs=1e-5)


def test_abstain_by_hand() -> None:
    made = [
        answered("42", correct=True),
        answered("41"),
        answered("I don't know."),
        answered("I DON'T KNOW"),
        answered("I don't know, 42"),  # hedging is no abstention
        answered(None),
        answered("unknown", correct=True),  # there is no answer, and it says so
        BROKEN,
    ]
    assert totals(abstain(made)) == [1.0, 0.0, 0.3, 0.3, 0.0, 0.0, 1.0, None]
    assert totals(abstain([answered("weiß nicht")], value=0.5, phrases=("Weiß nicht",))) == [0.5]


def test_urpa_by_hand() -> None:
    # intervals [0, 2] and [0, 4]: pseudo-label [0, 3], u = 0 + 1, IoU 2/3 and 3/4
    intervals = [answered("0 to 2"), answered("from 0 to 4"), answered("soon"), BROKEN]
    c = math.exp(-1)
    expected = [0.5 + 0.5 * c * 2 / 3, 0.5 + 0.5 * c * 3 / 4, 0.5, None]
    assert totals(urpa(intervals, kind="interval")) == pytest.approx(expected)
    # numbers 2 and 4: mean 3, u = 1/3, agreement 1 - 1/3
    numbers = [answered("2"), answered("4")]
    assert totals(urpa(numbers, kind="number", gamma=3.0)) == pytest.approx([0.5 + c / 3] * 2)
    # texts a, a, b, c: u = entropy / ln 4 = (0.5 ln 2 + 0.5 ln 4) / ln 4 = 3/4
    texts = [answered("Paris"), answered("paris "), answered("Rome"), answered("Oslo"), BROKEN]
    weight = 0.5 * math.exp(-0.75)
    assert totals(urpa(texts)) == pytest.approx([0.5 + weight, 0.5 + weight, 0.5, 0.5, None])


def test_urpa_where_all_agree_and_where_none_can_be_read() -> None:
    assert totals(urpa([answered("7")] * 3)) == [1.0] * 3
    for kind in ("number", "interval"):
        assert totals(urpa([answered("no number"), answered(None)], kind=kind)) == [None, None]
    assert totals(urpa([answered("5 5"), answered("5 5")], kind="interval")) == [1.0, 1.0]
    assert totals(urpa([answered("0"), answered("0")], kind="number")) == [1.0, 1.0]
    assert urpa([]) == []


def test_urpa_sets_unsure_groups_aside_and_never_looks_at_the_verdict() -> None:
    unsure = [answered("a"), answered("b")]  # u = 1, c = 1/e
    assert totals(urpa(unsure, least=0.4)) == [None, None]
    assert totals(urpa(unsure, least=0.3)) != [None, None]
    assert urpa([answered("a", correct=True), answered("b")]) == urpa(unsure)


def test_dividing_by_the_spread_cancels_the_consensus_of_urpa() -> None:
    texts = [answered("a"), answered("a"), answered("b")]

    def advantages(credit, gamma: float) -> list[float]:
        scored = apply_reward(lambda g: urpa(g, gamma=gamma), texts)
        return credit(ScoredBatch.of([scored])).round(4).tolist()

    assert advantages(group_normalized, 0.1) == pytest.approx(advantages(group_normalized, 1.0), abs=1e-3)
    assert advantages(group_mean, 0.1) != pytest.approx(advantages(group_mean, 1.0), abs=1e-2)


@given(st.lists(st.sampled_from(["a", "b", "c", "7"]), min_size=1, max_size=6), st.randoms())
def test_urpa_is_blind_to_the_order_and_to_names(said: list[str], order) -> None:
    scores = urpa([answered(one) for one in said])
    places = list(range(len(said)))
    order.shuffle(places)
    assert totals(urpa([answered(said[i]) for i in places])) == pytest.approx([scores[i].total for i in places])
    assert all(0.5 <= (score.total or 0) <= 1 for score in scores)
