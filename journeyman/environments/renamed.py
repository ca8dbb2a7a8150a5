"""Any environment with its tools under other names: does a policy read what is on offer, or know names by heart?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Course, Environment, Step
from journeyman.environments.episode import Reaction
from journeyman.environments.wrapped import Wrapped, WrappedEpisode
from journeyman.messages import Fault, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Limits, Tool

NOBODY = ""
"""What the world inside is asked for where the policy calls a tool that isn't on offer."""


class RenamedTool(Tool):
    """A tool under another name; what else it says of itself is as it was."""

    def __init__(self, tool: Tool, name: str) -> None:
        self.name, self.limits, self._tool = name, Limits(seconds=tool.limits.seconds), tool

    def spec(self) -> dict[str, Any]:
        spec = self._tool.spec()
        return {**spec, "function": {**spec["function"], "name": self.name}}

    def open(self, context: CallContext) -> "RenamedTool":
        return RenamedTool(self._tool.open(context), self.name)

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        return replace(await self._tool.call(arguments, context), name=self.name)


class Renamed(Wrapped):
    """Another environment's problems with its tools under names that say nothing: `tool_1`, `tool_2` and so on.

    Calls reach the world inside under their old names, so that it judges them as ever; the old names themselves are
    tools that aren't there. Descriptions and errors stay as they are, even where they mention a name. It belongs around all
    others. NOT covered: environments around it, and tools that other tools lend, which keep their names.

    Args:
        environment: the one inside, or its family.
        options: of the family, where it is given by name.
        names: old name to new one; empty: all its tools, numbered.
    """

    name = "renamed"

    def __init__(
        self,
        environment: Environment | str = "lookup",
        *,
        options: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(environment, options)
        self.names = dict(names or {name: f"tool_{n}" for n, name in enumerate(self.inner.tools(), start=1)})
        self.old = {new: old for old, new in self.names.items()}
        if len(self.old) < len(self.names):
            raise ValueError("two tools would have the same name")

    def tools(self) -> Mapping[str, Tool]:
        return {self.new(name): RenamedTool(tool, self.new(name)) for name, tool in self.inner.tools().items()}

    def new(self, name: str) -> str:
        """The name that a tool goes by here."""
        return self.names.get(name, name)

    def reset(self, problem: Problem, context: CallContext) -> "RenamedEpisode":
        return RenamedEpisode(self, problem, context)

    def original(self, problem: Problem) -> Problem:
        made = super().original(problem)
        return replace(made, tools=tuple(self.old.get(name, name) for name in made.tools or self.tools()))

    def courses(self, problem: Problem) -> Sequence[Course]:
        return [replace(course, steps=tuple(map(self._renamed, course.steps))) for course in super().courses(problem)]

    def _renamed(self, step: Step) -> Step:
        return replace(step, call=replace(step.call, name=self.new(step.call.name))) if step.call else step

    def _ours(self, problem: Problem) -> Problem:
        return replace(super()._ours(problem), tools=tuple(map(self.new, problem.tools)))


class RenamedEpisode(WrappedEpisode):
    """An attempt in the world inside, which hears the old names."""

    environment: Renamed

    def __init__(self, environment: Renamed, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        inside = self.inner.tools
        self.tools = {environment.new(name): RenamedTool(tool, environment.new(name)) for name, tool in inside.items()}

    def offered(self) -> Mapping[str, Tool]:
        named = self.environment.new
        return {named(name): RenamedTool(tool, named(name)) for name, tool in self.inner.offered().items()}

    async def step(self, turn: ParsedTurn) -> Reaction:
        reaction = await self.inner.step(replace(turn, calls=tuple(map(self._inside, turn.calls))))
        pairs = zip(turn.calls, reaction.results, strict=True) if reaction.results else ()
        return replace(reaction, results=tuple(self._outside(call, result) for call, result in pairs))

    async def run(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        results = await self.inner.run(tuple(map(self._inside, calls)))
        return tuple(self._outside(call, result) for call, result in zip(calls, results, strict=True))

    async def call(self, call: ToolCall) -> ToolResult:
        return self._outside(call, await self.inner.call(self._inside(call)))

    def find(self, name: str) -> Tool | None:
        return self.tools.get(name) or self.inner.find(self._old(name))

    def _old(self, name: str) -> str:
        """The name inside; `NOBODY` for old names, which are not on offer any more."""
        return self.environment.old.get(name, NOBODY if name in self.environment.names else name)

    def _inside(self, call: ToolCall) -> ToolCall:
        return replace(call, name=self._old(call.name))

    def _outside(self, call: ToolCall, result: ToolResult) -> ToolResult:
        if self._old(call.name) == NOBODY or (not result.ok and call.name not in self.tools):
            text = f"error: no such tool; there are {', '.join(self.tools)}"
            return ToolResult(name=call.name, ok=False, output=text, fault=Fault.POLICY)
        return replace(result, name=call.name)
