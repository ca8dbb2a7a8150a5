"""Recommending from a catalogue with rank and retrieval tools over its attributes: ToolRec (#24).

The policy plays the user, knows the user's history, and gathers candidates; the item that the user took next is held
out. The typical mistakes: giving the retrieved items unranked, ranking by what the user doesn't care for, recommending
what the user had.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from math import log2
from pathlib import Path
from typing import Any

from journeyman.environments.base import Course, Environment, Step, validate
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.knowledge import new_names
from journeyman.environments.recommend_files import read_catalogue, read_histories
from journeyman.environments.recommend_tools import (
    MOST,
    Ask,
    Catalogue,
    Item,
    Rank,
    Retrieve,
    Shelf,
    Show,
    ranked,
    read_ids,
)
from journeyman.llm import Chat
from journeyman.messages import ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool

WORLD_SEED = 31
ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "genre": ("drama", "comedy", "mystery", "western", "romance", "fantasy", "thriller", "history"),
    "setting": ("harbour", "mountain", "desert", "palace", "village", "ship", "school", "forest"),
    "mood": ("dark", "bright", "slow", "wild", "tender", "dry"),
    "decade": ("1950s", "1960s", "1970s", "1980s", "1990s", "2000s"),
}
"""Of the made catalogue; its items are invented films."""
ITEMS = 400


class Recommend(Environment):
    """Lists of items for users whose last item is held out, scored by NDCG and recall (#24).

    The score is NDCG of the final list, 0 where it has fewer than `length` items of the catalogue; unknown ids,
    repeated ones and those of the history are taken out first. `correct` is recall: the held-out item is in the list.

    Args:
        catalogue: rows with `id`, `title` and attributes, or a JSON Lines or SQLite file of them; none: a made one.
        histories: lists of item ids, the last of each held out, at least two long, or a JSON Lines file of them; none
            with a SQLite file: those of its table `interactions`.
        length: items of the final list, N.
        questions: how many yes-or-no questions on attributes the user answers; with 0 there is no tool for it.
        judge: a model that ranks, in place of the similarity to the history.
        world: seed of the made catalogue.
    """

    name = "recommend"
    phrases: tuple[str, ...] = (
        "You have chosen these items, the last one last:",
        "Recommend yourself what comes next:",
        "ids with commas, the best first.",
    )

    def __init__(
        self,
        *,
        catalogue: Sequence[Mapping[str, str]] | str = (),
        histories: Sequence[Sequence[str]] | str = (),
        length: int = 10,
        questions: int = 0,
        judge: Chat | None = None,
        world: int = WORLD_SEED,
    ) -> None:
        if isinstance(catalogue, str):
            histories = histories or catalogue
            catalogue = read_catalogue(Path(catalogue))
        if isinstance(histories, str):
            histories = read_histories(Path(histories))
        if bool(catalogue) != bool(histories):
            raise ValueError("a catalogue and the histories of its users belong together")
        self.catalogue = Catalogue(catalogue or made_catalogue(world))
        self._histories = [list(h) for h in histories if len(h) > 1 and h[-1] not in h[:-1]]
        if histories and not self._histories:
            raise ValueError("no history has a last item that is new to it")
        unknown = {item for history in self._histories for item in history} - self.catalogue.items.keys()
        if unknown:
            raise ValueError(f"histories name items that the catalogue hasn't: {', '.join(sorted(unknown)[:5])}")
        self.length, self.questions, self.judge = length, questions, judge

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        return self.bound(Shelf(catalogue=self.catalogue), None)

    def tools(self) -> Mapping[str, Tool]:
        """For their schemas; those of an attempt know its user."""
        return self._tools

    def bound(self, shelf: Shelf, target: Item | None) -> dict[str, Tool]:
        """The tools of one user."""
        tools: dict[str, Tool] = {"rank": Rank(shelf, self.judge), "retrieve": Retrieve(shelf), "show": Show(shelf)}
        return tools | ({"ask": Ask(shelf, target, self.questions)} if self.questions else {})

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return RecommendEpisode(self, problem, context)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            *history, target = rng.choice(self._histories) if self._histories else self._made_history(rng)
            plan = self._plan(history, target)
            if plan or self._histories:  # a made user that the tools don't lead to is not worth a problem
                yield self._problem(history, target, plan)

    def _made_history(self, rng: random.Random) -> list[str]:
        """Items of a user with one taste for each attribute, but who follows it only mostly; the last item fits best."""
        taste = {name: rng.choice(self.catalogue.values[name]) for name in self.catalogue.attributes}
        items = list(self.catalogue.items.values())
        weights = [4.0 ** sum(item.attributes[name] == value for name, value in taste.items()) for item in items]
        history = list(dict.fromkeys(item.id for item in rng.choices(items, weights, k=rng.randint(6, 10))))
        left = [(weight, item.id) for weight, item in zip(weights, items, strict=True) if item.id not in history]
        best = max(weight for weight, _ in left)
        return [*history, rng.choice([item for weight, item in left if weight == best])]

    def _problem(self, history: Sequence[str], target: str, plan: Mapping[str, Any] | None) -> Problem:
        listed = "\n".join(self.catalogue.line(item) for item in history)
        attributes = ", ".join(self.catalogue.attributes)
        asked, again, how = self.phrases
        question = f"{asked}\n{listed}\n{again} {self.length} {how} Attributes are {attributes}."
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=target,
            min_calls=3 if plan else 1,
            data={"key": question, "history": list(history), "target": target, "plan": plan},
        )

    def _plan(self, history: Sequence[str], target: str) -> dict[str, Any] | None:
        """What a good user would do: retrieve by the commonest value of an attribute, rank by two others.

        None unless that brings the target into the list, and the retrieval alone does not.
        """
        shelf = Shelf(catalogue=self.catalogue, history=tuple(history))
        names = sorted(self.catalogue.attributes, key=lambda name: shelf.favourite(name)[1])
        for first in reversed(names):
            value, _ = shelf.favourite(first)
            ranks = [name for name in names if name != first][-2:]
            lists = [shelf.fetch(first, value, MOST)]
            for name in ranks:  # equal items keep the order of the rank before: the last one counts most
                lists.append(ranked(shelf, name, lists[-1]))
            found = [target in one[: self.length] for one in lists]
            if found[-1] and not found[0] and len(lists[-1]) >= self.length:
                return {"attribute": first, "value": value, "ranks": ranks, "halfway": found[1]}
        return None

    def courses(self, problem: Problem) -> Sequence[Course]:
        plan, history = problem.data["plan"], problem.data["history"]
        if plan is None:
            return self._told(problem)
        fetch = _step("retrieve", attribute=plan["attribute"], value=plan["value"], k=MOST)
        ranks = [_step("rank", attribute=name) for name in plan["ranks"]]
        mistaken = [
            Course(steps=(fetch,), mistake="gives what it found unranked"),
            Course(steps=(fetch,), answer=", ".join(history), mistake="recommends what the user had"),
        ]
        if not plan["halfway"]:
            mistaken.append(Course(steps=(fetch, *ranks[:1]), mistake="ranks by one attribute only"))
        return Course(steps=(fetch, *ranks)), *mistaken

    def _told(self, problem: Problem) -> Sequence[Course]:
        """Where the tools don't lead to the target: a teacher who knows it puts it first."""
        history, target = problem.data["history"], problem.data["target"]
        name, value = next(iter(self.catalogue.items[target].attributes.items()))
        rest = [item for item in self.catalogue.items if item not in history and item != target]
        fetch = _step("retrieve", attribute=name, value=value, k=MOST)
        return (
            Course(steps=(fetch,), answer=", ".join([target, *rest[: self.length - 1]])),
            Course(steps=(fetch,), answer=", ".join(history), mistake="recommends what the user had"),
        )

    def verify(self, problem: Problem, answer: str) -> bool:
        parts = self.parts(problem, answer)
        return bool(parts["recall"] and parts["complete"])

    def parts(self, problem: Problem, answer: str) -> dict[str, float]:
        """`ndcg` and `recall` of the list without what doesn't count, `real` items in it, whether it is `complete`."""
        history, target = problem.data["history"], problem.data["target"]
        named = dict.fromkeys(read_ids(answer))
        real = [item for item in named if item in self.catalogue.items and item not in history][: self.length]
        rank = real.index(target) + 1 if target in real else 0
        return {
            "ndcg": 1 / log2(rank + 1) if rank else 0.0,
            "recall": float(rank > 0),
            "real": float(len(real)),
            "complete": float(len(real) == self.length),
        }

    def validate(self) -> None:
        """Gold courses bring the held-out item into the list, mistaken ones don't, and no question shows it.

        With a model as judge, or histories from outside, only the last is checked.
        """
        problems = list(islice(self.generate(random.Random(0)), 40))
        for problem in problems:
            if re.search(rf"(?<!\w){re.escape(problem.data['target'])}(?!\w)", problem.question):
                raise ValueError(f"{self.name} {problem.id}: the held-out item is shown")
        if self.judge is None and not self._histories:
            validate(self, problems)


class RecommendEpisode(Episode):
    """An attempt of one user: the list as it stands, and the memory of what was retrieved."""

    sequential = True
    environment: Recommend

    def __init__(self, environment: Recommend, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self.shelf = Shelf(catalogue=environment.catalogue, history=tuple(problem.data["history"]))
        own = environment.bound(self.shelf, environment.catalogue.items[problem.data["target"]])
        self.tools = {name: own.get(name, tool) for name, tool in self.tools.items()}

    async def verify(self, answer: str | None) -> Verdict:
        parts = self.environment.parts(self.problem, answer or "")
        score = parts["ndcg"] * parts["complete"]
        return Verdict(correct=score > 0, score=score, parts=parts)

    def state_dict(self) -> dict[str, Any]:
        shelf = {"candidates": self.shelf.candidates, "memory": self.shelf.memory, "asked": self.shelf.asked}
        return {**super().state_dict(), "shelf": json.loads(json.dumps(shelf))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state["shelf"].items():
            setattr(self.shelf, name, list(value) if isinstance(value, list) else value)


def _step(name: str, **arguments: str | int) -> Step:
    return Step(thought=str(arguments["attribute"]), call=ToolCall(name=name, arguments=arguments))


def made_catalogue(world: int) -> list[dict[str, str]]:
    """Invented films with random attributes."""
    rng = random.Random(derive("catalogue", world))
    titles = new_names(derive("titles", world))
    return [
        {"id": f"f{number}", "title": title, **{name: rng.choice(values) for name, values in ATTRIBUTES.items()}}
        for number, title in zip(range(100, 100 + ITEMS), titles, strict=False)
    ]
