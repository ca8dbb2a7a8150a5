"""Strategies that rework texts of attempts or take samples from them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.environments import environment
from journeyman.llm import Scripted
from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.rollout.parse import parse_turn, render_call
from journeyman.synthesis.base import Lesson, Studio
from journeyman.synthesis.courses import play
from journeyman.synthesis.strategies import STRATEGIES, build_strategy
from journeyman.synthesis.strategies.experience import early_experience, tells
from journeyman.synthesis.strategies.normal import normalized, without_error_spans
from journeyman.synthesis.strategies.remapped import adjusted, remap_reflect_adjust, remapped
from journeyman.synthesis.strategies.repairs import repaired, repairs_of
from journeyman.synthesis.strategies.rewrites import (
    Bar,
    Faithfulness,
    compared,
    heuristic_quality,
    literals,
    protected,
    rewritten,
)
from journeyman.synthesis.strategies.signals import PROMPTS, Signal, mined, parse, render, signals
from journeyman.synthesis.written import WrittenAttempt, retold
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import problem, some
from tests.unit.teachers import StubTeacher

SIX = problem()
"""What is 6 times 7? With a calculator."""


def calculation(expression: str, thought: str = "multiply") -> str:
    return f"<think>{thought}</think>\n{render_call(ToolCall(name='calculator', arguments={'expression': expression}))}"


CALL = '{"name": "calculator", "arguments": {"expression": "6*7"}}'
RIGHT = (calculation("6*7"), "<answer>42</answer>")


def played(texts: Sequence[str], of: Problem = SIX, **more: Any) -> Trajectory:
    return replace(asyncio.run(retold(of, texts, source="teacher")), **more)


def studio(teacher: StubTeacher | None = None, chat: Scripted | None = None, seed: int = 0) -> Studio:
    return Studio(teacher=teacher or StubTeacher(lambda _: ()), chat=chat, seed=seed)


def made(strategy: Callable[..., Awaitable[Any]], lesson: Lesson, of: Studio | None = None, **options: Any) -> Lesson:
    [lesson] = asyncio.run(strategy(lesson, of or studio(), **options))  # type: ignore[arg-type]
    return lesson


def lesson(*attempts: Trajectory, of: Problem = SIX) -> Lesson:
    return Lesson(problem=of, trajectories=attempts)


def texts(attempt: Trajectory) -> list[str]:
    return [turn.text for turn in attempt.turns]


def reasons(of: Lesson) -> list[str]:
    return [one.provenance["refused"] for one in of.refused]


def kinds(of: Lesson) -> list[str]:
    return [one.provenance.get("kind", "trajectory") for one in of.trajectories]


def timeless(of: Lesson) -> list[dict[str, Any]]:
    """All of a lesson but for how long its calls took."""
    from journeyman.trajectory import to_row

    rows = [to_row(one) for one in (*of.trajectories, *of.refused)]
    for row in rows:
        for turn in row["turns"]:
            turn["results"] = [{**result, "seconds": 0} for result in turn["results"]]
    return rows


# early experience


def test_early_experience_by_hand() -> None:
    expert = played(RIGHT)
    says = iter([[calculation("6+7", "add"), "<answer>13</answer>"], list(RIGHT), ["<answer>42</answer>"]])
    teacher = StubTeacher(lambda _: next(says))
    got = made(early_experience, lesson(expert), studio(teacher), alternatives=3)
    state = "tools: calculator\nuser: What is 6 times 7?\nassistant: "
    asks = "\n\nWhat does this action lead to? Write what comes back, word for word."
    assert kinds(got) == ["trajectory", "world_model", "world_model"]
    # 6*7 = 42 is what the expert saw, 6+7 = 13 what the alternative did; thoughts are no part of an action.
    assert [(t.question, t.turns[0].text) for t in got.trajectories[1:]] == [
        (state + RIGHT[0].removeprefix("<think>multiply</think>\n") + asks, "42"),
        (state + calculation("6+7").removeprefix("<think>multiply</think>\n") + asks, "13"),
    ]
    assert got.trajectories[0] == expert
    assert reasons(got) == ["an action that was tried before", "an action that nothing comes back from"]
    assert all(t.correct and t.tools == () for t in got.trajectories[1:])
    other = got.trajectories[2].provenance
    assert (other["strategies"], other["turn"], other["verified"]) == (["early_experience"], 0, "environment")
    assert got.trajectories[1].provenance["from"] == [expert.id]
    assert other["from"][0] == expert.id and len(other["from"]) == 2
    assert len({asked.seed for asked in teacher.asked}) == 3


def test_later_states_are_gone_on_from() -> None:
    [hops] = [p for p in some("lookup", 20) if len(p.data["hops"]) == 2][:1]
    gold = environment("lookup").courses(hops)[0]
    expert = asyncio.run(play(hops, gold, source="scripted", provenance={}))
    teacher = StubTeacher(lambda asked: [texts(expert)[0]] if asked.start else [texts(expert)[1]])
    got = made(early_experience, lesson(expert, of=hops), studio(teacher), alternatives=1)
    assert [[turn.text for turn in asked.start] for asked in teacher.asked] == [[], [texts(expert)[0]]]
    # Two states, in each the expert's action and another: what was seen before is in the prompt of the second.
    assert kinds(got)[1:] == ["world_model"] * 4
    assert [t.provenance["turn"] for t in got.trajectories[1:]] == [0, 0, 1, 1]
    seen = expert.turns[0].results[0].output
    assert [f"tool: {seen}" in t.question for t in got.trajectories[1:]] == [False, False, True, True]


def reflecting(reply: str) -> Lesson:
    teacher = StubTeacher(lambda _: [calculation("6+7", "add")])
    chat = Scripted(lambda _: reply)
    options = {"alternatives": 1, "world_model": False, "reflection": True}
    return made(early_experience, lesson(played(RIGHT)), studio(teacher, chat), **options)


def test_a_reflection_is_a_thought_and_the_experts_action() -> None:
    reply = calculation("6*7", "Times means a product; adding 6 and 7 would not give it.")
    got = reflecting(reply)
    assert kinds(got) == ["trajectory", "reflection"] and not got.refused
    sample = got.trajectories[1]
    assert texts(sample) == [reply]
    assert sample.question == (
        "tools: calculator\nuser: What is 6 times 7?\n\nWhat do you do next? Think in <think></think>, then act."
    )
    assert len(sample.provenance["from"]) == 2 and sample.provenance["verified"] == "action"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (calculation("6+7", "Adding is better."), "a reflection that doesn't end in the expert's action"),
        ("<think>Times is a product.</think> Multiply!", "a reflection that doesn't end in the expert's action"),
        (calculation("6*7", "It gives 42, which is right."), "a reflection that tells what isn't known yet"),
        (calculation("6*7", "A sum would be 13."), "a reflection that tells what isn't known yet"),
        (calculation("6*7", " "), "a reflection without a thought"),
        ("<think>Times is", "a reflection that can't be read: <think> is not closed"),
        ("", "a reflection without a thought"),
    ],
)
def test_a_reflection_that_says_more_or_other_is_refused(reply: str, reason: str) -> None:
    got = reflecting(reply)
    assert (kinds(got), reasons(got)) == (["trajectory"], [reason])


def test_what_only_comes_back_later_is_told_by_string() -> None:
    seen, known = ["The mayor of Quiton is Vahan, elected 1998."], "What is the pet of the mayor of Quiton?"
    assert tells("I ask for the mayor of Quiton first.", seen, "rabbit", known) == set()
    assert tells("Vahan has a rabbit since 1998.", seen, "rabbit", known) == {"Vahan", "rabbit", "1998"}


def test_wrong_and_malformed_attempts_and_samples_are_no_experts() -> None:
    wrong = played([calculation("6+7"), "<answer>13</answer>"])
    sample = replace(played(RIGHT), provenance={"kind": "reflection"})
    right = played(RIGHT)
    slip = replace(right, turns=(replace(right.turns[0], text="<think>multiply"), right.turns[1]))
    got = made(early_experience, lesson(wrong, sample, slip))
    assert got.trajectories == (wrong, sample, slip) and not got.refused


def test_a_start_that_ends_the_attempt_is_taken_as_far_as_it_goes() -> None:
    start = [Turn(text=text) for text in ("<think>multiply", *RIGHT)]
    attempt = asyncio.run(WrittenAttempt.begin(SIX, start=start))
    assert (len(attempt.turns), attempt.stop_reason) == (1, StopReason.FORMAT_ERROR)


# rewritten


@pytest.mark.parametrize(
    ("gain", "kept", "score"),
    [
        # 4 - 3 + [.9 >= .85] + [kept] + [.75 <= 1.1 <= 1.25] = 4; an id lost: 0; a copy: 0 + 1 + 1 + 1 = 3.
        (1.0, Faithfulness(spans=True, cosine=0.9, structure=True, ratio=1.1), 4.0),
        (1.0, Faithfulness(spans=False, cosine=0.9, structure=True, ratio=1.1), 0.0),
        (0.0, Faithfulness(spans=True, cosine=1.0, structure=True, ratio=1.0), 3.0),
        (2.5, Faithfulness(spans=True, cosine=0.84, structure=False, ratio=1.26), 2.5),
    ],
)
def test_the_score_of_a_rewrite(gain: float, kept: Faithfulness, score: float) -> None:
    assert Bar().earned(gain, kept) == score


OLD = "so hmm I multiply 6 and 7 with the calculator, the calculator, I multiply them"
NEW = "So I multiply 6 and 7 with the calculator: the calculator can multiply them."


def writer(new: Any, *qualities: str) -> Scripted:
    reply = new if isinstance(new, str) else f"<texts>{json.dumps(new)}</texts>"
    return Scripted([reply, *(f"<quality>{one}</quality>" for one in qualities)])


def rewriting(chat: Scripted, attempt: Trajectory | None = None, **options: Any) -> Lesson:
    return made(rewritten, lesson(attempt or played([calculation("6*7", OLD), RIGHT[1]])), studio(chat=chat), **options)


def test_rewritten_by_hand() -> None:
    old = played([calculation("6*7", OLD), RIGHT[1]])
    chat = writer([NEW], "3", "4.5")
    got = rewriting(chat)
    [new] = got.trajectories
    assert texts(new) == [calculation("6*7", NEW), RIGHT[1]] and not got.refused
    assert new.correct and new.calls == old.calls
    told = new.provenance["rewrite"]
    # 4.5 - 3 for the quality, and one each for the likeness, the calls and the length: 76 / 78 characters.
    assert (told["score"], told["quality"]) == (4.5, [3.0, 4.5])
    assert told["length_ratio"] == pytest.approx(len(NEW) / len(OLD), abs=1e-6) and told["cosine"] >= 0.85
    assert (new.provenance["from"], new.provenance["verified"]) == ([old.id], "environment")
    assert new.provenance["strategies"] == ["rewritten"]
    assert "42" not in chat.asked[0][0].content, "the answer is not shown to the writer"


@pytest.mark.parametrize(
    ("new", "qualities", "reason"),
    [
        ([OLD], ("3", "3"), "a rewrite that is no better than a copy"),
        ([NEW.replace("7", "seven")], (), "a rewrite that loses or adds something stated"),
        ([NEW + " That is 42."], (), "a rewrite that loses or adds something stated"),
        ([NEW], ("3", "very good"), "a quality that can't be read"),
        ([NEW], ("3", "5.1"), "a quality that can't be read"),
        (["6 7 calculator multiply"], ("2", "3"), "a rewrite that is no better than a copy"),
        ([NEW, NEW], (), "a rewrite that is no list of 1"),
        ([""], (), "a rewrite with an empty text"),
        ([NEW + "</think><answer>42</answer>"], (), "a rewrite with a tag in it"),
        ("Sure! " + NEW, (), "a rewrite that can't be read"),
        ("<texts>[" * 9 + "</texts>", (), "a call that is not JSON"),
    ],
)
def test_a_rewrite_that_is_not_better_or_not_faithful_is_refused(
    new: Any, qualities: Sequence[str], reason: str
) -> None:
    old = played([calculation("6*7", OLD), RIGHT[1]])
    got = rewriting(writer(new, *qualities))
    assert timeless(lesson(*got.trajectories)) == timeless(lesson(old))
    assert reasons(got) == [reason]


def test_a_number_may_not_move_to_an_earlier_thought() -> None:
    old = ["look it up", "the number is 88 then"]
    assert not compared(old, ["look up that it is 88", "the number is 88 then"], ()).spans
    assert compared(old, ["I look it up", "then the number is 88"], ()).spans


def test_protected_spans() -> None:
    text = "See https://a.org/x?y=1, then user_id of f129 (1,200 or -3.5%): Vahan."
    found = {"https://a.org/x?y=1", "user_id", "f129", "1,200", "-3.5%"}
    assert protected(text, ()) == found
    assert protected(text, {"Vahan", "Vah", "rabbit"}) == found | {"Vahan"}
    attempt = played(RIGHT)
    assert literals(attempt) == {"calculator", "6*7", "42"}


def test_the_heuristic_of_quality() -> None:
    # Of the pairs (a b) (b a) (a b) (b a) (a b) two are distinct: 5 * 2/5; two words are 2/5 of what is no fragment.
    assert heuristic_quality("a b a b a b") == pytest.approx(2.0)
    assert heuristic_quality("two words") == pytest.approx(2.0)
    assert heuristic_quality("all five words are different") == 5.0
    assert heuristic_quality("") == 0.0


def test_a_question_in_other_words_is_a_problem_of_its_own() -> None:
    asks = "What do we get for 6 times 7?"
    chat = writer(["What do you get for 6 times 7?"], "2", "4")
    of = replace(SIX, question=asks)
    attempt = played(RIGHT[1:], of)
    first, second = asyncio.run(rewritten(lesson(attempt, of=of), studio(chat=chat), questions=True))
    assert first.trajectories == (attempt,) and not first.refused
    assert (second.problem.question, second.problem.answer) == ("What do you get for 6 times 7?", "42")
    assert second.problem.id != of.id and second.problem.data == of.data
    [again] = second.trajectories
    assert again.correct and again.problem_id == second.problem.id and again.question == second.problem.question
    assert again.provenance["rewrite"]["question_of"] == of.id and again.provenance["from"] == [attempt.id]


def test_a_question_that_tells_the_answer_is_refused() -> None:
    chat = writer(["Is 6 times 7 what is called 42?"])
    got = made(rewritten, lesson(played(RIGHT[1:])), studio(chat=chat), questions=True)
    assert len(got.trajectories) == 1
    assert reasons(got) == ["a rewrite that loses or adds something stated"]


def test_wrong_attempts_are_not_rewritten() -> None:
    wrong = played([calculation("6+7"), "<answer>13</answer>"])
    chat = Scripted([])
    assert made(rewritten, lesson(wrong), studio(chat=chat), questions=True).trajectories == (wrong,)
    assert not chat.asked


# remap, reflect, adjust

ROWS = [
    {"id": "f1", "title": "Stoumirpel", "genre": "western"},
    {"id": "f2", "title": "Grekasfik", "genre": "western"},
    {"id": "f3", "title": "Dreirudmir", "genre": "drama"},
    {"id": "f4", "title": "Hougolwig", "genre": "western"},
]
SHOP = Problem(
    id="shop",
    family="recommend",
    question="You have chosen f1: Stoumirpel. Recommend yourself what comes next: 2 ids.",
    answer="f4",
    tools=("retrieve", "rank", "show"),
    data={"history": ["f1"], "target": "f4", "plan": None},
    world={"catalogue": ROWS, "histories": [["f1", "f4"]], "length": 2},
)
TITLES = {row["title"].casefold(): row["id"] for row in ROWS}


def test_names_are_remapped_to_items() -> None:
    ids = {row["id"]: row for row in ROWS}
    assert remapped("f3", ids, TITLES) == "f3"
    assert remapped("2. GREKASFIK", ids, TITLES) == "f2"
    assert remapped("'Hougolwig (1974)'", ids, TITLES) == "f4"
    assert remapped("Grekasfick", ids, TITLES) == "f2"  # 2 * 9 / (10 + 9) = .95
    assert remapped("Casablanca", ids, TITLES) is None
    assert remapped("Grekasfik", ids, {"grekasfik": None}) is None
    assert adjusted(["a", "b", "c"], {"a": 1, "b": 4, "c": 4}) == ["b", "c", "a"]


def recommending(answer: str, reply: str) -> tuple[Lesson, Scripted]:
    chat = Scripted(lambda _: reply)
    attempt = played([f"<think>like a western</think>\n<answer>{answer}</answer>"], SHOP)
    return made(remap_reflect_adjust, lesson(attempt, of=SHOP), studio(chat=chat)), chat


def test_remap_reflect_adjust_by_hand() -> None:
    reply = '<scores>{"f3": 1, "f2": 3.5, "f4": 5}</scores>'
    got, chat = recommending("Casablanca, Dreirudmir, 2. Grekasfick, Stoumirpel, Hougolwig", reply)
    [new] = got.trajectories
    # Casablanca is in no catalogue and Stoumirpel was chosen before; the others by score are f4, f2, f3, cut to two.
    assert texts(new) == ["<think>like a western</think>\n<answer>f4, f2</answer>"]
    assert (new.correct, new.score) == (True, 1.0)
    assert new.provenance["list_of"] == "Casablanca, Dreirudmir, 2. Grekasfick, Stoumirpel, Hougolwig"
    assert new.provenance["scores"] == {"f3": 1, "f2": 3.5, "f4": 5} and len(new.provenance["from"]) == 1
    [asked] = chat.asked
    assert "f3: Dreirudmir (genre drama)\nf2: Grekasfik (genre western)\nf4:" in asked[0].content
    assert "Casablanca" not in asked[0].content


@pytest.mark.parametrize(
    ("answer", "reply", "reason"),
    [
        ("f4, f3, f2", '<scores>{"f4": 0, "f3": 2, "f2": 1}</scores>', "no longer right when it is replayed"),
        ("f4, f3", '<scores>{"f4": 1, "f3": 2}</scores>', "a list that scores lower than the one before"),
        ("f2, f3", '<scores>{"f2": 1, "f3": 2}</scores>', "wrong"),
        ("f4, f3", '<scores>{"f4": 1}</scores>', "an item without a score from 0 to 5"),
        ("f4, f3", '<scores>{"f4": 1, "f3": true}</scores>', "an item without a score from 0 to 5"),
        ("f4, f3", '<scores>{"f4": 1, "f3": 6}</scores>', "an item without a score from 0 to 5"),
        ("f4, f3", "[1, 2]", "scores that can't be read"),
        ("Casablanca", "", "a list without an item of the catalogue"),
    ],
)
def test_a_list_that_is_no_better_is_refused(answer: str, reply: str, reason: str) -> None:
    got, _ = recommending(answer, reply)
    assert reasons(got) == [reason]
    assert [one.answer for one in got.trajectories] == [answer]


def test_only_recommendations_are_remapped() -> None:
    before = lesson(played(RIGHT))
    assert made(remap_reflect_adjust, before) == before


# signals


def test_signals_by_hand() -> None:
    attempt = played([calculation("6*", "multiply"), calculation("6*7", "close it"), RIGHT[1]])
    got = made(signals, lesson(attempt))
    assert not attempt.turns[0].results[0].ok and not got.refused
    found = {one.provenance["kind"]: one for one in got.trajectories[1:]}
    # No doubles: one of each type; 6* -> 6*7 is the only failed call that was mended, and no user was asked anything.
    assert set(found) == {f"signal/{one}" for one in PROMPTS if one not in ("output_call", "question_answer")}
    assert len(got.trajectories) == 7 and got.trajectories[0] == attempt
    fixed, broken = (CALL, CALL.replace("6*7", "6*"))
    assert {kind.removeprefix("signal/"): one.turns[0].text for kind, one in found.items()} == {
        "goal_tool": "calculator",
        "goal_plan": "1. calculator: multiply\n2. calculator: close it",
        "doc_call": fixed,
        "call_output": "42",
        "error_fix": fixed,
        "trace_outcome": "right",
    }
    prompt = found["signal/error_fix"].question
    error = attempt.turns[0].results[0].output
    assert prompt.endswith(f"\n### goal\nWhat is 6 times 7?\n### call\n{broken}\n### error\n{error}")
    assert found["signal/error_fix"].provenance["from"] == [attempt.id]
    assert found["signal/call_output"].provenance["verified"] == "environment"


def test_two_failures_in_a_row_are_mended_once() -> None:
    attempt = played([calculation("6*"), calculation("6**"), calculation("6*7"), RIGHT[1]])
    assert [one.given["call"][-6:] for one in mined(attempt) if one.type == "error_fix"] == ['6**"}}']


def test_the_next_call_follows_from_the_output() -> None:
    [hops] = [p for p in some("lookup", 20) if len(p.data["hops"]) == 2][:1]
    gold = environment("lookup").courses(hops)[0]
    attempt = asyncio.run(play(hops, gold, source="scripted", provenance={}))
    [found] = [one for one in mined(attempt) if one.type == "output_call"]
    assert found.given["output"] == attempt.turns[0].results[0].output
    assert json.loads(found.target) == {"name": "search", "arguments": attempt.calls[1].arguments}


def test_of_wrong_attempts_only_what_the_world_did_is_taken() -> None:
    wrong = played([calculation("6+7"), "<answer>13</answer>"])
    got = made(signals, lesson(wrong))
    assert kinds(got)[1:] == ["signal/call_output", "signal/trace_outcome"]
    assert [texts(one) for one in got.trajectories[1:]] == [["13"], ["wrong"]]
    assert all(one.correct for one in got.trajectories[1:]) and wrong.correct is False


def test_a_users_answer_is_a_signal() -> None:
    asked = Turn(text="<think>unclear</think>\nWhich one?", reply="the red one")
    attempt = played(RIGHT)
    talk = replace(attempt, turns=(asked, *attempt.turns))
    assert [(one.given, one.target) for one in mined(talk) if one.type == "question_answer"] == [
        ({"question": "Which one?"}, "the red one")
    ]


def test_types_and_how_many_of_each_can_be_chosen() -> None:
    attempt = played([calculation("6*7"), calculation("7*6"), calculation("42+0"), RIGHT[1]])
    got = made(signals, lesson(attempt), types=["call_output"], each=2)
    assert kinds(got)[1:] == ["signal/call_output"] * 2
    assert build_strategy("signals(types=['error_fix'], each=3)")
    with pytest.raises(ValueError, match="types"):
        build_strategy("signals(types=['gossip'])")


@given(
    kind=st.sampled_from(sorted(PROMPTS)),
    given=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text("# \\\nab")),
    target=st.text(),
    wording=st.integers(0, 1),
)
def test_a_signal_is_read_back_as_it_was(kind: str, given: dict[str, str], target: str, wording: int) -> None:
    signal = Signal(type=kind, given=given, target=target)
    assert parse(render(signal, wording)) == signal


def test_a_part_that_looks_like_a_heading_stays_a_part() -> None:
    signal = Signal(type="call_output", given={"call": "### goal\n\\### x", "rest": ""}, target="y")
    assert parse(render(signal)) == signal
    with pytest.raises(ValueError, match="no signal"):
        parse(replace(render(signal), prompt="Hello"))


# normal forms


def test_normalized_by_hand() -> None:
    old = played(["<think>  multiply </think>" + RIGHT[0].split("</think>")[1].replace("\n", " "), RIGHT[0], RIGHT[1]])
    assert old.correct and len(old.calls) == 2
    [new] = made(normalized, lesson(old)).trajectories
    assert texts(new) == list(RIGHT) and new.correct
    assert (new.provenance["repeats"], new.provenance["from"]) == (1, [old.id])
    assert (new.provenance["strategies"], new.provenance["verified"]) == (["normalized"], "environment")
    [again] = made(normalized, lesson(new)).trajectories
    assert again.turns == new.turns and again.provenance["strategies"] == ["normalized", "normalized"]


def test_words_beside_a_call_and_a_second_call_stay() -> None:
    both = "Let me see.\n" + "\n".join(calculation(one).split("\n", 1)[1] for one in ("6*7", "6*7", "7*6"))
    [new] = made(normalized, lesson(played([both, "So: <answer>42</answer>"]))).trajectories
    kept = "\n".join(["Let me see.", *(calculation(one).split("\n", 1)[1] for one in ("6*7", "7*6"))])
    assert texts(new) == [kept, "So:\n<answer>42</answer>"]


def test_what_has_no_normal_form_is_refused() -> None:
    many = played([*(calculation(f"{n}*7") for n in range(1, 7)), RIGHT[1]], SIX)
    broken = played(["<think>multiply"])
    got = made(normalized, lesson(many, broken), most_calls=5)
    assert reasons(got) == ["more than 5 calls (6)", "no normal form: <think> is not closed"]
    assert not got.trajectories


def test_a_call_whose_output_changed_is_not_a_repeat() -> None:
    attempt = played([RIGHT[0], RIGHT[0], RIGHT[1]])
    other = replace(attempt.turns[1], results=(ToolResult(name="calculator", ok=True, output="43"),))
    [new] = made(normalized, lesson(replace(attempt, turns=(attempt.turns[0], other, attempt.turns[2])))).trajectories
    assert len(new.turns) == 3


def test_an_attempt_that_is_wrong_when_it_is_replayed_is_refused() -> None:
    claims = played([RIGHT[0], RIGHT[0], "<answer>41</answer>"], correct=True)
    got = made(normalized, lesson(claims))
    assert not got.trajectories and reasons(got) == ["no longer right when it is replayed"]


ERRING = [calculation("6*"), *RIGHT]


def test_without_error_spans_by_hand() -> None:
    old = played(ERRING)
    [marked] = made(without_error_spans, lesson(old)).trajectories
    assert marked.turns == old.turns and marked.provenance["unlearned_turns"] == [0]
    assert marked.provenance["strategies"] == ["without_error_spans"]
    [cut] = made(without_error_spans, lesson(old), remove=True).trajectories
    assert texts(cut) == list(RIGHT) and cut.correct
    assert (cut.provenance["removed_turns"], cut.provenance["from"]) == ([0], [old.id])
    assert "unlearned_turns" not in cut.provenance


def test_errors_can_be_told_by_their_texts() -> None:
    old = replace(played(RIGHT), provenance={"unlearned_turns": [1]})
    [marked] = made(without_error_spans, lesson(old), errors=["42"]).trajectories
    assert marked.provenance["unlearned_turns"] == [0, 1]
    [whole] = made(without_error_spans, lesson(played(RIGHT)), errors=["Traceback"]).trajectories
    assert "unlearned_turns" not in whole.provenance


def test_an_attempt_that_lives_from_its_errors_is_refused() -> None:
    [hops] = [p for p in some("lookup", 20) if len(p.data["hops"]) == 2][:1]
    gold = environment("lookup").courses(hops)[0]
    attempt = asyncio.run(play(hops, gold, source="scripted", provenance={}))
    assert made(without_error_spans, lesson(attempt, of=hops), errors=["zzz"]).trajectories
    claims = played([ERRING[0], "<answer>41</answer>"], correct=True)
    assert reasons(made(without_error_spans, lesson(claims), remove=True)) == ["no longer right when it is replayed"]
    only = played(ERRING[:1])
    assert reasons(made(without_error_spans, lesson(only))) == ["every turn errs"]


# repairs


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (f"<think>multiply\n<tool_call>\n{CALL}\n</tool_call>", "lost tag"),
        (f"multiply</think>\n<tool_call>\n{CALL}\n</tool_call>", "lost tag"),
        (f"<think>multiply</think>\n<tool_call>\n{CALL}", "lost tag"),
        (f"<think>multiply</think>\n{CALL}\n</tool_call>", "lost tag"),
        (f"<think>multiply</think>\n<tool_cal>\n{CALL}\n</tool_call>", "misspelt tag"),
        (f"<think>multiply</think>\n<tool_call>\n{CALL}\n</tool-call>", "misspelt tag"),
        (f"<thinking>multiply</think>\n<tool_call>\n{CALL}\n</tool_call>", "misspelt tag"),
        (f"<think>multiply</think>\n<tool_call>\n{CALL}\n<tool_call>", "misspelt tag"),
        (f"<think>multiply</think>\n<tool_call>\n{CALL} That is the call.\n</tool_call>", "words behind a call"),
        ("<think>multiply</think>\n<tool_call>\n" + CALL.replace('"', "'") + "\n</tool_call>", "quotes"),
    ],
)
def test_repaired_by_hand(broken: str, what: str) -> None:
    assert parse_turn(broken).error
    old = replace(played(RIGHT), turns=(Turn(text=broken), played(RIGHT).turns[1]), provenance={"slip": "format"})
    [new] = made(repaired, lesson(old)).trajectories
    assert parse_turn(new.turns[0].text).calls == (ToolCall(name="calculator", arguments={"expression": "6*7"}),)
    assert new.turns[0].text.split("</think>")[0].removeprefix("<think>").strip() == "multiply"
    assert new.correct and new.turns[0].results[0].output == "42"
    assert new.provenance["repairs"] == {"0": what} and new.provenance["from"] == [old.id]
    assert (new.provenance["slip"], new.provenance["verified"]) == ("format", "environment")


@pytest.mark.parametrize(
    "broken", ["<answer>42", "42</answer>", "<answer>42<answer>", "<answr>42</answer>", "<answer>42</Answer>"]
)
def test_an_attempt_that_ended_with_a_slip_is_right_after_all(broken: str) -> None:
    old = played([RIGHT[0], f"<think>done</think>\n{broken}"])
    assert (old.stop_reason, old.correct) == (StopReason.FORMAT_ERROR, False)
    [new] = made(repaired, lesson(old)).trajectories
    assert (new.stop_reason, new.correct, new.answer) == (StopReason.ANSWER, True, "42")


def test_what_was_called_tells_two_repairs_apart() -> None:
    one, two = (render_call(ToolCall(name="calculator", arguments={"expression": e})) for e in ("6*7", "7*6"))
    lost = f"<think>multiply\n{one}\n{two}"
    assert [parse_turn(repair.text).calls for repair in repairs_of(Turn(text=lost))] == [
        parse_turn(f"{one}\n{two}").calls
    ]
    known = parse_turn(one).calls
    assert repairs_of(Turn(text=lost, calls=known)) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("<think>multiply\n<tool_call>\n" + CALL, "no repair of a malformed turn: <think> is not closed"),
        ("<answer>42\nor 43", "no repair of a malformed turn: a tag without its partner"),
        ("<think>What is your name?", "no repair of a malformed turn: <think> is not closed"),
        (
            f"<tool_call>\n{CALL}\n</tool_call><answer>42</answer>",
            "no repair of a malformed turn: an answer and a call",
        ),
        ("<tool_response>42</tool_response>", "no repair of a malformed turn: a tool response that no tool gave"),
        ("<tool_call>\n{'name': print(1)}\n</tool_call>", "no repair of a malformed turn: a call that is not JSON"),
        ("<think>" * 100, "no repair of a malformed turn: <think> is not closed"),
    ],
)
def test_a_turn_without_its_one_repair_is_refused(broken: str, reason: str) -> None:
    got = made(repaired, lesson(played([broken])))
    assert not got.trajectories
    assert [one.removesuffix(" in one turn") for one in reasons(got)] == [reason]


def test_a_repaired_attempt_has_to_be_right_where_it_was() -> None:
    claims = replace(played(["<think>x</think>\n<answer>41"]), correct=True)
    assert reasons(made(repaired, lesson(claims))) == ["no longer right when it is replayed"]


@given(st.text("<>/ainkswertol_c{}\"':\n", max_size=60))
def test_repairs_of_any_text_parse(text: str) -> None:
    for repair in repairs_of(Turn(text=text)):
        assert not parse_turn(repair.text).error


# all of them


def cases() -> dict[str, tuple[Lesson, Callable[[], Studio], dict[str, Any]]]:
    teacher = StubTeacher(lambda asked: [calculation(f"6+{asked.seed % 9}", "add")])
    slip = played(["<think>done</think>\n<answer>42"])
    shop = played(["<answer>f3, Hougolwig</answer>"], SHOP)
    return {
        "early_experience": (lesson(played(RIGHT)), lambda: studio(teacher, seed=3), {}),
        "rewritten": (
            lesson(played([calculation("6*7", OLD), RIGHT[1]])),
            lambda: studio(chat=writer([NEW], "3", "4")),
            {},
        ),
        "remap_reflect_adjust": (
            lesson(shop, of=SHOP),
            lambda: studio(chat=Scripted(['<scores>{"f3": 1, "f4": 5}</scores>'])),
            {},
        ),
        "signals": (lesson(played(ERRING)), studio, {}),
        "normalized": (lesson(played([RIGHT[0], *RIGHT])), studio, {}),
        "without_error_spans": (lesson(played(ERRING)), studio, {"remove": True}),
        "repaired": (lesson(slip), studio, {}),
    }


@pytest.mark.parametrize("name", sorted(cases()))
def test_a_rerun_makes_the_same(name: str) -> None:
    before, of, options = cases()[name]
    one, again = (made(STRATEGIES[name], before, of(), **options) for _ in range(2))
    assert timeless(one) == timeless(again)
    assert one.trajectories != before.trajectories


@pytest.mark.parametrize("name", sorted(cases()))
def test_samples_are_left_as_they_are(name: str) -> None:
    sample = replace(played(RIGHT), provenance={"kind": "world_model"})
    _, of, options = cases()[name]
    assert made(STRATEGIES[name], lesson(sample), of(), **options) == lesson(sample)
