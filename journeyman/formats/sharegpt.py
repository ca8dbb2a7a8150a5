"""ShareGPT's conversations with LLaMA-Factory's roles for tools, as glaive's data come."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from journeyman.environments.call_problems import spec_of
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of
from journeyman.formats.conversation import trajectory_of
from journeyman.formats.files import rows_of
from journeyman.messages import Message, ToolCall

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
    **dict.fromkeys(("observation", "tool", "tool_response", "function_response"), "tool"),
    "system": "system",
}


def open_sharegpt(path: Path) -> tuple[Iterator[Row], Reader]:
    return rows_of(path), read_sharegpt


def read_sharegpt(row: Row) -> Made:
    """A trajectory of a conversation. Raises `BadRow`."""
    value = object_of(row)
    spoken = value.get("conversations")
    if not isinstance(spoken, list) or not spoken:
        raise BadRow("no conversations")
    messages = list(_messages(spoken))
    if isinstance(value.get("system"), str) and value["system"]:
        messages.insert(0, Message(role="system", content=value["system"]))
    tools = value.get("tools") or []
    if isinstance(tools, str):
        tools = _loads(tools, "tools that are not JSON")
    if not isinstance(tools, list):
        raise BadRow("tools that are no list")
    return Made(trajectories=(trajectory_of(messages, [spec_of(tool) for tool in tools], row, "sharegpt"),))


def _messages(spoken: list[Any]) -> Iterator[Message]:
    for said in spoken:
        if not isinstance(said, dict):
            raise BadRow("a message that is no object")
        role, text = _ROLES.get(str(said.get("from", said.get("role")))), said.get("value", said.get("content"))
        if role is None:
            raise BadRow("a role that is unknown", str(said.get("from", said.get("role"))))
        if not isinstance(text, str):
            raise BadRow("a message without text")
        if role == "call":
            yield Message(role="assistant", content="", calls=tuple(_calls(text)))
        else:
            yield Message(role=role, content=text)  # type: ignore[arg-type]


def _calls(text: str) -> Iterator[ToolCall]:
    asked = _loads(text, "a call that is not JSON")
    for call in asked if isinstance(asked, list) else [asked]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise BadRow("a call without a name")
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _loads(arguments, "arguments that are not JSON")
        if not isinstance(arguments, dict):
            raise BadRow("arguments that are no object", call["name"])
        yield ToolCall(name=call["name"], arguments=arguments)


def _loads(text: str, reason: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(reason, text[:100]) from None
