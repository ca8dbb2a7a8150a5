"""Environments around another one: the same problems and verdicts, met in another way."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from journeyman.environments.base import Course, Environment, Generator
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.rows import Reading, RowReader
from journeyman.errors import UserError
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool


class Wrapped(Environment):
    """A family around another. It says what is different: the tools it adds, or an episode of its own.

    Where two of them begin contexts anew, the one that forgets more belongs inside: what is inside hears nothing of
    what is done around it.

    Args:
        environment: the one inside, or its family.
        options: of the family, where it is given by name.
    """

    def __init__(self, environment: Environment | str, options: Mapping[str, Any] | None = None) -> None:
        self.inner = _by_name(environment, options or {}) if isinstance(environment, str) else environment
        self.phrases = self.inner.phrases

    @property
    def columns(self) -> Sequence[str]:
        return self.inner.columns if isinstance(self.inner, RowReader) else ()

    def tools(self) -> Mapping[str, Tool]:
        return self.inner.tools()

    def added(self, problem: Problem) -> Mapping[str, Tool]:
        """The tools on offer that the environment inside knows nothing of."""
        return {}

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return WrappedEpisode(self, problem, context)

    def generate(self, rng: Random) -> Iterator[Problem]:
        if not isinstance(self.inner, Generator):
            raise UserError(f"{self.inner.name} makes no problems", remedy="read them from rows")
        return map(self._ours, self.inner.generate(rng))

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        if not isinstance(self.inner, RowReader):
            raise UserError(f"{self.inner.name} reads no rows", remedy="let it generate problems")
        reading = self.inner.read(rows)
        return replace(reading, problems=tuple(map(self._ours, reading.problems)))

    def _ours(self, problem: Problem) -> Problem:
        if self.name == self.inner.name:
            return problem
        return replace(problem, id=problem_id(self.name, problem.question, problem.data), family=self.name)

    def original(self, problem: Problem) -> Problem:
        """The problem as the environment inside knows it."""
        added = self.added(problem)
        return replace(
            problem, family=self.inner.name, tools=tuple(name for name in problem.tools if name not in added)
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        return self.inner.courses(self.original(problem))

    def verify(self, problem: Problem, answer: str) -> bool:
        return self.inner.verify(self.original(problem), answer)

    def validate(self) -> None:
        """What is around a world can't make it right: the environment inside must be."""
        self.inner.validate()


def _by_name(family: str, options: Mapping[str, Any]) -> Environment:
    from journeyman.environments import environment

    return environment(family, json.dumps(dict(options), sort_keys=True))


class WrappedEpisode(Episode):
    """An attempt in the world inside. All episodes around each other share one dict `tools`: change it in place."""

    def __init__(self, environment: Wrapped, problem: Problem, context: CallContext) -> None:
        self.environment, self.problem, self.context = environment, problem, context
        self.inner = environment.inner.reset(environment.original(problem), context)
        self.sequential, self.tools = self.inner.sequential, self.inner.tools
        self._added = environment.added(problem)
        opened = {name: tool.open(context) for name, tool in self._added.items()}
        self.tools.update(opened)
        for tool in opened.values():  # as in `Episode`: `recall` reads the notes of the `fold_memory` beside it
            self.tools.update({name: lent for name, lent in tool.lent().items() if name in self.tools})

    def offered(self) -> Mapping[str, Tool]:
        return {**self.inner.offered(), **self._added}

    async def begin(self) -> None:
        await self.inner.begin()

    def opening(self) -> tuple[Message, ...]:
        return self.inner.opening()

    async def step(self, turn: ParsedTurn) -> Reaction:
        return await self.inner.step(turn)

    async def verify(self, answer: str | None) -> Verdict:
        return await self.inner.verify(answer)

    async def run(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        return await self.inner.run(calls)

    async def call(self, call: ToolCall) -> ToolResult:
        return await self.inner.call(call)

    def find(self, name: str) -> Tool | None:
        return self.inner.find(name)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])

    async def close(self) -> None:
        await self.inner.close()
