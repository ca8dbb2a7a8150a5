"""Ambiguous requests: what questions are worth, worked by hand, and courses that ask well or badly."""

import asyncio
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.ambiguous import Ambiguous, AmbiguousEpisode, questions
from journeyman.environments.base import walked
from journeyman.environments.inquiry import VALUES, Form, Ledger, Pay, entropy, factored_entropy, fewest, gain
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from tests.unit.fakes import some

PLAIN = {"colour": "red", "size": "small", "material": "glass", "place": "hall", "pattern": "plain"}


def ledger(*sizes: int, needed: int, success: bool = True) -> Ledger:
    return Ledger(needed=needed, sizes=list(sizes), chosen="x" if success else "y", target="x")


def test_three_halvings_and_a_repeated_question() -> None:
    # 8 -> 4 -> 2 -> 1: gains 3 x 1/2 = 1.5; three questions are needed: 1 + 0.15 - 0 = 1.15.
    right = ledger(8, 4, 2, 1, needed=3)
    assert right.gains() == [0.5, 0.5, 0.5] and right.total() == pytest.approx(1.15)
    # One asked again: its gain is -1, so 1.5 - 1 = 0.5, and one is over: 1 + 0.05 - 0.1 = 0.95.
    assert ledger(8, 4, 2, 1, 1, needed=3).total() == pytest.approx(0.95)
    # A single candidate needs no question: 1 - 0.1 - 0.1 = 0.8.
    assert ledger(1, 1, needed=0).total() == pytest.approx(0.8) and ledger(1, needed=0).total() == 1.0
    # Nothing chosen: what the questions earn alone.
    assert ledger(8, 4, 2, 1, needed=3, success=False).total() == pytest.approx(0.15)
    assert gain(4, 1) == 0.75 and gain(4, 4) == -1.0


def test_bits_add_up_to_what_is_known_in_the_end() -> None:
    # H = log2 8 - log2 1 = 3 bits: 1 + 0.3 - 3 x 0.05 = 1.15; a question that tells nothing costs 0.05.
    assert ledger(8, 4, 2, 1, needed=3).total(Pay.BITS) == pytest.approx(1.15)
    assert ledger(8, 4, 2, 1, 1, needed=3).total(Pay.BITS) == pytest.approx(1.10)
    # Four colours, two sizes, two places: 2 + 1 + 1 bits; with the colour known 2 are left, a gain of 2.
    before = {"colour": "abcd", "size": "sm", "place": "kh"}
    assert factored_entropy(before) == 4.0 and factored_entropy({**before, "colour": "a"}) == 2.0
    assert entropy([{}] * 8) == 3.0 and entropy([]) == 0.0


@given(st.lists(st.integers(0, 6), max_size=6), st.integers(1, 64))
@settings(max_examples=60)
def test_the_bits_of_all_questions_are_those_of_the_whole(drops: list[int], first: int) -> None:
    sizes = [first]
    for drop in drops:
        sizes.append(max(1, sizes[-1] - drop))
    steps = [math.log2(a) - math.log2(b) for a, b in pairwise(sizes)]
    assert ledger(*sizes, needed=1).bits() == pytest.approx(sum(steps))


def things(**values: Sequence[str]) -> list[dict[str, str]]:
    count = len(next(iter(values.values())))
    return [{"id": f"t{i}", **PLAIN, **{name: known[i] for name, known in values.items()}} for i in range(count)]


def test_the_fewest_questions() -> None:
    assert [fewest(things(colour=["red"] * n), Form.YES_NO) for n in (1, 2, 3, 4, 5, 8)] == [0, 1, 2, 2, 3, 3]
    full = things(colour=["red", "blue", "green"])
    assert fewest(full, Form.OPEN) == 1  # one attribute splits them fully
    pair = things(colour=["red", "red", "blue", "blue"], size=["small", "large", "small", "large"])
    assert fewest(pair, Form.OPEN) == 2
    assert fewest(things(colour=["red"] * 4), Form.OPEN) == 2  # nothing tells them apart: as for yes and no


def a_problem(form: Form) -> Problem:
    """Four mugs, two colours by two sizes; the second is meant."""
    mugs = things(colour=["red", "red", "blue", "blue"], size=["small", "large", "small", "large"])
    data = {"candidates": mugs, "target": "t1", "form": form.value}
    return Problem(id="p", family="ambiguous", question="the mug", answer="t1", tools=("ask_user", "choose"), data=data)


def episode(form: Form = Form.OPEN, **options: Any) -> AmbiguousEpisode:
    return Ambiguous(**options).reset(a_problem(form), CallContext())


def act(attempt: AmbiguousEpisode, *turns: ParsedTurn) -> tuple[list[str], list[float], bool]:
    """(what was seen, what was paid, whether it is over)."""
    reactions = [asyncio.run(attempt.step(turn)) for turn in turns]
    seen = [
        text for r in reactions for text in [*(x.output for x in r.results), *([r.reply.content] if r.reply else [])]
    ]
    return seen, [r.reward for r in reactions], reactions[-1].done


def ask(attribute: str, **value: str) -> ParsedTurn:
    return ParsedTurn(calls=(ToolCall(name="ask_user", arguments={"attribute": attribute, **value}),))


def choose(key: str) -> ParsedTurn:
    return ParsedTurn(calls=(ToolCall(name="choose", arguments={"id": key}),))


def test_asking_by_tool_pays_turn_by_turn() -> None:
    attempt = episode()
    seen, paid, done = act(attempt, ask("colour"), ask("size"), choose("t1"))
    assert seen == ["The colour is red.", "The size is large.", "brought t1"] and done
    assert paid == pytest.approx([0.05, 0.05, 1.0])  # 4 -> 2 -> 1
    verdict = asyncio.run(attempt.verify(None))
    assert verdict.correct and verdict.score == 1.0
    assert verdict.parts == pytest.approx(
        {"success": 1, "gain": 1, "bits": 2, "total": 1.1, "questions": 2, "needed": 2}
    )


def test_asking_in_words_counts_the_same() -> None:
    attempt = episode()
    said = ("Is it a red one?", "What size, please?", "How are you?", "Red or blue?")
    seen, paid, done = act(attempt, *(ParsedTurn(text=text) for text in said))
    assert seen[:2] == ["Yes.", "The size is large."] and not done
    assert all(text.startswith("I can't answer that.") for text in seen[2:])
    assert paid == pytest.approx([0.05, 0.05, -0.2, -0.2])  # -0.1 for telling nothing, -0.1 for being too many


def test_yes_and_no_only() -> None:
    attempt = episode(Form.YES_NO)
    seen, _, _ = act(attempt, ask("colour"), ask("colour", value="blue"), ask("colour", value="pink"))
    assert seen[0].startswith("error: the user answers yes or no only") and seen[1] == "No."
    assert seen[2].startswith("error: colour is one of") and attempt.room.ledger.sizes == [4, 2]
    assert act(attempt, ParsedTurn(text="Which size?"))[0][0].startswith("I can't answer that.")


def test_a_wrong_choice_one_that_is_not_there_and_none() -> None:
    wrong = episode()
    assert act(wrong, choose("t9"))[0] == ["error: there is no t9"] and act(wrong, choose("t2"))[2]
    verdict = asyncio.run(wrong.verify(None))
    assert (verdict.correct, verdict.score) == (False, 0.0)
    assert asyncio.run(episode().verify(None)).correct is False
    by_answer = episode()
    act(by_answer, ParsedTurn(answer="t1"))
    assert asyncio.run(by_answer.verify("t1")).correct


def test_asking_in_vain_makes_a_score_below_one() -> None:
    attempt = episode()
    act(attempt, ask("colour"), ask("colour"), ask("place"), choose("t1"))
    # 0.5 - 1 - 1 = -1.5, one question over: 1 - 0.15 - 0.1 = 0.75.
    verdict = asyncio.run(attempt.verify(None))
    assert verdict.correct and verdict.score == pytest.approx(0.75) == verdict.parts["total"]


def test_an_attempt_goes_on_from_its_state() -> None:
    attempt = episode()
    act(attempt, ask("colour"))
    other = attempt.fork(CallContext(seed=4))
    assert isinstance(other, AmbiguousEpisode)
    assert other.state_dict() == json.loads(json.dumps(attempt.state_dict()))
    assert act(other, ask("size"), choose("t1"))[1] == pytest.approx([0.05, 1.0])
    assert attempt.room.ledger.sizes == [4, 2]


@pytest.mark.parametrize("pay", Pay)
def test_wasteful_courses_end_right_and_score_less(pay: Pay) -> None:
    world = Ambiguous(pay=pay)
    for problem in some("ambiguous", 60, seed=2):
        gold, *mistaken = world.courses(problem)
        best = asyncio.run(walked(world, problem, gold)).verdict
        assert best.correct and best.parts["total"] >= 1.0 and best.parts["questions"] <= best.parts["needed"]
        assert not any(asyncio.run(walked(world, problem, course)).verdict.correct for course in mistaken)
        for course in world.wasteful(problem):
            verdict = asyncio.run(walked(world, problem, course)).verdict
            assert verdict.correct and verdict.parts["total"] < best.parts["total"]


def test_problems_hide_what_is_meant_among_things_that_fit() -> None:
    for problem in some("ambiguous", 100, seed=3):
        records = problem.data["candidates"]
        shared = [name for name in VALUES if len({record[name] for record in records}) == 1]
        first = problem.question.partition(".")[0]
        assert any(records[0][name] in first for name in shared)
        assert all(record["id"] in problem.question for record in records) and 2 <= len(records) <= 8
        assert 1 <= len(questions(problem)) == problem.min_calls - 1
        assert problem.data["target"] not in first


def test_the_tools_outside_an_attempt_know_nothing() -> None:
    tools = Ambiguous().tools()
    for name, arguments in (("ask_user", {"attribute": "size"}), ("choose", {"id": "t1"})):
        assert not asyncio.run(tools[name].call(arguments)).ok
