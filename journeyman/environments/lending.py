"""Attempts in which tools bring tools: what one has made or found is callable by its own name at once (#22, #75, #133)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Course, Environment, same_answer
from journeyman.environments.episode import Episode, Verdict
from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.library import ToolLibrary, wilson
from journeyman.tools.maker import Made, Workshop

MOST_KEPT = 20
"""Most tools of a library that an attempt is shown: those with the best record (ours). For more, use a `Toolbox`."""


class LendingEpisode(Episode):
    """An attempt that keeps a record of the made tools that it calls."""

    def __init__(
        self, environment: Environment, problem: Problem, context: CallContext, kept: Mapping[str, Tool] | None = None
    ) -> None:
        self._kept, self._used = dict(kept or {}), dict[str, ToolCall]()
        super().__init__(environment, problem, context)

    def offered(self) -> Mapping[str, Tool]:
        # Overridden also so that the attempt keeps its specs: no family has these tools.
        return {**self._kept, **super().offered()}

    async def call(self, call: ToolCall) -> ToolResult:
        result = await super().call(call)
        if result.ok and isinstance(self.find(call.name), Made):
            self._used[call.name] = call
        return result

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


class Lending(Environment):
    """A family with more tools on offer, which may lend: `make_tool` in front of any world of calls and answers.

    With a library its best tools are on offer too, and what an attempt did with them is written down there. Not for
    families with an episode of their own, such as dialogues.
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
        self.name, self.phrases, self._inner, self._more = inner.name, inner.phrases, inner, dict(tools)
        self._library, self._workshop = library, workshop

    def tools(self) -> Mapping[str, Tool]:
        return {**self._inner.tools(), **self._more}

    def reset(self, problem: Problem, context: CallContext) -> LendingEpisode:
        if self._library is None or self._workshop is None:
            return LendingEpisode(self, problem, context)
        return _LibraryEpisode(self, problem, context, self._kept(self._library, self._workshop), self._library)

    def _kept(self, library: ToolLibrary, workshop: Workshop) -> dict[str, Tool]:
        best = sorted(library.kept().values(), key=lambda tool: (-wilson(tool.wins, tool.uses), tool.name))
        taken = self.tools()
        return {tool.name: Made(tool, workshop) for tool in best[:MOST_KEPT] if tool.name not in taken}

    def courses(self, problem: Problem) -> Sequence[Course]:
        return self._inner.courses(problem)

    def verify(self, problem: Problem, answer: str) -> bool:
        return self._inner.verify(problem, answer)

    def validate(self) -> None:
        self._inner.validate()


class _LibraryEpisode(LendingEpisode):
    """Writes into the library which tools were used, and whether the attempt was right."""

    def __init__(
        self,
        environment: Environment,
        problem: Problem,
        context: CallContext,
        kept: Mapping[str, Tool],
        library: ToolLibrary,
    ) -> None:
        self._library = library
        super().__init__(environment, problem, context, kept)

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        self._library.finish(list(self.used), won=bool(verdict.correct))
        return verdict
