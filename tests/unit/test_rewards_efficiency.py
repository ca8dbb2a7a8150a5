"""Rewards for few calls: by hand, with what they remember."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import ToolResult
from journeyman.rewards import build_reward
from journeyman.rewards.base import History
from journeyman.rewards.efficiency import (
    codedance,
    fewest_turns_when_right,
    lightsearcher,
    mash,
    otc,
    otc_history,
    tgrl,
)
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import group

BROKEN = trajectory(stop_reason=StopReason.TOOL, correct=True)
BAD = trajectory(turns=(Turn(text="", error="no"),), correct=False, answer=None, stop_reason=StopReason.FORMAT_ERROR)


def right(*counts: int) -> list[Trajectory]:
    return [trajectory(calls=count) for count in counts]


def wrong(*counts: int, **fields) -> list[Trajectory]:
    return [trajectory(calls=count, correct=False, answer="7", **fields) for count in counts]


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_otc_by_hand() -> None:
    # n = 1: m = 1 gives 1; m = 3: f = 6/4, sin(3 pi / 4)
    assert totals(otc([*right(1, 3), *wrong(0), BROKEN])) == pytest.approx([1, math.sqrt(0.5), 0, None])


def test_otc_ppo_knows_no_fewest() -> None:
    # cos(m pi / (2m + 6)): m = 0, 1, 3
    assert totals(otc(right(0, 1, 3), form="ppo")) == pytest.approx([1, math.cos(math.pi / 8), math.sqrt(0.5)])
    assert totals(otc(right(1, 3), form="ppo")) == pytest.approx([math.cos(math.pi / 8), math.sqrt(0.5)])
    # c = 2: cos(3 pi / 8)
    assert totals(otc(right(3), form="ppo", most_calls=2)) == pytest.approx([math.cos(3 * math.pi / 8)])


def test_otc_history_by_hand() -> None:
    history = History()
    assert totals(otc_history(right(3), history=history)) == [1.0]
    assert totals(otc_history(right(1), history=history)) == [1.0]
    # alone this group's fewest would be 3; the fewest ever is 1: sin(3 pi / 4)
    assert totals(otc_history(right(3), history=history)) == pytest.approx([math.sqrt(0.5)])
    assert totals(otc(right(3))) == [1.0]
    # another problem has its own; wrong ones and those without a verdict don't count
    elsewhere = [trajectory(calls=3, problem_id="q"), trajectory(calls=0, problem_id="q", correct=False)]
    assert totals(otc_history(elsewhere, history=history)) == [1.0, 0.0]
    assert totals(otc_history([BROKEN, *wrong(0)], history=History())) == [None, 0.0]
    assert otc_history([], history=History()) == []


def test_what_is_remembered_survives_a_checkpoint() -> None:
    before, after = History(), History()
    otc_history(right(1), history=before)
    after.load_state_dict(before.state_dict())
    assert otc_history(right(4), history=after) == otc_history(right(4), history=before)


def mashed(made: list[Trajectory], history: History | None = None, step: int = 0, **options) -> list[float | None]:
    return totals(mash(group(*made, step=step), history=history or History(), **options))


def test_mash_by_hand() -> None:
    made = [*right(0, 2, 6), *wrong(0), BAD, BROKEN]
    # 1 - m / 6 with M = 5
    linear = mash(group(*made), penalty="linear", history=History())
    assert totals(linear) == pytest.approx([1, 4 / 6, 0, 0, 0, None])
    assert linear[1].parts == pytest.approx({"base": 1.0, "kept": 4 / 6})
    # n = 0: 0.8^0, 0.8^2, 0.8^6
    assert mashed(made, penalty="exponential") == pytest.approx([1, 0.64, 0.262144, 0, 0, None])
    # n = 0, c = 5: 1, cos(2 pi / 9), cos(6 pi / 17)
    otc_ = [1, math.cos(2 * math.pi / 9), math.cos(6 * math.pi / 17), 0, 0, None]
    assert mashed(made, penalty="otc") == pytest.approx(otc_)
    assert mashed(made) == [1, 0, 0, 0, 0, None]  # strict: an answer without a search was possible
    # n = 1: strict is as otc, sin(3 pi / 4)
    assert mashed(right(1, 3)) == pytest.approx([1, math.sqrt(0.5)])
    assert mashed(right(1, 3), penalty="exponential", decay=0.5) == pytest.approx([1, 0.25])


def test_mash_keeps_the_fewest_that_ever_sufficed() -> None:
    history = History()
    assert mashed(right(2), history) == [1.0]
    assert mashed(right(0), history) == [1.0]
    assert mashed(right(2), history) == [0.0]
    assert mashed(right(2), history, penalty="exponential") == pytest.approx([0.64])


def test_mash_credit_for_form_ends_and_leaves_the_minimum_alone() -> None:
    history = History()
    warm = {"penalty": "exponential", "format_steps": 5}
    # the well-formed wrong one has base 0.1 and is not penalised, the malformed has none
    assert mashed([*wrong(0), BAD], history, step=4, **warm) == pytest.approx([0.1, 0.0])
    # n is 2, not 0: the wrong one without a call didn't count
    assert mashed([*right(2), *wrong(3)], history, step=4, **warm) == pytest.approx([1.0, 0.1 * 0.8])
    assert mashed([*right(2), *wrong(3)], history, step=5, **warm) == pytest.approx([1.0, 0.0])


def test_mash_with_f1() -> None:
    # F1 of "42 or 7" against "42": 2 * 1 / (3 + 1) = 0.5
    partly = [trajectory(calls=1, answer="42 or 7", correct=False)]
    assert mashed(partly, f1=True) == [0.5]
    assert mashed(partly, f1=True, f1_from=0.6) == [0.0]
    assert mashed(partly) == [0.0]
    # any of the accepted names will do
    named = mash(group(*partly, data={"aliases": ["42 or 7"]}), f1=True, history=History())
    assert totals(named) == [1.0]


def test_lightsearcher_by_hand() -> None:
    history = History()
    partly = trajectory(calls=1, answer="42 or 7", correct=False)
    # n = 1: 0.5 + 0.5; m = 3: 0.5 + 0.5 exp(-0.75 * 2); F1 0.5 < 0.8: 0.25; F1 0; bad form
    made = [*right(1, 3), partly, *wrong(0), BAD, BROKEN]
    expected = [1.0, 0.5 + 0.5 * math.exp(-1.5), 0.25, 0.0, -1.0, None]
    assert totals(lightsearcher(made, history=history)) == pytest.approx(expected)
    # n stays 1: exp(-0.75)
    assert totals(lightsearcher(right(2), history=history)) == pytest.approx([0.5 + 0.5 * math.exp(-0.75)])
    assert totals(lightsearcher(right(2), history=History())) == [1.0]
    # 0.8 * 0.5 + 0.2 exp(-1)
    options = {"weight": 0.2, "decay": 1.0, "enough": 0.5, "history": history}
    assert totals(lightsearcher([partly], **options)) == pytest.approx([0.8 * 0.5 + 0.2])


def test_fewest_turns_when_right_by_hand() -> None:
    # T = 0, 1, 3; a wrong one takes no part
    made = [*right(0, 1, 3), *wrong(0), BROKEN]
    assert totals(fewest_turns_when_right(made)) == [1.0, 0.5, 0.25, None, None]
    two_calls_at_once = trajectory().turns[0]
    twice = trajectory(turns=(Turn(text="", calls=two_calls_at_once.calls * 2, results=two_calls_at_once.results * 2),))
    assert totals(fewest_turns_when_right([twice])) == [0.5]


def test_fewest_turns_when_right_is_a_channel_of_its_own() -> None:
    reward = build_reward("channels(accuracy=correct, thrift=fewest_turns_when_right)")
    first, second = reward(group(*right(1), *wrong(0)))
    assert first.channels == {"accuracy": 1.0, "thrift": 0.5}
    assert second.channels == {"accuracy": 0.0, "thrift": None}


def failing(calls: int) -> Trajectory:
    made = trajectory(calls=calls)
    results = (ToolResult(name="calculator", ok=False, output="error"),)
    return trajectory(turns=tuple(Turn(text="", calls=t.calls, results=results if t.calls else ()) for t in made.turns))


def test_codedance_by_hand() -> None:
    # p = 1/4: a right call earns 0.5 * 3/4, right without a call 0.5 * 1/4, each on top of 1 + 0.1
    hard = [*right(1), *wrong(0, 0, 6)]
    # 6 calls: 2 beyond 4 at 0.1
    assert totals(codedance([*hard, BROKEN])) == pytest.approx([1.475, 0.1, 0.1, -0.1, None])
    # p = 3/4
    assert totals(codedance([*right(0, 1, 1), *wrong(0)])) == pytest.approx([1.475, 1.225, 1.225, 0.1])
    # no call that worked earns nothing, and costs the share of failed ones: p = 1/2
    assert totals(codedance([failing(1), *wrong(0)])) == pytest.approx([1.0, 0.1])
    assert totals(codedance([BROKEN])) == [None] and codedance([]) == []


def test_codedance_pays_for_calling_only_where_it_is_hard() -> None:
    hard, easy = codedance([*right(0, 1), *wrong(0, 0)]), codedance([*right(0, 1, 0, 0), *wrong(0)])
    assert hard[1].parts["tool"] == hard[0].parts["tool"] == 0.25  # p = 1/2: even
    assert easy[0].parts["tool"] > easy[1].parts["tool"]


def test_tgrl_by_hand() -> None:
    # 1 + 0.2 * (1 + 1); 6 calls: 0.2 * (2 - 0.25 * 2); a failed call: 0.2 * 1; wrong; in bad form, no answer
    made = [*right(1, 6), failing(1), *wrong(0), BAD, BROKEN]
    assert totals(tgrl(made)) == pytest.approx([1.4, 1.3, 1.2, 0.4, 0.0, None])
    assert totals(tgrl(right(6), tool=1.0, most_calls=1, excess=0.1)) == pytest.approx([2.5])


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=6), st.randoms())
def test_comparisons_are_blind_to_the_order(made: list[tuple[int, bool]], order) -> None:
    here = [trajectory(calls=calls, correct=correct) for calls, correct in made]
    places = list(range(len(here)))
    order.shuffle(places)
    for reward in (
        otc,
        codedance,
        tgrl,
        fewest_turns_when_right,
        lambda g: otc_history(g, history=History()),
        lambda g: lightsearcher(g, history=History()),
        lambda g: mash(group(*g), penalty="exponential", history=History()),
    ):
        scores = reward(here)
        assert reward([here[i] for i in places]) == [scores[i] for i in places]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.sampled_from(["linear", "exponential", "otc"]))
def test_mash_falls_with_every_call(counts: list[int], penalty) -> None:
    found = mashed(right(*counts), penalty=penalty)
    ordered = [total for _, total in sorted(zip(counts, found, strict=True))]
    assert all(0 <= (total or 0) <= 1 for total in ordered)
    assert ordered == sorted(ordered, reverse=True)
