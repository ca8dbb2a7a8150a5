"""Tools that the model writes, checks, keeps and reuses (#22, #75, #133). Their code only ever runs in the box."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.messages import Fault, ToolResult
from journeyman.tools.arguments import arguments_error
from journeyman.tools.base import CallContext, FunctionTool, Tool, ToolError
from journeyman.tools.made import Asserts, Example, MadeTool, ToolState, check_tests, spec_of
from journeyman.tools.runner import Boxed, Returned, Runner, run_calls, run_tests

if TYPE_CHECKING:
    from journeyman.tools.library import ToolLibrary

TRIES = 3
"""Of a tool before it is rejected (#22)."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Takes a tool from proposed to verified."""

    runner: Runner

    async def executable(self, tool: MadeTool) -> MadeTool:
        """Raises `ToolError` where its source is not as it must be, or does not run."""
        spec_of(tool.name, tool.code)
        if error := await run_tests(self.runner, tool.code, ""):
            raise ToolError(f"the code does not run: {error}")
        return replace(tool, state=ToolState.EXECUTABLE)

    async def verified(self, tool: MadeTool, examples: Sequence[Example] = ()) -> MadeTool:
        """Raises `ToolError` where a test fails or means nothing, or an example comes out wrong.

        The examples' answers stay outside of the box. #22 holds three examples back and lets the maker see them when it
        writes the tests; pass their answers through `check_tests` there.
        """
        for asserts in tool.asserts:
            check_tests(asserts.name, asserts.source)
        if error := await self.failing(tool):
            raise ToolError(f"the tests fail: {error}")
        for asserts in tool.asserts:
            idle = f"def {asserts.name}(*_, **__):\n    return None"
            if not await run_tests(self.runner, idle, asserts.source):
                raise ToolError(f"the tests pass for a {asserts.name} that does nothing")
        if error := await self.wrong(tool, examples):
            raise ToolError(error)
        return replace(tool, state=ToolState.VERIFIED)

    async def failing(self, tool: MadeTool, others: Sequence[Asserts] | None = None) -> str:
        """Why its tests, or those of others, fail; empty where they pass."""
        for asserts in tool.asserts if others is None else others:
            alias = "" if asserts.name == tool.name else f"\n{asserts.name} = {tool.name}\n"
            if error := await run_tests(self.runner, tool.code + alias, asserts.source):
                return error
        return ""

    async def wrong(self, tool: MadeTool, examples: Sequence[Example]) -> str:
        """Which example comes out wrong; empty where all are right."""
        calls = [(tool.name, example.arguments) for example in examples]
        for example, returned in zip(examples, await run_calls(self.runner, tool.code, calls), strict=True):
            if returned.error or not same_value(returned.value, example.expected):
                shown = returned.error or f"it returns {returned.text[:200]}"
                return f"{tool.name} is wrong on a held-out example, {json.dumps(dict(example.arguments))}: {shown}"
        return ""

    async def call(self, tool: MadeTool, arguments: Mapping[str, Any]) -> Returned:
        return (await run_calls(self.runner, tool.code, [(tool.name, arguments)]))[0]


def same_value(one: Any, other: Any) -> bool:
    """Equal JSON; numbers to one part in a billion."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    return one == other


class Made(Tool):
    """A made tool as a tool like any other: every call runs in a box of its own."""

    def __init__(self, tool: MadeTool, workshop: Workshop) -> None:
        self.name, self.made, self._workshop = tool.name, tool, workshop

    def spec(self) -> dict[str, Any]:
        return self.made.spec

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        if error := arguments_error(self.spec(), arguments):
            return ToolResult(name=self.name, ok=False, output=f"error: {error}", fault=Fault.POLICY)
        returned = await self._workshop.call(self.made, arguments)
        if returned.error:
            fault = Fault.TOOL if returned.broke else Fault.POLICY
            return ToolResult(name=self.name, ok=False, output=f"error: {returned.error}", fault=fault)
        return ToolResult(name=self.name, ok=True, output=returned.text)


class MakeTool(FunctionTool):
    """Lets the model write tools in an attempt (#22, #75, #133); each is callable by its name from the next call on."""

    name = "make_tool"

    def __init__(
        self, runner: Runner | None = None, library: "ToolLibrary | Path | str | None" = None, tries: int = TRIES
    ) -> None:
        """`library`: one, or its folder; without it a tool is gone with its attempt."""
        from journeyman.tools.library import ToolLibrary

        self._library = ToolLibrary(Path(library)) if isinstance(library, Path | str) else library
        self._workshop, self._max_tries = Workshop(runner or Boxed()), tries
        self._made: dict[str, MadeTool] = {}
        self._tries: dict[str, int] = {}

    async def run(self, name: str, code: str, tests: str, context: CallContext) -> str:
        """Make a tool of your own: a Python function that you can call by its name afterwards.

        Args:
            name: The function's name.
            code: Python source that defines it, with types and a docstring.
            tests: Python asserts that call it and compare what it returns.
        """
        if name in self._made:
            raise ToolError(f"there is a tool {name} already; take another name")
        if self._tries.get(name, 0) >= self._max_tries:
            raise ToolError(f"{name} has failed {self._max_tries} times; take another way")
        self._tries[name] = self._tries.get(name, 0) + 1
        proposed = MadeTool(name=name, code=code, asserts=(Asserts(name=name, source=tests),))
        made = await self._workshop.verified(await self._workshop.executable(proposed))
        made = replace(made, provenance={"trajectory": context.trajectory, "tries": self._tries[name]})
        self._made[name] = made
        if self._library is not None:
            self._library.add(made)
        return f"made {name}; its tests pass; call it with {', '.join(_parameters(made)) or 'no arguments'}"

    def lent(self) -> Mapping[str, Tool]:
        """The tools made in this attempt, by name."""
        return {name: Made(made, self._workshop) for name, made in self._made.items()}

    def open(self, context: CallContext) -> "MakeTool":
        return MakeTool(self._workshop.runner, self._library, self._max_tries)

    def state_dict(self) -> dict[str, Any]:
        made = [tool.to_json() for tool in self._made.values()]
        return {"made": made, "tries": dict(self._tries)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._made = {row["name"]: MadeTool.from_json(row) for row in state["made"]}
        self._tries = dict(state["tries"])


def _parameters(made: MadeTool) -> list[str]:
    return list(made.spec["function"]["parameters"]["properties"])
