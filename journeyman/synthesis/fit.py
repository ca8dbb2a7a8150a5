"""Whether the parts of a synthesize block go together: told when a pipeline is loaded, not in the middle of a run."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from journeyman.expressions import ExpressionError, names, parse
from journeyman.synthesis.strategies import VOCABULARY, WRITES, WRITES_WITH

MUTE = ("scripted", "annotations")
"""Types of teachers that write no texts, and cost nothing."""
PRICES = ("price_per_million_input_tokens", "price_per_million_output_tokens")
Misfit = tuple[str, str, str]
"""(key of the block, fault, remedy)."""


def misfits(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """What in a synthesize block (plain data, as the config dumps it) cannot work, or does nothing."""
    block = _block(block)  # in a file it may be anything
    teacher, writer = _block(block.get("teacher")), _block(block.get("writer"))
    kind = teacher.get("type", "scripted")
    needy = [name for text in _texts(block.get("strategies")) for name in _writing(text)]
    if writer and not needy:
        yield "writer", "has no effect: none of the strategies writes", "remove `writer`"
    if writer or kind not in MUTE:
        yield from _unpriced(block, [one for one in (teacher, writer) if one.get("type") == "endpoint"])
        return
    if needy:
        remedy = "set synthesize.writer, or a teacher of type endpoint, model or policy"
        yield "strategies", f"{needy[0]} needs a model that writes, and the teacher is {kind}", remedy
    for key in ("budget", "requests_per_minute"):
        if _set(block.get(key)):
            yield key, f"has no effect: a teacher of type {kind} asks no model", f"remove `{key}`"


def _unpriced(block: Mapping[str, Any], endpoints: list[Mapping[str, Any]]) -> Iterator[Misfit]:
    if _block(block.get("budget")).get("cost") and not any(one.get(price) for one in endpoints for price in PRICES):
        yield "budget", "has no effect on cost: nothing has a price", f"set {' and '.join(PRICES)} of the endpoint"


def _block(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"type": value} if isinstance(value, str) else {}


def _set(value: Any) -> bool:
    return any(one is not None for one in value.values()) if isinstance(value, Mapping) else value is not None


def _texts(strategies: Any) -> list[str]:
    return [text for text in strategies if isinstance(text, str)] if isinstance(strategies, list) else []


def _writing(text: str) -> Iterator[str]:
    """The strategy of an expression if it needs a writer; one that can't be read is told of by its own check."""
    try:
        node = parse(text)
    except ExpressionError:
        return
    options = {one.arg: one.value for one in node.keywords} if isinstance(node, ast.Call) else {}
    for name in names(node, VOCABULARY):
        option, value = WRITES_WITH.get(name, ("", None))
        given = options.get(option)
        if name in WRITES or (isinstance(given, ast.Constant) and given.value == value):
            yield name
