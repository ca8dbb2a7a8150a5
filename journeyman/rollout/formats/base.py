"""What the wire formats share: the interface, thoughts, tags, and what a call may hold."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from journeyman.messages import INVENTED, ParsedTurn, ToolCall

MAX_CALLS = 16
"""Most calls of one turn."""
MAX_DEPTH = 32
"""Deepest nesting of a call: whoever reads it later may have less stack left."""
THOUGHT = ("<think>", "</think>")
ANSWER = ("<answer>", "</answer>")
RESPONSE = ("<tool_response>", "</tool_response>")


class TurnError(ValueError):
    """Why a turn is rejected. Its text becomes `ParsedTurn.error`; it never leaves a parser."""


class CallFormat(Protocol):
    """How a model writes its thoughts, its calls and its answer."""

    name: str
    instructions: str
    """What the system message says about it."""
    stops: tuple[str, ...]
    """Control tokens that end a turn, besides the one of the chat template."""

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        """Read a turn. Any text gives calls, an answer, plain words or a typed error, in linear time.

        What stands in a thought is only a thought; an invented tool response is an error. `specs` are the tools on
        offer, for formats that don't write types.
        """
        ...

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        """A turn as the model writes it; parsing gives it back. `ValueError` for what the format can't express."""
        ...


def split_thought(text: str) -> tuple[str, str]:
    """(thought, the rest). Raises `TurnError` where the thought never ends."""
    stripped = text.lstrip()
    opening, closing = THOUGHT
    if not stripped.startswith(opening):
        return "", stripped
    thought, closed, rest = stripped.removeprefix(opening).partition(closing)
    if not closed:
        raise TurnError("<think> is not closed")
    return thought, rest


def check_visible(visible: str, responses: Sequence[str] = RESPONSE) -> None:
    """No tool response that no tool gave, and no second thought. Raises `TurnError`."""
    if any(tag in visible for tag in responses):
        raise TurnError(INVENTED)
    if any(tag in visible for tag in THOUGHT):
        raise TurnError("<think> is not at the start, or not opened")


def between(text: str, tags: tuple[str, str]) -> tuple[list[str], str]:
    """(what stands between the tags, the text without them), each opening tag with the next closing one.

    Linear, as a lazy regular expression is not: without a closing tag that one looks for it from every opening tag.
    """
    opening, closing = tags
    bodies, outside, at = [], [], 0
    while True:
        start = text.find(opening, at)
        end = text.find(closing, start + len(opening)) if start >= 0 else -1
        if end < 0:
            return bodies, "".join([*outside, text[at:]])
        bodies.append(text[start + len(opening) : end])
        outside.append(text[at:start])
        at = end + len(closing)


def split_answer(visible: str) -> tuple[str | None, str]:
    """(the answer between its tags, the text without it). Raises `TurnError`."""
    answers, rest = between(visible, ANSWER)
    if any(tag in rest for tag in ANSWER):
        raise TurnError("a tag without its partner")
    if len(answers) > 1:
        raise TurnError("more than one answer")
    return (answers[0].strip() if answers else None), rest


def read_json(body: str) -> Any:
    """A JSON value that can be stored as JSON text again. Raises `TurnError`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise TurnError("a call that is not JSON") from None
    return storable(value)


def storable(value: Any) -> Any:
    """The value, unless it holds what JSON text does not: half of a surrogate pair, NaN, infinity, a bottomless nest."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise TurnError("a call that is not JSON") from None
    if _deeper(value, MAX_DEPTH):
        raise TurnError(f"a call nested deeper than {MAX_DEPTH}")
    return value


def _deeper(value: object, levels: int) -> bool:
    """Whether more than so many lists and objects stand in each other."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def as_call(value: Any, key: str = "arguments") -> ToolCall:
    """A call out of its JSON object. Raises `TurnError`."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise TurnError("a call without a name")
    if not isinstance(value.get(key), dict):
        raise TurnError("a call without arguments")
    return ToolCall(name=value["name"], arguments=value[key])


def few(bodies: Sequence[Any]) -> None:
    """Raises `TurnError` where a turn asks for too much."""
    if len(bodies) > MAX_CALLS:
        raise TurnError(f"more than {MAX_CALLS} calls in one turn")


def dumped(value: Any, tags: Sequence[str]) -> str:
    """JSON text that none of the tags stands in: the value stays the same, for `<` is escaped where it must be."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c") if any(tag in text for tag in tags) else text


def opened(thought: str) -> str:
    """A turn's beginning: its thought and a line break, or nothing."""
    if THOUGHT[1] in thought:
        raise ValueError("a thought with its own end in it can't be written")
    return f"{THOUGHT[0]}{thought}{THOUGHT[1]}\n" if thought else ""


def tagged(answer: str, tags: tuple[str, str], foreign: Sequence[str]) -> str:
    """An answer between its tags; `ValueError` where one of the format's tags stands in it."""
    if any(tag in answer for tag in (*tags, *foreign)):
        raise ValueError("an answer with a tag in it can't be written")
    return f"{tags[0]}{answer}{tags[1]}"


def one_of(calls: Sequence[ToolCall], answer: str | None) -> None:
    """A turn calls or answers. Raises `ValueError`."""
    if calls and answer is not None:
        raise ValueError("a turn either calls or answers")
