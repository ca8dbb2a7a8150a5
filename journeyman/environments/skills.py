"""Tasks that need several of eighteen tools, with four skills scored apart: decompose, select, adjust, conquer (#16).

The typical mistakes: stopping one sub-goal early, an answer from another sub-goal, guessing.
"""

import asyncio
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment, Step, same_answer, validate, walked
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.noise import Noise, NoisyTool
from journeyman.environments.skills_tasks import make_task
from journeyman.environments.skills_tools import make_tools
from journeyman.messages import Fault, Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool

INSTRUCTIONS = "First write a plan in <plan></plan>, one sub-goal in each line. Then call tools."
_WORD = re.compile(r"[\w-]+")
_PLAN = re.compile(r"<plan>(.*?)</plan>", re.DOTALL)


class Skills(Environment):
    """Multi-step tasks over eighteen local tools (#16).

    `correct` is whether the answer is right. The verdict's parts: `decompose`, the F1 of the plan's lines against the
    gold sub-goals, with `decompose_recall` and `decompose_precision`; `select`, the share of the sub-goals whose tool
    was called before any other that was not needed; `adjust`, the share of the injected failures that a later call
    made good, absent where none came; `conquer`, 1 where the answer is right.

    Args:
        failures: share of problems in which the first call of one needed tool fails.
        plan: ask for a plan; without one `decompose` is absent.
        weights: of the parts in the score, those absent left out; none: `conquer` alone.
    """

    name = "skills"
    phrases: tuple[str, ...] = ("What is the ", "How far is it from ", "How many ", "the town where ", " lives")

    def __init__(self, *, failures: float = 0.0, plan: bool = True, weights: Mapping[str, float] | None = None) -> None:
        self._failures, self.plan, self.weights = failures, plan, dict(weights or {"conquer": 1.0})
        unknown = self.weights.keys() - {"decompose", "select", "adjust", "conquer"}
        if unknown or sum(self.weights.values()) <= 0:
            raise ValueError("weights are of decompose, select, adjust and conquer, one of them above 0")

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        return make_tools()

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            question, task = make_task(rng)
            goals, answer = [goal.to_json() for goal in task.goals], task.results[-1]
            fail = rng.choice(goals)["tool"] if rng.random() < self._failures else ""
            data = {"key": f"{question}{fail}", "goals": goals, "results": task.results, "fail": fail}
            yield Problem(
                id=problem_id(self.name, question, {"fail": fail}) if fail else problem_id(self.name, question),
                family=self.name,
                question=question,
                answer=answer,
                min_calls=len(goals) + bool(fail),
                data=data,
            )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return SkillsEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold one calls a tool that fails again; the mistaken ones end in another answer."""
        goals, fail, steps = problem.data["goals"], problem.data["fail"], list[Step]()
        plan = "\n".join(goal["says"] for goal in goals)
        for goal in goals:
            call = ToolCall(name=goal["tool"], arguments=goal["arguments"])
            said = f"<plan>\n{plan}\n</plan>" if self.plan and not steps else ""
            steps.append(Step(thought=goal["says"], call=call, say=said))
            if goal["tool"] == fail:
                steps.append(Step(thought=f"again: {goal['says']}", call=call))
                fail = ""
        *_, before, last = problem.data["results"]
        early = steps[: -1 - (steps[-1].call == steps[-2].call)]
        mistaken = [
            Course(steps=tuple(early), answer=before, mistake="stops one sub-goal early"),
            Course(steps=(), answer=f"about {last}", mistake="guesses"),
        ]
        return Course(steps=tuple(steps), answer=last), *(
            c for c in mistaken if not self.verify(problem, c.answer or "")
        )

    def validate(self) -> None:
        """Gold courses are right, mistakes are not; trying again after a failure is `adjust` 1, going on is 0."""
        calm, failing = Skills(plan=self.plan), Skills(failures=1.0)
        validate(calm, islice(calm.generate(random.Random(0)), 60))
        for problem in islice(failing.generate(random.Random(1)), 20):
            retry = failing.courses(problem)[0]
            once = [
                step
                for step, before in zip(retry.steps, (None, *retry.steps), strict=False)
                if not _again(step, before)
            ]
            for steps, adjust in ((retry.steps, 1.0), (tuple(once), 0.0)):
                course = Course(steps=steps, answer=problem.answer, mistake="a call in it fails")
                verdict = asyncio.run(walked(failing, problem, course)).verdict
                if verdict.parts["adjust"] != adjust or not verdict.correct:
                    raise ValueError(f"{self.name} {problem.id}: adjust is {verdict.parts['adjust']}, not {adjust}")


def _again(step: Step, before: Step | None) -> bool:
    return before is not None and step.call == before.call


class SkillsEpisode(Episode):
    """Keeps the plan and which calls were made, and makes one call fail where the problem says so."""

    sequential = True
    environment: Skills

    def __init__(self, environment: Skills, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._plan: list[str] | None = None
        self._made: list[tuple[str, str]] = []
        noise = Noise(first=frozenset({problem.data["fail"]}))
        self.tools = {
            name: NoisyTool(tool, noise, opened=True) if name in noise.first else tool
            for name, tool in self.tools.items()
        }

    def opening(self) -> tuple[Message, ...]:
        asked = self.problem.question
        return (Message(role="user", content=f"{asked}\n\n{INSTRUCTIONS}" if self.environment.plan else asked),)

    async def step(self, turn: ParsedTurn) -> Reaction:
        if self._plan is None and (written := _PLAN.search(turn.text)):
            self._plan = [line.strip() for line in written.group(1).splitlines() if line.strip()]
        reaction = await super().step(turn)
        self._made += [(result.name, _ended(result)) for result in reaction.results]
        return reaction

    async def verify(self, answer: str | None) -> Verdict:
        goals = self.problem.data["goals"]
        right = answer is not None and self.environment.verify(self.problem, answer)
        parts = {"select": selected(self._made, goals), "conquer": float(right)}
        if self.environment.plan:
            parts |= decomposed(self._plan or [], goals)
        parts |= adjusted(self._made, goals)
        weights = {name: weight for name, weight in self.environment.weights.items() if name in parts}
        total = sum(weights.values())
        score = sum(weight * parts[name] for name, weight in weights.items()) / total if total else float(right)
        return Verdict(correct=right, score=score, parts=parts)

    def state_dict(self) -> dict[str, Any]:
        plan = None if self._plan is None else list(self._plan)
        return {**super().state_dict(), "plan": plan, "made": [list(made) for made in self._made]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._plan = None if state["plan"] is None else list(state["plan"])
        self._made = [(name, ended) for name, ended in state["made"]]


def _ended(result: ToolResult) -> str:
    """`ok`, `failed` through the tool's fault, or `refused` through the model's."""
    return "ok" if result.ok else "refused" if result.fault is Fault.POLICY else "failed"


def decomposed(plan: Sequence[str], goals: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Recall, precision and F1 of a plan's lines against the gold sub-goals, each line for one of them at most.

    A line is for a sub-goal where it has one of its cues and all of its objects, as words.
    """
    fits = [[_names(line, goal) for goal in goals] for line in plan]
    matched = _matching(fits, len(goals))
    recall, precision = matched / len(goals), matched / len(plan) if plan else 0.0
    return {
        "decompose": 2 * matched / (len(goals) + len(plan)),
        "decompose_recall": recall,
        "decompose_precision": precision,
    }


def _names(line: str, goal: Mapping[str, Any]) -> bool:
    words, objects = _words(line), [_words(one) for one in goal["objects"]]
    return any(f" {cue}" in words for cue in goal["cues"]) and all(one in words for one in objects)


def _words(text: str) -> str:
    """The words of a text with spaces around each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _matching(fits: Sequence[Sequence[bool]], columns: int) -> int:
    """Size of the largest matching of rows to columns, by augmenting paths."""
    taken: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in range(columns):
            if fits[row][column] and column not in tried:
                tried.add(column)
                if column not in taken or place(taken[column], tried):
                    taken[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(fits)))


def selected(made: Sequence[tuple[str, str]], goals: Sequence[Mapping[str, Any]]) -> float:
    """Share of the sub-goals whose tool was called before any tool that no sub-goal was waiting for.

    A sub-goal waits once those that it needs are done, and is done by a call of its tool that works.
    """
    done, right, strayed = set[int](), 0, False
    for name, ended in made:
        waiting = [
            at
            for at, goal in enumerate(goals)
            if at not in done and goal["tool"] == name and done >= set(goal["after"])
        ]
        if not waiting:
            strayed = True
        elif ended == "ok":
            done.add(waiting[0])
            right, strayed = right + (not strayed), False
    return right / len(goals)


def adjusted(made: Sequence[tuple[str, str]], goals: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`adjust`: share of the tools that failed which were then called as often with success as sub-goals need them.

    Nothing where none failed.
    """
    failed = {name for name, ended in made if ended == "failed"}
    if not failed:
        return {}
    good = [made.count((name, "ok")) >= max(1, sum(goal["tool"] == name for goal in goals)) for name in failed]
    return {"adjust": sum(good) / len(good)}
