"""Tasks with gold sub-goals: which tool each needs, what a plan must name of it, what it waits for (#16)."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from journeyman.environments import skills_tools as country
from journeyman.environments.skills_tools import FUNCTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One step of a task."""

    tool: str
    arguments: Mapping[str, Any]
    says: str
    """As a plan's line would put it."""
    cues: tuple[str, ...]
    """One of these words stands in a plan's line for it."""
    objects: tuple[str, ...] = ()
    """All of these words stand in it too."""
    after: tuple[int, ...] = ()
    """Goals whose results it needs."""

    def to_json(self) -> dict[str, Any]:
        made = asdict(self)
        return {**made, **{name: list(made[name]) for name in ("cues", "objects", "after")}}


@dataclass(slots=True)
class Task:
    """A question in the making: every goal is computed as it is added."""

    goals: list[Goal]
    results: list[str]

    def add(
        self, tool: str, says: str, cues: str, objects: Sequence[str] = (), after: Sequence[int] = (), **arguments: Any
    ) -> str:
        """Add a goal and return its result; `cues` are words with spaces between."""
        goal = Goal(
            tool=tool, arguments=arguments, says=says, cues=(*cues.split(),), objects=(*objects,), after=(*after,)
        )
        self.goals.append(goal)
        self.results.append(FUNCTIONS[tool](**arguments))
        return self.results[-1]

    @property
    def last(self) -> int:
        return len(self.goals) - 1


def _home(task: Task, rng: random.Random) -> tuple[str, str]:
    """(a town, words for it), by one goal, two, or none."""
    kind = rng.choice(("plain", "lives", "train", "mayor", "author"))
    if kind == "plain":
        town = rng.choice(country.TOWNS)
        return town, town
    if kind == "train":
        train = rng.choice(country.TRAINS)
        town = task.add("trains", f"find where train {train} goes", "train goes", [train], train=train)
        return town, f"the town that train {train} goes to"
    if kind == "lives":
        person, words, objects, after = rng.choice(country.PEOPLE), "", (), ()
        words = person
        objects = (person,)
    elif kind == "mayor":
        town = rng.choice(country.TOWNS)
        person = task.add("search", f"search for the mayor of {town}", "mayor", [town], query=f"mayor of {town}")
        words, objects, after = f"the mayor of {town}", (), (task.last,)
    else:
        title = rng.choice(country.BOOKS)
        person = task.add("books", f"find the author of {title}", "author wrote", [title], title=title)
        words, objects, after = f"the author of {title}", (), (task.last,)
    town = task.add("contacts", f"find where {words} lives", "lives contacts home", objects, after, person=person)
    return town, f"the town where {words} lives"


def _after(task: Task) -> tuple[int, ...]:
    return (task.last,) if task.goals else ()


def _temperature(task: Task, rng: random.Random) -> str:
    town, words = _home(task, rng)
    day, objects = rng.choice(country.DAYS), [] if task.goals else [town]
    seen = task.add(
        "weather",
        f"look up the weather in {words} on {day}",
        "weather temperature",
        [day, *objects],
        _after(task),
        town=town,
        day=day,
    )
    _convert(task, seen, "celsius", "fahrenheit")
    return f"How warm is it in {words} on {day}, in degrees Fahrenheit?"


def _convert(task: Task, value: str, source: str, target: str) -> None:
    task.add(
        "units",
        f"convert {source} to {target}",
        "convert units",
        [target],
        _after(task),
        value=float(value),
        source=source,
        target=target,
    )


def _exchange(task: Task, amount: str, target: str) -> None:
    task.add(
        "currency",
        f"exchange marks for {target}",
        "exchange convert currency",
        [target],
        _after(task),
        amount=float(amount),
        source="marks",
        target=target,
    )


def _distance(task: Task, rng: random.Random) -> str:
    town, words = _home(task, rng)
    start = rng.choice([one for one in country.TOWNS if one != town])
    far = task.add(
        "distance",
        f"measure the distance from {start} to {words}",
        "distance far",
        [start],
        _after(task),
        start=start,
        end=town,
    )
    _convert(task, far, "kilometres", "miles")
    return f"How far is it from {start} to {words}, in miles?"


def _hour(task: Task, rng: random.Random) -> str:
    town, words = _home(task, rng)
    if not task.goals:
        return ""
    task.add("clock", f"tell the hour in {words}", "clock hour time", (), _after(task), town=town)
    return f"Which hour is it in {words} when it is noon here?"


def _share(task: Task, rng: random.Random) -> str:
    town, words = _home(task, rng)
    objects, (parts, part) = [] if task.goals else [town], rng.choice(((2, "half"), (4, "a quarter"), (5, "a fifth")))
    count = task.add(
        "population", f"count the inhabitants of {words}", "inhabitants population", objects, _after(task), town=town
    )
    task.add(
        "calculator",
        f"divide it by {parts}",
        "divide calculate compute",
        (),
        _after(task),
        expression=f"{count}/{parts}",
    )
    return f"What is {part} of the number of inhabitants of {words}?"


def _bill(task: Task, rng: random.Random) -> str:
    items, target = rng.sample(country.ITEMS, rng.choice((2, 3))), rng.choice(("crowns", "talers"))
    prices = [
        task.add("table", f"look up the price of a {item}", "price cost", [item], item=item, column="price")
        for item in items
    ]
    listed = f"{', a '.join(items[:-1])} and a {items[-1]}"
    places = range(len(items))
    measure, asked = rng.choice((("sum", "cost together"), ("mean", "cost on average")))
    cues = "sum add together total" if measure == "sum" else "mean average"
    numbers = [float(price) for price in prices]
    found = task.add(
        "statistics", f"take the {measure} of the prices", cues, (), places, numbers=numbers, measure=measure
    )
    _exchange(task, found, target)
    return f"What do a {listed} {asked}, in {target}?"


def _heaviest(task: Task, rng: random.Random) -> str:
    items = rng.sample(country.ITEMS, 3)
    weights = [
        task.add("table", f"look up the weight of a {item}", "weight weigh", [item], item=item, column="weight")
        for item in items
    ]
    numbers = [float(weight) for weight in weights]
    found = task.add(
        "sort", "sort the weights and take the second", "sort second", (), range(3), numbers=numbers, place=2
    )
    _convert(task, found, "kilograms", "pounds")
    return f"Of a {items[0]}, a {items[1]} and a {items[2]}, what does the second heaviest weigh, in pounds?"


def _flour(task: Task, rng: random.Random) -> str:
    dish, guests = rng.choice(country.DISHES), rng.randint(3, 40)
    grams = task.add("recipes", f"find the flour for {dish}", "flour recipe", [dish], dish=dish)
    total = task.add(
        "calculator",
        f"multiply it by {guests}",
        "multiply calculate compute",
        (),
        _after(task),
        expression=f"{grams}*{guests}",
    )
    _convert(task, total, "grams", "ounces")
    return f"How much flour do {dish} for {guests} people need, in ounces?"


def _weekday(task: Task, rng: random.Random) -> str:
    start, days = f"20{rng.randint(30, 59)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}", rng.randint(10, 400)
    day = task.add(
        "calendar", f"find the weekday {days} days after {start}", "weekday calendar day", [start], day=start, days=days
    )
    word = task.add("translate", "translate the weekday", "translate", (), _after(task), word=day)
    if rng.random() < 0.5:
        return f"What is the {country.LANGUAGE} word for the weekday {days} days after {start}?"
    task.add("letters", "count the letters", "letters", (), _after(task), word=word)
    return f"How many letters has the {country.LANGUAGE} word for the weekday {days} days after {start}?"


MAKERS: Sequence[Callable[[Task, random.Random], str]] = (
    *(_temperature, _distance, _hour, _share, _bill, _heaviest, _flour, _weekday),
)
"""Each adds its goals to a task and returns the question, empty where the draw made none."""


def make_task(rng: random.Random) -> tuple[str, Task]:
    """A question and its goals, at least two of them."""
    while True:
        task = Task(goals=[], results=[])
        question = rng.choice(MAKERS)(task, rng)
        if question and len(task.goals) > 1:
            return question, task
