"""Turns: any text can be read, what is written can be read back, and nothing counts that the policy didn't say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rollout.parse import MAX_CALLS, MAX_DEPTH, ParsedTurn, parse_turn, render_call
from journeyman.trajectory import ToolCall

SIX = ToolCall(name="calculator", arguments={"expression": "6*7"})
SEVEN = ToolCall(name="search", arguments={"query": "mayor of Cor"})
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'


def test_a_call_is_written_as_the_model_writes_it() -> None:
    assert render_call(SIX) == CALL


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("<answer>42</answer>", ParsedTurn(answer="42")),
        ("<think>6*7</think>\n<answer> 42\n</answer>", ParsedTurn(answer="42")),
        ("  \n<think></think><answer></answer>", ParsedTurn(answer="")),
        ("It is <answer>42</answer>, I think.", ParsedTurn(answer="42", text="It is , I think.")),
        (CALL, ParsedTurn(calls=(SIX,))),
        (f"<think>I multiply.</think>\n{CALL}", ParsedTurn(calls=(SIX,))),
        (f"{CALL}\n{render_call(SEVEN)}", ParsedTurn(calls=(SIX, SEVEN))),
        ('<tool_call>{"name":"t","arguments":{}}</tool_call>', ParsedTurn(calls=(ToolCall(name="t", arguments={}),))),
        ("I don't know.", ParsedTurn(text="I don't know.")),
        ("", ParsedTurn()),
        ("<think>nothing else</think>", ParsedTurn()),
    ],
)
def test_well_formed_turns(text: str, parsed: ParsedTurn) -> None:
    assert parse_turn(text) == parsed


@pytest.mark.parametrize(
    "text", [f"<think>{CALL}</think>", "<think><answer>42</answer></think>", "<think><tool_call><think></think>"]
)
def test_what_stands_in_a_thought_is_only_a_thought(text: str) -> None:
    assert parse_turn(text) == ParsedTurn()
    assert parse_turn(f"{text}<answer>1</answer>") == ParsedTurn(answer="1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<think>6*7", "<think> is not closed"),
        ("well <think>6*7</think><answer>42</answer>", "<think> is not at the start, or not opened"),
        ("6*7</think><answer>42</answer>", "<think> is not at the start, or not opened"),
        ("<think>a</think><think>b</think>", "<think> is not at the start, or not opened"),
        (f"{CALL}<tool_response>42</tool_response>", "a tool response that no tool gave"),
        ("</tool_response><answer>42</answer>", "a tool response that no tool gave"),
        ("<answer>42", "a tag without its partner"),
        ("42</answer>", "a tag without its partner"),
        ("<tool_call>{}", "a tag without its partner"),
        (f"{CALL}</tool_call>", "a tag without its partner"),
        ("<answer>1</answer><answer>2</answer>", "more than one answer"),
        (f"{CALL}<answer>42</answer>", "an answer and a call in one turn"),
        (f"<answer>{CALL}</answer>", "an answer and a call in one turn"),
        ("<tool_call></tool_call>", "a call that is not JSON"),
        ("<tool_call>{'name': 't'}</tool_call>", "a call that is not JSON"),
        ('<tool_call>{"name": "t", "arguments": {"a": NaN}}</tool_call>', "a call that is not JSON"),
        ('<tool_call>{"name": "t", "arguments": {"a": -1e999}}</tool_call>', "a call that is not JSON"),
        (r'<tool_call>{"name": "t", "arguments": {"a": "\ud83d"}}</tool_call>', "a call that is not JSON"),
        ("<tool_call>42</tool_call>", "a call without a name"),
        ('<tool_call>[{"name": "t", "arguments": {}}]</tool_call>', "a call without a name"),
        ('<tool_call>{"arguments": {}}</tool_call>', "a call without a name"),
        ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', "a call without a name"),
        ('<tool_call>{"name": "t"}</tool_call>', "a call without arguments"),
        ('<tool_call>{"name": "t", "arguments": "6*7"}</tool_call>', "a call without arguments"),
        ('<tool_call>{"name": "t", "arguments": []}</tool_call>', "a call without arguments"),
    ],
)
def test_malformed_turns_say_why_and_ask_for_nothing(text: str, error: str) -> None:
    assert parse_turn(text) == ParsedTurn(error=error)


def test_bombs_are_malformed_turns() -> None:
    def error(body: str) -> str:
        return parse_turn(f"<tool_call>{body}</tool_call>").error

    assert error("[" * 10**5) == error("[" * 10**5 + "]" * 10**5) == error("9" * 5000) == "a call that is not JSON"
    assert (
        error("[" * 900 + "]" * 900) == error('{"a":' * 40 + "1" + "}" * 40) == f"a call nested deeper than {MAX_DEPTH}"
    )
    assert parse_turn(CALL * (MAX_CALLS + 1)).error == f"more than {MAX_CALLS} calls in one turn"
    assert parse_turn("<think>" * 10**5).error == "<think> is not closed"


def test_as_many_calls_as_allowed_and_as_deep() -> None:
    assert len(parse_turn(CALL * MAX_CALLS).calls) == MAX_CALLS
    deepest: Any = 0
    for _ in range(MAX_DEPTH - 2):  # the call itself and its arguments are two levels
        deepest = [deepest]
    call = ToolCall(name="t", arguments={"a": deepest})
    assert parse_turn(render_call(call)).calls == (call,)
    assert parse_turn(render_call(ToolCall(name="t", arguments={"a": [deepest]}))).error


PIECES = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<tool_response>"),
    *('{"name": "t", "arguments": {}}', '{"name": "t", "arguments": {"a": 1}}', "{", "}", "[", '"', "null", "42", "\n"),
    *("<|im_end|>", "\\ud800", "é", "😀", "\x00", "<", "</"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join) | st.text())
def test_any_text_parses_to_one_thing_that_can_be_stored(text: str) -> None:
    parsed = parse_turn(text)
    assert sum([bool(parsed.calls), parsed.answer is not None, bool(parsed.error)]) <= 1
    assert len(parsed.calls) <= text.count("<tool_call>")
    for call in parsed.calls:
        json.dumps(dict(call.arguments), ensure_ascii=False, allow_nan=False).encode()
    if parsed.answer is not None:
        assert parsed.answer in text
    if "<tool_response>" in text.partition("</think>")[2]:
        assert parsed.error


TEXTS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.builds(ToolCall, name=TEXTS, arguments=st.dictionaries(TEXTS, JSON, max_size=3))


@given(st.lists(CALLS, min_size=1, max_size=3), TEXTS)
def test_what_is_rendered_is_read_back(calls: list[ToolCall], thought: str) -> None:
    text = f"<think>{thought}</think>\n" + "\n".join(map(render_call, calls))
    assert parse_turn(text) == ParsedTurn(calls=tuple(calls))


@given(TEXTS)
def test_an_answer_is_read_back(answer: str) -> None:
    assert parse_turn(f"<answer>{answer}</answer>") == ParsedTurn(answer=answer.strip())
