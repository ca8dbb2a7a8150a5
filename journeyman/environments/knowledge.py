"""A local knowledge graph: people, places, companies and books, made by seed, renamed one to one, written as pages."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from journeyman.seeds import derive


class Thing(StrEnum):
    """What an entity is."""

    PERSON = "person"
    TOWN = "town"
    COMPANY = "company"
    BOOK = "book"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What holds between an entity and one other, or a year."""

    noun: str
    """`birthplace`: the question's `the birthplace of X`."""
    of: Thing
    to: Thing | None
    """None: a year."""
    sentence: str
    """As the page of `{x}` says it of `{y}`."""


RELATIONS: Mapping[str, Relation] = {
    relation.noun: relation
    for relation in (
        Relation(noun="birthplace", of=Thing.PERSON, to=Thing.TOWN, sentence="The birthplace of {x} is {y}."),
        Relation(noun="employer", of=Thing.PERSON, to=Thing.COMPANY, sentence="The employer of {x} is {y}."),
        Relation(noun="teacher", of=Thing.PERSON, to=Thing.PERSON, sentence="{x} learned from a teacher, {y}."),
        Relation(noun="birth year", of=Thing.PERSON, to=None, sentence="{x} has the birth year {y}."),
        Relation(noun="mayor", of=Thing.TOWN, to=Thing.PERSON, sentence="The mayor of {x} is {y}."),
        Relation(noun="twin town", of=Thing.TOWN, to=Thing.TOWN, sentence="{x} has a twin town, {y}."),
        Relation(noun="charter year", of=Thing.TOWN, to=None, sentence="{x} got its charter in the year {y}."),
        Relation(noun="founder", of=Thing.COMPANY, to=Thing.PERSON, sentence="The founder of {x} is {y}."),
        Relation(noun="headquarters", of=Thing.COMPANY, to=Thing.TOWN, sentence="{x} has its headquarters in {y}."),
        Relation(noun="founding year", of=Thing.COMPANY, to=None, sentence="{x} has the founding year {y}."),
        Relation(noun="author", of=Thing.BOOK, to=Thing.PERSON, sentence="The author of {x} is {y}."),
        Relation(noun="publisher", of=Thing.BOOK, to=Thing.COMPANY, sentence="The publisher of {x} is {y}."),
        Relation(noun="publication year", of=Thing.BOOK, to=None, sentence="{x} has the publication year {y}."),
    )
}
YEARS = range(1400, 1990)
COUNTS: Mapping[Thing, int] = {Thing.PERSON: 120, Thing.TOWN: 50, Thing.COMPANY: 50, Thing.BOOK: 120}
_RUMOURS = (
    "A letter in which {x} and {y} are named was lost in a fire.",
    "It is often said that {x} has something to do with {y}, but no record says so.",
    "{x} and {y} share a page in an old almanac.",
)
"""Sentences without a fact: pages that only look useful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something with a page of its own."""

    key: str
    """`person 17`: the same under every renaming."""
    thing: Thing
    name: str
    aliases: tuple[str, ...] = ()
    """Other names, which its page tells."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Entities and what holds between them."""

    entities: Mapping[str, Entity]
    """By key."""
    facts: Mapping[tuple[str, str], str | int]
    """(key, noun of the relation) -> another key, or a year."""

    def name(self, value: str | int) -> str:
        """An entity's name or a year, as text."""
        return str(value) if isinstance(value, int) else self.entities[value].name

    def names(self, value: str | int) -> tuple[str, ...]:
        """All names: the proper one first."""
        return (str(value),) if isinstance(value, int) else (self.name(value), *self.entities[value].aliases)

    @cached_property
    def about(self) -> Mapping[str, Mapping[str, str | int]]:
        """Key -> noun -> value."""
        facts: dict[str, dict[str, str | int]] = {key: {} for key in self.entities}
        for (key, noun), value in self.facts.items():
            facts[key][noun] = value
        return facts

    @cached_property
    def known_for(self) -> Mapping[tuple[str, str | int], Sequence[str]]:
        """(noun, value) -> keys of those that it holds of."""
        found: dict[tuple[str, str | int], list[str]] = {}
        for (key, noun), value in self.facts.items():
            found.setdefault((noun, value), []).append(key)
        return found


def make_graph(seed: int, counts: Mapping[Thing, int] = COUNTS) -> Graph:
    """A graph of so many entities, each with a value of each of its relations."""
    rng = random.Random(derive("graph", seed))
    names = _names(rng)
    entities = {
        f"{thing} {number}": _entity(f"{thing} {number}", thing, names)
        for thing, count in counts.items()
        for number in range(count)
    }
    facts = {
        (entity.key, relation.noun): _value(relation, entity, entities, rng)
        for entity in entities.values()
        for relation in RELATIONS.values()
        if relation.of is entity.thing
    }
    return Graph(entities=entities, facts=facts)


def _value(relation: Relation, entity: Entity, entities: Mapping[str, Entity], rng: random.Random) -> str | int:
    if relation.to is None:
        return rng.choice(YEARS)
    return rng.choice([e.key for e in entities.values() if e.thing is relation.to and e.key != entity.key])


def renamed(graph: Graph, seed: int) -> Graph:
    """The same graph under other names, one to one; no name or year of before is that of the same thing after.

    Years move all by the same number, so that what was earlier still is. Replacing entities by fictional ones is
    FictionalHot's way to make memory useless (#190).
    """
    rng = random.Random(derive("renamed", seed))
    taken = {word for e in graph.entities.values() for name in (e.name, *e.aliases) for word in name.split()}
    names = (name for name in _names(rng) if name not in taken)
    entities = {key: _entity(key, entity.thing, names) for key, entity in graph.entities.items()}
    shift = rng.choice([years for years in range(-60, 61) if years])
    facts = {place: value + shift if isinstance(value, int) else value for place, value in graph.facts.items()}
    return Graph(entities=entities, facts=facts)


def _entity(key: str, thing: Thing, names: Iterator[str]) -> Entity:
    """An entity whose names share no word with another's, but for words that tell what it is."""
    first = next(names)
    match thing:
        case Thing.PERSON:
            last = next(names)
            return Entity(key=key, thing=thing, name=f"{first} {last}", aliases=(f"{first[0]}. {last}",))
        case Thing.TOWN:
            return Entity(key=key, thing=thing, name=first, aliases=(f"Old {next(names)}",))
        case Thing.COMPANY:
            return Entity(key=key, thing=thing, name=f"{first} Works", aliases=(f"{first} Ltd",))
        case Thing.BOOK:
            return Entity(key=key, thing=thing, name=f"Song of {first} {next(names)}", aliases=(f"{first}'s Song",))


_STARTS = ("b", "br", "d", "dr", "f", "fl", "g", "gr", "h", "k", "kr", "l", "m", "n", "p", "pl", "r", "s", "st", "t")
_MIDDLES = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
_ENDS = ("bar", "den", "fik", "gol", "hun", "kas", "lem", "mir", "nox", "pel", "rud", "sen", "tov", "vik", "wig", "zan")


def _names(rng: random.Random) -> Iterator[str]:
    """Invented names, none of them twice."""
    made = [f"{a}{b}{c}{d}" for a in _STARTS for b in _MIDDLES for c in ("", *_ENDS) for d in _ENDS]
    rng.shuffle(made)
    return (name.capitalize() for name in made)


def new_names(seed: int) -> Iterator[str]:
    """Invented names by seed, none of them twice; about 40,000."""
    return _names(random.Random(derive("names", seed)))


def pages(graph: Graph, seed: int) -> list[str]:
    """A page for each entity, its sentences in any order, and a page of rumours for every second one."""
    rng = random.Random(derive("pages", seed))
    keys, written = list(graph.entities), []
    for key, entity in graph.entities.items():
        sentences = [
            RELATIONS[noun].sentence.format(x=entity.name, y=graph.name(value))
            for noun, value in graph.about[key].items()
        ]
        sentences += [f"{entity.name} is also called {alias}." for alias in entity.aliases]
        written.append(f"{entity.name}. {' '.join(rng.sample(sentences, len(sentences)))}")
        if rng.random() < 0.5:
            other = graph.entities[rng.choice(keys)]
            names = {"x": rng.choice((entity.name, *entity.aliases)), "y": other.name}
            written.append(f"Notes and queries. {rng.choice(_RUMOURS).format(**names)}")
    rng.shuffle(written)
    return written
