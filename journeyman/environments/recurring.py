"""Worlds that recur: several attempts in one context, with a word after each whether it was right (#82).

What is hidden is the same in all of them, so that trying out early pays late, without any bonus for it.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from journeyman.environments.base import Course, Environment, Step, validate
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.shop import COLOURS, THINGS
from journeyman.environments.wrapped import Wrapped, WrappedEpisode
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, FunctionTool, Tool, ToolError

KINDS: Mapping[str, float] = {"list_price": 1.0, "club_price": 0.9, "gross_price": 1.2, "outlet_price": 0.75}
"""Tools of `Conventions`: what they make of an article's price (ours)."""
_NUMBER = re.compile(r"\d{4}", re.ASCII)
RIGHT, WRONG = "That was right.", "That was wrong."


@runtime_checkable
class Recurrent(Protocol):
    """An environment whose later attempts ask something else under the same hidden rule."""

    def again(self, problem: Problem, attempt: int) -> Problem:
        """What the attempt of that number asks, counted from 0, which is the problem itself."""
        ...


class Price(FunctionTool):
    """One kind of price of an article."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, article: str) -> str:
        """Look up a price of this kind.

        Args:
            article: its name and number, such as red kite 1234.
        """
        colour, thing, number, *rest = [*article.split(), "", "", ""]
        if colour not in COLOURS or thing not in THINGS or not _NUMBER.fullmatch(number) or any(rest):
            raise ToolError(f"there is no {article[:40]}")
        return price(self.name, article)


def price(kind: str, article: str) -> str:
    """In a currency of two decimals; every kind has another."""
    return f"{(1000 + derive('price', article) % 9000) * KINDS[kind] / 100:.2f}"


class Conventions(Environment):
    """Customers who always mean the same kind of price and never say which: `kinds` tools look it up (ours, for #82)."""

    name = "conventions"
    phrases = ("What does the ", " cost?", "article", RIGHT, WRONG, *KINDS)

    def __init__(self, *, kinds: int = 2) -> None:
        if not 2 <= kinds <= len(KINDS):
            raise ValueError(f"kinds must be from 2 to {len(KINDS)}")
        self._tools: dict[str, Tool] = {name: Price(name) for name in list(KINDS)[:kinds]}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            yield self._problem(rng.choice(list(self._tools)), rng)

    def again(self, problem: Problem, attempt: int) -> Problem:
        """Another article."""
        if not attempt:
            return problem
        rng = random.Random(derive("again", problem.data["key"], attempt))
        return replace(self._problem(problem.data["rule"], rng), tools=problem.tools)

    def _problem(self, rule: str, rng: random.Random) -> Problem:
        article = f"{rng.choice(COLOURS)} {rng.choice(THINGS)} {rng.randrange(1000, 10_000)}"
        question = f"What does the {article} cost?"
        data = {"key": f"{article} {rule}", "article": article, "rule": rule}
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question,
            answer=price(rule, article),
            min_calls=1,
            data=data,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        kinds = list(self._tools)
        other = kinds[(kinds.index(problem.data["rule"]) + 1) % len(kinds)]
        return self._course(problem, problem.data["rule"], ""), self._course(problem, other, "means another price")

    def _course(self, problem: Problem, kind: str, mistake: str) -> Course:
        article = problem.data["article"]
        step = Step(thought=kind, call=ToolCall(name=kind, arguments={"article": article}))
        return Course(steps=(step,), answer=price(kind, article), mistake=mistake)

    def verify(self, problem: Problem, answer: str) -> bool:
        return answer.strip() == problem.answer

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 40))


class Recurring(Wrapped):
    """Exploitation is all you need (#82, derived): a problem is several attempts in one context that share what is hidden.

    Every answer ends an attempt and earns 1 where it is right (`Turn.reward`, the reward `world`); the model is told, and
    the next attempt begins. The reward is plain success, so that only recurrence, memory and a credit across attempts
    (`recurring`) make exploring worthwhile. The verdict is that of the last attempt, the score the share of right ones.
    Its parts: `first`, `later` (the share from the second on), `gain`, which is later less first, and `tools_tried`, the
    share of the tools on offer that the first attempt has called.

    Without an environment it is a small world of this module, in which customers mean one of several prices and never say
    which; one that has `again` asks something else each time, any other one the same. Its attempts have to end with an
    answer. A world inside that begins its context anew forgets earlier attempts, too.

    Args:
        environment: the one inside, or its family; None: customers and their prices.
        options: of the family, where it is given by name or left out.
        attempts: how many (ours).
        memory: whether the context goes on; without, each attempt begins with an empty one and is told nothing.
    """

    name = "recurring"

    def __init__(
        self,
        environment: Environment | str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        attempts: int = 4,
        memory: bool = True,
    ) -> None:
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        super().__init__(Conventions(**(options or {})) if environment is None else environment, options)
        self.phrases = (*self.phrases, RIGHT, WRONG)
        self.attempts, self.memory = attempts, memory

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return RecurringEpisode(self, problem, context)

    def posed(self, problem: Problem, attempt: int) -> Problem:
        """What the environment inside is asked at an attempt, counted from 0."""
        original = self.original(problem)
        return self.inner.again(original, attempt) if isinstance(self.inner, Recurrent) else original

    def _ours(self, problem: Problem) -> Problem:
        ours = super()._ours(problem)
        return replace(ours, min_calls=sum(self.posed(ours, j).min_calls for j in range(self.attempts)))

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold course knows what is hidden; the others make the same mistake again and again, or give up."""
        posed = [self.posed(problem, attempt) for attempt in range(self.attempts)]
        every = [self.inner.courses(one) for one in posed]
        gold = [_with_answer(one, courses[0]) for one, courses in zip(posed, every, strict=True)]
        unknown = Step(thought="I don't know.", answer="unknown")
        made = [_joined(gold), Course(steps=(unknown,) * self.attempts, mistake="gives up")]
        wrong = [[one for one in courses[1:] if one.answer is not None] for courses in every]
        if all(wrong):
            made.append(
                _joined([_with_answer(p, w[0]) for p, w in zip(posed, wrong, strict=True)], wrong[0][0].mistake)
            )
        return made

    def validate(self) -> None:
        """The environment inside, and that going by what one is told pays."""
        self.inner.validate()
        if self.inner.name == Conventions.name:
            validate(self, islice(self.generate(random.Random(0)), 20))


def _with_answer(problem: Problem, course: Course) -> Sequence[Step]:
    """A course's steps, its answer among them."""
    answer = problem.answer if course.answer is None else course.answer
    return (*course.steps, Step(thought="", answer=answer))


def _joined(attempts: Sequence[Sequence[Step]], mistake: str = "") -> Course:
    return Course(steps=tuple(step for steps in attempts for step in steps), mistake=mistake)


class RecurringEpisode(WrappedEpisode):
    """One attempt after the other, each an episode inside."""

    def __init__(self, environment: Recurring, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._world = environment
        self._right: list[bool] = []
        self._tried: list[str] = []
        """Tools that the first attempt has called, each once."""

    def opening(self) -> tuple[Message, ...]:
        *before, asked = self.inner.opening()
        many = f"You have {self._world.attempts} attempts. After each answer you are told whether it was right."
        told = f"{asked.content}\n\n{many}" if self._world.memory and self._world.attempts > 1 else asked.content
        return (*before, replace(asked, content=told))

    async def step(self, turn: ParsedTurn) -> Reaction:
        """The world's own reaction; after an answer what it was worth, and what is asked next."""
        reaction = await self.inner.step(turn)
        if not self._right:
            self._tried += [
                call.name for call in turn.calls if call.name in self.tools and call.name not in self._tried
            ]
        if not reaction.done:
            return reaction
        answer = turn.answer if turn.answer is not None or turn.calls else turn.text
        right = bool((await self.inner.verify(answer)).correct)
        self._right.append(right)
        reaction = replace(reaction, reward=reaction.reward + right)
        if len(self._right) == self._world.attempts:
            return reaction
        await self.inner.close()
        self._begin(len(self._right))
        await self.inner.begin()
        opening = self.inner.opening()
        if not self._world.memory:
            return replace(reaction, done=False, reply=None, restart=opening)
        said = f"{RIGHT if right else WRONG}\n\n{opening[-1].content}"
        return replace(reaction, done=False, reply=Message(role="user", content=said))

    def _begin(self, attempt: int) -> None:
        """The episode of an attempt takes the place of the one before."""
        context = replace(self.context, seed=derive(self.context.seed, "attempt", attempt))
        self.inner = self._world.inner.reset(self._world.posed(self.problem, attempt), context)
        self.tools.clear()
        self.tools.update(self.inner.tools)
        self.inner.tools = self.tools

    async def verify(self, answer: str | None) -> Verdict:
        """Attempts that were not made, or not ended, are wrong."""
        count = self._world.attempts
        right = [*self._right, *[False] * (count - len(self._right))]
        first, later = float(right[0]), sum(right[1:]) / max(1, count - 1)
        tried = len(self._tried) / max(1, len(self.tools))
        parts = {"first": first, "later": later, "gain": later - first, "tools_tried": tried}
        return Verdict(correct=right[-1], score=sum(right) / count, parts=parts)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "right": list(self._right), "tried": list(self._tried)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._right, self._tried = list(state["right"]), list(state["tried"])
        if 0 < len(self._right) < self._world.attempts:
            self._begin(len(self._right))
        super().load_state_dict(state)
