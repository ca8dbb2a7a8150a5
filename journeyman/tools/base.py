"""What a tool is: a name, a JSON Schema, an asynchronous call whose errors are observations."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

from journeyman.messages import Fault, Image, ToolResult
from journeyman.tools.signature import Signature, ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Which attempt a call serves."""

    trajectory: str = ""
    """The attempt's id."""
    seed: int = 0
    """Of this call alone: what a tool draws at random follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Limits:
    """What holds for every call of a tool; instances that share the object share `concurrency`."""

    seconds: float | None = None
    """Longest that a call may take; beyond, the observation says so. None: as long as it takes."""
    concurrency: int | None = None
    """Most calls at once in a process; others wait. None: any number."""
    cost: float = 0.0
    """Of one call, in a unit of the tool's own."""
    cache: int = 0
    """Most results that an instance keeps for equal arguments: for tools whose result depends on nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    """What a tool returns where text alone isn't enough."""

    text: str
    images: tuple[Image, ...] = ()
    cost: float = 0.0
    """On top of `Limits.cost`."""


class Tool(Protocol):
    """Something the model can call. Inherit from it: what a tool has no use for has a default."""

    name: str
    limits: Limits = Limits()

    def spec(self) -> dict[str, Any]:
        """The tool in the form chat templates take: `{"type": "function", "function": {...}}`."""
        ...

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        """Run the tool. The model's mistakes come back as `ok=False`; an `InfrastructureError` is raised for ours."""
        ...

    def open(self, context: CallContext) -> "Tool":
        """The tool for one attempt: one with state gives a new instance, others themselves."""
        return self

    def lent(self) -> "Mapping[str, Tool]":
        """Tools that this one makes callable by their own names: those that were found, or made."""
        return {}

    async def close(self) -> None:
        """Free what `open` or a call has taken."""

    def state_dict(self) -> dict[str, Any]:
        """The attempt's state as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state that `state_dict` gave. Raises `ValueError` for any other."""
        if state:
            raise ValueError(f"{self.name} has no state, but was given {', '.join(state)}")


class FunctionTool(Tool):
    """A tool whose schema comes from the signature and docstring of its method `run`.

    `run` takes typed arguments and gives text or a `ToolOutput`; a parameter of type `CallContext` is passed along and
    not shown to the model. Where it is no coroutine it runs in a thread.
    """

    name: str = ""
    run: Callable[..., Any]

    @cached_property
    def _signature(self) -> Signature:
        return Signature.of(getattr(self.run, "__func__", self.run), hidden=CallContext)

    def spec(self) -> dict[str, Any]:
        function = {"name": self.name, "description": self._signature.description}
        return {"type": "function", "function": {**function, "parameters": self._signature.schema}}

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        started = time.perf_counter()
        try:
            made = await self._run(self._signature.check(self.name, arguments), context)
            output = made if isinstance(made, ToolOutput) else ToolOutput(text=made)
            fault = None
        except ToolError as error:
            output, fault = ToolOutput(text=f"error: {error}"), Fault.POLICY
        return ToolResult(
            name=self.name,
            ok=fault is None,
            output=output.text,
            seconds=time.perf_counter() - started,
            cost=self.limits.cost + output.cost,
            images=output.images,
            fault=fault,
        )

    async def _run(self, arguments: dict[str, Any], context: CallContext) -> str | ToolOutput:
        if self._signature.hidden:
            arguments[self._signature.hidden] = context
        if inspect.iscoroutinefunction(self.run):
            return await cast("Awaitable[str | ToolOutput]", self.run(**arguments))
        return await asyncio.to_thread(self.run, **arguments)


def function_tool(function: Callable[..., Any], *, limits: Limits = Limits()) -> FunctionTool:
    """A typed function, a coroutine or not, as a tool of its name."""
    made = FunctionTool()
    made.name, made.limits, made.run = function.__name__, limits, function
    return made


__all__ = ["CallContext", "FunctionTool", "Limits", "Tool", "ToolError", "ToolOutput", "function_tool"]
