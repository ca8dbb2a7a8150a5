"""One attempt as the world sees it: what the model is shown, what its turns lead to, the verdict."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from journeyman.errors import InfrastructureError
from journeyman.messages import Fault, Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.calls import run_call

if TYPE_CHECKING:
    from journeyman.environments.base import Environment


class ToolCrash(RuntimeError):
    """A tool raised what no tool may raise: a bug in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What a turn led to."""

    results: tuple[ToolResult, ...] = ()
    """One for each call, in order."""
    reply: Message | None = None
    """What the user says next."""
    reward: float = 0.0
    """What the world pays for the turn."""
    restart: tuple[Message, ...] | None = None
    """The model's context begins anew with these messages, under the same tools: the past is folded into them."""
    done: bool = False
    """Whether the world ends the attempt here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an attempt went."""

    correct: bool | None
    """None: could not be verified."""
    score: float | None = None
    """In [0, 1]; None: could not be verified."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the score is made of, by name, in whatever unit."""

    @classmethod
    def of(cls, correct: bool, **parts: float) -> "Verdict":
        """All or nothing."""
        return cls(correct=correct, score=float(correct), parts=parts)


class Episode:
    """An attempt at a problem whose tools are called until an answer comes.

    A world with a user, or with a state of its own, overrides `step`; one with its own measure overrides `verify`.
    """

    sequential = False
    """Whether the calls of a turn run one after another: for tools that change a common state."""

    def __init__(self, environment: "Environment", problem: Problem, context: CallContext) -> None:
        self.environment, self.problem, self.context = environment, problem, context
        self.tools: dict[str, Tool] = {name: tool.open(context) for name, tool in self.offered().items()}
        for tool in list(self.tools.values()):  # `recall` beside `fold_memory` reads the notes of that one
            self.tools |= {name: lent for name, lent in tool.lent().items() if name in self.tools}
        self._calls = 0

    def offered(self) -> Mapping[str, Tool]:
        """The tools on offer by name, before they are opened for this attempt."""
        from journeyman.environments import tools_named

        return tools_named(self.problem.family, self.problem.tools, self.environment)

    async def begin(self) -> None:
        """What has to happen before the model is shown anything: a user who is played thinks of the first words."""

    def opening(self) -> tuple[Message, ...]:
        """What the model is shown first. A system message, if any, comes first."""
        return (Message(role="user", content=self.problem.question),)

    def shown(self) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]:
        """(opening, specs) as a trajectory stores them: empty where question and family say it all."""
        opening = self.opening()
        plain = Episode.opening(self)
        own = bool(self.problem.world) or type(self).offered is not Episode.offered
        specs = tuple(tool.spec() for tool in self.tools.values()) if own else ()
        return (() if opening == plain else opening), specs

    async def step(self, turn: ParsedTurn) -> Reaction:
        """What a well-formed turn leads to. One without calls is the end."""
        if not turn.calls:
            return Reaction(done=True)
        return Reaction(results=await self.run(turn.calls))

    async def verify(self, answer: str | None) -> Verdict:
        """The verdict on the attempt, once it is over; `answer` is None where the policy gave none."""
        return Verdict.of(answer is not None and self.environment.verify(self.problem, answer))

    async def run(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        """Run the calls of a turn: all at once, or in order where the world says so.

        Raises `InfrastructureError`, and `ToolCrash` for a tool with a bug.
        """
        if not self.sequential:
            return tuple(await asyncio.gather(*(self.call(call) for call in calls)))
        return tuple([await self.call(call) for call in calls])

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call; a tool that isn't there is an observation."""
        context = CallContext(trajectory=self.context.trajectory, seed=derive(self.context.seed, self._calls))
        self._calls += 1
        tool = self.find(call.name)
        if tool is None:
            text = (
                f"error: no such tool; there are {', '.join(self.tools)}" if self.tools else "error: there is no tool"
            )
            return ToolResult(name=call.name, ok=False, output=text, fault=Fault.POLICY)
        try:
            return await run_call(tool, call.arguments, context)
        except InfrastructureError:
            raise
        except Exception as error:  # the boundary: whatever a tool does wrong ends this attempt alone
            raise ToolCrash(f"{call.name}: {type(error).__name__}: {error}") from error

    def find(self, name: str) -> Tool | None:
        """The tool of that name: on offer, or lent by one that is."""
        if name in self.tools:
            return self.tools[name]
        return next((lent[name] for tool in self.tools.values() if name in (lent := tool.lent())), None)

    def state_dict(self) -> dict[str, Any]:
        """The attempt's state as JSON: enough to go on from it in another process."""
        tools = {name: state for name, tool in self.tools.items() if (state := tool.state_dict())}
        return {"calls": self._calls, "tools": tools}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state that `state_dict` of the same problem's episode gave."""
        self._calls = state["calls"]
        for name, tool_state in state["tools"].items():
            self.tools[name].load_state_dict(tool_state)

    def fork(self, context: CallContext) -> "Episode":
        """Another attempt that goes on from here by itself."""
        other = self.environment.reset(self.problem, context)
        other.load_state_dict(self.state_dict())
        return other

    async def close(self) -> None:
        """Free what the tools have taken."""
        for tool in self.tools.values():
            await tool.close()
