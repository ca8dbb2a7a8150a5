"""One- and two-hop look-ups in a small invented encyclopedia.

The typical mistakes: stopping after the first hop, and looking up the wrong thing.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from journeyman.environments.base import Course, Environment, Step, same_answer, validate
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import Tool
from journeyman.tools.search import Search
from journeyman.trajectory import ToolCall

WORLD_SEED = 7
"""The encyclopedia is the same in every run; only the questions follow the run's seed."""
CITIES = 40
STARTS = [
    "Ba",
    "Co",
    "De",
    "Fi",
    "Gu",
    "Ha",
    "Jo",
    "Ke",
    "Li",
    "Mu",
    "Na",
    "Po",
    "Qui",
    "Re",
    "Si",
    "Tu",
    "Va",
    "Wo",
    "Xe",
    "Zi",
]
ENDS = [
    "bel",
    "cor",
    "dan",
    "fin",
    "gul",
    "han",
    "jor",
    "kel",
    "lin",
    "mur",
    "nas",
    "pol",
    "ras",
    "sil",
    "tor",
    "vek",
    "win",
    "xan",
    "yor",
    "zul",
]
CITY_ENDS = ["burg", "ford", "ham", "mouth", "stad", "ton", "ville", "wick"]
VALUES: Mapping[str, Sequence[str]] = {
    "pet": ["cat", "dog", "horse", "parrot", "rabbit", "goat", "turtle", "hamster"],
    "job": ["baker", "pilot", "nurse", "farmer", "tailor", "lawyer", "miner", "potter"],
    "sport": ["tennis", "chess", "hockey", "rugby", "golf", "judo", "polo", "cricket"],
    "river": [start + end for start in STARTS for end in ("beck", "flow")],
}
PERSON_RELATIONS = ("city", "pet", "job", "sport")
CITY_RELATIONS = ("mayor", "river")
TWO_HOPS = (
    *(("city", relation) for relation in CITY_RELATIONS),
    *(("mayor", relation) for relation in PERSON_RELATIONS),
)


class Lookup(Environment):
    """Questions about people and the cities they live in, answered with a search tool."""

    name = "lookup"
    phrases: tuple[str, ...] = ("What is the ", "Tell me the ", " of the ", " of ", "The ", " is ")

    @cached_property
    def _facts(self) -> dict[tuple[str, str], str]:
        """(entity, relation) -> value, for every person and city."""
        rng = random.Random(WORLD_SEED)
        people = [start + end for start in STARTS for end in ENDS]
        cities = rng.sample([start + end for start in STARTS for end in CITY_ENDS], CITIES)
        facts = {(person, "city"): rng.choice(cities) for person in people}
        facts |= {(p, r): rng.choice(VALUES[r]) for p in people for r in PERSON_RELATIONS if r != "city"}
        facts |= {(c, "mayor"): mayor for c, mayor in zip(cities, rng.sample(people, CITIES), strict=True)}
        facts |= {(c, "river"): r for c, r in zip(cities, rng.sample(VALUES["river"], CITIES), strict=True)}
        return facts

    @cached_property
    def _entities(self) -> dict[str, list[str]]:
        """First relation -> the entities that have it."""
        return {r: [e for e, relation in self._facts if relation == r] for r in (*PERSON_RELATIONS, *CITY_RELATIONS)}

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        return {"search": Search([f"The {r} of {entity} is {v}." for (entity, r), v in self._facts.items()])}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        one_hops = [(relation,) for relation in (*PERSON_RELATIONS, *CITY_RELATIONS)]
        while True:
            hops = rng.choice(one_hops if rng.random() < 0.5 else TWO_HOPS)
            yield self._problem(rng.choice(self._entities[hops[0]]), hops, rng.randrange(2))

    def _problem(self, entity: str, hops: Sequence[str], wording: int) -> Problem:
        phrase = " of ".join(f"the {relation}" for relation in reversed(hops)) + f" of {entity}"
        question = (f"What is {phrase}?", f"Tell me {phrase}.")[wording]
        answer = entity
        for relation in hops:
            answer = self._facts[answer, relation]
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=answer,
            min_calls=len(hops),
            data={"key": f"{entity}:{'.'.join(hops)}", "entity": entity, "hops": list(hops)},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        entity, hops = problem.data["entity"], problem.data["hops"]
        gold = self._course(entity, hops)
        if len(hops) == 2:
            return gold, self._course(entity, hops[:1], mistake="stops after the first hop")
        others = PERSON_RELATIONS if hops[0] in PERSON_RELATIONS else CITY_RELATIONS
        other = others[(others.index(hops[0]) + 1) % len(others)]
        return gold, self._course(entity, [other], mistake="looks up the wrong thing")

    def _course(self, entity: str, hops: Sequence[str], mistake: str = "") -> Course:
        steps = []
        for relation in hops:
            query = f"{relation} of {entity}"
            steps.append(Step(thought=relation, call=ToolCall(name="search", arguments={"query": query})))
            entity = self._facts[entity, relation]
        return Course(steps=tuple(steps), answer=entity, mistake=mistake)

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))
