"""Plans before attempts: searched for in a graph of calls, or climbed level by level."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from journeyman.expressions import Count
from journeyman.problem import Problem
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.parse import render_call
from journeyman.rollout.search.graph import Clause, GraphSearch, Plan, hints
from journeyman.rollout.search.hierarchy import Climb, Draft, by_number, by_votes, hierarchical
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, tagged_text, unread
from journeyman.synthesis.strategies.retries import states, tells
from journeyman.synthesis.strategies.schemas import readable, specs_of, values_of
from journeyman.synthesis.written import WrittenAttempt
from journeyman.tools.arguments import arguments_error, schema_error
from journeyman.trajectory import StopReason, ToolCall, Trajectory

TOOL, END = "tool", "end"
"""Slots of a plan besides those of parameters, `<tool>.<parameter>`."""
MOST_VALUES, LONGEST = 12, 2000
"""Values of a parameter, and characters of a plan's section. Ours."""
ASK = """A user has a task: {question}
To help, it has to be known which of these is part of what they want:
{options}
Reply with the number of the one that fits best, or 0 for none: <choice>...</choice>"""
LEVELS = (
    ("goal", "what has to be found out or done, and what must hold at the end"),
    ("sub-goals", "the steps to it, in order"),
    ("tools", "which tool serves each step, or none"),
    ("arguments", "where the arguments of each call come from"),
    ("errors", "what to do when a call fails or its result is not what was expected"),
)
"""Coarse to fine: the levels that our plans have; that there are five is MOOSE-Chem2's (#224)."""
WRITE = """Task: {question}
Tools: {tools}
A plan for it is written level by level. So far:
{above}
Write the level "{level}": {about}. {how}
Never state the final answer. Reply with it alone: <text>...</text>"""
REVISE = "Think of what is wrong or missing in the present text, then write a better one.\nThe present text: {now}"
JOIN = "Join the strengths of these texts in one:\n{texts}"
COMPARE = """Task: {question}
Two plans for it:
<first>{first}</first>
<second>{second}</second>
Is the first strictly better, so that whoever follows it is more likely to do the task right?
Reply yes or no in <better></better>."""
GUIDE = """A plan for this task, which only you can see; follow it, and don't mention it:
{plan}"""
_QUOTED = re.compile(r"\"([^\"]+)\"|'([^']+)'")
_NAMES = re.compile(r"\b[A-Z]\w*(?:\s+[A-Z]\w*)*")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


async def plan_search(
    lesson: Lesson,
    studio: Studio,
    *,
    simulations: Count = 100,
    calls: Count = 2,
    keep: Count = 1,
    ask: bool = False,
    options: Count = 4,
) -> Sequence[Lesson]:
    """Monte-Carlo graph search over plans of calls; those that the world finds right are learned.
    HAIChart (#41, verified): shared nodes, statistics on edges, UCB 1.5, 100 simulations; what it plans here is ours.

    A plan is a tool, a value for each of its required parameters, and so on for up to `calls` calls. Values are those that the
    schema names and those that stand in the question; such that come from earlier results are not covered, and parameters
    without a value rule a tool out. A plan is played in the world, a call a turn, with the last result as the answer where one
    is asked for; it is worth the verdict's score, and vetoed where arguments break the schema. `ask`: halfway a writer, as the
    user, is asked which of the `options` most telling clauses fits, and the answer binds the rest. The `keep` right plays
    with the fewest calls are added to what the lesson has, without thoughts; other plays are not kept, they are no
    attempts of anybody.
    """
    played: dict[Plan, Trajectory] = {}
    plans = ToolPlans.of(lesson.problem, calls)
    seed = studio.seed_of("plan_search", lesson.problem.id)
    search = GraphSearch(plans, partial(_worth, lesson.problem, plans, played), seed=seed)
    faults = list[Trajectory]()
    for number in range(simulations if plans.tools else 0):
        if ask and number == simulations // 2:
            faults += await _constrain(search, lesson.problem, studio, options)
        await search.simulate()
    right = [played[plan] for plan, _ in search.best(len(search.scores)) if plan in played and played[plan].correct]
    taken = sorted(right, key=lambda one: len(one.calls))[:keep]
    made = [signed(one, "plan_search", simulations=simulations, plans=len(search.scores)) for one in taken]
    return [lesson.taking((*lesson.trajectories, *made), faults)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPlans:
    """The plans of up to `calls` calls of tools with schemas."""

    tools: Mapping[str, Mapping[str, Sequence[Any]]]
    """Tool -> required parameter -> its values."""
    specs: Mapping[str, Mapping[str, Any]]
    calls: int

    @classmethod
    def of(cls, problem: Problem, calls: int) -> "ToolPlans":
        said, tools, specs = values_in(problem.question), {}, {}
        for spec in filter(readable, specs_of(problem)):
            function = spec["function"]
            schema = function.get("parameters") or {}
            wanted = {name: schema["properties"][name] for name in schema.get("required") or ()}
            pools = {name: _pool(about, said) for name, about in wanted.items()}
            if all(pools.values()):
                tools[function["name"]], specs[function["name"]] = pools, spec
        return cls(tools=tools, specs=specs, calls=calls)

    def legal(self, plan: Plan) -> Sequence[Clause]:
        if plan and plan[-1].slot == END:
            return []
        if (pending := self._pending(plan)) is not None:
            tool, name = pending
            return [Clause(f"{tool}.{name}", json.dumps(value, sort_keys=True)) for value in self.tools[tool][name]]
        if self._made(plan) == self.calls:
            return []
        end = [Clause(END, "")] if plan else []
        return [*end, *(Clause(TOOL, name) for name in self.tools)]

    def complete(self, plan: Plan) -> bool:
        return bool(plan) and not self.legal(plan)

    def open(self, plan: Plan) -> float:
        return 0.0 if plan and plan[-1].slot == END else 1 - self._made(plan) / self.calls

    def calls_of(self, plan: Plan) -> list[ToolCall]:
        """What a plan calls."""
        found = list[tuple[str, dict[str, Any]]]()
        for clause in plan:
            if clause.slot == TOOL:
                found.append((clause.value, {}))
            elif clause.slot != END:
                found[-1][1][clause.slot.removeprefix(f"{found[-1][0]}.")] = json.loads(clause.value)
        return [ToolCall(name=name, arguments=arguments) for name, arguments in found]

    def _made(self, plan: Plan) -> int:
        return sum(clause.slot == TOOL for clause in plan)

    def _pending(self, plan: Plan) -> tuple[str, str] | None:
        """(tool, the parameter that is to be decided next)"""
        if not (made := self.calls_of(plan)):
            return None
        left = [name for name in self.tools[made[-1].name] if name not in made[-1].arguments]
        return (made[-1].name, left[0]) if left else None


def _pool(schema: Mapping[str, Any], said: Sequence[Any]) -> Sequence[Any]:
    """Values of a parameter: those of the question first."""
    fitting = [*(one for one in said if not schema_error(schema, one)), *values_of(schema)]
    return list({json.dumps(one, sort_keys=True): one for one in fitting}.values())[:MOST_VALUES]


def values_in(question: str) -> list[Any]:
    """What of a question may be an argument: quoted texts, names, numbers, and its longer words, each once."""
    quoted = [first or second for first, second in _QUOTED.findall(question)]
    numbers = [json.loads(text) if not re.match(r"0\d", text) else text for text in _NUMBERS.findall(question)]
    words = [word for word in re.findall(r"\w+", question) if len(word) > 3]
    return list({json.dumps(one): one for one in [*quoted, *_NAMES.findall(question)[1:], *numbers, *words]}.values())


async def _worth(problem: Problem, plans: ToolPlans, played: dict[Plan, Trajectory], plan: Plan) -> float | None:
    calls = plans.calls_of(plan)
    if any(arguments_error(plans.specs[call.name], call.arguments) for call in calls):
        return None
    played[plan] = made = await _play(problem, calls)
    if made.correct is None:
        return 0.0
    return float(made.correct) if made.score is None else made.score


async def _play(problem: Problem, calls: Sequence[ToolCall]) -> Trajectory:
    attempt, shown = await WrittenAttempt.begin(problem, max_turns=len(calls) + 1), ""
    for call in calls:
        if attempt.stop_reason is not None:
            break
        outputs = (await attempt.say(render_call(call))).outputs()
        shown = outputs[-1] if outputs else shown
    if attempt.stop_reason is None:
        try:
            await attempt.say(Hermes().render("", (), shown.strip()))
        except ValueError:  # a result with tags in it can't be an answer
            attempt.stop_reason = StopReason.FORMAT_ERROR
    return await attempt.finish(source="plans")


async def _constrain(search: GraphSearch, problem: Problem, studio: Studio, count: int) -> list[Trajectory]:
    """Bind the clause that the user chooses; what can't be read is returned."""
    found = hints(dict(search.best(len(search.scores))), count)
    if not found:
        return []
    listed = "\n".join(f"{place}. {clause.slot}: {clause.value}" for place, clause in enumerate(found, 1))
    prompt = ASK.format(question=problem.question, options=listed)
    reply = await asked(studio.writer("plan_search"), prompt, seed=studio.seed_of("plan_search", problem.id, "ask"))
    said = tagged_text(reply, "choice") or ""
    if not re.fullmatch(r"\d{1,2}", said) or int(said) > len(found):
        return [unread(problem, reply, "a choice that can't be read", strategy="plan_search")]
    if int(said):
        search.constrain(found[int(said) - 1])
    return []


async def hierarchical_plan(
    lesson: Lesson,
    studio: Studio,
    *,
    levels: Count = 5,
    lines: Count = 3,
    beam: Count = 1,
    compare: Literal["attempts", "writer"] = "attempts",
    probes: Count = 4,
    judges: Count = 3,
    keep: Count = 1,
) -> Sequence[Lesson]:
    """A plan climbed from goal to handling of errors, and attempts of a teacher that is led by it.
    MOOSE-Chem2 (#224, verified): three lines a level, two failures end one, optima are joined, the beam goes on (theirs: 3).

    The writer proposes. Plans are compared by the pass rate of `probes` attempts under them (`attempts`), each plan measured
    once, or by the writer in `judges` votes, both orders each (`writer`). A text that states the answer isn't taken. A level
    costs some lines x beam x 4 plans. The `keep` right attempts under the best plan that don't tell of it are added, the others
    refused. The levels, the comparison by attempts and `beam` 1 are ours.
    """
    studio.writer("hierarchical_plan")
    climber = _Climber(lesson.problem, studio, probes=probes)
    better = (
        by_number(climber.pass_rate) if compare == "attempts" else by_votes([climber.judge(i) for i in range(judges)])
    )
    climb = Climb(lines=lines, beam=beam)
    found = await hierarchical(min(levels, len(LEVELS)), climber.propose, better, climb=climb, parallel=studio.parallel)
    plan = told(found[0])
    made = [signed(one, "hierarchical_plan", plan=plan) for one in await climber.attempts(found[0])]
    taken, refused = [], list[Trajectory]()
    for one in made:
        reason = not_right(one) or tells(one, plan) or ("another is kept" if len(taken) == keep else "")
        refused, taken = ([*refused, refusal(one, reason)], taken) if reason else (refused, [*taken, one])
    return [lesson.taking((*lesson.trajectories, *taken), [*refused, *climber.faults])]


def told(draft: Draft) -> str:
    """A plan as it is read."""
    return "\n".join(f"{name}: {text}" for (name, _), text in zip(LEVELS, draft, strict=False) if text)


class _Climber:
    """The writer, the teacher and the judges of one lesson's plans."""

    def __init__(self, problem: Problem, studio: Studio, *, probes: int) -> None:
        self._problem, self._studio, self._probes = problem, studio, probes
        self._made: dict[Draft, list[Trajectory]] = {}
        self._places = asyncio.Semaphore(studio.parallel)
        self.faults: list[Trajectory] = []

    async def propose(self, drafts: Sequence[Draft], number: int) -> str:
        """The present text again where the writer's can't be used."""
        now, (level, about) = drafts[0][-1], LEVELS[len(drafts[0]) - 1]
        how = "" if not now else REVISE.format(now=now)
        if len(drafts) > 1:
            how = JOIN.format(texts="\n".join(f"- {draft[-1]}" for draft in drafts))
        prompt = WRITE.format(
            question=self._problem.question,
            tools=", ".join(self._problem.tools) or "none",
            above=told(drafts[0][:-1]) or "nothing",
            level=level,
            about=about,
            how=how,
        )
        seed = self._studio.seed_of("hierarchical_plan", self._problem.id, number)
        reply = await asked(self._studio.writer("hierarchical_plan"), prompt, seed=seed, temperature=1.0)
        text = (tagged_text(reply, "text") or "")[:LONGEST]
        if not text or states(text, self._problem.answer):
            reason = "a plan that gives the answer away" if text else "a plan that can't be read"
            self.faults.append(unread(self._problem, reply, reason, strategy="hierarchical_plan"))
            return now
        return text

    async def attempts(self, draft: Draft) -> list[Trajectory]:
        """The probes under a plan, made once."""
        if draft not in self._made:
            self._made[draft] = list(await asyncio.gather(*(self._attempt(draft, i) for i in range(self._probes))))
        return self._made[draft]

    async def _attempt(self, draft: Draft, number: int) -> Trajectory:
        async with self._places:
            # Plans are compared on the same draws.
            seed = self._studio.seed_of("hierarchical_plan", self._problem.id, "probe", number)
            return await self._studio.teacher.attempt(self._problem, seed=seed, hint=GUIDE.format(plan=told(draft)))

    async def pass_rate(self, draft: Draft) -> float:
        """Among the probes with a verdict; 0 where none has one."""
        verdicts = [one.correct for one in await self.attempts(draft) if one.correct is not None]
        return sum(verdicts) / len(verdicts) if verdicts else 0.0

    def judge(self, number: int) -> Callable[[Draft, Draft], Awaitable[bool | None]]:
        """One of the ensemble: the writer under another seed."""

        async def judged(first: Draft, second: Draft) -> bool | None:
            prompt = COMPARE.format(question=self._problem.question, first=told(first), second=told(second))
            seed = self._studio.seed_of("hierarchical_plan", self._problem.id, "judge", number)
            reply = await asked(self._studio.writer("hierarchical_plan"), prompt, seed=seed, temperature=1.0)
            return {"yes": True, "no": False}.get((tagged_text(reply, "better") or "").lower())

        return judged
