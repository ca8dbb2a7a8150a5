"""Questions on a table, with SQL. The typical mistake: the wrong aggregate."""

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment, Step, same_answer, validate
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import Tool
from journeyman.tools.sql import Sql
from journeyman.trajectory import ToolCall

WORLD_SEED = 11
"""The table is the same in every run; only the questions follow the run's seed."""
SHOPS = [
    "north",
    "south",
    "east",
    "west",
    "harbour",
    "market",
    "station",
    "castle",
    "bridge",
    "garden",
    "mill",
    "tower",
]
COLOURS = ["red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "silver"]
ITEMS = [
    "lamp",
    "chair",
    "table",
    "clock",
    "vase",
    "mirror",
    "shelf",
    "rug",
    "basket",
    "bowl",
    "candle",
    "frame",
    "kettle",
    "plate",
    "stool",
]
COLUMNS = ("price", "weight", "amount", "size")
WORDS = {"max": "highest", "min": "lowest", "sum": "total"}
CONFUSED = {"max": "min", "min": "sum", "sum": "max"}
"""The aggregate that a hasty teacher takes instead."""
WORDINGS = ("What is the {word} {column} {where}?", "Give me the {word} {column} {where}.")


class Tables(Environment):
    """Aggregates over one table `stock` of shops, items, colours and four numbers."""

    name = "tables"
    phrases: tuple[str, ...] = (
        *("What is the ", "Give me the ", " where ", " is ", " and "),
        *("select ", ") from stock where ", "='", "' and "),
    )

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rng = random.Random(WORLD_SEED)
        return [
            {"shop": shop, "item": item, "colour": colour, **{c: rng.randrange(10, 1000) for c in COLUMNS}}
            for shop in SHOPS
            for colour in COLOURS
            for item in rng.sample(ITEMS, 4)
        ]

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        return {"sql": Sql({"stock": self._rows})}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            filters = rng.choice(
                (
                    {"shop": rng.choice(SHOPS)},
                    {"item": rng.choice(ITEMS)},
                    {"shop": rng.choice(SHOPS), "colour": rng.choice(COLOURS)},
                    {"colour": rng.choice(COLOURS), "item": rng.choice(ITEMS)},
                )
            )
            problem = self._problem(rng.choice(list(WORDS)), rng.choice(COLUMNS), filters, rng.choice(WORDINGS))
            if problem is not None:
                yield problem

    def _problem(self, aggregate: str, column: str, filters: Mapping[str, str], wording: str) -> Problem | None:
        values = [row[column] for row in self._rows if all(row[k] == v for k, v in filters.items())]
        if not values:
            return None
        where = " ".join(
            f"where {name} is {value}" if i == 0 else f"and {name} is {value}"
            for i, (name, value) in enumerate(filters.items())
        )
        question = wording.format(word=WORDS[aggregate], column=column, where=where)
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=str({"max": max, "min": min, "sum": sum}[aggregate](values)),
            min_calls=1,
            data={
                "key": f"{aggregate}:{column}:{filters}",
                "aggregate": aggregate,
                "column": column,
                "filters": dict(filters),
            },
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        aggregate = problem.data["aggregate"]
        right = Course(steps=(self._step(problem, aggregate),))
        wrong = Course(steps=(self._step(problem, CONFUSED[aggregate]),), mistake="wrong aggregate")
        return right, wrong

    def _step(self, problem: Problem, aggregate: str) -> Step:
        where = " and ".join(f"{name}='{value}'" for name, value in problem.data["filters"].items())
        query = f"select {aggregate}({problem.data['column']}) from stock where {where}"
        return Step(
            thought=WORDS[aggregate],
            call=ToolCall(name="sql", arguments={"query": query}),
        )

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))
