"""Llama 4 and BFCL: a turn that is a Python list of calls, `[f(a=1), g(b="x")]`. Read, never run."""

import ast
import json
import keyword
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import base

WRAPPER = ("<|python_start|>", "<|python_end|>")
HEADERS = ("<|header_start|>", "<|header_end|>", *base.RESPONSE)
TAGS = (*WRAPPER, *HEADERS, *base.ANSWER, *base.THOUGHT)
MAX_SOURCE = 65_536
"""Longest list of calls, in characters: Python's parser takes a thousand times the memory of what it reads."""
_NAMES = {"true": True, "false": False, "null": None}
"""Models mix JSON's spelling in."""


class Pythonic(base.CallFormat):
    """`<think>` first and optional, then a list of calls and nothing else, or words with at most one `<answer>`.

    Arguments are named and literal: numbers, text, lists, dictionaries, True, False, None.
    """

    name = "pythonic"
    instructions = (
        "Think in <think></think>. To call tools, write nothing else than a list: "
        '[first_tool(number=1, text="a"), second_tool()]. '
        "When you know the answer, give it in <answer></answer>."
    )
    stops = ()

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        try:
            _, visible = base.split_thought(text)
            base.check_visible(visible, HEADERS)
            return self._visible(visible.strip())
        except base.TurnError as error:
            return ParsedTurn(error=str(error))

    def _visible(self, visible: str) -> ParsedTurn:
        if visible.startswith(WRAPPER[0]):
            visible = visible.removeprefix(WRAPPER[0]).removesuffix(WRAPPER[1]).strip()
            return ParsedTurn(calls=_calls(visible))
        if visible.startswith("["):
            return ParsedTurn(calls=_calls(visible))
        answer, rest = base.split_answer(visible)
        if any(tag in rest for tag in WRAPPER):
            raise base.TurnError("calls and words in one turn")
        return ParsedTurn(answer=answer, text=rest.strip())

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        base.one_of(calls, answer)
        said = "" if answer is None else base.tagged(answer, base.ANSWER, TAGS)
        return base.opened(thought) + (said or (f"[{', '.join(map(_render, calls))}]" if calls else ""))


def _calls(source: str) -> tuple[ToolCall, ...]:
    """Raises `TurnError`."""
    if len(source) > MAX_SOURCE:
        raise base.TurnError(f"calls of more than {MAX_SOURCE} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the model's strings
            body = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise base.TurnError("a call that is not Python") from None
    if not isinstance(body, ast.List) or not body.elts:
        raise base.TurnError("no list of calls")
    base.few(body.elts)
    return tuple(_call(node) for node in body.elts)


def _call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call):
        raise base.TurnError("a list entry that is not a call")
    if node.args:
        raise base.TurnError("an argument without a name")
    arguments: dict[str, Any] = {}
    for argument in node.keywords:
        value = _literal(argument.value, base.MAX_DEPTH)
        more = {argument.arg: value} if argument.arg is not None else value
        if not isinstance(more, dict) or arguments.keys() & more.keys():
            raise base.TurnError("an argument given twice, or ** without a dictionary")
        arguments |= more
    name = _name(node.func, base.MAX_DEPTH)
    return base.as_call(base.storable({"name": name, "arguments": arguments}))


def _name(node: ast.expr, levels: int) -> str:
    """`f`, or `a.b.f` as BFCL has it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and levels:
        return f"{_name(node.value, levels - 1)}.{node.attr}"
    raise base.TurnError("a call without a name")


def _literal(node: ast.expr, levels: int) -> Any:
    if levels == 0:
        raise base.TurnError(f"a call nested deeper than {base.MAX_DEPTH}")
    match node:
        case ast.Constant(value=None | str() | bool() | int() | float() as value):
            return value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            return value
        case ast.List(elts=inner) | ast.Tuple(elts=inner):
            return [_literal(one, levels - 1) for one in inner]
        case ast.Dict(keys=keys, values=values):
            return {_key(k): _literal(v, levels - 1) for k, v in zip(keys, values, strict=True)}
    raise base.TurnError("an argument that is not a literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise base.TurnError("a dictionary key that is not text")


def _render(call: ToolCall) -> str:
    if not all(_plain(part) for part in call.name.split(".")):
        raise ValueError(f"{call.name!r} can't be written as a Python call")
    named = [f"{name}={_written(value)}" for name, value in call.arguments.items() if _plain(name)]
    if others := {name: value for name, value in call.arguments.items() if not _plain(name)}:
        named.append(f"**{_written(others)}")
    return f"{call.name}({', '.join(named)})"


def _plain(name: str) -> bool:
    """Whether it can stand as a name in Python: others change on the way (`ﬁ` becomes `fi`) or don't parse."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _written(value: Any) -> str:
    match value:
        case str():
            text = json.dumps(value, ensure_ascii=False)
            return text.replace("<", "\\u003c") if any(tag in text for tag in TAGS) else text
        case dict():
            return "{" + ", ".join(f"{_written(k)}: {_written(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value)
