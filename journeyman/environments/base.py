"""What an environment is: where a Problem lives, with its tools, its gold course and its verdict."""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a worked course: a thought, and the call or the words to the user that it leads to."""

    thought: str
    call: ToolCall | None = None
    say: str = ""
    """To the user, in worlds that have one."""
    answer: str | None = field(default=None, repr=False)
    """In worlds that go on after an answer; the final one is the course's."""

    def parsed(self) -> ParsedTurn:
        """As the turn of a model."""
        return ParsedTurn(calls=(self.call,) if self.call else (), answer=self.answer, text=self.say)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A way through a problem, as a teacher would write it: right, or with one typical mistake."""

    steps: tuple[Step, ...]
    answer: str | None = None
    """The final answer; None: the last observation, verbatim, unless the world ends the attempt before."""
    mistake: str = ""
    """Which typical mistake it contains; empty for the gold course."""


class Environment(Protocol):
    """A family of problems. Inherit from it: what a family has no use for has a default."""

    name: str
    phrases: tuple[str, ...] = ()
    """Text that questions and courses repeat verbatim: a tokenizer trained on the spot makes each one token."""

    def tools(self) -> Mapping[str, Tool]:
        """The tools of this family by name."""
        return {}

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        """Start an attempt."""
        return Episode(self, problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold course first, then courses with one typical mistake each."""
        ...

    def verify(self, problem: Problem, answer: str) -> bool:
        """Whether an answer is right."""
        ...

    def validate(self) -> None:
        """Check problems of its own with the function of that name. Raises `ValueError` where something is off."""
        ...


@runtime_checkable
class Generator(Protocol):
    """An environment that makes problems by seed."""

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """An endless stream of problems; one that asks the same in other words has the same `data["key"]`."""
        ...


def validate(environment: Environment, problems: Iterable[Problem]) -> None:
    """Walk every course with the real tools. Raises `ValueError` with the problem and what is off.

    A gold course must work, take `min_calls` calls, and end in an accepted answer that a tool has shown. A mistaken one
    must end in an answer that is not accepted, unless it is the gold one's: the wrong aggregate of a single number is
    right by chance. Each mistake must really be one in some problem.
    """
    asyncio.run(_validate(environment, list(problems)))


async def _validate(environment: Environment, problems: Sequence[Problem]) -> None:
    wrong: dict[str, bool] = {}
    for problem in problems:
        gold, *mistaken = environment.courses(problem)
        walk = await walked(environment, problem, gold)
        right = walk.answer
        failed = [result.output for reaction in walk.reactions for result in reaction.results if not result.ok]
        _require(not failed, problem, f"a call of the gold course fails: {failed[:1]}")
        _require(not gold.mistake, problem, "the first course contains a mistake")
        _require(walk.calls == problem.min_calls, problem, f"min_calls is not {walk.calls}")
        _require(bool(walk.verdict.correct), problem, f"the gold answer {right!r} is not accepted")
        if right is not None:
            shown = any(right in output for output in walk.outputs)
            _require(shown or not walk.calls, problem, f"no tool shows the gold answer {right!r}")
            _require(not environment.verify(problem, ""), problem, "an empty answer is accepted")
        for course in mistaken:
            other = await walked(environment, problem, course)
            accepted = bool(other.verdict.correct)
            same = right is not None and other.answer is not None and same_answer(right, other.answer)
            _require(not accepted or same, problem, f"{course.mistake}: {other.answer!r} is accepted")
            wrong[course.mistake] = wrong.get(course.mistake, False) or not accepted
    if harmless := [mistake for mistake, is_wrong in wrong.items() if not is_wrong]:
        raise ValueError(f"{environment.name}: no mistake in any of {len(problems)} problems: {', '.join(harmless)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What came of a course."""

    opening: tuple[Message, ...]
    """What a model would have been shown first; empty: the question alone."""
    specs: tuple[dict[str, Any], ...]
    """Of the tools, where the family doesn't have them under the names in `Problem.tools`."""
    reactions: tuple[Reaction, ...]
    """One for each step that was taken."""
    answer: str | None
    """None where the world ended the attempt before an answer."""
    verdict: Verdict

    @property
    def outputs(self) -> list[str]:
        return [result.output for reaction in self.reactions for result in reaction.results]

    @property
    def calls(self) -> int:
        return len(self.outputs)


async def walked(environment: Environment, problem: Problem, course: Course) -> Walk:
    """Take a course in the real world."""
    offered = replace(problem, tools=problem.tools or tuple(environment.tools()))
    episode, reactions = environment.reset(offered, CallContext(trajectory="course", seed=derive(problem.id))), []
    try:
        await episode.begin()
        opening, specs = episode.shown()
        for step in course.steps:
            reactions.append(await episode.step(step.parsed()))
            if reactions[-1].done:
                break
        answer = course.answer
        if answer is None and reactions and not reactions[-1].done and reactions[-1].results:
            answer = reactions[-1].results[-1].output
        verdict = await episode.verify(answer)
    finally:
        await episode.close()
    return Walk(opening=opening, specs=specs, reactions=tuple(reactions), answer=answer, verdict=verdict)


def _require(condition: bool, problem: Problem, otherwise: str) -> None:
    if not condition:
        raise ValueError(f"{problem.family} {problem.id}: {otherwise}: {problem.question}")


def same_answer(reference: str, answer: str) -> bool:
    """Equal as numbers where both are numbers, else equal but for case and surrounding space."""
    try:
        return abs(float(reference.replace(",", "")) - float(answer.replace(",", ""))) < 1e-6
    except ValueError:
        return reference.strip().casefold() == answer.strip().casefold()
