"""What a model's turn says: calls, an answer, or a typed reason why it can't be read. Any text parses; none crashes."""

import json
import re

from journeyman.messages import ParsedTurn, ToolCall

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
MAX_CALLS = 16
"""Most calls of one turn."""
MAX_DEPTH = 32
"""Deepest nesting of a call: whoever reads it later may have less stack left."""


def parse_turn(text: str) -> ParsedTurn:
    """Read Qwen/Hermes-style turns: `<think>` first and optional, then `<tool_call>` JSON or one `<answer>`.

    A `<tool_call>` or `<answer>` inside `<think>` is only a thought. An invented `<tool_response>` is an offence.
    """
    thought, visible = _split_thought(text)
    if thought is None:
        return ParsedTurn(error="<think> is not closed")
    if "<tool_response>" in visible or "</tool_response>" in visible:
        return ParsedTurn(error="a tool response that no tool gave")
    if "<think>" in visible or "</think>" in visible:
        return ParsedTurn(error="<think> is not at the start, or not opened")
    answers, bodies = _ANSWER.findall(visible), _CALL.findall(visible)
    rest = _CALL.sub("", _ANSWER.sub("", visible))
    if any(tag in rest for tag in (CALL_OPEN, CALL_CLOSE, "<answer>", "</answer>")):
        return ParsedTurn(error="a tag without its partner")
    if answers and bodies:
        return ParsedTurn(error="an answer and a call in one turn")
    if len(answers) > 1:
        return ParsedTurn(error="more than one answer")
    if len(bodies) > MAX_CALLS:
        return ParsedTurn(error=f"more than {MAX_CALLS} calls in one turn")
    if answers:
        return ParsedTurn(answer=answers[0].strip(), text=rest.strip())
    return _parse_calls(bodies, rest.strip())


def _split_thought(text: str) -> tuple[str | None, str]:
    """(thought, the rest); the thought is None where it never ends."""
    stripped = text.lstrip()
    if not stripped.startswith("<think>"):
        return "", stripped
    thought, closed, rest = stripped.removeprefix("<think>").partition("</think>")
    return (thought, rest) if closed else (None, "")


def _parse_calls(bodies: list[str], text: str) -> ParsedTurn:
    calls = []
    for body in bodies:
        try:
            value = json.loads(body)
            # What can be read but not stored as JSON text: half of a surrogate pair, NaN, infinity.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            return ParsedTurn(error="a call that is not JSON")
        if _deeper(value, MAX_DEPTH):
            return ParsedTurn(error=f"a call nested deeper than {MAX_DEPTH}")
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return ParsedTurn(error="a call without a name")
        if not isinstance(value.get("arguments"), dict):
            return ParsedTurn(error="a call without arguments")
        calls.append(ToolCall(name=value["name"], arguments=value["arguments"]))
    return ParsedTurn(calls=tuple(calls), text=text)


def _deeper(value: object, levels: int) -> bool:
    """Whether more than so many lists and objects stand in each other."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def render_call(call: ToolCall) -> str:
    """A call as the model writes it; the inverse of parsing."""
    body = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"
