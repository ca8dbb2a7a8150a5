"""Conversations of messages as trajectories and back."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from journeyman.formats.base import BadRow, Row
from journeyman.messages import Message, ToolCall, ToolResult
from journeyman.problem import problem_id
from journeyman.trajectory import StopReason, Trajectory, Turn

FAMILY = "imported"
"""Of trajectories that no world made."""
_TAG = re.compile(r"<(?=/?(?:think|tool_call|tool_response|answer)>)")


def trajectory_of(
    messages: Sequence[Message], specs: Sequence[Mapping[str, Any]], row: Row, source: str, **fields: Any
) -> Trajectory:
    """A trajectory of a conversation. Raises `BadRow`."""
    opening, turns = split(messages)
    if not turns:
        raise BadRow("no message of the assistant")
    question = next((message.content for message in opening if message.role == "user"), "")
    if not question.strip():
        raise BadRow("no message of the user before the assistant's first")
    answered = not turns[-1].calls and not turns[-1].reply
    data = {"opening": [[m.role, m.content] for m in opening], "specs": [dict(spec) for spec in specs]}
    made = {
        "id": _trajectory_id(row, source, fields.get("sample", 0)),
        "problem_id": problem_id(FAMILY, question, data),
        "family": FAMILY,
        "question": question,
        "reference": "",
        "tools": tuple(spec["function"]["name"] for spec in specs),
        "min_calls": 0,
        "stop_reason": StopReason.ANSWER if answered else StopReason.MAX_TURNS,
        "source": source,
        "provenance": {"format": source, **row.source},
    }
    opening = () if len(opening) == 1 and not opening[0].images else opening
    return Trajectory(**{**made, **fields}, opening=opening, specs=tuple(specs), turns=turns)


def _trajectory_id(row: Row, source: str, sample: int) -> str:
    text = json.dumps([source, row.file.name, row.line, sample, row.value], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def split(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Turn, ...]]:
    """(what came before the assistant's first message, turn after turn). Raises `BadRow`."""
    first = next((n for n, message in enumerate(messages) if message.role == "assistant"), len(messages))
    opening = tuple(messages[:first])
    if any(message.role == "tool" for message in opening):
        raise BadRow("a tool's message before any call")
    return opening, tuple(_turns(messages[first:]))


def _turns(messages: Sequence[Message]) -> Iterator[Turn]:
    starts = [n for n, message in enumerate(messages) if message.role == "assistant"]
    for start, stop in pairwise([*starts, len(messages)]):
        yield _turn(messages[start], messages[start + 1 : stop])


def _turn(said: Message, after: Sequence[Message]) -> Turn:
    results = [message for message in after if message.role == "tool"]
    replies = [message for message in after if message.role == "user"]
    if any(message.role == "system" for message in after):
        raise BadRow("a system message amid the conversation")
    if list(after) != [*results, *replies]:
        raise BadRow("a tool's message behind the user's")
    if results and len(results) != len(said.calls):
        raise BadRow("calls and results that don't match", f"{len(said.calls)} calls, {len(results)} results")
    if len(replies) > 1:
        raise BadRow("two messages of the user in a row")
    named = zip(results, said.calls, strict=False)
    return Turn(
        text=written(said.content, said.calls),
        calls=said.calls,
        results=tuple(
            ToolResult(name=r.name or c.name, ok=_ok(r.content), output=r.content, images=r.images) for r, c in named
        ),
        reply=replies[0].content if replies else "",
    )


def _ok(output: str) -> bool:
    return not output.lower().startswith("error")


def written(content: str, calls: Sequence[ToolCall]) -> str:
    """A turn as the default wire format writes it."""
    return "\n".join([*([content] if content else []), *(_rendered(call) for call in calls)])


def _rendered(call: ToolCall) -> str:
    """As Hermes writes it; what looks like a tag inside is escaped."""
    body = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)
    body = _TAG.sub(lambda _: "\\u003c", body)
    return f"<tool_call>\n{body}\n</tool_call>"


def content_of(turn: Turn) -> str:
    """A turn's words without its calls; all of the text where they don't stand at its end as `written` puts them."""
    calls = written("", turn.calls)
    if not calls:
        return turn.text
    if turn.text == calls:
        return ""
    return turn.text.removesuffix("\n" + calls)
