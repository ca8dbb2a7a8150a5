"""Requests that fit several things: whoever doesn't ask can only guess (#157, #126).

A request fits N records, of which the user means one. The model asks about attributes, by the tool `ask_user` or in
words, and then chooses. Typical mistakes: guessing without a question, and stopping after too few. `wasteful` gives
courses that are right in the end but ask too much or ask again.
"""

import asyncio
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment, Step, validate, walked
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.inquiry import VALUES, Attribute, Form, Pay, Record, Room, fewest
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, FunctionTool, Tool, ToolError

THINGS = ("mug", "box", "lamp", "basket", "vase", "frame", "tray", "clock")
MAX_CANDIDATES = 8


class AskUser(FunctionTool):
    """Asks the user about the thing it means (#157)."""

    name = "ask_user"

    def __init__(self, room: Room) -> None:
        self._room = room

    async def run(self, attribute: Attribute, value: str = "") -> str:
        """Ask the user about the thing it means.

        Args:
            attribute: what to ask about.
            value: ask whether it is this one; leave it out to ask which it is, where open questions are allowed.
        """
        if not self._room.candidates:
            raise ToolError("there is nothing to ask about")
        if self._room.form is Form.YES_NO and not value:
            raise ToolError("the user answers yes or no only: name a value")
        if value and value not in VALUES[attribute]:
            raise ToolError(f"{attribute} is one of {', '.join(VALUES[attribute])}")
        return self._room.ask(attribute, value)


class Choose(FunctionTool):
    """Brings the user a thing, which ends the attempt."""

    name = "choose"

    def __init__(self, room: Room, known: Sequence[str]) -> None:
        self._room, self._known = room, set(known)

    async def run(self, id: str) -> str:
        """Bring the user a thing. This is final.

        Args:
            id: of the thing.
        """
        if id not in self._known:
            raise ToolError(f"there is no {id}")
        self._room.ledger.chosen = id
        return f"brought {id}"


class Ambiguous(Environment):
    """Requests that fit up to eight records; asking finds the one that is meant (#157, information gain #126).

    Typical mistakes: guesses without asking, stops asking too early.
    """

    name = "ambiguous"
    phrases = (
        *("Please bring me the ", "ask_user", "choose", "attribute", "value", "brought ", "Yes.", "No."),
        *(f"The {attribute} is " for attribute in VALUES),
    )

    def __init__(self, *, pay: Pay | str = Pay.SHARE) -> None:
        """`pay`: what a question earns, `share` of candidates ruled out (#157) or `bits` (#126)."""
        self.pay = Pay(pay)
        empty = Room(candidates=[], target={"id": ""}, form=Form.OPEN)
        self._tools: dict[str, Tool] = {"ask_user": AskUser(empty), "choose": Choose(empty, ())}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def reset(self, problem: Problem, context: CallContext) -> "AmbiguousEpisode":
        return AmbiguousEpisode(self, problem, context)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            problem = _draw(self.name, rng)
            if problem is not None:
                yield problem

    def courses(self, problem: Problem) -> Sequence[Course]:
        asked = questions(problem)
        target = problem.data["target"]
        other = next(r["id"] for r in problem.data["candidates"] if r["id"] != target)
        wrong = [_course([], other, "guesses without asking")]
        if len(asked) > 1:
            left = _left(problem, asked[:-1])
            guess = next(record["id"] for record in left if record["id"] != target)
            wrong.append(_course(asked[:-1], guess, "stops asking too early"))
        return [_course(asked, target), *wrong]

    def wasteful(self, problem: Problem) -> Sequence[Course]:
        """Courses that end right but ask more than they need: they score less than the gold one."""
        asked, target = questions(problem), problem.data["target"]
        record = next(r for r in problem.data["candidates"] if r["id"] == target)
        spare = next(name for name in VALUES if name not in {question["attribute"] for question in asked})
        more = {"attribute": spare} | ({"value": record[spare]} if problem.data["form"] == Form.YES_NO else {})
        return (
            _course([*asked, asked[0]], target, "repeats a question"),
            _course([*asked, more], target, "asks too much"),
        )

    def verify(self, problem: Problem, answer: str) -> bool:
        return answer == problem.answer

    def validate(self) -> None:
        """The courses, and that asking in vain costs something."""
        problems = list(islice(self.generate(random.Random(0)), 60))
        validate(self, problems)
        asyncio.run(self._validate_waste(problems))

    async def _validate_waste(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            gold = (await walked(self, problem, self.courses(problem)[0])).verdict.parts["total"]
            for course in self.wasteful(problem):
                other = (await walked(self, problem, course)).verdict.parts["total"]
                if other >= gold:
                    raise ValueError(f"{problem.id}: a course that {course.mistake} gets {other}, the gold one {gold}")


class AmbiguousEpisode(Episode):
    """One attempt. Questions in words count as those of `ask_user`."""

    sequential = True

    def __init__(self, environment: Ambiguous, problem: Problem, context: CallContext) -> None:
        self._pay = environment.pay
        self._records = list(problem.data["candidates"])
        target = next(record for record in self._records if record["id"] == problem.data["target"])
        self.room = Room(candidates=list(self._records), target=target, form=Form(problem.data["form"]))
        self._told = 0.0
        super().__init__(environment, problem, context)

    def offered(self) -> Mapping[str, Tool]:
        from journeyman.environments import tool_of_any

        ids = [record["id"] for record in self._records]
        own: dict[str, Tool] = {"ask_user": AskUser(self.room), "choose": Choose(self.room, ids)}
        return {name: own[name] if name in own else tool_of_any(name) for name in self.problem.tools or own}

    async def step(self, turn: ParsedTurn) -> Reaction:
        """Calls ask or choose; words are a question to the user. A choice ends it. Pays as it goes."""
        if turn.calls:
            results = await self.run(turn.calls)
            return Reaction(results=results, reward=self._due(), done=bool(self.room.ledger.chosen))
        if turn.answer is not None:
            known = {record["id"] for record in self._records}
            self.room.ledger.chosen = turn.answer if turn.answer in known else ""
            return Reaction(reward=self._due(), done=True)
        reply = Message(role="user", content=self._answer(turn.text))
        return Reaction(reply=reply, reward=self._due())

    def _answer(self, said: str) -> str:
        """The user's words to words: about one attribute, or one value of it."""
        words = set(re.findall(r"\w+", said.lower()))
        values = [(name, value) for name, known in VALUES.items() for value in known if value in words]
        names = [name for name in VALUES if name in words]
        if len(values) == 1 and names in ([], [values[0][0]]):
            return self.room.ask(*values[0])
        if len(names) == 1 and not values and self.room.form is Form.OPEN:
            return self.room.ask(names[0])
        self.room.waste()
        return f"I can't answer that. Ask me about one of {', '.join(VALUES)}."

    def _due(self) -> float:
        """What the last turn has earned: the parts of all turns add up to the whole."""
        total = self.room.ledger.total(self._pay)
        due, self._told = total - self._told, total
        return due

    async def verify(self, answer: str | None) -> Verdict:
        """Right where the thing that is meant was chosen; the score is the total within [0, 1], raw in the parts."""
        ledger = self.room.ledger
        total = ledger.total(self._pay)
        parts = {
            **{"success": ledger.success, "gain": sum(ledger.gains()), "bits": ledger.bits(), "total": total},
            **{"questions": float(ledger.asked), "needed": float(ledger.needed)},
        }
        return Verdict(correct=ledger.success == 1.0, score=min(1.0, max(0.0, total)), parts=parts)

    def state_dict(self) -> dict[str, Any]:
        ledger = self.room.ledger
        left = [record["id"] for record in self.room.candidates]
        own = {"left": left, "sizes": list(ledger.sizes), "chosen": ledger.chosen, "told": self._told}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.room.candidates = [record for record in self._records if record["id"] in state["left"]]
        self.room.ledger.sizes, self.room.ledger.chosen = list(state["sizes"]), state["chosen"]
        self._told = state["told"]


def _draw(family: str, rng: random.Random) -> Problem | None:
    """A problem; None where chance has made one that can't be solved in the fewest questions."""
    thing, count = rng.choice(THINGS), rng.randrange(2, MAX_CANDIDATES + 1)
    shared = rng.choice(list(VALUES))
    fixed = {shared: rng.choice(VALUES[shared])}
    drawn = {tuple(rng.choice(known) for known in VALUES.values()): None for _ in range(count)}
    records = [dict(zip(VALUES, values, strict=True)) | fixed for values in drawn]
    ids = rng.sample(range(10, 100), len(records))
    candidates = [{"id": f"{thing}-{number}", **record} for number, record in zip(ids, records, strict=True)]
    form = rng.choice(list(Form))
    data = {"candidates": candidates, "target": rng.choice(candidates)["id"], "form": form.value}
    value = fixed[shared]
    where = f"{thing} in the {value}" if shared == "place" else f"{value} {thing}"
    question = _question(candidates, form, where)
    problem = Problem(
        id=problem_id(family, question),
        family=family,
        question=question,
        answer=data["target"],
        tools=("ask_user", "choose"),
        data={"key": problem_id(family, question, data), **data},
    )
    asked = _questions(problem)
    if not asked or len(asked) > fewest(candidates, form):
        return None
    return replace(problem, min_calls=len(asked) + 1)


def _question(candidates: Sequence[Record], form: Form, wanted: str) -> str:
    lines = [" ".join([record["id"], *(f"{name}={record[name]}" for name in VALUES)]) for record in candidates]
    rule = " I answer with yes or no only." if form is Form.YES_NO else ""
    return (
        f"Please bring me the {wanted}. Several things fit, and I mean one of them: ask me as little as you can to "
        f"find out which, then choose it.{rule}\n" + "\n".join(lines)
    )


def questions(problem: Problem) -> list[dict[str, str]]:
    """The gold questions: each the one that rules out most at the worst, until one candidate is left."""
    asked = _questions(problem)
    assert asked is not None
    return asked


def _questions(problem: Problem) -> list[dict[str, str]] | None:
    """None where candidates can't be told apart."""
    form, asked = Form(problem.data["form"]), []
    left = list(problem.data["candidates"])
    while len(left) > 1:
        best = min(_possible(left, form), key=lambda one: _worst(left, one), default=None)
        if best is None or _worst(left, best) == len(left):
            return None
        asked.append(best)
        left = _left(problem, asked)
    return asked


def _possible(left: Sequence[Record], form: Form) -> list[dict[str, str]]:
    if form is Form.OPEN:
        return [{"attribute": name} for name in VALUES]
    return [{"attribute": name, "value": value} for name in VALUES for value in sorted({r[name] for r in left})]


def _worst(left: Sequence[Record], question: Mapping[str, str]) -> int:
    """Candidates that are left after the worst answer."""
    name, value = question["attribute"], question.get("value")
    answers = [record[name] if value is None else record[name] == value for record in left]
    return max(answers.count(answer) for answer in set(answers))


def _left(problem: Problem, asked: Sequence[Mapping[str, str]]) -> list[Record]:
    """Candidates after the answers to some questions."""
    every = list(problem.data["candidates"])
    room = Room(
        candidates=every,
        target=next(record for record in every if record["id"] == problem.data["target"]),
        form=Form(problem.data["form"]),
    )
    for question in asked:
        room.ask(question["attribute"], question.get("value", ""))
    return room.candidates


def _course(asked: Sequence[Mapping[str, str]], chosen: str, mistake: str = "") -> Course:
    asks = [
        Step(thought=question["attribute"], call=ToolCall(name="ask_user", arguments=dict(question)))
        for question in asked
    ]
    choice = Step(thought="choose", call=ToolCall(name="choose", arguments={"id": chosen}))
    return Course(steps=(*asks, choice), mistake=mistake)
