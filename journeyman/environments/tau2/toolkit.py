"""The tools of a service desk: methods over one database, those that write told apart."""

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar

from journeyman.environments.tau2.database import Database
from journeyman.messages import Fault, ToolResult
from journeyman.tools.base import CallContext, Tool, ToolError
from journeyman.tools.signature import Signature

_MARK = "__desk_tool__"
F = TypeVar("F", bound=Callable[..., Any])


def reads(method: F) -> F:
    """A method that is a tool and changes nothing."""
    setattr(method, _MARK, False)
    return method


def writes(method: F) -> F:
    """A method that is a tool and may change the database: wholly or, where it raises `ToolError`, not at all."""
    setattr(method, _MARK, True)
    return method


class Toolkit:
    """A domain's tools. A subclass marks its tools with `reads` and `writes`; they return JSON or text."""

    transfer: ClassVar[str] = "transfer_to_human_agents"
    """The tool after which the desk is done."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the tools, in alphabetical order."""
        return _names(cls)

    @classmethod
    def changes(cls, name: str) -> bool:
        """Whether a tool may change the database."""
        return bool(getattr(getattr(cls, name), _MARK))

    def function(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What a method returns that need not be a tool: set-up and assertions. Raises `ToolError`."""
        method = getattr(self, name, None)
        if name.startswith("_") or not inspect.ismethod(method) or hasattr(Toolkit, name):
            raise ToolError(f"there is no function {name}")
        checked = _signature(type(self), name).check(name, arguments)
        with self.database.transaction():
            return method(**checked)

    def run(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text that a tool gives. Raises `ToolError`, and then nothing has changed."""
        if name not in self.names():
            raise ToolError(f"no such tool; there are {', '.join(self.names()) or 'none'}")
        return shown(self.function(name, arguments))

    def schema(self, name: str) -> Signature:
        return _signature(type(self), name)


class DeskTool(Tool):
    """One tool of a toolkit; all of them change the same database."""

    def __init__(self, kit: Toolkit, name: str) -> None:
        self.kit, self.name = kit, name

    def spec(self) -> dict[str, Any]:
        signature = self.kit.schema(self.name)
        function = {"name": self.name, "description": signature.description, "parameters": signature.schema}
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        started = time.perf_counter()
        try:
            output, fault = self.kit.run(self.name, arguments), None
        except ToolError as error:
            output, fault = f"error: {error}", Fault.POLICY
        await asyncio.sleep(0)  # others go on: a turn with many calls holds nobody up
        seconds = time.perf_counter() - started
        return ToolResult(name=self.name, ok=fault is None, output=output, seconds=seconds, fault=fault)


class LooseTool(DeskTool):
    """A tool outside any attempt: opened, it works on a view of the database that nobody else sees."""

    def open(self, context: CallContext) -> DeskTool:
        return DeskTool(type(self.kit)(Database(self.kit.database.tables())), self.name)


def shown(value: Any) -> str:
    """A result as the model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _names(kit: type[Toolkit]) -> tuple[str, ...]:
    return tuple(name for name, method in inspect.getmembers(kit) if hasattr(method, _MARK))


@cache
def _signature(kit: type[Toolkit], name: str) -> Signature:
    """Made once a class: a desk opens a dozen tools an attempt."""
    return Signature.of(getattr(kit(Database({})), name), hidden=CallContext)
