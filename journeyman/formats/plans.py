"""Plan-RewardBench: a query with a chosen and a rejected trajectory (Plan-RewardBench, data CC BY 4.0)."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from journeyman.environments.call_problems import spec_of
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of, text_of
from journeyman.formats.conversation import trajectory_of
from journeyman.formats.files import rows_of
from journeyman.messages import Message, ToolCall

_SIDES = (("chosen", True), ("reject", False))


def open_plans(path: Path) -> tuple[Iterator[Row], Reader]:
    return rows_of(path), read_plans


def read_plans(row: Row) -> Made:
    """Two trajectories of a row, the chosen one correct, the rejected one not. Raises `BadRow`."""
    value = object_of(row)
    text_of(value, "query")
    tools = value.get("tools")
    if not isinstance(tools, list):
        raise BadRow("tools that are no list")
    specs = [spec_of(tool) for tool in tools]
    made = []
    for sample, (side, correct) in enumerate(_SIDES):
        spoken = value.get(side)
        messages = spoken.get("messages") if isinstance(spoken, dict) else None
        if not isinstance(messages, list) or not messages:
            raise BadRow(f"no messages of the {side} side")
        fields = {"sample": sample, "correct": correct, "score": float(correct)}
        made.append(trajectory_of(_messages(messages), specs, row, f"plan-rewardbench:{side}", **fields))
    if made[0].question != made[1].question:
        raise BadRow("two sides that answer different questions")
    return Made(trajectories=tuple(made))


def _messages(spoken: Sequence[Any]) -> list[Message]:
    """Calls that stand in a row are one message of the assistant, with the words right before them."""
    made: list[Message] = []
    for said in spoken:
        if not isinstance(said, dict) or not isinstance(said.get("content"), str):
            raise BadRow("a message without text")
        role, content = said.get("role"), said["content"]
        if role == "tool_call":
            call = _call(content)
            last = made[-1] if made and made[-1].role == "assistant" else None
            before = (last.content, last.calls) if last is not None else ("", ())
            made[-1 if last is not None else len(made) :] = [
                Message(role="assistant", content=before[0], calls=(*before[1], call))
            ]
        elif role == "tool_response":
            made.append(Message(role="tool", content=content, name=str(said.get("name") or "")))
        elif role in ("user", "assistant", "system"):
            made.append(Message(role=role, content=content))
        else:
            raise BadRow("a role that is unknown", str(role))
    return made


def _call(text: str) -> ToolCall:
    """A call is written as Python's literal of a dictionary, its arguments as JSON text."""
    try:
        value = ast.literal_eval(text)
        arguments = value["arguments"]
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        name = value["name"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise BadRow("a call that can't be read", text[:100]) from None
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise BadRow("a call that can't be read", text[:100])
    return ToolCall(name=name, arguments=dict(arguments))
