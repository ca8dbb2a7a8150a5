"""Dialogues at a service desk whose constraints are vague to the user and exact to the checker."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from journeyman.environments.tau2.bicycles import BicycleDesk, shop
from journeyman.environments.tau2.database import Record, Tables
from journeyman.environments.tau2.task import Basis
from journeyman.expressions import Count
from journeyman.problem import Problem, problem_id
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, tagged_text, unread
from journeyman.trajectory import Trajectory

FAMILY = "desk"
REWORD = """A customer of a bicycle rental says this. Say it as someone would who is vague about it: in other words, with
every fact and number that is in it, and none that is not.
{request}
Reply with <request>...</request>"""
LONGEST = 400
"""Characters of a request (ours)."""
_RENTAL = re.compile(r"\b(?:my )?rental (R\d+)\b")
_KEY = re.compile(r"\b[RBC]\d+\b")
_HELLO = re.compile(r"(Hello, this is .+?, at branch \d+\.) (.+)", re.DOTALL)
_DIGITS = re.compile(r"\d+")
_SINCE = {"booked": "that I have booked", "out": "that I have with me"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What a call that changes something has to have."""

    tool: str
    argument: str
    value: Any


async def constrained(
    lesson: Lesson, studio: Studio, *, tries: Count = 4, keep: Count = 1, reword: bool = False
) -> Sequence[Lesson]:
    """Constraints of a desk's database: vague to the user, exact to the checker, who keeps dialogues that meet them all.
    CoVe (#150, derived): simulated user and teacher; the constraints are the verifier, also for RL.

    For lessons of the bicycle desk (family `desk` without a folder; others stay as they are). A constraint is an
    argument of a call that the task needs and that changes something. In the user's words and instructions the ids are
    replaced by what the customer knows of the rental; with `reword` a writer says the request anew. The new problem
    comes behind the lesson, which stays. Its own criteria hold the constraints: `action` in the verdict's parts is the
    share of calls and constraints met, `db` says that nothing else was changed, and both are needed. Up to `tries`
    dialogues until `keep` are right; `score` is the share of constraints met by calls that worked, in the refused ones
    too. What counts as a constraint, and that each has one exact value, is ours. Airline and retail are not covered.
    """
    if lesson.problem.family != FAMILY or "shop" not in lesson.problem.data:
        return [lesson]
    problem, faults = constrained_problem(lesson.problem), list[Trajectory]()
    if reword:
        problem, faults = await _reworded(problem, studio)
    taken, refused = list[Trajectory](), list[Trajectory]()
    for number in range(tries):
        if len(taken) == keep:
            break
        seed = studio.seed_of("constrained", problem.id, number)
        made = scored(await studio.teacher.attempt(problem, seed=seed), constraints_of(problem))
        made = signed(made, "constrained", attempt=number, **{"from": [lesson.problem.id]})
        if reason := not_right(made):
            refused.append(refusal(made, reason))
        else:
            taken.append(made)
    return [lesson, Lesson(problem=problem).taking(taken, [*refused, *faults])]


def constrained_problem(problem: Problem) -> Problem:
    """A task of the bicycle desk, its ids made vague and its constraints made the verifier."""
    tables, task = shop(problem.data["shop"]), problem.data["task"]
    criteria = task["evaluation_criteria"]
    calls = [one for one in criteria["actions"] if BicycleDesk.changes(one["name"]) or "compare_args" in one]
    constraints = [one for call in calls if BicycleDesk.changes(call["name"]) for one in _split(call)]
    basis = dict.fromkeys([*criteria["reward_basis"], Basis.ACTION.value])
    checked = {**criteria, "actions": [*map(_any, calls), *map(_alone, constraints)], "reward_basis": list(basis)}
    vague = {**task, "user_scenario": made_vague(task["user_scenario"], tables), "evaluation_criteria": checked}
    courses = {mistake: _looking(lines, tables) for mistake, lines in problem.data["courses"].items()}
    return _with(problem, vague, courses)


def _with(problem: Problem, task: Mapping[str, Any], courses: Mapping[str, Sequence[Record]]) -> Problem:
    question = task["user_scenario"]["script"]["parts"][0]
    data = {**problem.data, "task": task, "courses": courses}
    key = problem_id(FAMILY, question, {"shop": data["shop"], "task": task})
    return replace(
        problem,
        id=key,
        question=question,
        answer=json.dumps(task["evaluation_criteria"]["actions"]),
        min_calls=sum("name" in line for line in courses[""]),
        data={**data, "key": key},
    )


def _split(call: Mapping[str, Any]) -> list[Constraint]:
    return [Constraint(tool=call["name"], argument=key, value=value) for key, value in call["arguments"].items()]


def _any(call: Mapping[str, Any]) -> Record:
    """A call that has to be made; what it has to have is said by its constraints, what it leads to by the database."""
    return {**call, "compare_args": []}


def _alone(constraint: Constraint) -> Record:
    """A constraint as an action in tau2's form: met by any call with that value.

    For the state that is wanted the desk runs it, too. With one argument alone it fails, and changes nothing: all tools of
    this desk that change something take two or more.
    """
    value = {constraint.argument: constraint.value}
    return {"name": constraint.tool, "arguments": value, "compare_args": [constraint.argument]}


def constraints_of(problem: Problem) -> list[Constraint]:
    """Those that a problem of `constrained_problem` is checked by."""
    actions = problem.data["task"]["evaluation_criteria"]["actions"]
    return [one for action in actions if action.get("compare_args") for one in _split(action)]


def scored(trajectory: Trajectory, constraints: Sequence[Constraint]) -> Trajectory:
    """With the share of the constraints met by calls that worked; 1 where nothing was to be changed and nothing was."""
    pairs = [pair for turn in trajectory.turns for pair in zip(turn.calls, turn.results, strict=False)]
    worked = [call for call, result in pairs if result.ok]
    met = [
        any(call.name == one.tool and call.arguments.get(one.argument) == one.value for call in worked)
        for one in constraints
    ]
    share = sum(met) / len(met) if met else float(bool(trajectory.correct))
    return replace(trajectory, score=share, score_parts={**trajectory.score_parts, "constraints": share})


def made_vague(value: Any, tables: Tables) -> Any:
    """Texts, at any depth, with every rental's id replaced by what its customer knows of it."""
    if isinstance(value, Mapping):
        return {key: made_vague(one, tables) for key, one in value.items()}
    if isinstance(value, list):
        return [made_vague(one, tables) for one in value]
    return _RENTAL.sub(lambda found: _known(found[1], tables), value) if isinstance(value, str) else value


def _known(key: str, tables: Tables) -> str:
    """A customer has one rental that is booked and one that is out, so that the words mean one."""
    rental = tables["rentals"][key]
    return f"my rental of a {tables['bicycles'][rental['bicycle_id']]['kind']} bicycle {_SINCE[rental['status']]}"


def _looking(lines: Sequence[Record], tables: Tables) -> list[Record]:
    """A course that looks at all of the customer's rentals, where the customer has not said which one it is."""
    mine = {line["arguments"]["rental_id"] for line in lines if line.get("name") == "get_rental"}
    whose = {tables["rentals"][key]["customer_id"] for key in mine}
    others = [key for key, one in tables["rentals"].items() if one["customer_id"] in whose and key not in mine]
    looks = [{"name": "get_rental", "arguments": {"rental_id": key}} for key in others]
    return [one for line in lines for one in (line, *(looks if line.get("name") == "find_customer" else ()))]


async def _reworded(problem: Problem, studio: Studio) -> tuple[Problem, list[Trajectory]]:
    """(the problem in a writer's words, if they can be used; else as it was, and what the writer said)."""
    found = _HELLO.fullmatch(problem.question)
    assert found is not None, "all requests at the bicycle desk begin alike"
    hello, request = found.groups()
    seed = studio.seed_of("constrained", problem.id)
    reply = await asked(studio.writer("constrained"), REWORD.format(request=request), seed=seed)
    said = tagged_text(reply, "request") or ""
    if reason := _unusable(said, request):
        return problem, [unread(problem, reply, reason, strategy="constrained")]
    task = problem.data["task"]
    scenario = task["user_scenario"]
    script = {**scenario["script"], "parts": [f"{hello} {said}", *scenario["script"]["parts"][1:]]}
    return _with(problem, {**task, "user_scenario": {**scenario, "script": script}}, problem.data["courses"]), []


def _unusable(said: str, request: str) -> str:
    """Why a writer's request can't stand for ours; empty where it can."""
    if not said or len(said) > LONGEST:
        return "no request of a fitting length"
    if _KEY.search(said):
        return "a request that names an id"
    lost = set(_DIGITS.findall(request)) ^ set(_DIGITS.findall(said))
    return f"a request with other numbers: {', '.join(sorted(lost))}" if lost else ""
