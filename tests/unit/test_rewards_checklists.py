"""Checklists, rules, principles and nuggets, worked out by hand."""

import json
import math
import random
import re
from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.errors import DataError
from journeyman.rewards.base import Score
from journeyman.rewards.checklists import (
    Criterion,
    checklist,
    checklist_turns,
    counted,
    exchanges,
    extract_rules,
    keep_rules,
    leaning,
    principles,
    rule_agreement,
    rules,
)
from journeyman.rewards.nuggets import LABELS, macro_f1, nugget_verifier, nuggets
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

BROKEN = trajectory(stop_reason=StopReason.TOOL, correct=None)


def totals(scores: list[Score]) -> list[float | None]:
    return [score.total for score in scores]


def saying(text: str, **fields: object) -> Trajectory:
    return trajectory(turns=(Turn(text=text),), answer=None, **fields)


def listing(test: Callable[[str, str], object]) -> RuleJudge:
    """Answers with a JSON list: of each numbered item before the material what `test(item, material)` says."""

    def answer(question: str) -> str:
        task, _, material = question.partition("<<< request")
        items = re.findall(r"^\d+\. (.*)$", task, re.MULTILINE)
        return json.dumps([test(item, material) for item in items])

    return RuleJudge(answer)


KEPT = listing(lambda item, material: item.split()[0] in material.split("The last exchange:")[-1])
"""A criterion is met where its first word was said in the last exchange."""


# ---- checklists

CHECKLIST = [
    {
        "turn": 0,
        "criteria": [
            {"id": "greets", "question": "hello is said", "weight": 1},
            {"id": "asks", "question": "which is asked", "weight": 3, "depends_on": ["greets"]},
        ],
    },
    {"turn": 1, "criteria": [{"question": "bye is said"}]},
]


def dialogue(first: str, second: str) -> Trajectory:
    return trajectory(turns=(Turn(text="thinking"), Turn(text=first, reply="The red one."), Turn(text=second)))


def test_checklist_by_hand() -> None:
    attempts = group(
        dialogue("hello which one", "bye"),  # (1, 1)
        dialogue("hello", "bye"),  # (1/4, 1)
        dialogue("which one", "well"),  # (0, 0): asking counts only after a greeting
        trajectory(turns=(Turn(text="hello which one"),)),  # (1, never came to it)
        BROKEN,
        data={"checklist": CHECKLIST},
    )
    scores = checklist(attempts, judge=KEPT)
    assert totals(scores) == [1.0, pytest.approx(0.625), 0.0, 0.5, None]
    assert scores[1].parts == pytest.approx({"checklist": 0.625, "criteria_passed": 2 / 3})


def test_checklist_turns_by_hand() -> None:
    attempts = group(
        dialogue("hello", "bye"),
        trajectory(turns=(Turn(text="hello which one"),)),
        BROKEN,
        data={"checklist": CHECKLIST},
    )
    scores = checklist_turns(attempts, judge=KEPT)
    # r = (1/4, 1), each over two turns of the user, earned before the user speaks again
    assert scores[0].turns == pytest.approx((0.0, 0.125, 0.5)) and scores[0].total == pytest.approx(0.625)
    assert scores[1].turns == pytest.approx((0.5,)) and scores[1].total == pytest.approx(0.5)
    assert scores[2].total is None


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.floats(0.1, 5)), min_size=1, max_size=3), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_both_forms_pay_the_same(lists: list[list[tuple[bool, float]]], came: int) -> None:
    data = [
        {"turn": turn, "criteria": [{"question": "hello" if met else "bye", "weight": w} for met, w in own]}
        for turn, own in enumerate(lists)
    ]
    turns = tuple(Turn(text="hello", reply="and?") for _ in range(came))
    attempts = group(trajectory(turns=turns), data={"checklist": data})
    whole, parts = checklist(attempts, judge=KEPT)[0], checklist_turns(attempts, judge=KEPT)[0]

    due = 0.0
    for turn, own in enumerate(lists):
        if turn < came:
            due += sum(w for met, w in own if met) / sum(w for _, w in own)
    assert whole.total == pytest.approx(due / len(lists)) and parts.total == pytest.approx(whole.total)


def test_a_checklist_without_a_list_or_a_readable_answer_is_unscorable() -> None:
    assert totals(checklist(group(dialogue("hello", "bye")), judge=KEPT)) == [None]
    unreadable = RuleJudge(lambda _: "[true]")  # two criteria
    attempts = group(dialogue("hello", "bye"), data={"checklist": CHECKLIST})
    assert totals(checklist(attempts, judge=unreadable)) == [None]
    assert checklist_turns(attempts, judge=unreadable)[0].turns == ()


def test_votes_decide_on_each_criterion() -> None:
    attempts = group(dialogue("hello", "bye"), data={"checklist": [{"criteria": [{"question": "hello"}]}]})
    answers = iter(["[true]", "[false]", "[true]"])

    class Wavering(RuleJudge):
        def ask(self, questions, *, samples=1, temperature=0.0):  # type: ignore[no-untyped-def]
            return [[next(answers) for _ in range(samples)] for _ in questions]

    assert totals(checklist(attempts, votes=3, judge=Wavering())) == [1.0]


def test_dependencies_reach_back_as_far_as_they_go() -> None:
    chain = [
        Criterion(question="a"),
        Criterion(question="b", id="b", depends_on=("1",)),
        Criterion(question="c", depends_on=("b",)),
    ]
    assert counted(chain, [True, True, True]) == [True] * 3
    assert counted(chain, [False, True, True]) == [False] * 3
    assert counted(chain, [True, False, True]) == [True, False, False]
    with pytest.raises(DataError, match="no criterion 'd'"):
        counted([Criterion(question="a", depends_on=("d",))], [True])
    with pytest.raises(DataError, match="depends on itself"):
        counted([Criterion(question="a", depends_on=("1",))], [True])


def test_a_broken_checklist_is_told_of() -> None:
    with pytest.raises(DataError, match=r"data\.checklist\.0\.criteria\.0\.question"):
        checklist(group(trajectory(), data={"checklist": [{"criteria": [{"weight": 1}]}]}), judge=KEPT)


def test_exchanges_end_with_the_users_words() -> None:
    assert exchanges(dialogue("a", "b")) == [slice(0, 2), slice(2, 3)]
    assert exchanges(trajectory(turns=(Turn(text="a", reply="b"),))) == [slice(0, 1)]
    assert exchanges(trajectory(turns=())) == []


# ---- rules


def test_rules_by_hand() -> None:
    judge = listing(lambda item, material: item.split()[0] in material)
    attempts = group(saying("a c d"), BROKEN, data={"rules": ["c so", "d so"]})
    scores = rules(attempts, rules=("a so", "b so"), judge=judge)  # 1, 0, 1, 1
    assert totals(scores) == [0.75, None]
    assert len(judge.asked) == 1  # all in one call
    assert totals(rules(group(saying("a")), judge=judge)) == [None]
    assert totals(rules(attempts, judge=RuleJudge(lambda _: "?"))) == [None, None]


def test_rules_in_any_order_pay_the_same() -> None:
    judge = listing(lambda item, material: item in material)
    orders = permutations(("apple", "brick", "cloud"))
    assert {totals(rules(group(saying("apple cloud")), rules=order, judge=judge))[0] for order in orders} == {2 / 3}


def test_agreement_of_rules_by_hand() -> None:
    pairs = [(True, False)] * 4 + [(True, True)] * 2 + [(False, False)] * 3 + [(False, True)]
    assert rule_agreement(pairs) == pytest.approx(0.65)  # (4 + 5/2) / 10
    assert rule_agreement([(True, True)] * 10) == 0.5
    assert rule_agreement([]) == 0.0
    assert keep_rules({"a": 0.65, "b": 0.5, "c": 0.9, "d": 0.6}) == ["c", "a", "d"]
    assert keep_rules({"a": 0.65, "c": 0.9}, most=1) == ["c"]


def test_rules_are_extracted_and_tested() -> None:
    def answer(question: str) -> str:
        if "Say step by step why" in question:
            return "It reads the error."
        if "State the reasons" in question:
            return '["read errors", "be nice"]'
        if "Merge the rules" in question:
            return '["read errors", "be nice"]'
        return json.dumps(["reads" in question, True])

    pairs = [("reads it", "skips it"), ("reads it", "waits")]
    assert extract_rules(RuleJudge(answer), pairs) == {"read errors": 1.0, "be nice": 0.5}
    assert extract_rules(RuleJudge(answer), pairs, held_out=[("skips", "reads")]) == {
        "read errors": 0.0,
        "be nice": 0.5,
    }
    assert extract_rules(RuleJudge(lambda _: "?"), pairs) == {}
    assert extract_rules(RuleJudge(answer), []) == {}


# ---- principles


def test_principles_by_hand() -> None:
    judge = RuleJudge(lambda question: "yes" if "principle? short" in question else "no")
    attempts = group(saying("x"), BROKEN, data={"principles": ["short", "kind"]})
    # 4 of 4 votes: (4 + .5) / 5 = .9, logit ln 9; 0 of 4: -ln 9; the mean is 0
    assert totals(principles(attempts, judge=judge)) == [pytest.approx(0.0), None]
    assert totals(principles(group(saying("x")), principles=("short",), judge=judge)) == [pytest.approx(math.log(9))]
    found = principles(group(saying("x")), principles=("short",), form="difference", judge=judge)
    assert totals(found) == [pytest.approx(0.8)]  # .9 - .1
    assert totals(principles(group(saying("x")), judge=judge)) == [None]
    assert totals(principles(attempts, judge=RuleJudge(lambda _: "?"))) == [None, None]


def test_leaning_by_hand() -> None:
    # 3 of 4: 3.5 / 5 = .7, ln(7/3)
    assert leaning(0.75, votes=4, smoothing=0.5, form="logit") == pytest.approx(math.log(7 / 3))
    assert leaning(0.5, votes=4, smoothing=0.5, form="logit") == pytest.approx(0)
    assert leaning(1.0, votes=4, smoothing=0.0, form="logit") == math.inf
    assert leaning(0.0, votes=4, smoothing=0.0, form="difference") == -1
    assert leaning(None, votes=4, smoothing=0.5, form="logit") is None


@given(st.floats(0, 1), st.integers(1, 9), st.sampled_from(["logit", "difference"]))
def test_leaning_is_odd_and_rises(share: float, votes: int, form: str) -> None:
    def lean(value: float) -> float:
        found = leaning(value, votes=votes, smoothing=0.5, form=form)  # type: ignore[arg-type]
        assert found is not None
        return found

    assert lean(share) == pytest.approx(-lean(1 - share), abs=1e-9)
    assert lean(min(1, share + 0.1)) >= lean(share)


# ---- nuggets


def labeller(question: str) -> str:
    answer = question.split("<<< answer\n")[1]
    items = re.findall(r"^\d+\. (.*)$", question.partition("<<< request")[0], re.MULTILINE)
    says = [
        "support" if item in answer else "partial_support" if item[:3] in answer else "not_support" for item in items
    ]
    return json.dumps(says)


NUGGETS = [{"text": "Seine", "weight": 2}, "Paris", "Rome"]


def test_nuggets_by_hand() -> None:
    attempts = group(saying("The Seine and Par."), saying(" "), BROKEN, data={"nuggets": NUGGETS})
    # w = (2, 1, 1), support, partial, not: (2 + .5 + 0) / 4
    assert totals(nuggets(attempts, judge=RuleJudge(labeller))) == [0.625, 0.0, None]
    assert totals(nuggets(attempts, partial_support=0.0, judge=RuleJudge(labeller)))[0] == 0.5
    assert totals(nuggets(attempts, judge=RuleJudge(lambda _: '["support"]'))) == [None, 0.0, None]


def test_nuggets_are_asked_for_ten_at_once() -> None:
    judge = RuleJudge(labeller)
    data = {"nuggets": [f"fact{number:02}" for number in range(21)]}
    assert totals(nuggets(group(saying("fact00 fact20"), data=data), judge=judge)) == [
        pytest.approx((2 + 0.5 * 19) / 21)  # the others begin alike
    ]
    assert len(judge.asked) == 3


def test_the_reference_is_the_only_nugget_where_there_are_none() -> None:
    judge = RuleJudge(lambda question: '["support"]' if "The answer to the request is: 42" in question else "?")
    assert totals(nuggets(group(trajectory()), judge=judge)) == [1.0]
    assert totals(nuggets(group(trajectory(reference="")), judge=judge)) == [None]


S, P, N = LABELS


def test_nugget_verifier_by_hand() -> None:
    data = {"labels": [S, N]}
    said = json.dumps([S, S])
    attempts = group(
        saying(f"<think>hm</think>{json.dumps([S, N])}"),  # all of it
        # macro-F1: support 2*1/(1+2) = 2/3, not 0, partial in neither 1: 5/9; .35*5/9 + .2 + .1
        saying(f"<think>hm</think>{said}"),
        saying(f"<think>hm</think><think>so</think>{said}"),  # a tenth; the tags are half right
        saying(json.dumps([S])),  # too few
        saying(f"{S}, {N}"),  # no tags, no list: .7
        saying(f"<think>{said}"),  # nothing behind the thought
        BROKEN,
        data=data,
    )
    found = totals(nugget_verifier(attempts))
    half = 0.35 * 5 / 9 + 0.1
    assert found == [
        pytest.approx(one) if one is not None else None
        for one in (
            *(1.0, half + 0.2, 0.1 * (half + 0.1)),
            *(0.0, 0.7, 0.0, None),
        )
    ]
    assert found[1] == pytest.approx(0.494, abs=5e-4)
    assert totals(nugget_verifier(group(saying("x")))) == [None]


def test_a_verifier_that_is_all_wrong_earns_nothing() -> None:
    # gold and given share no label, but partial_support stands in neither: F1 1/3, so the format still pays
    found = nugget_verifier(group(saying(f"<think>hm</think>{json.dumps([N, S])}"), data={"labels": [S, N]}))[0]
    assert found.parts["macro_f1"] == pytest.approx(1 / 3)
    assert found.total == pytest.approx(0.35 / 3 + 0.3)
    gold, given_ = [S, P, N], [N, S, P]
    assert macro_f1(gold, given_) == 0
    assert totals(nugget_verifier(group(saying(json.dumps(given_)), data={"labels": gold}))) == [0.0]


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=8), st.randoms())
def test_macro_f1_does_not_care_for_the_order(pairs: list[tuple[str, str]], rng: random.Random) -> None:
    before = macro_f1(*zip(*pairs, strict=True))
    rng.shuffle(pairs)
    assert macro_f1(*zip(*pairs, strict=True)) == pytest.approx(before)
    assert 0 <= before <= 1
