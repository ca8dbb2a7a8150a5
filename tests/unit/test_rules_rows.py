"""Curation rules that judge a row by itself: what each drops, and what at its very boundary it does not."""

from dataclasses import replace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.curation.rules.shape import (
    calls,
    complete,
    errors,
    format_errors,
    length,
    printable,
    repeated_calls,
    script,
)
from journeyman.curation.rules.sql import drawn, number, quoted
from journeyman.curation.rules.verdicts import confident, scored, verified
from journeyman.errors import ConfigError
from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import problem
from tests.unit.ruled import AnyRule, dropped, rows_of

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "48/2"}}\n</tool_call>'


def called(text: str = CALL, *, ok: bool = True, expression: str = "48/2", name: str = "calculator") -> Turn:
    call = ToolCall(name=name, arguments={"expression": expression})
    return Turn(text=text, calls=(call,), results=(ToolResult(name=name, ok=ok, output="24"),))


def attempt(*turns: Turn, **fields: Any) -> Trajectory:
    """A clean attempt; an attempt with these turns."""
    clean = (called(f"<think>I divide.</think>\n{CALL}"), Turn(text="<answer>24</answer>"))
    return Trajectory(
        **{
            "id": "one",
            "problem_id": "p",
            "family": "arithmetic",
            "question": "What is half of 48?",
            "reference": "24",
            "tools": ("calculator",),
            "min_calls": 1,
            "turns": turns or clean,
            "stop_reason": StopReason.ANSWER,
            "answer": "24",
            **fields,
        }
    )


def sample(**fields: Any) -> Trajectory:
    """Something to learn that is no attempt: nothing of it has the form of one."""
    kind = {"provenance": {"kind": "world_model"}, "stop_reason": StopReason.MAX_TURNS, "answer": None}
    return attempt(Turn(text="The next page lists 24 books.", error="no format"), **{**kind, **fields})


def reasons(rule: AnyRule, *rows: Trajectory | Problem, **options: Any) -> list[str | None]:
    found = dropped(rule, rows_of(rows), **options)  # type: ignore[arg-type]
    return [found.get(at) for at in range(len(rows))]


def test_format_by_hand() -> None:
    clean = attempt().turns
    outside = "text outside of thought, call and answer"
    cases: list[tuple[Trajectory, str | None]] = [
        (attempt(), None),
        (replace(attempt(), turns=()), "no turn"),
        (attempt(Turn(text="x", error="broken JSON"), *clean), "a turn was rejected (turn 1)"),
        (attempt(stop_reason=StopReason.MAX_TURNS), "did not end with an answer (max_turns)"),
        (attempt(answer=None), "no answer"),
        (attempt(answer=" \n"), "no answer"),
        (attempt(clean[0], Turn(text="So it is <answer>24</answer>")), f"{outside} (turn 2)"),
        (attempt(called(f"{CALL}<think>late</think>"), clean[1]), f"{outside} (turn 1)"),
        (attempt(called("<think>never closed " + CALL), clean[1]), f"{outside} (turn 1)"),
        (attempt(called(f"{CALL}<answer>24</answer>")), f"{outside} (turn 1)"),
        (attempt(Turn(text="<answer>1</answer><answer>2</answer>")), f"{outside} (turn 1)"),
        (attempt(Turn(text=f"<think>a < b,\nan <answer>?</answer></think>\n\n{CALL}\n{CALL}\n"), clean[1]), None),
        (attempt(Turn(text="<think></think><answer>a <b> c\nd</answer>\n")), None),
        (sample(), None),
    ]
    assert reasons(format_errors, *(row for row, _ in cases)) == [reason for _, reason in cases]


def test_format_lets_an_attempt_speak_with_its_user() -> None:
    asks, leaves = Turn(text="Which one?", reply="The blue one."), Turn(text="Done. Goodbye!")
    talk = attempt(asks, called(), leaves, stop_reason=StopReason.DONE, answer=None)
    # Nobody heard the same words in the middle of it; and who stops by himself has to answer.
    unheard = replace(talk, turns=(leaves, *talk.turns))
    stopped = replace(talk, stop_reason=StopReason.ANSWER, answer="24")
    assert reasons(format_errors, talk, unheard, stopped) == [
        None,
        "text outside of thought, call and answer (turn 1)",
        "text outside of thought, call and answer (turn 3)",
    ]


def test_format_without_tags_still_reads_errors_and_ends() -> None:
    pythonic = attempt(Turn(text="[calculator(expression='48/2')]"), Turn(text="24"))
    broken = replace(pythonic, turns=(Turn(text="[", error="no call"),))
    assert reasons(format_errors, pythonic, broken, replace(pythonic, answer=None), tags=False) == [
        None,
        "a turn was rejected (turn 1)",
        "no answer",
    ]


def test_errors_by_hand() -> None:
    failed = attempt(called(), called(ok=False, name="search"), Turn(text="<answer>24</answer>"))
    no_calls = attempt(Turn(text="<answer>24</answer>"))
    rows = (attempt(), failed, no_calls, replace(failed, provenance={"kind": "reflection"}))
    assert reasons(errors, *rows) == [None, "a tool call failed (search)", None, None]
    # One of two is not more than half of them; it is more than .49.
    assert reasons(errors, *rows, share=0.5) == [None] * 4
    assert reasons(errors, *rows, share=0.49)[1] == "more than 0.49 of the tool calls failed (1 of 2)"
    # 29 of 100 are .29 and not more, whatever .29 * 100 is in binary.
    many = attempt(*(called(ok=at >= 29) for at in range(100)))
    assert reasons(errors, many, share=0.29) == [None]


def test_verified_by_hand() -> None:
    rows = [attempt(correct=verdict) for verdict in (True, False, None)]
    assert reasons(verified, *rows, sample(correct=False)) == [None, "wrong", "not verified", None]


def test_verified_by_the_answer_reads_numbers_with_their_sign() -> None:
    rows = [
        attempt(answer=answer, reference=reference, correct=True)
        for answer, reference in (
            ("1,200", "1200"),
            ("Paris.", " paris"),
            ("-5", "5"),
            ("2.4", "24"),
            (None, "24"),
            ("24", " "),
        )
    ]
    assert reasons(verified, *rows, by="answer") == [None, None, "wrong", "wrong", "wrong", "not verified"]


def test_length_by_hand() -> None:
    # The question has 3 characters, a space follows, the turn has 2: 6, and the tool's answer is not counted.
    row = attempt(called("é😀"), question="one", token_ids=(1, 2, 3), loss_mask=(0, 1, 1))
    assert reasons(length, row, fewest=6, most=6, most_turns=1, most_tokens=3) == [None]
    assert reasons(length, row, fewest=7) == ["too short (6 characters)"]
    assert reasons(length, row, most=5) == ["too long (6 characters)"]
    assert reasons(length, row, most_tokens=2) == ["too long (3 tokens)"]
    assert reasons(length, attempt(), most_turns=1) == ["too long (2 turns)"]
    assert reasons(length, attempt(), most_tokens=1) == [None]  # written, not sampled: no tokens
    assert reasons(length, problem("abc"), problem("abcd"), problem(""), most=3) == [
        None,
        "too long (4 characters)",
        "too short (0 characters)",
    ]


def test_calls_by_hand() -> None:
    none, one, two = (attempt(*[called()] * n, Turn(text="<answer>24</answer>")) for n in (0, 1, 2))
    assert reasons(calls, none, one, two, fewest=1, most=1) == ["too few calls (0)", None, "too many calls (2)"]
    # One call is needed: the second is one beyond.
    assert reasons(calls, none, one, two, needless=0) == [None, None, "needless calls (1)"]
    assert reasons(calls, none, one, two, needless=1) == [None] * 3
    assert reasons(calls, sample(), fewest=1) == [None]


def test_repeated_calls_by_hand() -> None:
    def of(*expressions: str) -> Trajectory:
        return attempt(*(called(expression=expression) for expression in expressions))

    other_tool = attempt(called(), called(name="python"))
    rows = (of("1"), of("1", "2", "1"), of("1", "1", "1", "2"), other_tool, attempt(Turn(text="no call")))
    once, twice = "the same call again (1 times)", "the same call again (2 times)"
    assert reasons(repeated_calls, *rows) == [None, once, twice, None, None]
    assert reasons(repeated_calls, *rows, most=1) == [None, None, twice, None, None]
    assert reasons(repeated_calls, *rows, most=2) == [None] * 5


def test_printable_by_hand() -> None:
    # One of 100 characters: .99 of them can be printed, which is enough by default; two are too many.
    one, two = "a" * 99 + "\ufffd", "a" * 98 + "\ufffd\x96"
    rows = [problem(text) for text in (one, two, "tab\tand\r\nline, ü, 漢, 😀, \u200djoined", "", "\ue000")]
    assert reasons(printable, *rows) == [
        None,
        "characters that can't be printed (2 of 100)",
        None,
        None,
        "characters that can't be printed (1 of 1)",
    ]
    assert reasons(printable, rows[0], least=1.0) == ["characters that can't be printed (1 of 100)"]


def test_script_by_hand() -> None:
    # Of "Wie geht's? 好" 8 of 9 letters are Latin: .889.
    rows = [problem(text) for text in ("Wie geht's? 好", "日本", "3 + 5 = ?", "дом", "Größe")]
    chinese, russian = "letters that are not Latin (2 of 2)", "letters that are not Latin (3 of 3)"
    assert reasons(script, *rows, of=["Latin"], least=0.88) == [None, chinese, None, russian, None]
    assert reasons(script, rows[0], of=["Latin"], least=0.89) == ["letters that are not Latin (1 of 9)"]
    assert reasons(script, *rows, of=["Latin", "Han"], least=1) == [
        None,
        None,
        None,
        "letters that are not Latin or Han (3 of 3)",
        None,
    ]


def test_complete_by_hand() -> None:
    rows = (problem(), problem(" \n\t"), problem(answer=""), problem(answer="0"))
    assert reasons(complete, *rows) == [None, "no question", "no answer", None]
    assert reasons(complete, *rows, answer=False) == [None, "no question", None, None]
    assert reasons(complete, attempt(answer=None), attempt()) == ["no answer", None]


def test_scored_by_hand() -> None:
    rows = [
        attempt(score=0.5, reward=0.1, score_parts={"calls": 0.2, 'a"b/~*$': 1}),
        attempt(score=0.49, reward=None, score_parts={"calls": "much"}),
        attempt(score=None, reward=2.0),
        sample(score=0.0),
    ]
    assert reasons(scored, *rows, least=0.5) == [None, "score below 0.5 (0.49)", "not scored", None]
    assert reasons(scored, *rows, least=0.5, unknown="keep") == [None, "score below 0.5 (0.49)", None, None]
    assert reasons(scored, *rows, least=0.5, by="reward") == ["reward below 0.5 (0.1)", "not scored", None, None]
    assert reasons(scored, *rows[:2], least=0.5, part="calls") == ["calls below 0.5 (0.2)", "not scored"]
    assert reasons(scored, rows[0], least=0.5, part='a"b/~*$') == [None]  # no character of a name is special


def test_confident_by_hand() -> None:
    # Own tokens -1 and -2: a mean of -1.5. The prompt's, which should be 0, is not looked at.
    row = attempt(token_ids=(1, 2, 3), loss_mask=(0, 1, 1), logprobs=(-9.0, -1.0, -2.0))
    assert reasons(confident, row, attempt(), sample(), least=-1.5) == [None, "no log-probabilities", None]
    assert reasons(confident, row, attempt(), least=-1.4, unknown="keep") == [
        "mean log-probability below -1.4 (-1.5)",
        None,
    ]


OF_ATTEMPTS: list[tuple[AnyRule, dict[str, Any]]] = [
    (format_errors, {}),
    (errors, {}),
    (errors, {"share": 0.5}),
    (verified, {}),
    (verified, {"by": "answer"}),
    (length, {"most": 9, "most_turns": 1, "most_tokens": 1}),
    (calls, {"fewest": 1, "most": 2, "needless": 0}),
    (repeated_calls, {}),
    (scored, {"least": 0.5}),
    (scored, {"least": 0.5, "part": "x"}),
    (confident, {"least": -1}),
]
OF_BOTH: list[tuple[AnyRule, dict[str, Any]]] = [
    (length, {"most": 9}),
    (printable, {}),
    (script, {"of": ["Latin"]}),
    (complete, {}),
]


@pytest.mark.parametrize(("rule", "options"), OF_ATTEMPTS)
def test_problems_have_no_attempts_to_judge(rule: AnyRule, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the rows are problems") as error:
        dropped(rule, rows_of([problem()]), **options)
    assert error.value.remedy


@pytest.mark.parametrize(("rule", "options"), OF_ATTEMPTS + OF_BOTH)
def test_no_rows_and_rows_of_nothing_are_judged(rule: AnyRule, options: dict[str, Any]) -> None:
    assert dropped(rule, rows_of([]), **options) == {}
    dropped(rule, rows_of([attempt()], empty_rows=3), **options)


@pytest.mark.parametrize(("rule", "options"), OF_BOTH)
def test_problems_of_nothing_are_judged(rule: AnyRule, options: dict[str, Any]) -> None:
    assert dropped(rule, rows_of([], kind="problem"), **options) == {}
    dropped(rule, rows_of([problem()], empty_rows=3), **options)


def test_what_is_missing_does_not_pass() -> None:
    nothing = {0: "no turn"}, {0: "no question"}, {0: "not verified"}, {0: "too short (0 characters)"}
    found = tuple(dropped(rule, rows_of([], empty_rows=1)) for rule in (format_errors, complete, verified, length))
    assert found == nothing
    # A reason stays a reason where what stands in its brackets is missing.
    rows = rows_of([attempt()])
    rows.database.execute("UPDATE rows SET stop_reason = NULL")
    assert dropped(format_errors, rows) == {0: "did not end with an answer ()"}


def test_broken_provenance_is_an_attempt() -> None:
    rows = rows_of([attempt(correct=False)])
    rows.database.execute("UPDATE rows SET provenance = '{broken'")
    assert dropped(verified, rows) == {0: "wrong"}


@pytest.mark.parametrize("evil", ["'); DROP TABLE rows; --", "x' OR 'a'='a", "{}", '"', "\\", "$.calls"])
def test_a_part_is_only_ever_a_name(evil: str) -> None:
    rows = [attempt(score_parts={evil: 0.1}), attempt(score_parts={"calls": 0.9})]
    assert reasons(scored, *rows, least=0.5, part=evil) == [f"{evil} below 0.5 (0.1)", "not scored"]


def test_limits_that_keep_nothing_are_errors() -> None:
    for rule in (length, calls):
        with pytest.raises(ConfigError, match="keeps nothing"):
            dropped(rule, rows_of([attempt()]), fewest=3, most=2)


@settings(max_examples=60)
@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), st.floats(allow_nan=False))
def test_literals_are_read_back(text: str, value: float) -> None:
    assert duckdb.execute(f"SELECT {quoted(text)}, {number(value)}").fetchall() == [(text, value)]


def test_draws_follow_from_seed_rule_and_key_and_are_even() -> None:
    one, two = rows_of([], seed=1), rows_of([], seed=2)

    def shares(rule: str, rows: Any) -> list[float]:
        query = f"SELECT {drawn(rows, rule, 'range')} FROM range(2000) ORDER BY range"
        return [share for (share,) in duckdb.execute(query).fetchall()]

    first = shares("a", one)
    assert first == shares("a", one) and first != shares("a", two) and first != shares("b", one)
    assert all(0 <= share < 1 for share in first)
    # 2000 draws: the share below a quarter has a spread of sqrt(.25 * .75 / 2000) = .0097; four of them.
    assert abs(sum(share < 0.25 for share in first) / 2000 - 0.25) < 0.039
