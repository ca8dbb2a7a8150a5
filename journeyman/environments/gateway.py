"""Worlds whose tools must be found first: all tools on offer, the right ones alone, or a search (#48)."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from itertools import islice

from journeyman.environments.base import Course, Environment, Step, validate
from journeyman.environments.episode import Episode, Verdict
from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.distractors import distractors
from journeyman.tools.toolbox import UNITS, CallTool, SearchTools, Session, Toolbox, episode_recall, unit_tools


class ToolMode(StrEnum):
    """Which tools the model is shown."""

    ALL = "all"
    """Every tool of the box."""
    ORACLE = "oracle"
    """Exactly those that the problem needs."""
    RETRIEVAL = "retrieval"
    """`search_tools` and `call_tool`."""


class GatewayEpisode(Episode):
    """An attempt in front of a toolbox.

    Under `retrieval` a tool of the box can be called by its own name too; one that no search had returned works, and is
    counted in the verdict's parts.
    """

    def __init__(
        self, environment: Environment, problem: Problem, context: CallContext, box: Toolbox, mode: ToolMode
    ) -> None:
        self.session, self._mode = Session(box, context), mode
        super().__init__(environment, problem, context)
        if mode is ToolMode.RETRIEVAL:
            # The session is this attempt's already: opened again, the two tools would not share it.
            self.tools |= {"search_tools": SearchTools(self.session), "call_tool": CallTool(self.session)}

    def offered(self) -> Mapping[str, Tool]:
        box = self.session.box.tools
        if self._mode is ToolMode.RETRIEVAL:
            return {name: tool for name, tool in super().offered().items() if name not in box}
        names = gold_tools(self.problem) if self._mode is ToolMode.ORACLE else box
        return {name: box[name] for name in names}

    async def call(self, call: ToolCall) -> ToolResult:
        if self._mode is ToolMode.RETRIEVAL and call.name not in self.tools and call.name in self.session.box.tools:
            through = ToolCall(name="call_tool", arguments={"name": call.name, "arguments": dict(call.arguments)})
            return replace(await super().call(through), name=call.name)
        return await super().call(call)

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        if self._mode is not ToolMode.RETRIEVAL:
            return verdict
        session, gold = self.session, gold_tools(self.problem)
        parts = {"tool_recall": episode_recall(session.searches, gold), "calls_unfound": float(session.calls_unfound)}
        return replace(verdict, parts={**verdict.parts, **parts})


def gold_tools(problem: Problem) -> tuple[str, ...]:
    """Names of the tools that a problem needs: `data["gold_tools"]`, or all that it names."""
    return tuple(problem.data.get("gold_tools", problem.tools))


class Conversions(Environment):
    """Sums and conversions of quantities, with a tool for every pair of units, hundreds in all (#20, #48).

    The typical mistakes: converting the wrong way round, and forgetting one of two quantities.
    """

    name = "toolbox"
    phrases = ("How many ", " are ", " and ", " together?")

    def __init__(self, mode: ToolMode | str = ToolMode.RETRIEVAL, distractors: int = 0) -> None:
        """`distractors`: tools besides that no problem needs, up to 18,000."""
        self.mode, self._distractors = ToolMode(mode), distractors

    @cached_property
    def box(self) -> Toolbox:
        return Toolbox({**unit_tools(), **distractors(self._distractors)})

    def tools(self) -> Mapping[str, Tool]:
        """What a problem names as its tools; which of the box are shown besides is the episode's."""
        if self.mode is ToolMode.RETRIEVAL:
            session = Session(self.box)
            return {"search_tools": SearchTools(session), "call_tool": CallTool(session)}
        return self.box.tools

    def reset(self, problem: Problem, context: CallContext) -> GatewayEpisode:
        return GatewayEpisode(self, problem, context, self.box, self.mode)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            quantity = rng.choice(list(UNITS))
            target, *sources = rng.sample(list(UNITS[quantity]), 3)
            parts = [(rng.randrange(2, 60), source) for source in sources[: rng.choice((1, 1, 2))]]
            values = [value * _factor(source, target) for value, source in parts]
            if min(values) > 0.01 * sum(values):  # else forgetting it would hardly show
                yield self._problem(parts, target)

    def _problem(self, parts: Sequence[tuple[int, str]], target: str) -> Problem:
        asked = " and ".join(f"{value} {source}" for value, source in parts)
        question = f"How many {target} are {asked}{' together' if len(parts) > 1 else ''}?"
        data = {"parts": [list(part) for part in parts], "target": target}
        gold = [f"convert_{source}_to_{target}" for _, source in parts] + ["add_numbers"] * (len(parts) - 1)
        steps = 2 if self.mode is ToolMode.RETRIEVAL else 1
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=format(sum(value * _factor(source, target) for value, source in parts), ".6g"),
            min_calls=steps * len(gold),
            data={**data, "key": f"{sorted(parts)}:{target}", "gold_tools": gold},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        parts, target = problem.data["parts"], problem.data["target"]
        converted = [step for value, source in parts for step in self._convert(value, source, target)]
        (value, source), *more = parts
        backwards = Course(steps=self._convert(value, target, source), mistake="converts the wrong way round")
        if not more:
            return Course(steps=tuple(converted)), backwards
        first, second = (float(_shown(value, source, target)) for value, source in parts)
        adding = self._use("add_numbers", {"first": first, "second": second}, "add two numbers")
        forgets = Course(steps=self._convert(value, source, target), mistake="forgets a quantity")
        return Course(steps=(*converted, *adding)), backwards, forgets

    def _convert(self, value: float, source: str, target: str) -> tuple[Step, ...]:
        return self._use(f"convert_{source}_to_{target}", {"value": value}, f"convert {source} to {target}")

    def _use(self, name: str, arguments: Mapping[str, float], thought: str) -> tuple[Step, ...]:
        """The call of a tool, after a search for it where there must be one."""
        call = ToolCall(name=name, arguments=arguments)
        if self.mode is not ToolMode.RETRIEVAL:
            return (Step(thought=thought, call=call),)
        search = ToolCall(name="search_tools", arguments={"query": thought, "count": 3})
        through = ToolCall(name="call_tool", arguments={"name": name, "arguments": dict(arguments)})
        return Step(thought=thought, call=search), Step(thought=thought, call=through)

    def verify(self, problem: Problem, answer: str) -> bool:
        """Equal to one part in 50,000: the tools show six digits, and sums are of what they show."""
        try:
            given, right = float(answer.replace(",", "")), float(problem.answer)
        except ValueError:
            return False
        return abs(given - right) <= 2e-5 * abs(right)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))


def _shown(value: float, source: str, target: str) -> str:
    return format(value * _factor(source, target), ".6g")


def _factor(source: str, target: str) -> float:
    factors = next(factors for factors in UNITS.values() if source in factors)
    return factors[source] / factors[target]
