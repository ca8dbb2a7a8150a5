"""The turns of an attempt so far, as the world has seen them: for contexts that are built anew out of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from journeyman.environments.episode import Reaction
from journeyman.messages import Message, ParsedTurn, ToolResult
from journeyman.trajectory import Turn, message_from_json, message_to_json


def turn_of(turn: ParsedTurn, reaction: Reaction, *, thoughts: bool = False) -> Turn:
    """A turn and what it led to. Its text is without thoughts and without its calls.

    With `thoughts` it is all that the model wrote, calls too, which then stand nowhere else.
    """
    reply = reaction.reply.content if reaction.reply else ""
    if thoughts and turn.written:
        return Turn(text=turn.written, results=reaction.results, reply=reply)
    return Turn(text=turn.text, calls=turn.calls, results=reaction.results, reply=reply)


def turn_messages(turn: Turn, instead: str | None = None) -> tuple[Message, ...]:
    """The turn of `turn_of` as messages; `instead` stands in place of each of its observations."""
    said = Message(role="assistant", content=turn.text, calls=turn.calls)
    seen = [
        Message(role="tool", name=result.name, content=result.output, images=result.images)
        if instead is None
        else Message(role="tool", name=result.name, content=instead)
        for result in turn.results
    ]
    return (said, *seen, *([Message(role="user", content=turn.reply)] if turn.reply else []))


def turn_to_json(turn: Turn) -> dict[str, Any]:
    """The turn of `turn_of` as JSON."""
    said, *seen = map(message_to_json, turn_messages(replace(turn, reply="")))
    ok = [result.ok for result in turn.results]
    return {"said": said, "seen": seen, "ok": ok, "reply": turn.reply}


def turn_from_json(row: Mapping[str, Any]) -> Turn:
    """The inverse of `turn_to_json`."""
    said, seen = message_from_json(row["said"]), [message_from_json(one) for one in row["seen"]]
    results = tuple(
        ToolResult(name=one.name, ok=ok, output=one.content, images=one.images)
        for one, ok in zip(seen, row["ok"], strict=True)
    )
    return Turn(text=said.content, calls=said.calls, results=results, reply=row["reply"])
