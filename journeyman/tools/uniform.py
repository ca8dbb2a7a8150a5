"""Any tool behind one and the same interface, so that what is learned with one carries over to others (#121)."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from journeyman.messages import Fault, ToolResult
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.calls import run_call


class Uniform(Tool):
    """A tool that takes one text, `input`, and answers in one form with an end that can be seen.

    A tool with a single text parameter takes `input` as that; any other takes a JSON object of its arguments. The form
    is ours; the source gives the idea alone.
    """

    def __init__(self, tool: Tool) -> None:
        # The tool's own limits hold inside; held here too, one call would wait for itself.
        self.name, self._tool = tool.name, tool

    def spec(self) -> dict[str, Any]:
        function = self._tool.spec()["function"]
        parameters = function.get("parameters", {}).get("properties", {})
        told = ", ".join(f"{name}: {schema.get('description', 'see the name')}" for name, schema in parameters.items())
        form = "text" if self._bare() else "a JSON object of its arguments"
        described = {"type": "string", "description": f"{form} ({told})" if told else form}
        schema = {"type": "object", "properties": {"input": described}, "required": ["input"]}
        return {"type": "function", "function": {**function, "parameters": schema}}

    def _bare(self) -> str:
        """The single text parameter, if there is just one."""
        properties = self._tool.spec()["function"].get("parameters", {}).get("properties", {})
        (name, schema), *more = [*properties.items(), ("", {})]
        return name if len(more) == 1 and schema.get("type") == "string" else ""

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        given = arguments.get("input")
        if set(arguments) != {"input"} or not isinstance(given, str):
            return self._wrapped(_refused(self.name, f"{self.name} takes input, a text"))
        if bare := self._bare():
            return self._wrapped(await run_call(self._tool, {bare: given}, context))
        try:
            inner = json.loads(given or "{}")
        except (json.JSONDecodeError, RecursionError):
            inner = None
        if not isinstance(inner, dict):
            return self._wrapped(_refused(self.name, "input must be a JSON object"))
        return self._wrapped(await run_call(self._tool, inner, context))

    def _wrapped(self, result: ToolResult) -> ToolResult:
        status = "ok" if result.ok else "error"
        text = result.output.replace("</result>", "< /result>")  # what a tool says can't end its result
        return replace(result, output=f'<result tool="{self.name}" status="{status}">\n{text}\n</result>')

    def open(self, context: CallContext) -> "Uniform":
        return Uniform(self._tool.open(context))

    async def close(self) -> None:
        await self._tool.close()

    def state_dict(self) -> dict[str, Any]:
        return self._tool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._tool.load_state_dict(state)


def _refused(name: str, why: str) -> ToolResult:
    return ToolResult(name=name, ok=False, output=f"error: {why}", fault=Fault.POLICY)
