"""Qwen3-Coder: `<function=name>` with `<parameter=key>` around each value as it is, in `<tool_call>`."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import base

CALL = ("<tool_call>", "</tool_call>")
FUNCTION_END, PARAMETER_END = "</function>", "</parameter>"
TAGS = (*CALL, "<function=", FUNCTION_END, "<parameter=", PARAMETER_END, *base.ANSWER, *base.THOUGHT, *base.RESPONSE)
_HEAD = re.compile(r"\s*<(?P<kind>function|parameter)=(?P<name>[^<>\n]+)>")
_TAIL = re.compile(r"\s*</function>\s*")
_MAX_PARAMETERS = 256


class Xml(base.CallFormat):
    """`<think>` first and optional, then calls, or one `<answer>`.

    Values carry no types. Where the tool's schema says text, a value is text; else it is JSON where it reads as JSON,
    and text where it does not.
    """

    name = "xml"
    instructions = (
        "Think in <think></think>. Call tools with <tool_call><function=NAME><parameter=KEY>VALUE</parameter>"
        "</function></tool_call>. When you know the answer, give it in <answer></answer>."
    )
    stops = ()

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        try:
            _, visible = base.split_thought(text)
            base.check_visible(visible)
            bodies, rest = base.between(visible, CALL)
            answer, rest = base.split_answer(rest)
            if any(tag in rest for tag in CALL):
                raise base.TurnError("a tag without its partner")
            if answer is not None and bodies:
                raise base.TurnError("an answer and a call in one turn")
            base.few(bodies)
            calls = tuple(_call(body, specs) for body in bodies)
            return ParsedTurn(calls=calls, answer=answer, text=rest.strip())
        except base.TurnError as error:
            return ParsedTurn(error=str(error))

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        base.one_of(calls, answer)
        said = "" if answer is None else base.tagged(answer, base.ANSWER, TAGS)
        return base.opened(thought) + (said or "\n".join(map(_render, calls)))


def _call(body: str, specs: Sequence[Mapping[str, Any]]) -> ToolCall:
    name, at = _head(body, 0, "function")
    texts = _texts(name, specs)
    arguments: dict[str, Any] = {}
    while not _TAIL.match(body, at):
        key, at = _head(body, at, "parameter")
        end = body.find(PARAMETER_END, at)
        if end < 0 or key in arguments:
            raise base.TurnError("a parameter given twice, or not closed")
        raw = body[at:end].removeprefix("\n").removesuffix("\n")
        arguments[key] = raw if key in texts else _value(raw)
        if len(arguments) > _MAX_PARAMETERS:
            raise base.TurnError(f"more than {_MAX_PARAMETERS} parameters")
        at = end + len(PARAMETER_END)
    if not _TAIL.fullmatch(body, at):
        raise base.TurnError("words behind a function")
    return base.as_call(base.storable({"name": name, "arguments": arguments}))


def _head(body: str, at: int, kind: str) -> tuple[str, int]:
    """(name, where it ends) of an opening tag. Raises `TurnError`."""
    found = _HEAD.match(body, at)
    if found is None or found["kind"] != kind:
        raise base.TurnError(f"a call without <{kind}=...>")
    return found["name"], found.end()


def _texts(name: str, specs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The parameters that the tool's schema says are text."""
    for spec in specs:
        function = spec.get("function", spec)
        if function.get("name") == name:
            properties = function.get("parameters", {}).get("properties", {})
            return {key for key, schema in properties.items() if schema.get("type") == "string"}
    return set()


def _value(raw: str) -> Any:
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return raw


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _render(call: ToolCall) -> str:
    if not all(map(_writable, (call.name, *call.arguments))):
        raise ValueError(f"the names of {call} can't stand in a tag")
    lines = [f"<parameter={key}>\n{_written(value)}\n{PARAMETER_END}" for key, value in call.arguments.items()]
    return "\n".join([CALL[0], f"<function={call.name}>", *lines, FUNCTION_END, CALL[1]])


def _writable(name: str) -> bool:
    return bool(name) and not set(name) & set("<>\n")


def _written(value: Any) -> str:
    """Text as it is, unless it would be read as something else; all other values as JSON."""
    if isinstance(value, str) and not any(tag in value for tag in TAGS) and _value(value) == value:
        return value
    return base.dumped(value, TAGS)
