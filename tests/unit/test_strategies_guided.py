"""Strategies that lead a teacher, or mend what it thought: what is taken is right and tells nothing of how it was led."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import ConfigError
from journeyman.llm import Scripted
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.rollout.formats.base import split_thought
from journeyman.rollout.parse import parse_turn, render_call
from journeyman.synthesis.base import Lesson, Studio, Teacher
from journeyman.synthesis.strategies import WRITES, build_strategy
from journeyman.synthesis.strategies.augmented import MOST_TURNS, code_augmented, in_words, read_turns
from journeyman.synthesis.strategies.gains import Path, best_path, gain_driven
from journeyman.synthesis.strategies.hints import GO_ON, HINTS, USE_TOOLS, hinted, tool_prompted
from journeyman.synthesis.strategies.retries import LONGEST, guided_retry, states, tells
from journeyman.synthesis.strategies.thoughts import corrected_thoughts, read_correction
from journeyman.synthesis.written import rethought, retold, transcript
from journeyman.trajectory import StopReason, ToolCall, Trajectory, Turn, to_row
from tests.unit.fakes import problem, some, trajectory
from tests.unit.teachers import Asked, StubTeacher

PROBLEM = problem()  # What is 6 times 7?
TWO_TOOLS = problem(tools=("search", "calculator"))
NO_CHAT = Scripted(())


def computes(expression: str = "6*7", thought: str = "I multiply.") -> str:
    return f"<think>{thought}</think>\n{render_call(ToolCall(name='calculator', arguments={'expression': expression}))}"


def searches(query: str = "Quiton") -> str:
    return f"<think>I look it up.</think>\n{render_call(ToolCall(name='search', arguments={'query': query}))}"


def says(answer: str = "42", thought: str = "That is it.") -> str:
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"


RIGHT, WRONG = (computes(), says()), (computes("6+7"), says("13"))


def taught(
    strategy: Callable[..., Awaitable[Sequence[Lesson]]],
    teacher: Teacher | None = None,
    chat: Scripted | None = None,
    *,
    of: Problem = PROBLEM,
    given: Sequence[Trajectory] = (),
    **options: Any,
) -> Lesson:
    studio = Studio(teacher=teacher or StubTeacher(()), chat=chat, seed=3, problems=(of,))

    async def run() -> Sequence[Lesson]:
        return await strategy(Lesson(problem=of, trajectories=tuple(given)), studio, **options)

    (made,) = asyncio.run(run())
    return made


def played(*texts: str, of: Problem = PROBLEM) -> Trajectory:
    return asyncio.run(retold(of, texts, source="log"))


def reasons(lesson: Lesson) -> list[str]:
    return [one.provenance["refused"] for one in lesson.refused]


def rows(lesson: Lesson) -> list[dict[str, Any]]:
    """What is compared where two runs must make the same: all but how long a call took."""
    timeless = [
        replace(
            one, turns=tuple(replace(t, results=tuple(replace(r, seconds=0.0) for r in t.results)) for t in one.turns)
        )
        for one in (*lesson.trajectories, *lesson.refused)
    ]
    return [to_row(one) for one in timeless]


def learned(lesson: Lesson) -> str:
    return "\n".join(turn.text for one in lesson.trajectories for turn in one.turns)


# tool_prompted


def test_tool_prompted_by_hand() -> None:
    """Right without a call, wrong with one, right with one: only the third is what was asked for."""
    teacher = StubTeacher([(says(),), WRONG, RIGHT, RIGHT])
    lesson = taught(tool_prompted, teacher)
    assert [one.provenance["attempt"] for one in lesson.trajectories] == [2]
    assert lesson.trajectories[0].provenance["strategies"] == ["tool_prompted"]
    assert reasons(lesson) == ["no call that worked", "wrong"]
    assert [asked.hint for asked in teacher.asked] == [USE_TOOLS] * 3
    assert len({asked.seed for asked in teacher.asked}) == 3
    assert USE_TOOLS not in learned(lesson) and lesson.trajectories[0].opening == ()


def test_a_call_that_fails_is_no_tool_use_and_a_broken_turn_is_told_as_one() -> None:
    lesson = taught(tool_prompted, StubTeacher([(computes("6*"), says()), ("<answer>42",)]), tries=2)
    assert lesson.trajectories == () and reasons(lesson) == ["no call that worked", "wrong (format_error)"]


def test_prompted_attempts_join_what_the_lesson_has() -> None:
    before = played(*WRONG)
    lesson = taught(tool_prompted, StubTeacher([RIGHT, RIGHT]), given=[before], keep=2)
    assert lesson.trajectories[0] == before and len(lesson.trajectories) == 3


# hinted

DRAFT = "<think>6 times 7 is 48. Wait, six sevens are odd.</think>\n<answer>48</answer>"


def test_hinted_by_hand() -> None:
    """The draft is cut behind "Wait,"; the hint and what the teacher thinks next go on from there, in one thought."""
    teacher = StubTeacher([(DRAFT,), (computes(thought="I use the calculator."), says())])
    lesson = taught(hinted, teacher, where="doubt")
    (made,) = lesson.trajectories
    hint = made.provenance["hint"]
    assert hint in HINTS["doubt"] and made.provenance["where"] == "doubt"
    before = f"6 times 7 is 48. Wait, {hint}"
    assert split_thought(made.turns[0].text)[0] == f"{before} I use the calculator."
    assert made.turns[0].text.endswith(computes().partition("</think>")[2])
    assert made.turns[0].results[0].output == "42" and made.correct
    free, on = teacher.asked
    assert (free.tools, free.hint) == ((), "")
    assert (on.tools, on.hint) == (None, GO_ON.format(thought=before))
    assert reasons(lesson) == ["a tool-free draft"]
    assert made.provenance["from"] == [lesson.refused[0].id]
    assert made.provenance["strategies"] == ["hinted"] and "hinted" in lesson.refused[0].provenance["strategies"]


def test_before_the_answer_the_whole_thought_stays() -> None:
    teacher = StubTeacher([(says("48", "It is 48."),), (computes(thought="I compute."), says())])
    lesson = taught(hinted, teacher, where="answer")
    hint = lesson.trajectories[0].provenance["hint"]
    assert split_thought(lesson.trajectories[0].turns[0].text)[0] == f"It is 48. {hint} I compute."
    assert "<answer>48" not in learned(lesson)


def test_a_teacher_that_begins_again_is_not_doubled() -> None:
    def again(asked: Asked) -> Sequence[str]:
        if asked.tools == ():
            return (DRAFT,)
        told = asked.hint.removeprefix(GO_ON.partition("{")[0]).partition("\nGo on")[0]
        return computes(thought=f"{told} I compute."), says()

    lesson = taught(hinted, StubTeacher(again), where="doubt")
    assert learned(lesson).count("Wait,") == 1


def test_hinted_refuses_what_is_wrong_toolless_unreadable_or_has_no_place_for_a_hint() -> None:
    drafts = [(DRAFT,), WRONG, (DRAFT,), (DRAFT,), (says("48", "Sure."),), (DRAFT,), ("<answer>4",)]
    after = [WRONG, (says(),), ("<think>no end",), ()]
    left, more = iter(drafts), iter(after)
    teacher = StubTeacher(lambda asked: next(left) if asked.tools == () else next(more))
    lesson = taught(hinted, teacher, where="doubt", tries=7)
    assert lesson.trajectories == ()
    assert reasons(lesson) == [
        *("a tool-free draft", "wrong"),
        "a draft that calls tools which weren't on offer",
        *("a tool-free draft", "no call that worked"),
        *("a tool-free draft", "wrong (format_error)"),
        "no place for a hint",
        *("a tool-free draft", "wrong (max_turns)"),
        "no place for a hint",
    ]


def test_both_kinds_of_place_are_hinted_at() -> None:
    teacher = StubTeacher(lambda asked: (DRAFT,) if asked.tools == () else RIGHT)
    lesson = taught(hinted, teacher, tries=12, keep=12)
    assert {one.provenance["where"] for one in lesson.trajectories} == {"doubt", "answer"}


# code_augmented

SOLUTION = (says("42", "Six sevens: 7, 14, 21, 28, 35, 42."),)
REWRITTEN = f"Here it is.\n<turn>{computes(thought='Six sevens.')}</turn>\n<turn>{says()}</turn>"


def test_code_augmented_by_hand() -> None:
    """A solution in words becomes a call and an answer; the call is run."""
    chat, teacher = Scripted([REWRITTEN]), StubTeacher([SOLUTION])
    lesson = taught(code_augmented, teacher, chat)
    (made,) = lesson.trajectories
    assert [turn.text for turn in made.turns] == [computes(thought="Six sevens."), says()]
    assert made.turns[0].results[0].output == "42" and made.correct
    assert teacher.asked[0].tools == ()
    prompt = chat.asked[0][0].content
    assert "Six sevens: 7, 14, 21, 28, 35, 42.\nAnswer: 42" in prompt and '"name": "calculator"' in prompt
    assert reasons(lesson) == ["a tool-free draft"]
    assert (made.provenance["from"], made.source) == ([lesson.refused[0].id], "writer")
    assert (made.provenance["strategies"], made.provenance["verified"]) == (["code_augmented"], "environment")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I can't.", "format: no <turn>"),
        (f"<turn>{says()}</turn>", "format: no call"),
        (f"<turn>{says()}</turn><turn>{says()}</turn>", "format: a turn before the last without a call"),
        (f"<turn>{computes()}</turn>", "format: no call"),
        (f"<turn>{computes()}</turn><turn>{computes()}</turn>", "format: no answer at the end"),
        (f"<turn>{computes()}</turn><turn><think>never", "format: no call"),
        (f"<turn>{computes()}</turn><turn><answer>42</turn>", "format: a tag without its partner"),
        (f"<turn>{computes()}</turn>" * (MOST_TURNS + 1), f"format: more than {MOST_TURNS} turns"),
        (f"<turn>{computes('6*')}</turn><turn>{says()}</turn>", "format: a call of calculator fails"),
        (f"<turn>{computes('6+7')}</turn><turn>{says('13')}</turn>", "wrong"),
    ],
)
def test_rewritings_that_fail_either_verification_are_refused(reply: str, reason: str) -> None:
    lesson = taught(code_augmented, StubTeacher([SOLUTION]), Scripted([reply]), tries=1)
    assert lesson.trajectories == () and reasons(lesson) == ["a tool-free draft", reason]


def test_only_right_solutions_are_rewritten_and_another_try_is_another_text() -> None:
    chat = Scripted(["nonsense", REWRITTEN])
    lesson = taught(code_augmented, StubTeacher([(says("41"),), SOLUTION, SOLUTION]), chat, tries=3)
    assert len(chat.asked) == 2 and len(lesson.trajectories) == 1
    assert reasons(lesson) == ["wrong", "a tool-free draft", "format: no <turn>", "a tool-free draft"]
    assert lesson.refused[2].provenance["reply"] == "nonsense"


def test_solutions_are_taken_from_trajectories_or_the_course() -> None:
    before = [played(says("42", "Known.")), played(says("41"))]
    lesson = taught(code_augmented, chat=Scripted([REWRITTEN]), given=before, solution="trajectories")
    assert [one.provenance.get("from") for one in lesson.trajectories] == [None, None, [before[0].id]]
    (minus, *_) = some("arithmetic", 1)  # What is 786 minus 63?
    reply = f"<turn>{computes('786-63')}</turn><turn>{says('723')}</turn>"
    chat = Scripted([reply])
    lesson = taught(code_augmented, chat=chat, of=minus, solution="course")
    assert lesson.trajectories[0].correct and lesson.refused == ()
    assert "Solution:\nsubtract\n723\nAnswer: 723" in chat.asked[0][0].content


def test_words_of_a_solution_have_no_calls() -> None:
    assert in_words(played(*RIGHT)) == "I multiply.\n42\nThat is it.\nAnswer: 42"


@given(st.text(alphabet='<>/turnhiak 1{}"', max_size=80))
def test_any_reply_is_turns_or_a_reason(reply: str) -> None:
    for text in (reply, f"<turn>{reply}</turn>"):
        turns, fault = read_turns(text)
        assert bool(turns) != bool(fault)


# gain_driven


def passing(rates: dict[tuple[str, ...], int], scripts: dict[tuple[str, ...], Sequence[str]]) -> StubTeacher:
    """With each offer of tools so many of the first attempts are right."""
    counts: dict[tuple[str, ...], Iterator[int]] = {tools: itertools.count() for tools in rates}

    def say(asked: Asked) -> Sequence[str]:
        assert asked.tools is not None
        return scripts[asked.tools] if next(counts[asked.tools]) < rates[asked.tools] else (says("13"),)

    return StubTeacher(say)


SCRIPTS: dict[tuple[str, ...], Sequence[str]] = {
    (): (says(),),
    ("search",): (searches(), says()),
    ("calculator",): RIGHT,
    ("search", "calculator"): (searches(), *RIGHT),
}


def test_gain_driven_by_hand() -> None:
    """Of 4 attempts each: none 1 (.25), search 3 (.75), calculator 2 (.5), both 3 (.75).

    Gains .5, .25, .5: search and both tie, and search makes 1 call where both make 2.
    """
    rates = {(): 1, ("search",): 3, ("calculator",): 2, ("search", "calculator"): 3}
    lesson = taught(gain_driven, passing(rates, SCRIPTS), of=TWO_TOOLS)
    (made,) = lesson.trajectories
    assert [call.name for call in made.calls] == ["search"] and made.correct
    assert made.provenance["path"] == ["search"]
    assert made.provenance["scores"] == {"none": 0.25, "search": 0.75, "calculator": 0.5, "search+calculator": 0.75}
    assert made.tools == ("search", "calculator")  # the choice among all tools is what is learned
    assert sorted(reasons(lesson)) == sorted(
        [
            *["wrong"] * (3 + 1 + 2 + 1),
            *["another of its path is kept"] * 2,
            *["another path gains more"] * (1 + 2 + 3),
        ]
    )


def test_without_a_gain_the_tool_free_attempt_is_kept_and_what_nobody_solves_is_dropped() -> None:
    equal = {(): 2, ("search",): 2, ("calculator",): 0, ("search", "calculator"): 1}
    lesson = taught(gain_driven, passing(equal, SCRIPTS), of=TWO_TOOLS)
    assert [one.calls for one in lesson.trajectories] == [()]
    assert lesson.trajectories[0].provenance["path"] == []
    assert set(reasons(lesson)) == {"wrong", "another is kept", "its tools gain nothing"}
    nobody = dict.fromkeys(equal, 0)
    lesson = taught(gain_driven, passing(nobody, SCRIPTS), of=TWO_TOOLS)
    assert lesson.trajectories == () and reasons(lesson) == ["wrong"] * 16


def test_a_kept_attempt_that_shows_fewer_tools_is_played_anew_with_all() -> None:
    class Narrow(StubTeacher):
        async def attempt(self, problem: Problem, *, tools: Sequence[str] | None = None, **more: Any) -> Trajectory:
            made = await super().attempt(problem, tools=tools, **more)
            return replace(made, tools=tuple(tools or ()), token_ids=(1,), provenance={"teacher": "narrow"})

    lesson = taught(
        gain_driven, Narrow(lambda asked: SCRIPTS[asked.tools or ()] if asked.tools else WRONG), of=TWO_TOOLS
    )
    (made,) = lesson.trajectories
    assert (made.tools, made.token_ids, made.correct) == (TWO_TOOLS.tools, (), True)
    assert made.provenance["teacher"] == "narrow" and made.provenance["path"] == ["search"]


def path(*tools: str, right: int = 0, wrong: int = 0, unknown: int = 0, calls: int = 1) -> Path:
    by = {True: right, False: wrong, None: unknown}
    made = [trajectory(calls=calls, id=f"{tools}{v}{i}", correct=v) for v, count in by.items() for i in range(count)]
    return Path(tools=tools, attempts=tuple(made))


def test_the_best_path_gains_most_then_calls_least() -> None:
    free = path(right=1, wrong=3, calls=0)
    some_, thrifty = path("a", right=3, wrong=1, calls=2), path("b", right=3, wrong=1, calls=1)
    assert best_path(free, [some_, thrifty]) is thrifty
    assert best_path(free, [some_, path("c", right=4, calls=5)]) is not some_
    assert best_path(path(right=4, calls=0), [path("a", right=4)]).tools == ()  # type: ignore[union-attr]
    assert best_path(path(wrong=4, calls=0), [path("a", wrong=4)]) is None
    # Right only where no tool is called: no merit of the path.
    assert best_path(path(wrong=4, calls=0), [path("a", right=4, calls=0)]) is None
    # What could not be verified is no evidence: 1 of 1, against nothing at all.
    assert path("a", right=1, unknown=3).score == 1.0
    assert best_path(path(unknown=4, calls=0), [path("a", right=1)]) is None
    # A world that offers its tools anyway: those attempts are not tool-free.
    assert path(right=4, calls=1).score == 0.0


@given(st.permutations(range(4)))
def test_the_best_path_does_not_hang_on_the_order(order: Sequence[int]) -> None:
    paths = [path("a", right=1, wrong=3), path("b", right=3, wrong=1), path("c", right=3, wrong=1, calls=2), path("d")]
    assert best_path(path(wrong=4, calls=0), [paths[i] for i in order]) is paths[1]


def test_paths_are_bounded_and_small_ones_come_first() -> None:
    teacher = StubTeacher(lambda _: (says("13"),))
    taught(gain_driven, teacher, of=TWO_TOOLS, samples=1, paths=2)
    assert [asked.tools for asked in teacher.asked] == [(), ("search",), ("calculator",)]
    teacher = StubTeacher(lambda _: (says("13"),))
    taught(gain_driven, teacher, of=TWO_TOOLS, samples=2, combine=1)
    assert len(teacher.asked) == 6 and len({asked.seed for asked in teacher.asked}) == 6


# guided_retry

ADVICE = "<plan>Multiply both numbers with the calculator.</plan><feedback>You added them.</feedback>"


def test_guided_retry_by_hand() -> None:
    """13 is wrong; told to multiply the teacher finds 42. The advice is in the request and not in what is learned."""
    chat, teacher = Scripted([ADVICE]), StubTeacher([WRONG, RIGHT])
    lesson = taught(guided_retry, teacher, chat)
    (made,), (failed,) = lesson.trajectories, lesson.refused
    guidance = "Plan: Multiply both numbers with the calculator.\nLast time: You added them."
    assert guidance in teacher.asked[1].hint and teacher.asked[0].hint == ""
    assert made.correct and [turn.text for turn in made.turns] == list(RIGHT)
    assert "Multiply both" not in learned(lesson) + str(made.opening)
    assert made.provenance["pair"] == {"passing": made.id, "failing": failed.id}
    assert (made.provenance["guidance"], made.provenance["retry"]) == (guidance, 1)
    assert made.provenance["from"] == [failed.id] and made.provenance["strategies"] == ["guided_retry"]
    assert reasons(lesson) == ["wrong"] and failed.provenance["retry"] == 0
    prompt = chat.asked[0][0].content
    assert "6+7" in prompt and "[tool]\n13" in prompt and "wrong, stopped by answer" in prompt
    assert "42" not in prompt  # the writer isn't told the answer


def test_right_attempts_stay_and_wrong_ones_are_replaced() -> None:
    right, wrong = played(*RIGHT), played(*WRONG)
    lesson = taught(guided_retry, StubTeacher([RIGHT]), Scripted([ADVICE]), given=[right, wrong])
    assert lesson.trajectories[0] == right and lesson.trajectories[1].correct
    assert [one.id for one in lesson.refused] == [wrong.id]
    assert lesson.trajectories[1].provenance["pair"]["failing"] == wrong.id


def test_what_still_fails_is_refused_and_the_next_guidance_is_about_the_last_try() -> None:
    chat = Scripted([ADVICE, ADVICE])
    worse = (computes("6-7"), says("-1"))
    lesson = taught(guided_retry, StubTeacher([WRONG, worse, ("<answer>42",)]), chat, retries=2)
    assert lesson.trajectories == () and reasons(lesson) == ["wrong", "wrong", "wrong (format_error)"]
    assert "6-7" in chat.asked[1][0].content
    assert not any("pair" in one.provenance for one in lesson.refused)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Try harder!", "guidance that can't be read"),
        ("<plan></plan><hints> </hints>", "guidance that can't be read"),
        ("<plan>open", "guidance that can't be read"),
        ("<feedback>It is 42.</feedback>", "guidance that gives the answer away"),
        ("<hints>6*7=42</hints>", "guidance that gives the answer away"),
        (f"<plan>{'x' * LONGEST}</plan>", f"guidance of more than {LONGEST} characters"),
    ],
)
def test_guidance_that_cannot_be_used_is_told(reply: str, reason: str) -> None:
    teacher = StubTeacher([WRONG])
    lesson = taught(guided_retry, teacher, Scripted([reply]))
    assert lesson.trajectories == () and reasons(lesson) == [f"wrong; {reason}"] and len(teacher.asked) == 1


def test_a_retry_that_shows_its_guidance_is_refused() -> None:
    long = "<plan>First multiply both of the numbers with the calculator and then answer.</plan>"
    said = computes(thought="I will first multiply both of the numbers with the calculator and be done.")
    for advice, thought, reason in (
        (ADVICE, computes(thought="The hint says that I should multiply."), "speaks of its guidance"),
        (long, said, "repeats its guidance"),
    ):
        lesson = taught(guided_retry, StubTeacher([WRONG, (thought, says())]), Scripted([advice]))
        assert lesson.trajectories == () and reasons(lesson) == [reason, "wrong"]


def test_only_with_reference_the_writer_sees_the_steps() -> None:
    (minus, *_) = some("arithmetic", 1)  # What is 786 minus 63? The gold course calls 786-63.
    for reference in (False, True):
        chat = Scripted([ADVICE])
        teacher = StubTeacher([(says("849"),), (computes("786-63"), says("723"))])
        lesson = taught(guided_retry, teacher, chat, of=minus, reference=reference)
        assert lesson.trajectories[0].correct
        assert ("786-63" in chat.asked[0][0].content) == reference and "723" not in chat.asked[0][0].content


@pytest.mark.parametrize(
    ("text", "answer", "stated"),
    [
        ("It is 42.", "42", True),
        ("42.0 then", "42", True),
        ("about 1,200 of them", "1200", True),
        ("minus 5", "-5", True),
        ("take 142 or 4.2 or 420", "42", False),
        ("42 of them, or 42km", "$42", True),
        ("2. add them", "2", False),
        ("add 2 of them", "2", True),
        ("He keeps a Rabbit!", "rabbit", True),
        ("rabbits are pets", "rabbit", False),
        ("anything", "", False),
    ],
)
def test_when_a_text_states_an_answer(text: str, answer: str, stated: bool) -> None:
    assert states(text, answer) == stated


@given(st.integers(-(10**6), 10**6), st.text(max_size=20))
def test_an_answer_between_other_words_is_always_found(answer: int, around: str) -> None:
    assert states(f"{around} so {answer} it is", str(answer))


def test_words_that_others_said_too_tell_nothing() -> None:
    asked = problem("A hint is given in the letter: what is 6 times 7, the calculator may be used for it?")
    made = played(computes(thought=f"The hint. {asked.question}"), says(), of=asked)
    assert tells(made, asked.question) == ""


# corrected_thoughts

BETTER = "<errors>6+7 is no product\nthe task isn't read</errors><thought>I need a product, so I multiply.</thought>"


def test_corrected_thoughts_by_hand() -> None:
    """The first call fails: that turn alone is asked about. Its thought changes; its bytes behind the thought do not."""
    before = played(computes("6*", "Easy."), *RIGHT)
    chat = Scripted([BETTER])
    lesson = taught(corrected_thoughts, chat=chat, given=[before])
    (made,) = lesson.trajectories
    assert made.turns[0].text == computes("6*", "I need a product, so I multiply.")
    assert [turn.text for turn in made.turns[1:]] == list(RIGHT)
    assert made.calls == before.calls and made.answer == "42" and made.correct
    assert made.id != before.id and made.provenance["from"] == [before.id]
    assert made.provenance["corrected_turns"] == [0]
    assert made.provenance["thought_errors"] == [["6+7 is no product", "the task isn't read"]]
    assert made.provenance["strategies"] == ["corrected_thoughts"]
    prompt = chat.asked[0][0].content
    assert PROBLEM.question in prompt and "Easy." in prompt
    assert "42" not in prompt and "not an arithmetic" not in prompt  # neither the answer nor what comes later
    assert lesson.refused == ()


def test_every_thought_is_checked_if_all_are_and_later_turns_see_the_better_ones() -> None:
    chat = Scripted([BETTER, "<errors>None.</errors>"])
    lesson = taught(corrected_thoughts, chat=chat, given=[played(*RIGHT)], only="all")
    assert lesson.trajectories[0].turns[0].text == computes(thought="I need a product, so I multiply.")
    assert lesson.trajectories[0].turns[1].text == RIGHT[1]
    second = chat.asked[1][0].content
    assert "I need a product" in second and "I multiply.</think>" in second and "[tool]\n42" in second


def test_turns_that_lack_a_thought_or_repeat_a_call_are_invalid_and_sound_ones_are_not_asked_about() -> None:
    bare = computes().partition("</think>\n")[2]
    before = played(bare, computes(), says())  # without a thought; the same call again; fine
    lesson = taught(corrected_thoughts, chat=Scripted([BETTER, BETTER]), given=[before])
    assert lesson.trajectories[0].provenance["corrected_turns"] == [0, 1]
    assert lesson.trajectories[0].turns[0].text == f"<think>I need a product, so I multiply.</think>\n{bare}"
    sound = played(*RIGHT)
    lesson = taught(corrected_thoughts, chat=NO_CHAT, given=[sound])
    assert lesson.trajectories[0].turns == sound.turns and lesson.trajectories[0].id == sound.id
    assert lesson.trajectories[0].provenance["corrected_turns"] == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("fine", "no <errors>"),
        ("<errors>wrong sum</errors>", "errors, but no <thought>"),
        ("<errors>wrong</errors><thought>done</think><answer>7</answer></thought>", "a tag in a thought"),
        (f"<errors>wrong</errors><thought>{'x' * 4001}</thought>", "a thought of more than 4000 characters"),
    ],
)
def test_a_correction_that_cannot_be_read_refuses_the_trajectory_as_it_was(reply: str, reason: str) -> None:
    before = played(*RIGHT)
    lesson = taught(corrected_thoughts, chat=Scripted([reply]), given=[before], only="all")
    assert lesson.trajectories == () and reasons(lesson) == [f"turn 1: {reason}"]
    assert lesson.refused[0].turns == before.turns


def test_wrong_actions_are_learned_only_if_asked_for() -> None:
    lesson = taught(corrected_thoughts, chat=NO_CHAT, given=[played(*WRONG)])
    assert lesson.trajectories == () and reasons(lesson) == ["wrong"]
    lesson = taught(corrected_thoughts, chat=Scripted([BETTER] * 2), given=[played(*WRONG)], only="all", wrong=True)
    assert lesson.trajectories[0].correct is False and lesson.trajectories[0].answer == "13"


def test_tokens_and_rewards_of_the_old_text_are_dropped() -> None:
    sampled = replace(
        played(computes("6*"), *RIGHT), token_ids=(1, 2), loss_mask=(0, 1), logprobs=(0.0, -1.0), reward=1.0
    )
    sampled = replace(sampled, turns=tuple(replace(turn, start=1, stop=2) for turn in sampled.turns))
    (made,) = taught(corrected_thoughts, chat=Scripted([BETTER]), given=[sampled]).trajectories
    assert (made.token_ids, made.loss_mask, made.logprobs, made.reward) == ((), (), (), None)
    assert {(turn.start, turn.stop) for turn in made.turns} == {(0, 0)}


def test_where_the_context_repeats_thoughts_none_is_changed() -> None:
    before = played(*RIGHT)
    folded = replace(before.turns[0], restart=(Message(role="user", content="I multiply."),))
    before = replace(before, turns=(folded, before.turns[1]))
    lesson = taught(corrected_thoughts, chat=Scripted([BETTER] * 2), given=[before], only="all")
    assert reasons(lesson) == ["a world that shows earlier thoughts again"]


thoughts = st.text(max_size=30).filter(lambda text: "</think>" not in text)


@given(thoughts, thoughts, st.sampled_from([computes(), says(), "Hello there."]))
def test_another_thought_leaves_the_action_as_it_is(one: str, other: str, text: str) -> None:
    action = text.partition("</think>")[2] or text
    turn = f"<think>{one}</think>{action}"
    assert rethought(turn, other) == f"<think>{other}</think>{action}"
    was, now = parse_turn(turn), parse_turn(rethought(turn, other))
    assert (was.calls, was.answer, was.text) == (now.calls, now.answer, now.text)


def test_a_thought_can_be_given_but_neither_closed_twice_nor_put_into_a_broken_turn() -> None:
    assert rethought("<answer>42</answer>", "so") == "<think>so</think>\n<answer>42</answer>"
    for text, thought in (("<answer>42</answer>", "a</think>b"), ("<think>open", "so"), ("a<think>b", "so")):
        with pytest.raises(ValueError, match=r"think|thought"):
            rethought(text, thought)


@given(st.text(alphabet="<>/erothugns non.\n", max_size=80))
def test_any_correction_is_read_or_refused(reply: str) -> None:
    errors, thought, fault = read_correction(f"<errors>{reply}</errors><thought>{reply}</thought>")
    assert bool(errors) == bool(thought) and not (errors and fault)


# all of them


def test_a_transcript_says_who_said_what_and_cuts_what_is_long() -> None:
    turns = [*played(computes(), says()).turns[:1], Turn(text="Bye", reply="x" * 3000)]
    text = transcript([Message(role="user", content="Q")], turns)
    assert text.startswith("[user]\nQ\n[assistant]\n<think>I multiply.") and "[tool]\n42\n[assistant]\nBye" in text
    assert text.endswith("[user]\n" + "x" * 2000 + " ...")


CASES: dict[str, Callable[[], tuple[StubTeacher, Scripted, Sequence[Trajectory]]]] = {
    "tool_prompted": lambda: (StubTeacher([WRONG, RIGHT]), NO_CHAT, ()),
    "hinted(keep=2)": lambda: (StubTeacher(lambda a: (DRAFT,) if a.tools == () else RIGHT), NO_CHAT, ()),
    "code_augmented": lambda: (StubTeacher([SOLUTION]), Scripted([REWRITTEN]), ()),
    "gain_driven(samples=2)": lambda: (passing({(): 0, ("calculator",): 2}, SCRIPTS), NO_CHAT, ()),
    "guided_retry": lambda: (StubTeacher([WRONG, RIGHT]), Scripted([ADVICE]), ()),
    "corrected_thoughts(only='all')": lambda: (StubTeacher(()), Scripted([BETTER] * 2), [played(*RIGHT)]),
}


@pytest.mark.parametrize("expression", CASES)
def test_a_rerun_makes_the_same_and_all_that_is_taken_is_right_and_signed(expression: str) -> None:
    def run() -> Lesson:
        teacher, chat, given = CASES[expression]()
        return taught(build_strategy(expression), teacher, chat, given=given)

    one, again = run(), run()
    assert rows(one) == rows(again) and one.trajectories
    name = expression.partition("(")[0]
    for made in one.trajectories:
        assert made.correct and made.stop_reason is StopReason.ANSWER and made.provenance["strategies"][-1] == name
        assert "refused" not in made.provenance
    assert all(one.provenance["refused"] for one in one.refused)


@pytest.mark.parametrize("name", ["code_augmented", "guided_retry", "corrected_thoughts"])
def test_strategies_that_write_say_so_before_anything_is_asked(name: str) -> None:
    assert name in WRITES
    teacher = StubTeacher(())
    with pytest.raises(ConfigError, match=f"{name} needs a model that writes"):
        taught(build_strategy(name), teacher)
    assert teacher.asked == []
