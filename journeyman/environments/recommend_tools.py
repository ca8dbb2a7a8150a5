"""The tools of a surrogate user (#24): fetch items by an attribute, rank them by one, look at them, ask the real user."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from journeyman.llm import Chat
from journeyman.messages import Message
from journeyman.tools.base import CallContext, FunctionTool, ToolError

SHOWN = 20
"""Most ids in an observation; the candidates behind them are kept all the same."""
MOST = 100
"""Most items of one retrieval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something to recommend."""

    id: str
    title: str
    attributes: Mapping[str, str]


class Catalogue:
    """Items by id. Raises `ValueError` for rows that don't have the same attributes, or an id twice."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        self.items: dict[str, Item] = {}
        for row in rows:
            attributes = {name: str(value) for name, value in row.items() if name not in ("id", "title")}
            item = Item(id=str(row["id"]), title=str(row.get("title", row["id"])), attributes=attributes)
            if item.id in self.items:
                raise ValueError(f"the id {item.id!r} is there twice")
            if self.items and attributes.keys() != self.attributes.keys():
                raise ValueError(f"item {item.id!r} has other attributes than the first")
            self.items[item.id] = item
        if not self.items:
            raise ValueError("the catalogue has no items")
        self.values = {a: sorted({item.attributes[a] for item in self.items.values()}) for a in self.attributes}
        """Every value of each attribute."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Names of the attributes, with the first item's values."""
        return next(iter(self.items.values())).attributes

    def line(self, item: str) -> str:
        one = self.items[item]
        return f"{one.id}: {one.title} ({', '.join(f'{name} {value}' for name, value in one.attributes.items())})"


@dataclass(slots=True, kw_only=True)
class Shelf:
    """What one user's attempt holds: ToolRec's state (#24)."""

    catalogue: Catalogue
    history: tuple[str, ...] = ()
    """Ids, the last one last; empty where there is no user."""
    candidates: list[str] = field(default_factory=list)
    """The list as it stands, the best first."""
    memory: list[str] = field(default_factory=list)
    """Every item that was ever retrieved, each once."""
    asked: int = 0

    def favourite(self, attribute: str) -> tuple[str, int]:
        """(commonest value in the history, how often)."""
        counts = Counter(self.catalogue.items[item].attributes[attribute] for item in self.history)
        return min(counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def fetch(self, attribute: str, value: str, count: int) -> list[str]:
        """Items with that value, in the catalogue's order, without those of the history."""
        wanted = value.strip().casefold()
        fits = (i.id for i in self.catalogue.items.values() if i.attributes[attribute].casefold() == wanted)
        return [item for item in fits if item not in self.history][:count]

    def keep(self, items: Sequence[str]) -> str:
        """Take the items as the list, and say what the model reads of it."""
        self.candidates = list(items)
        self.memory += [item for item in items if item not in self.memory]
        return ", ".join(items[:SHOWN]) + (", and others" if len(items) > SHOWN else "") or "nothing found"

    def check(self, attribute: str) -> None:
        """Raises `ToolError`."""
        if not self.history:
            raise ToolError("there is no user to recommend to")
        if attribute not in self.catalogue.attributes:
            raise ToolError(f"attributes are {', '.join(self.catalogue.attributes)}")

    def chosen(self, items: Sequence[str]) -> list[str]:
        """The items named, or the list as it stands; each once. Raises `ToolError` for unknown ids."""
        named = list(dict.fromkeys(items)) or list(self.candidates)
        unknown = [item for item in named if item not in self.catalogue.items]
        if unknown:
            raise ToolError(f"the catalogue has no {', '.join(unknown[:5])}")
        if not named:
            raise ToolError("there are no items yet; retrieve some first")
        return named


def ranked(shelf: Shelf, attribute: str, items: Sequence[str]) -> list[str]:
    """The items by how common their value is in the history; those equal keep their order. A permutation of them."""
    counts = Counter(shelf.catalogue.items[item].attributes[attribute] for item in shelf.history)
    return sorted(items, key=lambda item: -counts[shelf.catalogue.items[item].attributes[attribute]])


class Retrieve(FunctionTool):
    """Finds items of the catalogue by the value of an attribute."""

    name = "retrieve"

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def run(self, attribute: str, value: str, k: int = SHOWN) -> str:
        """Get items that you don't have yet; they become the current list.

        Args:
            attribute: name of the attribute.
            value: the value that the items have.
            k: how many, at most 100.
        """
        self._shelf.check(attribute)
        if not 1 <= k <= MOST:
            raise ToolError(f"k is between 1 and {MOST}")
        return self._shelf.keep(self._shelf.fetch(attribute, value, k))


class Rank(FunctionTool):
    """Orders items by how well an attribute fits the user's history: by its values there, or as a model sees it."""

    name = "rank"

    def __init__(self, shelf: Shelf, judge: Chat | None = None) -> None:
        self._shelf, self._judge = shelf, judge

    async def run(self, attribute: str, context: CallContext, items: list[str] = []) -> str:  # noqa: B006
        """Order items by one attribute, the best first; they become the current list.

        Args:
            attribute: name of the attribute.
            items: ids; none: the current list.
        """
        self._shelf.check(attribute)
        chosen = self._shelf.chosen(items)
        if self._judge is None:
            return self._shelf.keep(ranked(self._shelf, attribute, chosen))
        return self._shelf.keep(await judged(self._judge, self._shelf, attribute, chosen, context.seed))


async def judged(judge: Chat, shelf: Shelf, attribute: str, items: Sequence[str], seed: int) -> list[str]:
    """The items as a model orders them: what it makes up is left out, what it leaves out comes last."""
    had, offered = ("\n".join(map(shelf.catalogue.line, ids)) for ids in (shelf.history, items))
    asked = (
        f"A user has chosen, the last one last:\n{had}\nOrder these by how well their {attribute} fits that user, the "
        f"best first. Write their ids with commas, nothing else.\n{offered}"
    )
    said = await judge.complete([Message(role="user", content=asked)], seed=seed)
    named = [item for item in dict.fromkeys(read_ids(said)) if item in items]
    return named + [item for item in items if item not in named]


class Show(FunctionTool):
    """Shows what items are."""

    name = "show"

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def run(self, items: list[str] = []) -> str:  # noqa: B006
        """See titles and attributes.

        Args:
            items: ids; none: the first of the current list.
        """
        return "\n".join(map(self._shelf.catalogue.line, self._shelf.chosen(items)[:SHOWN]))


class Ask(FunctionTool):
    """Asks the user, who has something in mind, about one of its attributes."""

    name = "ask"

    def __init__(self, shelf: Shelf, target: Item | None, questions: int) -> None:
        self._shelf, self._target, self._questions = shelf, target, questions

    async def run(self, attribute: str, value: str) -> str:
        """Ask the user whether what they want has that value; yes or no.

        Args:
            attribute: name of the attribute.
            value: the value it may have.
        """
        self._shelf.check(attribute)
        if self._target is None or self._shelf.asked >= self._questions:
            raise ToolError(f"the user answers no more than {self._questions} questions")
        self._shelf.asked += 1
        return "yes" if self._target.attributes[attribute].casefold() == value.strip().casefold() else "no"


def read_ids(text: str) -> list[str]:
    """What may be ids in a list: JSON, or words with commas or line breaks between."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        return [str(item) for item in value if isinstance(item, str | int)]
    return [item.strip().strip("\"'`[]") for item in re.split(r"[,\n]", text) if item.strip()]
