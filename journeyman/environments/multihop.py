"""Multi-hop questions over text, answered with a search tool, and the judging of what a search has found.

Answers are compared as in SQuAD: without case, punctuation and articles; any accepted name is right. After each
observation the policy may write `<judge>good</judge>` or `<judge>bad</judge>`, ReSeek's judge action (#190).
"""

import asyncio
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment, Step, walked
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.history import turn_from_json, turn_messages, turn_of, turn_to_json
from journeyman.environments.knowledge import new_names
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.search import Search
from journeyman.trajectory import Turn

RECALL = 0.5
"""An observation is good where it has at least this share of the words of a gold answer or sub-answer. Ours."""
JUDGE_WEIGHT = 0.2
"""Of the mean of the judgements, +1 where right and -1 where wrong, beside the answer's 1. Ours."""
DROPPED = "(judged bad and dropped)"
"""What stands in a prompt in place of an observation that was judged bad."""
INSTRUCTIONS = (
    "After each search say whether what it found helps, <judge>good</judge> or <judge>bad</judge>, before you go on."
)
_JUDGE = re.compile(r"<judge>\s*(good|bad)\s*</judge>", re.IGNORECASE)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Judging(StrEnum):
    """What is expected of the policy after an observation."""

    OFF = "off"
    OPTIONAL = "optional"
    """A judgement counts, none doesn't."""
    REQUIRED = "required"
    """None counts as a wrong one; the prompt says how to judge."""


def normal(text: str) -> str:
    """Without case, punctuation, articles and needless space."""
    return " ".join(_ARTICLES.sub(" ", text.casefold().translate(_NO_PUNCTUATION)).split())


def exact(answer: str, accepted: Iterable[str]) -> bool:
    """Whether an answer is one of those accepted, in normal form; nothing is never right."""
    return bool(normal(answer)) and any(normal(answer) == normal(name) for name in accepted)


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of words in normal form."""
    given, wanted = Counter(normal(answer).split()), Counter(normal(reference).split())
    shared = (given & wanted).total()
    return 2 * shared / (given.total() + wanted.total()) if shared else 0.0


def helpful(observation: str, answers: Iterable[str]) -> bool:
    """The label of an observation: whether it has `RECALL` of the words of any gold answer or sub-answer.

    #190 scores passages with a reranker; words are ours, and need none. A page about a namesake counts as good.
    """
    found = set(normal(observation).split())
    return any(
        sum(word in found for word in words) >= RECALL * len(words)
        for words in (normal(answer).split() for answer in answers)
        if words
    )


def judgement(text: str) -> bool | None:
    """The first judgement in a turn; None where there is none."""
    said = _JUDGE.search(text)
    return said and said.group(1).casefold() == "good"


def judged_return(right: bool, judgements: Sequence[bool]) -> float:
    """The answer's 1 and the weighted mean of the judgements, each right (+1) or wrong (-1). From -0.2 to 1.2."""
    total = sum(1 if good else -1 for good in judgements)
    return float(right) + (JUDGE_WEIGHT * total / len(judgements) if judgements else 0.0)


def judged_messages(opening: Sequence[Message], turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The prompt of the next turn in which no observation that was judged bad is left (#190).

    An observation is judged by the turn after it. The text of a turn is what `history.turn_of` takes over.
    """
    messages = list(opening)
    for place, turn in enumerate(turns):
        judged = judgement(turns[place + 1].text) if place + 1 < len(turns) else None
        messages += turn_messages(turn, DROPPED if judged is False else None)
    return tuple(messages)


class SearchEpisode(Episode):
    """An attempt with a search tool: over the problem's own pages where it brings some."""

    def __init__(self, environment: "MultiHop", problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._judging, self._drops, results = environment.judging, environment.drops, environment.results
        if "search" in self.tools and (own := problem.data.get("corpus")):
            self.tools["search"] = Search(own, results=results).open(context)
        self._judged: list[bool] = []
        self._label: bool | None = None
        self._turns: list[Turn] = []

    def opening(self) -> tuple[Message, ...]:
        asked = self.problem.question
        if self._judging is Judging.REQUIRED:
            asked = f"{asked}\n\n{INSTRUCTIONS}"
        return (Message(role="user", content=asked),)

    async def step(self, turn: ParsedTurn) -> Reaction:
        bad = self._drops and self._label is not None and judgement(turn.text) is False
        reward = self._judge(turn.text)
        reaction = await super().step(turn)
        if reaction.results and self._judging is not Judging.OFF:
            self._label = helpful(_seen(reaction.results), self._answers())
        if self._drops:
            self._turns.append(turn_of(turn, reaction))
        restart = judged_messages(self.opening(), self._turns) if bad and not reaction.done else None
        return replace(reaction, reward=reward, restart=restart)

    def _answers(self) -> list[str]:
        data = self.problem.data
        return [*(name for step in data.get("steps", ()) for name in step["answers"]), *accepted(self.problem)]

    def _judge(self, text: str) -> float:
        """What the turn's judgement of the last observation is worth."""
        said, label, self._label = judgement(text), self._label, None
        if label is None or (said is None and self._judging is not Judging.REQUIRED):
            return 0.0
        self._judged.append(said is label)
        return JUDGE_WEIGHT if self._judged[-1] else -JUDGE_WEIGHT

    async def verify(self, answer: str | None) -> Verdict:
        right = exact(answer or "", accepted(self.problem))
        parts = {"exact": float(right), "f1": max(f1(answer or "", name) for name in accepted(self.problem))}
        if self._judged:
            parts["judge"] = sum(1 if good else -1 for good in self._judged) / len(self._judged)
            parts["return"] = judged_return(right, self._judged)
        return Verdict(correct=right, score=float(right), parts=parts)

    def state_dict(self) -> dict[str, Any]:
        turns = [turn_to_json(turn) for turn in self._turns]
        return {**super().state_dict(), "judged": list(self._judged), "label": self._label, "turns": turns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._judged, self._label = list(state["judged"]), state["label"]
        self._turns = [turn_from_json(row) for row in state["turns"]]


def _seen(results: Sequence[ToolResult]) -> str:
    return "\n".join(result.output for result in results)


def accepted(problem: Problem) -> tuple[str, ...]:
    """Every name of the answer."""
    return (problem.answer, *problem.data.get("aliases", ()))


class MultiHop(Environment):
    """Multi-hop questions read from rows, answered with search over each row's own pages (#190).

    A row has `question` and `answer`, and may have `aliases` or `answer_aliases`, its pages as HotpotQA's `context`
    (pairs of title and sentences, or two lists) or as `corpus` (texts), `supporting_facts` (titles first) and
    `question_decomposition` with the answer of each hop, as MuSiQue has it.

    Args:
        documents: pages for rows that bring none.
        corpus: a folder or file of pages for rows that bring none, in place of `documents`.
        results: pages a search finds.
        judging: whether observations are judged: off, optional, required.
        drops: whether the context begins anew, without the observation, once the policy has judged it bad. Thoughts
            of earlier turns go with it.
        rename: a seed: titles, and answers that are no number and no yes or no, become invented names, as in
            FictionalHot, so that remembering is of no use. None: rows as they are.
    """

    name = "multihop"
    columns: Sequence[str] = ("question", "answer")

    def __init__(
        self,
        *,
        documents: Sequence[str] = (),
        corpus: str = "",
        results: int = 3,
        judging: str = Judging.OPTIONAL,
        drops: bool = False,
        rename: int | None = None,
    ) -> None:
        self.documents, self.results, self.judging = list(documents), results, Judging(judging)
        self._corpus = corpus
        if drops and self.judging is Judging.OFF:
            raise ValueError("what nobody judges can't be dropped: set judging to optional or required")
        self.drops, self._rename = drops, rename

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        if self._corpus:
            return {"search": Search(path=self._corpus, results=self.results)}
        return {"search": Search(self.documents or ["There is no page."], results=self.results)}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return SearchEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        return exact(answer, accepted(problem))

    def courses(self, problem: Problem) -> Sequence[Course]:
        """Searches for the supporting pages, then the answer; and the last page's title in its place."""
        queries = problem.data["queries"]
        steps = tuple(
            Step(thought=query, call=ToolCall(name="search", arguments={"query": query})) for query in queries
        )
        gold = Course(steps=steps, answer=problem.answer)
        return gold, Course(steps=steps, answer="I found nothing", mistake="gives up")

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row with a question and an answer."""
        return read_each(rows, self._problem)

    def _problem(self, row: Mapping[str, Any]) -> Problem:
        if reason := unusable(row):
            raise BadRow(reason, str(row.get("question", ""))[:200])
        titles, corpus = read_pages(row)
        aliases = [str(alias) for alias in row.get("aliases") or row.get("answer_aliases") or ()]
        hops = [hop["answer"] for hop in row.get("question_decomposition") or () if hop.get("answer")]
        facts = _pairs(row.get("supporting_facts"), "title", "sent_id")
        supporting = list(dict.fromkeys(str(title) for title, _ in facts))
        fields = {
            "question": row["question"].strip(),
            "answer": str(row["answer"]).strip(),
            "aliases": aliases,
            "corpus": corpus,
            "queries": supporting or [row["question"].strip()],
            "steps": [{"answers": [str(answer)]} for answer in hops],
        }
        if self._rename is not None:
            fields = _replaced(fields, self._new_names(fields, titles))
        question, answer = fields.pop("question"), fields.pop("answer")
        data = {"key": question, **fields}
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question,
            answer=answer,
            tools=("search",),
            min_calls=len(fields["queries"]),
            data=data,
        )

    def _new_names(self, fields: Mapping[str, Any], titles: Sequence[str]) -> dict[str, str]:
        """Old name -> invented one, the same in every row of one seed."""
        old = [name for name in (*titles, fields["answer"], *fields["aliases"]) if _is_name(name)]
        return {name: next(islice(new_names(derive("row", self._rename or 0, name)), 1)) for name in old}

    def validate(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """Gold courses over made-up rows, or those given, are right; giving up is not."""
        for problem in self.read(rows or EXAMPLES).problems:
            gold, gives_up = (asyncio.run(walked(self, problem, course)).verdict for course in self.courses(problem))
            if not gold.correct or gives_up.correct:
                raise ValueError(f"{self.name} {problem.id}: a gold course is wrong, or giving up is right")
            wrong = [name for name in ("", "the", f"not {problem.answer}") if self.verify(problem, name)]
            if wrong:
                raise ValueError(f"{self.name} {problem.id}: {wrong[0]!r} is accepted")


def unusable(row: Mapping[str, Any]) -> str:
    """Why a row can't be used; empty where it can."""
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        return "no question"
    if not isinstance(answer, str | int | float) or not normal(str(answer)):
        return "no answer"
    try:
        read_pages(row)
        _pairs(row.get("supporting_facts"), "title", "sent_id")
        [hop["answer"] for hop in row.get("question_decomposition") or ()]
    except (TypeError, ValueError, KeyError, IndexError):
        return "pages or hops that can't be read"
    return ""


def read_pages(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """(titles, pages) of a row: of HotpotQA's `context`, in either of its forms, or of `corpus`."""
    pairs = _pairs(row.get("context"), "title", "sentences")
    corpus = [f"{title}. {''.join(sentences).strip()}" for title, sentences in pairs]
    return [str(title) for title, _ in pairs], corpus + [str(page) for page in row.get("corpus") or ()]


def _pairs(value: Any, first: str, second: str) -> list[tuple[Any, Any]]:
    """Pairs, written as such or as two lists in a mapping."""
    if isinstance(value, Mapping):
        return list(zip(value[first], value[second], strict=True))
    return [(pair[0], pair[1]) for pair in value or ()]


def _is_name(text: str) -> bool:
    return normal(text) not in ("", "yes", "no") and not any(character.isdigit() for character in text)


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """JSON with every name in its texts replaced, longer ones first."""
    if isinstance(value, str):
        if not names:
            return value
        either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        lower = {name.casefold(): new for name, new in names.items()}
        return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda m: lower[m[0].casefold()], value, flags=re.IGNORECASE)
    if isinstance(value, Mapping):
        return {key: _replaced(inner, names) for key, inner in value.items()}
    return [_replaced(inner, names) for inner in value]


EXAMPLES: Sequence[Mapping[str, Any]] = (
    {
        "question": "In which country is the town where the painter Ada Quill was born?",
        "answer": "Norland",
        "aliases": ["the Kingdom of Norland"],
        "context": [
            ["Ada Quill", ["Ada Quill was a painter.", " She was born in Westhaven."]],
            ["Westhaven", ["Westhaven is a town in Norland."]],
            ["Easthaven", ["Easthaven is a town in Sudland."]],
        ],
        "supporting_facts": [["Ada Quill", 1], ["Westhaven", 0]],
    },
    {
        "question": "Are Easthaven and Westhaven in the same country?",
        "answer": "no",
        "corpus": ["Easthaven is a town in Sudland, no port.", "Westhaven is a town in Norland."],
    },
)
"""Made-up rows that `validate` falls back to."""
