"""Made-up function-calling problems, for tests and for trying things out."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from journeyman.environments.call_problems import FAMILY, call_problem, spec
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive

CITIES = ("Aarhus", "Bergen", "Cork", "Dresden", "Évora", "Funchal", "Ghent", "Haifa")
NAMES = ("Ada", "Bo", "Chidi", "Dina", "Emre", "Fay")
Job = tuple[str, dict[str, Any]]
"""(what the user says, the accepted call)."""


def _schema(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


SPECS = {
    "get_weather": spec(
        "get_weather",
        "The weather in a city.",
        _schema(("city",), city={"type": "string"}, unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    ),
    "set_timer": spec(
        "set_timer",
        "Start a timer.",
        _schema(("minutes",), minutes={"type": "integer"}, label={"type": "string", "default": "timer"}),
    ),
    "convert": spec(
        "convert",
        "Convert an amount of money.",
        _schema(
            ("amount", "source", "target"),
            amount={"type": "number"},
            source={"type": "string", "description": "ISO code"},
            target={"type": "string", "description": "ISO code"},
        ),
    ),
    "invite": spec(
        "invite",
        "Invite people to a meeting.",
        _schema(
            ("names", "place"),
            names={"type": "array", "items": {"type": "string"}},
            place={"type": "object", "properties": {"city": {"type": "string"}, "room": {"type": "integer"}}},
        ),
    ),
}


def draft(rng: random.Random) -> Problem:
    """A problem drawn at random: one call, two, none, or two turns. Its question decides all the rest of it."""
    kind = rng.choice(("one", "one", "two", "none", "turns"))
    first, second = (_JOBS[name](rng) for name in rng.sample(list(_JOBS), 2))
    if kind == "none":
        turns = [{"user": _without_tool(rng), "accepted": []}]
    elif kind == "one":
        turns = [_said(first)]
    elif kind == "two":
        turns = [{"user": f"{first[0]} {second[0]}", "accepted": [first[1], second[1]]}]
    else:
        first = f"{first[0]} After that I need something else.", first[1]
        fixed = random.Random(derive(first[0]))
        turns = [_said(first), _said(_JOBS[fixed.choice(list(_JOBS))](fixed))]
    question = turns[0]["user"]
    specs = random.Random(derive(question, "tools")).sample(list(SPECS.values()), len(SPECS))
    return replace(call_problem(specs, turns), id=problem_id(FAMILY, question))


def _without_tool(rng: random.Random) -> str:
    city, number = rng.choice(CITIES), rng.randrange(2, 100)
    wordings = (
        "Write a poem of {n} lines about {c}.",
        "Book a flight to {c} in {n} days.",
        "Who won {c}'s marathon in 19{n:02}?",
    )
    return rng.choice(wordings).format(n=number, c=city)


def _said(job: Job) -> dict[str, Any]:
    return {"user": job[0], "accepted": [job[1]]}


def _weather(rng: random.Random) -> Job:
    city, unit = rng.choice(CITIES), rng.choice(("celsius", "fahrenheit"))
    return f"What is the weather in {city}, in {unit}?", _call("get_weather", city=[city], unit=[unit])


def _timer(rng: random.Random) -> Job:
    minutes = rng.randrange(2, 90)
    return f"Start a timer of {minutes} minutes.", _call("set_timer", minutes=[minutes], label=["timer", ""])


def _convert(rng: random.Random) -> Job:
    source, target = rng.sample(("EUR", "USD", "JPY", "KES"), 2)
    amount = rng.randrange(2, 5000) / rng.choice((1, 2, 4))
    call = _call("convert", amount=[amount], source=[source], target=[target])
    return f"How much are {amount} {source} in {target}?", call


def _invite(rng: random.Random) -> Job:
    one, other = rng.sample(NAMES, 2)
    city, room = rng.choice(CITIES), rng.randrange(1, 40)
    call = _call("invite", names=[[one, other], [other, one]], place=[{"city": [city], "room": [room]}])
    return f"Invite {one} and {other} to room {room} in {city}.", call


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


_JOBS: dict[str, Callable[[random.Random], Job]] = {
    "get_weather": _weather,
    "set_timer": _timer,
    "convert": _convert,
    "invite": _invite,
}
