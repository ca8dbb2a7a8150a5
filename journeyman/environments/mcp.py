"""Any family with the tools of MCP servers on offer besides its own."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Course, Environment, Generator
from journeyman.environments.episode import Episode
from journeyman.environments.rows import Reading, RowReader
from journeyman.errors import UserError
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.mcp import McpServer, tools_of


class Mcp(Environment):
    """A family's problems, courses and verdicts, with more tools.

    In pipelines.yaml: `worlds: {mcp: {family: gsm8k, servers: [{name: files, command: [python, server.py]}]}}`.

    Args:
        family: key of `ENVIRONMENTS`.
        servers: each the keyword arguments of `McpServer`, or one.
        options: keyword arguments of the family.
    """

    name = "mcp"

    def __init__(
        self,
        *,
        family: str = "arithmetic",
        servers: Sequence[McpServer | Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        from journeyman.environments import ENVIRONMENTS

        entry = ENVIRONMENTS.get(family)
        if not isinstance(entry, type) or family == self.name:
            raise UserError(f"{family} is no family that can have MCP tools", place="worlds.mcp.family")
        made = [one if isinstance(one, McpServer) else McpServer(**one) for one in servers]
        self._family, self._base = family, _offering(entry, made)(**(options or {}))
        self.phrases = self._base.phrases

    @property
    def columns(self) -> Sequence[str]:
        """Of the family's rows."""
        return self._base.columns if isinstance(self._base, RowReader) else ()

    def tools(self) -> Mapping[str, Tool]:
        """Waits for the servers. Raises `InfrastructureError` where one can't be reached."""
        return self._base.tools()

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return self._base.reset(problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        return self._base.courses(problem)

    def verify(self, problem: Problem, answer: str) -> bool:
        return self._base.verify(problem, answer)

    def validate(self) -> None:
        self._base.validate()

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """Raises `UserError` where the family doesn't generate."""
        if not isinstance(self._base, Generator):
            raise UserError(f"{self._family} does not generate problems", place="worlds.mcp.family")
        return self._base.generate(rng)

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """Problems with the servers' tools on offer. Raises `UserError` where the family doesn't read rows."""
        if not isinstance(self._base, RowReader):
            raise UserError(f"{self._family} does not read rows", place="worlds.mcp.family")
        reading, tools = self._base.read(rows), tuple(self._base.tools())
        offered = (replace(one, tools=tuple(dict.fromkeys((*one.tools, *tools)))) for one in reading.problems)
        return replace(reading, problems=tuple(offered))


def _offering(family: type[Environment], servers: Sequence[McpServer]) -> type[Environment]:
    """The family as a class of its own, with more tools, whose problems live in the world `mcp`."""

    class Offering(family):
        name = Mcp.name

        def tools(self) -> Mapping[str, Tool]:
            own = super().tools()
            if both := sorted(own.keys() & (more := tools_of(*servers)).keys()):
                raise UserError(f"the family has tools of its own named {', '.join(both)}", remedy="name the server")
            return {**own, **more}

    return Offering
