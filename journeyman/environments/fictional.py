"""Questions of two to four hops over an invented encyclopedia that no model has seen, answered with a search tool.

FictionalHot's idea (#190): real names become fictional ones, the world is closed, memory is useless. The typical
mistakes: stopping one hop early, comparing the wrong way round, minding only one of two conditions, and answering from
memory, with the names from before the renaming.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Step, validate, walked
from journeyman.environments.knowledge import RELATIONS, Graph, Thing, make_graph, pages, renamed
from journeyman.environments.multihop import Judging, MultiHop, exact
from journeyman.messages import ToolCall
from journeyman.problem import Problem, problem_id

WORLD_SEED = 23
"""The encyclopedia is the same in every run unless another is asked for; the questions follow the run's seed."""
_ASKS = {Thing.PERSON: "Who", Thing.TOWN: "Which town", Thing.COMPANY: "Which company", Thing.BOOK: "Which book"}
_KINDS = ("path", "path", "path", "comparison", "intersection")
"""Three of five questions follow a path."""
_CLOSED_BOOK = "answers from memory"


class Fictional(MultiHop):
    """Paths, comparisons and intersections in a local knowledge graph of people, towns, companies and books (#190).

    Args:
        world: seed of the graph, its renaming and its pages.
        hops: fewest and most relations of a path.
        results: pages a search finds.
        judging: whether observations are judged: off, optional, required.
        drops: whether the context begins anew, without the observation, once the policy has judged it bad.
        graph: another graph, in place of a made one; it is renamed too.
    """

    name = "fictional"
    phrases: tuple[str, ...] = (
        *(f"the {noun} of " for noun in RELATIONS),
        *("What is ", "Tell me ", "Which ", " earlier: ", " is also called "),
    )
    columns: Sequence[str] = ("question", "answer")

    def __init__(
        self,
        *,
        world: int = WORLD_SEED,
        hops: Sequence[int] = (2, 4),
        results: int = 3,
        judging: str = Judging.OPTIONAL,
        drops: bool = False,
        graph: Graph | None = None,
    ) -> None:
        self._before = graph or make_graph(world)
        self._graph = renamed(self._before, world)
        self._fewest, self._most = min(hops), max(hops)
        super().__init__(documents=pages(self._graph, world), results=results, judging=judging, drops=drops)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        makers = {"path": self._path, "comparison": self._comparison, "intersection": self._intersection}
        while True:
            if (made := makers[rng.choice(_KINDS)](rng)) is not None:
                yield made

    def _path(self, rng: random.Random) -> Problem | None:
        """`What is the mayor of the birthplace of the author of X?`"""
        start = rng.choice(list(self._graph.entities))
        hops: list[str] = []
        visited: list[str | int] = [start]
        for _ in range(rng.randint(self._fewest, self._most)):
            if isinstance(visited[-1], int):
                return None
            about = self._graph.about[visited[-1]]
            hops.append(rng.choice(list(about)))
            visited.append(about[hops[-1]])
        if len(set(visited)) < len(visited) or len(hops) < self._fewest:
            return None
        called = rng.choice(self._graph.names(start))
        phrase = f"{_phrase(hops)} of {called}"
        question = rng.choice((f"What is {phrase}?", f"Tell me {phrase}."))
        wrong = [{"mistake": "stops one hop early", "steps": len(hops) - 1, "answer": self._graph.name(visited[-2])}]
        return self._problem(
            question, f"{start}:{'.'.join(hops)}", self._steps(start, hops, called), visited[-1], wrong
        )

    def _comparison(self, rng: random.Random) -> Problem | None:
        """`Which has the earlier birth year: the author of X or the founder of Y?` with one hop before, or none."""
        noun, relation = rng.choice([(n, r) for n, r in RELATIONS.items() if r.to is None])
        sides = [self._side(relation.of, rng) for _ in range(2)]
        ends = [side[1] for side in sides]
        years = [self._graph.facts[end, noun] for end in ends]
        if years[0] == years[1] or ends[0] == ends[1]:
            return None
        word, pick = rng.choice((("earlier", min), ("later", max)))
        right = ends[years.index(pick(years))]
        other = next(end for end in ends if end != right)
        phrases = [
            f"the {hop} of {self._graph.name(start)}" if hop else self._graph.name(start) for start, _, hop in sides
        ]
        question = f"Which has the {word} {noun}: {phrases[0]} or {phrases[1]}?"
        steps = [step for start, _, hop in sides if hop for step in self._steps(start, [hop])]
        steps += [step for end in ends for step in self._steps(end, [noun])]
        wrong = [{"mistake": "compares the wrong way round", "steps": len(steps), "answer": self._graph.name(other)}]
        return self._problem(question, f"{word}:{noun}:{'|'.join(phrases)}", steps, right, wrong)

    def _side(self, thing: Thing, rng: random.Random) -> tuple[str, str, str]:
        """(start, end, hop between them or nothing), the end of the kind asked for."""
        keys = [key for key, entity in self._graph.entities.items() if entity.thing is thing]
        hops = [noun for noun, relation in RELATIONS.items() if relation.to is thing]
        end = rng.choice(keys)
        if hops and rng.random() < 0.5:
            hop = rng.choice(hops)
            if starts := self._graph.known_for.get((hop, end)):
                return rng.choice(starts), end, hop
        return end, end, ""

    def _intersection(self, rng: random.Random) -> Problem | None:
        """`Which book has the author X and a publisher whose founder is Y?`; each condition alone fits others too."""
        key = rng.choice(list(self._graph.entities))
        about, thing = self._graph.about[key], self._graph.entities[key].thing
        [first, second] = rng.sample([noun for noun in about if RELATIONS[noun].to is not None] or ["", ""], 2)
        if not first:
            return None
        between = about[second]
        # A relation within a kind stands on the clue's own page too, where a search finds it first.
        found = self._graph.about[str(between)]
        inner = rng.choice([noun for noun in found if RELATIONS[noun].to not in (None, RELATIONS[noun].of)])
        clue = found[inner]
        fits_first = set(self._graph.known_for[first, about[first]])
        fits_second = {
            k for b in self._graph.known_for[inner, clue] for k in self._graph.known_for.get((second, b), ())
        }
        others = sorted(fits_first - {key}) or sorted(fits_second - {key})
        if fits_first & fits_second != {key} or not others or len(self._graph.known_for[inner, clue]) > 1:
            return None
        known, clued = self._graph.name(about[first]), self._graph.name(clue)
        question = f"{_ASKS[thing]} has the {first} {known} and a {second} whose {inner} is {clued}?"
        names = self._graph.names
        steps = [
            {"query": f"{inner} {clued}", "answers": list(names(between))},
            {"query": f"{first} {known} {second} {self._graph.name(between)}", "answers": list(names(key))},
        ]
        wrong = [{"mistake": "minds one condition", "steps": 1, "answer": self._graph.name(others[0])}]
        key_of = f"{first}={about[first]}:{second}.{inner}={clue}"
        return self._problem(question, key_of, steps, key, wrong)

    def _steps(self, start: str, hops: Sequence[str], called: str = "") -> list[dict[str, Any]]:
        """What to search for, and the names of what is found there, hop by hop. `called`: a name of the start."""
        steps, at, name = [], start, called or self._graph.name(start)
        for noun in hops:
            value = self._graph.facts[at, noun]
            steps.append({"query": f"{name} {noun}", "answers": list(self._graph.names(value))})
            at, name = str(value), self._graph.name(value)
        return steps

    def _problem(
        self,
        question: str,
        key: str,
        steps: Sequence[Mapping[str, Any]],
        answer: str | int,
        wrong: Sequence[Mapping[str, Any]],
    ) -> Problem:
        name, *aliases = self._graph.names(answer)
        before = self._original(answer)
        memory = {"mistake": _CLOSED_BOOK, "steps": 0, "answer": before}
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=name,
            min_calls=len(steps),
            data={"key": key, "steps": list(steps), "aliases": aliases, "wrong": [*wrong, memory], "original": before},
        )

    def _original(self, answer: str | int) -> str:
        """The answer from before the renaming: what a model that remembers would say."""
        if isinstance(answer, str):
            return self._before.name(answer)
        place = next(place for place, value in self._graph.facts.items() if value == answer)
        return str(self._before.facts[place])

    def courses(self, problem: Problem) -> Sequence[Course]:
        if "original" not in problem.data:  # read from a row
            return super().courses(problem)
        judged = "<judge>good</judge>" if self.judging is Judging.REQUIRED else ""
        steps = tuple(
            Step(
                thought=step["query"],
                call=ToolCall(name="search", arguments={"query": step["query"]}),
                say=judged if place else "",
            )
            for place, step in enumerate(problem.data["steps"])
        )
        mistaken = (
            Course(steps=steps[: wrong["steps"]], answer=wrong["answer"], mistake=wrong["mistake"])
            for wrong in problem.data["wrong"]
        )
        return Course(steps=steps, answer=problem.answer), *mistaken

    def validate(self) -> None:
        """Gold courses work with the real search; from memory, with the old names, nothing is right."""
        problems = list(islice(self.generate(random.Random(0)), 60))
        validate(self, problems)
        for problem in problems:
            outputs = asyncio.run(walked(self, problem, self.courses(problem)[0])).outputs
            for step, output in zip(problem.data["steps"], outputs, strict=True):
                if step["answers"][0] not in output:
                    raise ValueError(f"{self.name} {problem.id}: {step['query']!r} does not find {step['answers'][0]}")
            names = (problem.answer, *problem.data["aliases"])
            if exact(problem.data["original"], names):
                raise ValueError(f"{self.name} {problem.id}: {problem.data['original']!r} was not renamed")


def _phrase(hops: Sequence[str]) -> str:
    return " of ".join(f"the {noun}" for noun in reversed(hops))
