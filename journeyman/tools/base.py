"""What a tool is: a name, a JSON Schema, an asynchronous call whose errors are observations."""

import inspect
import time
from collections.abc import Mapping
from typing import Any, Protocol

from journeyman.trajectory import ToolResult

_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


class ToolError(ValueError):
    """The model's mistake: its text becomes the observation."""


class Tool(Protocol):
    """Something the model can call."""

    name: str

    def spec(self) -> dict[str, Any]:
        """The tool in the form chat templates take: `{"type": "function", "function": {...}}`."""
        ...

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run the tool. The model's mistakes come back as `ok=False`; an `InfrastructureError` is raised for ours."""
        ...


class FunctionTool:
    """A tool whose schema comes from the signature and docstring of its method `run`."""

    name: str

    async def run(self, **arguments: Any) -> str:
        """Do the work; raise `ToolError` where the arguments don't make sense."""
        raise AssertionError("a subclass defines run")

    def spec(self) -> dict[str, Any]:
        parameters = _parameters(self)
        schema = {"type": "object", "properties": parameters, "required": list(parameters)}
        description = inspect.getdoc(self.run) or ""
        return {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": schema},
        }

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        started = time.perf_counter()
        try:
            output, ok = await self.run(**self._checked(arguments)), True
        except ToolError as error:
            output, ok = f"error: {error}", False
        return ToolResult(name=self.name, ok=ok, output=output, seconds=time.perf_counter() - started)

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parameters = _parameters(self)
        if set(arguments) != set(parameters):
            raise ToolError(f"{self.name} takes {', '.join(parameters)}")
        return {name: _as(parameters[name]["type"], value, name) for name, value in arguments.items()}


def _as(kind: str, value: Any, name: str) -> Any:
    """The value, where it is of the kind that the schema says; a whole number is a number too."""
    if kind == "number" and type(value) is int:
        return float(value)
    if _JSON_TYPES.get(type(value)) != kind:
        raise ToolError(f"{name} must be a {kind}")
    if kind == "string" and not _is_text(value):
        raise ToolError(f"{name} has half of a surrogate pair in it")
    return value


def _is_text(value: str) -> bool:
    """Whether a string is Unicode text. Escapes of JSON can write what no text holds: half a pair of surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _parameters(tool: FunctionTool) -> dict[str, dict[str, str]]:
    signature = inspect.signature(tool.run)
    return {name: {"type": _JSON_TYPES[parameter.annotation]} for name, parameter in signature.parameters.items()}
