"""What passes between the model, its tools and its user: messages, calls, results, images."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

INVENTED = "a tool response that no tool gave"
"""Error of a turn in which the policy writes what only tools write."""


class Fault(StrEnum):
    """Through whose fault something went wrong."""

    POLICY = "policy"
    """The model asked for something that makes no sense."""
    TOOL = "tool"
    """The tool took too long or broke."""
    ENVIRONMENT = "environment"
    """The world broke."""
    INFRASTRUCTURE = "infrastructure"
    """A server or a machine failed; trying again may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture as a content part."""

    data: bytes
    """The encoded file, PNG or JPEG."""
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model asked for."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a call led to: an observation, errors included."""

    name: str
    ok: bool
    output: str
    """The text that the model reads; where `ok` is false it says what went wrong."""
    seconds: float = 0.0
    cost: float = 0.0
    """In the tool's own unit; 0 for a result out of a cache."""
    images: tuple[Image, ...] = ()
    fault: Fault | None = None
    """Whose fault it is that `ok` is false; None where it is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation that the policy did not sample."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    images: tuple[Image, ...] = ()
    """Shown before the text."""
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant's message."""
    name: str = ""
    """Of a tool's message: which tool answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTurn:
    """What one turn of the model asks for."""

    calls: tuple[ToolCall, ...] = ()
    answer: str | None = None
    """Text between the answer tags; None where there are none."""
    error: str = ""
    """Why the turn is rejected; empty where it is well formed."""
    text: str = ""
    """What a user would see of it: no thoughts, no calls, no tags."""
    written: str = ""
    """All of it as the model wrote it; empty where it was never written, as in a worked course."""
