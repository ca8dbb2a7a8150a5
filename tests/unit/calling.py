"""Attempts with given calls, and tools that are only declared, for the tests of rewards that look at calls."""

from collections.abc import Sequence
from typing import Any

from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.rewards.base import Group, Score
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit import supplies
from tests.unit.fakes import trajectory

INTEGER = {"type": "integer"}


def spec(name: str, required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


SPECS = (spec("f", ("a", "b"), a=INTEGER, b=INTEGER, c=INTEGER), spec("g", x=INTEGER))
"""f(a, b, c=None) and g(x=None)."""


def call(name: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def turn(*calls: ToolCall, outputs: Sequence[str] = (), ok: bool = True, **fields: Any) -> Turn:
    """A turn with calls and what they gave: nothing, if not said."""
    shown = [*outputs, *[""] * (len(calls) - len(outputs))]
    results = [ToolResult(name=c.name, ok=ok, output=output) for c, output in zip(calls, shown, strict=True)]
    return Turn(**{"text": "", "calls": calls, "results": tuple(results), **fields})


def attempt(*turns: Turn, answer: str | None = "42", **fields: Any) -> Trajectory:
    """An attempt with these turns and, unless `answer` is None, one that answers."""
    last = () if answer is None else (Turn(text=f"<answer>{answer}</answer>"),)
    made: dict[str, Any] = {"turns": (*turns, *last), "answer": answer, "specs": SPECS, "tools": ("f", "g")}
    return trajectory(**{**made, **fields})


def rejected(**fields: Any) -> Trajectory:
    """An attempt that ended with a turn that no parser accepts."""
    broken = Turn(text="<tool_call>{", error="not JSON")
    return attempt(broken, answer=None, **{"stop_reason": StopReason.FORMAT_ERROR, "correct": False, **fields})


LOST = attempt(stop_reason=StopReason.INFRASTRUCTURE, correct=None, answer=None)
"""An attempt that says nothing about the policy."""


def against(gold: Sequence[ToolCall], *attempts: Trajectory, step: int = 0, **data: Any) -> Group:
    """A group whose problem has these reference calls."""
    listed = [{"name": c.name, "arguments": dict(c.arguments)} for c in gold]
    return supplies.group(*attempts, data={"reference_calls": listed, **data}, step=step)


def of(problem: Problem, *attempts: Trajectory) -> Group:
    return Group(trajectories=attempts, problem=problem)


def totals(scores: Sequence[Score]) -> list[float | None]:
    return [score.total for score in scores]


def turns(scores: Sequence[Score]) -> list[tuple[float, ...]]:
    return [score.turns for score in scores]
