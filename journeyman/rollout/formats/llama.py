"""Llama 3.x: a turn that is a JSON object with `name` and `parameters`, several with semicolons in between."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import base

TAG = "<|python_tag|>"
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", *base.RESPONSE)
"""A model that writes a header speaks for somebody else: for a tool, say."""
ENDS = ("<|eom_id|>", "<|eot_id|>")
TAGS = (TAG, *HEADERS, *ENDS, *base.ANSWER, *base.THOUGHT)
_DECODER = json.JSONDecoder()
_BETWEEN = " \t\r\n;"


class Llama(base.CallFormat):
    """`<think>` first and optional, then calls, or words with at most one `<answer>` among them.

    Calls begin with `<|python_tag|>`, words may stand before it, or the turn is nothing but calls. `arguments` is read
    as `parameters` is.
    """

    name = "llama"
    instructions = (
        "Think in <think></think>. To call a tool, write nothing else than "
        '{"name": function name, "parameters": dictionary of argument name and its value}; '
        "put semicolons between several. When you know the answer, give it in <answer></answer>."
    )
    stops = ("<|eom_id|>",)

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        try:
            _, visible = base.split_thought(text)
            base.check_visible(visible, HEADERS)
            return self._visible(_without_end(visible))
        except base.TurnError as error:
            return ParsedTurn(error=str(error))

    def _visible(self, visible: str) -> ParsedTurn:
        said, called, body = visible.partition(TAG)
        if not called and visible.lstrip().startswith("{"):
            said, called, body = "", TAG, visible
        answer, rest = base.split_answer(said)
        if not called:
            return ParsedTurn(answer=answer, text=rest.strip())
        if answer is not None:
            raise base.TurnError("an answer and a call in one turn")
        return ParsedTurn(calls=_calls(body), text=rest.strip())

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        base.one_of(calls, answer)
        said = "" if answer is None else base.tagged(answer, base.ANSWER, TAGS)
        return base.opened(thought) + (said or "; ".join(map(_render, calls)))


def _without_end(visible: str) -> str:
    stripped = visible.rstrip()
    for end in ENDS:
        stripped = stripped.removesuffix(end)
    if any(end in stripped for end in ENDS):
        raise base.TurnError("the end of a turn in the middle of it")
    return stripped


def _calls(body: str) -> tuple[ToolCall, ...]:
    """JSON objects behind each other. Raises `TurnError`."""
    values, at = [], _skip(body, 0)
    if at == len(body):
        raise base.TurnError("a call that is not JSON")
    while at < len(body):
        try:
            value, at = _DECODER.raw_decode(body, at)
        except (ValueError, RecursionError):
            raise base.TurnError("a call that is not JSON") from None
        values.append(base.storable(value))
        base.few(values)
        at = _skip(body, at)
    return tuple(base.as_call(value, _key(value)) for value in values)


def _skip(body: str, at: int) -> int:
    while at < len(body) and body[at] in _BETWEEN:
        at += 1
    return at


def _key(value: Any) -> str:
    if isinstance(value, dict) and {"parameters", "arguments"} <= value.keys():
        raise base.TurnError("a call with both parameters and arguments")
    return "arguments" if isinstance(value, dict) and "arguments" in value else "parameters"


def _render(call: ToolCall) -> str:
    return base.dumped({"name": call.name, "parameters": dict(call.arguments)}, TAGS)
