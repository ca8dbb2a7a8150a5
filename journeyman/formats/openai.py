"""OpenAI's chat messages with tools, in and out. What they can't say of a trajectory stands beside them.

A line is `{"messages", "tools", "journeyman"}`; the last key holds what a trajectory has besides the conversation, and
may be missing. Token ids, masks and log-probabilities are not written.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from journeyman.environments.call_problems import spec_of
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of
from journeyman.formats.conversation import content_of, split, trajectory_of, written
from journeyman.formats.files import rows_of
from journeyman.messages import Fault, Image, Message, ToolCall, ToolResult
from journeyman.trajectory import Span, StopReason, Trajectory, Turn

OURS = "journeyman"
_TOKENS = ("token_ids", "cuts", "loss_mask", "logprobs", "policy_versions")
_APART = ("turns", "opening", "specs", *_TOKENS)
_DATA_URL = re.compile(r"data:([\w./+-]+);base64,(.*)", re.DOTALL)
_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def open_openai(path: Path) -> tuple[Iterator[Row], Reader]:
    return rows_of(path), read_openai


def read_openai(row: Row) -> Made:
    """A trajectory of a line. Raises `BadRow`."""
    value = object_of(row)
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRow("no messages")
    said = list(_read_messages(messages))
    if isinstance(value.get(OURS), dict):
        return Made(trajectories=(_restored(said, value),))
    tools = _tools(value)
    return Made(trajectories=(trajectory_of(said, [spec_of(tool) for tool in tools], row, "openai"),))


def _tools(value: Mapping[str, Any]) -> list[Any]:
    tools = value.get("tools") or value.get("functions") or []
    if isinstance(tools, str):
        tools = _loads(tools, "tools that are not JSON")
    if not isinstance(tools, list):
        raise BadRow("tools that are no list")
    return tools


def _read_messages(messages: Sequence[Any]) -> Iterator[Message]:
    """Messages in order; a tool's message gets its name from the call that it answers."""
    names: dict[str, str] = {}
    for message in messages:
        if not isinstance(message, dict):
            raise BadRow("a message that is no object")
        role = "tool" if message.get("role") == "function" else _ROLES.get(str(message.get("role")))
        if role is None:
            raise BadRow("a role that is unknown", str(message.get("role")))
        content, images = _content(message.get("content"))
        calls = tuple(_calls(message, names)) if role == "assistant" else ()
        name = (
            message["name"] if isinstance(message.get("name"), str) else names.get(str(message.get("tool_call_id")), "")
        )
        name = name if role == "tool" else ""  # of a user it is no tool's
        yield Message(role=role, content=content, images=images, calls=calls, name=name)


def _calls(message: Mapping[str, Any], names: dict[str, str]) -> Iterator[ToolCall]:
    asked = message.get("tool_calls") or []
    if isinstance(message.get("function_call"), dict):
        asked = [{"function": message["function_call"]}]
    if not isinstance(asked, list):
        raise BadRow("tool_calls that are no list")
    for call in asked:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow("a call without a name")
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            arguments = _loads(arguments, "arguments that are not JSON")
        if not isinstance(arguments, dict):
            raise BadRow("arguments that are no object", function["name"])
        names[str(call.get("id"))] = function["name"]
        yield ToolCall(name=function["name"], arguments=arguments)


def _content(content: Any) -> tuple[str, tuple[Image, ...]]:
    if content is None:
        return "", ()
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise BadRow("a message's content that is neither text nor parts")
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise BadRow("a content part that is neither text nor an image", str(kind))
    return "".join(texts), tuple(images)


def _image(url: Any) -> Image:
    text = url.get("url") if isinstance(url, dict) else url
    match = _DATA_URL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadRow("an image that is not in the row itself")
    try:
        return Image(data=base64.b64decode(match[2], validate=True), media_type=match[1])
    except binascii.Error:
        raise BadRow("an image that is not base64") from None


def _loads(text: str, reason: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(reason, text[:100]) from None


def write_openai(trajectory: Trajectory, specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A trajectory as a line; `specs` are those of the tools on offer."""
    opening = trajectory.opening or (Message(role="user", content=trajectory.question),)
    messages = [_message(message) for message in opening]
    for number, turn in enumerate(trajectory.turns):
        messages += _turn_messages(turn, number)
    fields = {name: getattr(trajectory, name) for name in Trajectory.__dataclass_fields__ if name not in _APART}
    ours = {
        **{name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()},
        "tools": list(trajectory.tools),
        "stop_reason": str(trajectory.stop_reason),
        "opening": len(trajectory.opening),
        "specs": len(trajectory.specs),
        "turns": [_turn_extras(turn) for turn in trajectory.turns],
        "turn_rewards": list(trajectory.turn_rewards),
        "reward_spans": [asdict(span) for span in trajectory.reward_spans],
    }
    return {"messages": messages, "tools": [dict(spec) for spec in specs], OURS: ours}


def _message(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": _parts(message.content, message.images)}
    if message.calls:
        made["tool_calls"] = _tool_calls(message.calls, "opening")
    return made | ({"name": message.name} if message.name else {})


def _turn_messages(turn: Turn, number: int) -> list[dict[str, Any]]:
    said: dict[str, Any] = {"role": "assistant", "content": content_of(turn)}
    calls = _tool_calls(turn.calls, str(number))
    messages = [said | ({"tool_calls": calls} if calls else {})]
    for place, result in enumerate(turn.results):
        content = _parts(result.output, result.images)
        call_id = f"call_{number}_{place}"
        messages.append({"role": "tool", "tool_call_id": call_id, "name": result.name, "content": content})
    return messages + ([{"role": "user", "content": turn.reply}] if turn.reply else [])


def _tool_calls(calls: Sequence[ToolCall], turn: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{turn}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
        }
        for number, call in enumerate(calls)
    ]


def _parts(text: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    urls = [f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}" for image in images]
    return [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": text}]


def _turn_extras(turn: Turn) -> dict[str, Any]:
    """What the messages don't say of a turn."""
    same = written(content_of(turn), turn.calls) == turn.text
    results = [
        {"ok": r.ok, "seconds": r.seconds, "cost": r.cost, "fault": None if r.fault is None else str(r.fault)}
        for r in turn.results
    ]
    rest = {"results": results, "reward": turn.reward, "error": turn.error}
    return {name: value for name, value in rest.items() if value} | ({} if same else {"text": turn.text})


def _restored(messages: Sequence[Message], value: Mapping[str, Any]) -> Trajectory:
    """A trajectory that was written here. Raises `BadRow`."""
    ours = dict(value[OURS])
    try:
        count, extras = ours.pop("opening"), ours.pop("turns")
        specs = tuple(value["tools"]) if ours.pop("specs") else ()
        turns = _restored_turns(messages[max(1, count) :], extras)
        ours |= {
            "tools": tuple(ours["tools"]),
            "stop_reason": StopReason(ours["stop_reason"]),
            "turn_rewards": tuple(ours.get("turn_rewards", ())),
            "turn_parts": {name: tuple(values) for name, values in ours.get("turn_parts", {}).items()},
            "reward_spans": tuple(Span(**span) for span in ours.get("reward_spans", ())),
        }
        return Trajectory(**ours, opening=tuple(messages[:count]), specs=specs, turns=turns)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadRow):
            raise
        raise BadRow("fields of a trajectory that are not as they were written", str(error)) from None


def _restored_turns(messages: Sequence[Message], extras: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    groups: list[list[Message]] = []
    for message in messages:
        if message.role == "assistant":
            groups.append([])
        groups[-1].append(message)
    return tuple(_restored_turn(group, extra) for group, extra in zip(groups, extras, strict=True))


def _restored_turn(group: Sequence[Message], extra: Mapping[str, Any]) -> Turn:
    said, results = group[0], [message for message in group if message.role == "tool"]
    known = extra.get("results", [])
    return Turn(
        text=extra.get("text", written(said.content, said.calls)),
        calls=said.calls,
        results=tuple(
            ToolResult(
                name=m.name,
                output=m.content,
                images=m.images,
                **{**k, "fault": None if k["fault"] is None else Fault(k["fault"])},
            )
            for m, k in zip(results, known, strict=True)
        ),
        reply=next((message.content for message in group if message.role == "user"), ""),
        reward=extra.get("reward", 0.0),
        error=extra.get("error", ""),
    )


__all__ = ["open_openai", "read_openai", "split", "write_openai"]
