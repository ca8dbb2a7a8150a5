"""Masked spans of a text that only a search can recover: MaskSearch's retrieval-augmented mask prediction (#196).

How many spans are masked is how hard a problem is, and what a curriculum goes by. The typical mistakes: leaving the
last span open, naming what is in the text already.
"""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from journeyman.environments.base import Course, Environment, Step, walked
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.knowledge import RELATIONS, Graph, make_graph, pages, renamed
from journeyman.environments.multihop import exact, f1
from journeyman.environments.selftext.masking import gap
from journeyman.environments.selftext.scores import TASK_FORMAT, read_list
from journeyman.environments.selftext.texts import sentences
from journeyman.errors import UserError
from journeyman.llm import Chat
from journeyman.messages import Message, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.search import Search

WORLD_SEED = 29
_MARKED = re.compile(r"\[\[(.+?)\]\]")
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+(?:\s+(?:of\s+)?[A-Z][\w'-]+)*|\b\d{3,}\b")
_ASK = (
    "Name the {count} spans of this text that would be hardest to guess and are most worth looking up: names, dates, "
    "numbers, terms. One in each line, word for word as in the text.\n\n{text}"
)


class MaskSearch(Environment):
    """Spans masked wherever they stand in a text, to be recovered with a search tool (#196).

    Args:
        texts: documents to mask. Spans marked `[[like this]]` are masked (`mark_spans` lets a model choose them); in
            others it is names and numbers that stand in a document. None: accounts of a made-up world.
        documents: what is searched; no text may be among them.
        masks: fewest and most spans masked: the steps of a curriculum.
        results: pages a search finds.
        world: seed of the made-up world.
    """

    name = "masksearch"
    phrases: tuple[str, ...] = (
        "Find out what the masks hide, with searches. Give it as a JSON list of texts, in order.",
    )

    def __init__(
        self,
        *,
        texts: Sequence[str] = (),
        documents: Sequence[str] = (),
        masks: Sequence[int] = (1, 1),
        results: int = 3,
        world: int = WORLD_SEED,
    ) -> None:
        if bool(texts) != bool(documents):
            raise UserError("texts and the documents that are searched for them belong together", remedy="give both")
        self._texts, self._fewest, self._most = list(texts), min(masks), max(masks)
        self._graph: Graph | None = None if texts else renamed(make_graph(world), world)
        self._documents = list(documents) or pages(self._graph or make_graph(world), world)
        self.results = results
        self._tools: dict[str, Tool] = {"search": Search(self._documents, results=results)}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        if self._texts and not self._spans:
            raise UserError("no text has enough spans that stand in a document", remedy="give other texts or documents")
        while True:
            if (problem := self._of_texts(rng) if self._texts else self._of_graph(rng)) is not None:
                yield problem

    @cached_property
    def _spans(self) -> list[tuple[str, list[str]]]:
        """(text without marks, spans) of each text with enough spans."""
        corpus, found = "\n".join(self._documents), []
        for text in self._texts:
            plain = _MARKED.sub(r"\1", text)
            spans = list(dict.fromkeys(_MARKED.findall(text) or _NAME.findall(plain)))
            spans = [span for span in spans if span in corpus]
            if len(spans) >= self._fewest:
                found.append((plain, spans))
        return found

    def _of_texts(self, rng: random.Random) -> Problem:
        text, spans = rng.choice(self._spans)
        count = rng.randint(self._fewest, min(self._most, len(spans)))
        chosen = sorted(rng.sample(spans, count), key=text.index)
        return self._problem(text, chosen, [[span] for span in chosen], None)

    def _of_graph(self, rng: random.Random) -> Problem | None:
        """Sentences along a path, its later entities masked: what one search finds is where the next begins."""
        assert self._graph is not None
        visited, said, queries = [rng.choice(list(self._graph.entities))], [], []
        for _ in range(rng.randint(self._fewest, self._most)):
            about = self._graph.about[visited[-1]]
            noun = rng.choice([noun for noun in about if RELATIONS[noun].to is not None])
            x, y = self._graph.name(visited[-1]), self._graph.name(about[noun])
            said.append(f"{x} has {y} for its {noun}.")
            queries.append(f"{x} {noun}")
            visited.append(str(about[noun]))
        if len(set(visited)) < len(visited):
            return None
        masked = visited[1:]
        names = [list(self._graph.names(key)) for key in masked]
        return self._problem(" ".join(said), [name[0] for name in names], names, queries)

    def _problem(
        self, text: str, spans: Sequence[str], accepted: Sequence[Sequence[str]], queries: Sequence[str] | None
    ) -> Problem:
        shown = text
        order = sorted(range(len(spans)), key=lambda at: -len(spans[at]))  # a longer span may hold a shorter one
        for at in order:
            shown = re.sub(rf"(?<!\w){re.escape(spans[at])}(?!\w)", gap(at + 1), shown)
        if queries is None:
            queries = [_query(shown, gap(at)) for at in range(1, len(spans) + 1)]
        question = f"{self.phrases[0]}\n{shown}"
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=json.dumps(list(spans), ensure_ascii=False),
            tools=("search",),
            min_calls=len(queries),
            data={
                "key": question,
                "accepted": [list(a) for a in accepted],
                "queries": list(queries),
                "masks": len(spans),
            },
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return MaskSearchEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        return recovered(problem, answer)["fill"] == 1.0

    def courses(self, problem: Problem) -> Sequence[Course]:
        steps = tuple(
            Step(thought=query, call=ToolCall(name="search", arguments={"query": query}))
            for query in problem.data["queries"]
        )
        spans = json.loads(problem.answer)
        start = problem.data["queries"][0].rsplit(" ", 1)[0]
        return (
            Course(steps=steps, answer=spans[0] if len(spans) == 1 else problem.answer),
            Course(steps=steps[:-1], answer=json.dumps([*spans[:-1], "?"]), mistake="leaves the last span open"),
            Course(steps=(), answer=json.dumps([start] * len(spans)), mistake="names what the text has already"),
        )

    def validate(self) -> None:
        """Gold answers are right, typical mistakes are not; in the made-up world the searches show every span.

        Whether a plain query finds a span of texts from outside is up to them.
        """
        for problem in islice(self.generate(random.Random(0)), 40):
            gold, *mistaken = (asyncio.run(walked(self, problem, course)) for course in self.courses(problem))
            seen = "\n".join(gold.outputs)
            shown = self._graph is None or all(span in seen for span in json.loads(problem.answer))
            if not gold.verdict.correct or not shown or any(walk.verdict.correct for walk in mistaken):
                raise ValueError(f"{self.name} {problem.id}: a gold course fails, or a mistake passes")


class MaskSearchEpisode(Episode):
    """Scores every span: 0.1 for the format and the share of the spans, by their highest, 1.1 (ours).

    A problem with documents of its own, `data["corpus"]`, is searched in those.
    """

    def __init__(self, environment: MaskSearch, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        if "search" in self.tools and (own := problem.data.get("corpus")):
            self.tools["search"] = Search(own, results=environment.results).open(context)

    async def verify(self, answer: str | None) -> Verdict:
        parts = recovered(self.problem, answer or "")
        parts["raw"] = TASK_FORMAT * parts["format"] + parts["fill"]
        return Verdict(correct=parts["fill"] == 1.0, score=parts["raw"] / (1 + TASK_FORMAT), parts=parts)


def recovered(problem: Problem, answer: str) -> dict[str, float]:
    """`format`: a list of the right length; `fill`: the share of spans that are right; `f1`: the mean F1 of words."""
    accepted = problem.data["accepted"]
    given = read_list(answer, len(accepted))
    if given is None:
        return {"format": 0.0, "fill": 0.0, "f1": 0.0}
    pairs = [(str(span), names) for span, names in zip(given, accepted, strict=True)]
    fill = sum(exact(span, names) for span, names in pairs) / len(pairs)
    overlap = sum(max(f1(span, name) for name in names) for span, names in pairs) / len(pairs)
    return {"format": 1.0, "fill": fill, "f1": overlap}


def _query(shown: str, mask: str) -> str:
    """The words around a mask: those of its sentence."""
    sentence = next(sentence for sentence in (*sentences(shown), shown) if mask in sentence)
    return re.sub(r"\[MASK \d+\]", " ", sentence)


async def mark_spans(text: str, chat: Chat, *, count: int, seed: int) -> str:
    """The text with the spans that a model finds worth masking marked `[[...]]`, at most `count` of them (#196).

    What the model names and the text doesn't have is left out.
    """
    asked = _ASK.format(count=count, text=text)
    said = await chat.complete([Message(role="user", content=asked)], seed=seed)
    named = dict.fromkeys(line.strip(" -*\t").strip() for line in said.splitlines())
    spans = sorted([span for span in named if span and span in text][:count], key=len, reverse=True)
    if not spans:
        return text
    either = "|".join(map(re.escape, spans))
    return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda found: f"[[{found[0]}]]", text)
