"""Attempts in which tools bring tools: what one has made or found is callable by its own name at once (#22, #75, #133)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Environment, same_answer
from journeyman.environments.episode import Reaction, Verdict
from journeyman.environments.wrapped import Wrapped, WrappedEpisode
from journeyman.messages import ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.library import ToolLibrary, wilson
from journeyman.tools.maker import Made, Workshop

MOST_KEPT = 20
"""Most tools of a library that an attempt is shown: those with the best record (ours). For more, use a `Toolbox`."""


class LendingEpisode(WrappedEpisode):
    """An attempt that keeps a record of the made tools that it calls."""

    def __init__(self, environment: "Lending", problem: Problem, context: CallContext) -> None:
        self._used = dict[str, ToolCall]()
        super().__init__(environment, problem, context)

    async def step(self, turn: ParsedTurn) -> Reaction:
        reaction = await super().step(turn)
        for call, result in zip(turn.calls, reaction.results, strict=False):
            self._note(call, result)
        return reaction

    async def call(self, call: ToolCall) -> ToolResult:
        result = await super().call(call)
        self._note(call, result)
        return result

    def _note(self, call: ToolCall, result: ToolResult) -> None:
        if result.ok and isinstance(self.find(call.name), Made):
            self._used[call.name] = call

    @property
    def used(self) -> Mapping[str, ToolCall]:
        """Made tools that were called with success, with the last such call."""
        return self._used

    async def create_score(self) -> float | None:
        """1 where the last made tool that was called also solves the problem's sibling, else 0 (#75, ours).

        `problem.data["sibling"]` is `{"numbers": [[of the problem, of the sibling], ...], "answer": ...}`: the numbers
        in the call's arguments are exchanged. None for a problem without a sibling.
        """
        if (sibling := self.problem.data.get("sibling")) is None:
            return None
        if not self._used:
            return 0.0
        name, call = list(self._used.items())[-1]
        tool = self.find(name)
        assert tool is not None, "what was called is there"
        result = await tool.call(swapped(call.arguments, dict(map(tuple, sibling["numbers"]))), self.context)
        return float(result.ok and same_answer(sibling["answer"], result.output))

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        created = await self.create_score()
        parts = {} if created is None else {"create": created, "decide": float(bool(verdict.correct))}
        return replace(verdict, parts={**verdict.parts, **parts})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "used": {name: dict(call.arguments) for name, call in self._used.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._used = {name: ToolCall(name=name, arguments=given) for name, given in state["used"].items()}


def swapped(value: Any, numbers: Mapping[float, float]) -> Any:
    """JSON with numbers exchanged, those in lists and objects too; what is not among them stays."""
    if isinstance(value, Mapping):
        return {name: swapped(part, numbers) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [swapped(part, numbers) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return numbers.get(value, value)
    return value


class Lending(Wrapped):
    """A family with more tools on offer, which may lend: `make_tool` in front of any world. It keeps the family's name.

    With a library its best tools are on offer too, and what an attempt did with them is written down there.
    """

    def __init__(
        self,
        inner: Environment,
        tools: Mapping[str, Tool],
        library: ToolLibrary | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        if library is not None and workshop is None:
            raise ValueError("a library's tools need a workshop to run in")
        super().__init__(inner)
        self.name, self._more, self._library, self._workshop = inner.name, dict(tools), library, workshop

    def tools(self) -> Mapping[str, Tool]:
        return {**self.inner.tools(), **self._more}

    def added(self, problem: Problem) -> Mapping[str, Tool]:
        return {**self._kept(), **{name: tool for name, tool in self._more.items() if name in problem.tools}}

    def reset(self, problem: Problem, context: CallContext) -> LendingEpisode:
        if self._library is None:
            return LendingEpisode(self, problem, context)
        return _LibraryEpisode(self, problem, context, self._library)

    def _kept(self) -> dict[str, Tool]:
        if self._library is None or self._workshop is None:
            return {}
        best = sorted(self._library.kept().values(), key=lambda tool: (-wilson(tool.wins, tool.uses), tool.name))
        taken = self.tools()
        return {tool.name: Made(tool, self._workshop) for tool in best[:MOST_KEPT] if tool.name not in taken}


class _LibraryEpisode(LendingEpisode):
    """Writes into the library which tools were used, and whether the attempt was right."""

    def __init__(self, environment: Lending, problem: Problem, context: CallContext, library: ToolLibrary) -> None:
        self._library = library
        super().__init__(environment, problem, context)

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        self._library.finish(list(self.used), won=bool(verdict.correct))
        return verdict
