"""Thousands of tools behind two: the model searches for tools and calls what it found (#20, #48, #130)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from journeyman.messages import Fault, ToolResult
from journeyman.tools.base import CallContext, FunctionTool, Tool, ToolError, function_tool
from journeyman.tools.calls import run_call
from journeyman.tools.tool_index import ToolIndex, recall, shorten

MAX_FOUND = 20
"""Most tools of one search (ours)."""
SPEC_CHARACTERS = 2000
"""Longest spec that a search shows (ours; #48 allows 20,000)."""


class Toolbox:
    """Many tools and their index; shared by every attempt."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        index: ToolIndex | None = None,
        spec_characters: int = SPEC_CHARACTERS,
    ) -> None:
        self.tools, self.spec_characters = dict(tools), spec_characters
        self._index = index

    @cached_property
    def index(self) -> ToolIndex:
        return self._index or ToolIndex.build(self.specs.values())

    @cached_property
    def specs(self) -> dict[str, dict[str, Any]]:
        return {name: tool.spec() for name, tool in self.tools.items()}


class Session:
    """What one attempt has done with a toolbox: its searches, the tools it opened."""

    def __init__(self, box: Toolbox, context: CallContext = CallContext()) -> None:
        self.box, self._context = box, context
        self.searches: list[list[str]] = []
        """What each search returned, in order."""
        self.calls_unfound = 0
        """Calls of tools that no search had returned: they work, and are counted (ours)."""
        self._opened: dict[str, Tool] = {}

    @property
    def found(self) -> set[str]:
        return {name for names in self.searches for name in names}

    def search(self, query: str, count: int) -> list[str]:
        names = self.box.index.retrieve(query, count)
        self.searches.append(names)
        return names

    async def call(self, name: str, arguments: Mapping[str, Any], context: CallContext) -> ToolResult:
        """Call a tool of the box. Raises `ToolError` for a name that isn't in it."""
        if name not in self.box.tools:
            near = self.box.index.retrieve(name, 3)
            raise ToolError(f"there is no tool {name!r}" + (f"; similar ones: {', '.join(near)}" if near else ""))
        self.calls_unfound += name not in self.found
        return await run_call(self.open(name), arguments, context)

    def open(self, name: str) -> Tool:
        """The tool as this attempt's own. Raises `KeyError` for a name that isn't in the box."""
        if name not in self._opened:
            self._opened[name] = self.box.tools[name].open(self._context)
        return self._opened[name]

    def state_dict(self) -> dict[str, Any]:
        states = {name: state for name, tool in self._opened.items() if (state := tool.state_dict())}
        return {"searches": [list(names) for names in self.searches], "unfound": self.calls_unfound, "tools": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.searches = [list(names) for names in state["searches"]]
        self.calls_unfound = state["unfound"]
        for name, tool_state in state["tools"].items():
            self.open(name).load_state_dict(tool_state)

    async def close(self) -> None:
        for tool in self._opened.values():
            await tool.close()


class SearchTools(FunctionTool):
    """Finds tools by what they do (#20, #48, #130).

    It holds the session's state; `CallTool` of the same session has none of its own.
    """

    name = "search_tools"

    def __init__(self, session: Session | None = None) -> None:
        self.session = session or Session(Toolbox(unit_tools()))

    async def run(self, query: str, count: int = 5) -> str:
        """Find tools by what they do. Returns their JSON specs, one a line, best first.

        Args:
            query: What the tools should do, in plain words.
            count: How many tools to return, 1 to 20.
        """
        if not 1 <= count <= MAX_FOUND:
            raise ToolError(f"count must be 1 to {MAX_FOUND}")
        box = self.session.box
        names = self.session.search(query, count)
        return "\n".join(shorten(box.specs[name], box.spec_characters) for name in names) or "no tool found"

    def lent(self) -> dict[str, Tool]:
        """`call_tool` of this session, and what it has found so far."""
        return {"call_tool": CallTool(self.session), **{name: self.session.open(name) for name in self.session.found}}

    def open(self, context: CallContext) -> "SearchTools":
        return SearchTools(Session(self.session.box, context))

    def state_dict(self) -> dict[str, Any]:
        return self.session.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.session.load_state_dict(state)

    async def close(self) -> None:
        await self.session.close()


class CallTool(FunctionTool):
    """Calls a tool of the box by its name (#48); what comes back is the tool's own observation."""

    name = "call_tool"

    def __init__(self, session: Session | None = None) -> None:
        self.session = session or Session(Toolbox(unit_tools()))

    async def run(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool that search_tools has found.

        Args:
            name: The tool's name.
            arguments: Its arguments.
        """
        raise AssertionError("`call` goes to the tool itself")

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        try:
            checked = self._signature.check(self.name, arguments)
            result = await self.session.call(checked["name"], checked["arguments"], context)
        except ToolError as error:
            return ToolResult(name=self.name, ok=False, output=f"error: {error}", fault=Fault.POLICY)
        return replace(result, name=self.name)


def episode_recall(searches: Iterable[Iterable[str]], gold: Iterable[str]) -> float:
    """Share of the gold tools that any search of an attempt returned, in [0, 1] (#48)."""
    return recall({name for names in searches for name in names}, gold)


def oracle_gap(oracle: Sequence[float], retrieval: Sequence[float]) -> float:
    """Mean score with the gold tools in hand minus mean score where they must be found (#48)."""
    return sum(oracle) / len(oracle) - sum(retrieval) / len(retrieval)


UNITS: Mapping[str, Mapping[str, float]] = {
    "length": {
        **{"meter": 1, "kilometer": 1000, "centimeter": 0.01, "millimeter": 0.001, "inch": 0.0254, "foot": 0.3048},
        **{"yard": 0.9144, "mile": 1609.344, "furlong": 201.168, "fathom": 1.8288, "chain": 20.1168, "rod": 5.0292},
    },
    "mass": {
        **{"gram": 1, "kilogram": 1000, "milligram": 0.001, "tonne": 1e6, "pound": 453.59237, "stone": 6350.29318},
        **{"ounce": 28.349523125, "grain": 0.06479891, "carat": 0.2, "dram": 1.7718451953125},
    },
    "time": {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "fortnight": 1209600},
    "volume": {
        **{"liter": 1, "milliliter": 0.001, "gallon": 3.785411784, "quart": 0.946352946, "pint": 0.473176473},
        **{"cup": 0.2365882365, "tablespoon": 0.01478676478125, "teaspoon": 0.00492892159375, "barrel": 158.987294928},
    },
    "area": {"hectare": 1e4, "acre": 4046.8564224, "are": 100, "rood": 1011.7141056},
    "energy": {"joule": 1, "calorie": 4.184, "kilocalorie": 4184, "therm": 105505585.262, "erg": 1e-7},
    "pressure": {"pascal": 1, "bar": 1e5, "torr": 133.322368421, "atmosphere": 101325, "kilopascal": 1000},
    "data": {"bit": 1, "byte": 8, "kilobyte": 8000, "megabyte": 8e6, "gigabyte": 8e9, "nibble": 4},
}
"""Quantity -> unit -> how many of the quantity's base unit it is."""


def unit_tools() -> dict[str, Tool]:
    """Working tools made on the spot: one for every ordered pair of units of a quantity, and one that adds; hundreds."""
    tools = [
        _converter(quantity, source, target, factor / factors[target])
        for quantity, factors in UNITS.items()
        for source, factor in factors.items()
        for target in factors
        if source != target
    ]
    return {tool.name: tool for tool in (*tools, function_tool(add_numbers))}


async def add_numbers(first: float, second: float) -> str:
    """Add two numbers.

    Args:
        first: One number.
        second: The other.
    """
    return format(first + second, ".6g")


def _converter(quantity: str, source: str, target: str, factor: float) -> Tool:
    async def convert(value: float) -> str:
        return format(value * factor, ".6g")

    convert.__name__ = f"convert_{source}_to_{target}"
    convert.__doc__ = f"Convert a {quantity} from {source} to {target}.\n\nArgs:\n    value: How many {source}."
    return function_tool(convert)
