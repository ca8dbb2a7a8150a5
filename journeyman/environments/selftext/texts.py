"""Where the text comes from: what is given, folders, trajectories, or documents made on the spot."""

import json
import random
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from journeyman.environments.base import Environment
from journeyman.errors import DataError, UserError
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory, read_trajectories

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(A-Z0-9])")
_TOKEN = re.compile(r"[\w-]+")
TEXT_FILES = (".txt", ".md", ".log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One call of a trace and what it returned."""

    name: str
    arguments: Mapping[str, Any]
    output: str

    def call(self) -> str:
        return json.dumps({"name": self.name, "arguments": dict(self.arguments)}, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A dialogue with tools: what was asked, what was done."""

    question: str
    tools: tuple[str, ...]
    """Names of the tools that were on offer."""
    actions: tuple[Action, ...]

    @classmethod
    def of(cls, trajectory: Trajectory) -> "Trace":
        actions = tuple(
            Action(name=call.name, arguments=call.arguments, output=result.output)
            for turn in trajectory.turns
            for call, result in zip(turn.calls, turn.results, strict=False)
        )
        names = tuple(dict.fromkeys((*trajectory.tools, *(action.name for action in actions))))
        return cls(question=trajectory.question, tools=names, actions=actions)


class SelfText(Environment):
    """What the self-supervised families share.

    Args:
        texts: documents.
        folder: a folder of text files, all of its levels.
        trajectories: a Parquet file of trajectories; of those that were right the calls and results are used.
        traces: the same, in memory.
        longest: most words of a text; longer ones are cut into passages. 0: whole texts.
    """

    def __init__(
        self,
        *,
        texts: Sequence[str] = (),
        folder: str = "",
        trajectories: str = "",
        traces: Sequence[Trace] = (),
        longest: int = 0,
    ) -> None:
        whole = [*texts, *(read_folder(Path(folder)) if folder else ())]
        self._texts = [passage for text in whole for passage in passages(text, longest)] if longest else whole
        read = read_trajectories(Path(trajectories)) if trajectories else ()
        self._traces = [*traces, *(Trace.of(trajectory) for trajectory in read if trajectory.correct)]

    @property
    def given(self) -> bool:
        """Whether there is text from outside; else it is made."""
        return bool(self._texts or self._traces)

    def usable(self, document: str | Trace) -> bool:
        """Whether a problem can be made of it."""
        raise NotImplementedError

    @abstractmethod
    def make(self, rng: random.Random) -> str | Trace:
        """A document made on the spot."""

    @abstractmethod
    def problem(self, document: str | Trace, rng: random.Random) -> Problem | None:
        """A problem of a usable document; None where this draw gave none."""

    @cached_property
    def _documents(self) -> list[str | Trace]:
        documents = [document for document in (*self._texts, *self._traces) if self.usable(document)]
        if not documents:
            raise UserError(
                f"none of {len(self._texts)} texts and {len(self._traces)} traces gives a problem of {self.name}",
                remedy="give longer ones, or other options",
            )
        return documents

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """An endless stream; texts from outside are drawn again and again, with other gaps and orders."""
        draw: Callable[[], str | Trace] = (
            (lambda: rng.choice(self._documents)) if self.given else lambda: self.make(rng)
        )
        while True:
            if (problem := self.problem(draw(), rng)) is not None:
                yield problem


def read_folder(folder: Path) -> list[str]:
    """The text files of a folder. Raises `DataError` where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in TEXT_FILES and path.is_file())
    if not files:
        raise DataError("no text file in it", place=str(folder), remedy=f"give a folder of {', '.join(TEXT_FILES)}")
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def sentences(text: str) -> list[str]:
    """A text's sentences, by their stops; a line without one stands for itself."""
    return [part.strip() for line in text.splitlines() for part in _SENTENCE.split(line.strip()) if part.strip()]


def passages(text: str, longest: int) -> list[str]:
    """Runs of sentences of so many words at most; a longer sentence is a passage of its own."""
    made: list[list[str]] = [[]]
    for sentence in sentences(text):
        if made[-1] and sum(len(one.split()) for one in (*made[-1], sentence)) > longest:
            made.append([])
        made[-1].append(sentence)
    return [" ".join(passage) for passage in made if passage]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def dependencies(parts: Sequence[str]) -> set[tuple[int, int]]:
    """(i, j), i < j: part j uses a word with a digit, or a capitalised one within a sentence, that first stood in i."""
    first: dict[str, int] = {}
    found = set()
    for place, part in enumerate(parts):
        for word in _marks(part):
            origin = first.setdefault(word, place)
            if origin < place:
                found.add((origin, place))
    return found


def _marks(part: str) -> set[str]:
    """The words that tell parts from each other."""
    words = _TOKEN.findall(part)
    return {word for at, word in enumerate(words) if any(c.isdigit() for c in word) or (at and word[0].isupper())}


def only_order(parts: Sequence[str]) -> bool:
    """Whether each part depends on the one before: no other order keeps that, but for the reverse, which words exclude."""
    return {(i, i + 1) for i in range(len(parts) - 1)} <= dependencies(parts)


_THINGS = ("ticket", "order", "crate", "waybill", "truck", "ledger entry", "receipt", "claim", "sample", "report")
_DOES = (
    "From {old} came {new}.",
    "{Old} was turned into {new}.",
    "The clerk filed {old} and opened {new}.",
    "{Old} went out with {new}.",
    "Whoever held {old} was handed {new}.",
)


def chain(rng: random.Random, length: int) -> str:
    """A report in which each sentence uses what the one before made: one order alone makes sense."""
    names = [
        f"{thing} {rng.choice('ABCDEFGHJK')}{rng.randint(100, 999)}" for thing in rng.choices(_THINGS, k=length + 1)
    ]
    if len(set(names)) < len(names):
        return chain(rng, length)
    steps = [rng.choice(_DOES).format(old=old, Old=old[0].upper() + old[1:], new=new) for old, new in pairwise(names)]
    return " ".join(steps)


_WARES = ("lamps", "bricks", "books", "jars", "tiles", "candles", "ropes", "bells")
_PLACES = ("shop", "yard", "store", "mill", "harbour", "school", "station", "bakery")


def sums(rng: random.Random, steps: int) -> str:
    """A small calculation in words: its results follow from the numbers before them."""
    ware, place = rng.choice(_WARES), rng.choice(_PLACES)
    crates, each = rng.randint(11, 40), rng.randint(11, 40)
    total = crates * each
    said = [f"The {place} gets {crates} crates of {each} {ware} each.", f"That makes {total} {ware} in all."]
    for _ in range(steps):
        more, change = rng.random() < 0.5, rng.randint(11, 99)
        total += change if more else -change
        done = "are brought" if more else "are sold"
        said += [f"Then {change} {ware} {done}.", f"Now there are {total} {ware}."]
    return " ".join(said)


_VESSELS = ("tank", "barrel", "cistern", "pond", "basin", "well")


def schedule(rng: random.Random, days: int) -> str:
    """A log in which each sentence follows from the rule and the sentence before."""
    vessel, start, step = rng.choice(_VESSELS), rng.randint(10, 500), rng.randint(3, 60)
    said = [f"Each day {step} litres flow into the {vessel}, which held {start} litres."]
    said += [f"After day {day} the {vessel} holds {start + step * day} litres." for day in range(1, days + 1)]
    return " ".join(said)


def stock_trace(rng: random.Random, length: int) -> Trace:
    """Calls on a stock, each of which returns what is there now: the call between two states follows from them."""
    stock = {ware: rng.randint(20, 200) for ware in rng.sample(_WARES, 3)}
    actions = [Action(name="count", arguments={}, output=json.dumps(stock))]
    for _ in range(length):
        name, ware, number = rng.choice(("add", "remove")), rng.choice(list(stock)), rng.randint(2, 19)
        stock[ware] += number if name == "add" else -number
        actions.append(Action(name=name, arguments={"item": ware, "number": number}, output=json.dumps(stock)))
    question = f"Bring the stock of the {rng.choice(_PLACES)} up to date."
    return Trace(question=question, tools=("add", "count", "remove"), actions=tuple(actions))
