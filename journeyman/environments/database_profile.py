"""What in a database questions can be about: tables with names for people, columns by kind, values, paths of links."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.tools.schema import ForeignKey, Table, read_schema
from journeyman.tools.sql import Sql

SAMPLE = 2000
"""Rows of a table that are looked at."""
MIN_ROWS = 4
"""A table with fewer is not asked about."""
MAX_VALUES = 200
"""A column with more different values is no category."""
MAX_LENGTH = 40
"""Characters of a value that a question names."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAMEABLE = re.compile(r"[^\"|,;\n\r\t]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A table as questions see it."""

    table: Table
    noun: str
    """One of its rows: `invoice line`."""
    labels: dict[str, tuple[str, ...]]
    """Columns that name a row, and the names."""
    measures: tuple[str, ...]
    """Columns of numbers that are no keys."""
    categories: dict[str, tuple[str, ...]]
    """Columns of text with few values, and the values."""
    whole: frozenset[str]
    """Measures whose values are all whole numbers."""
    values: dict[str, tuple[float, ...]]
    """Different values of each measure, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A step along a foreign key, from a row to the one that it belongs to."""

    link: ForeignKey
    noun: str
    """What the row behind it is to this one: `album`, `support rep`."""
    target: Entity


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def words(name: str) -> str:
    """A table's or column's name as words: `InvoiceLine`, `invoice_line` -> `invoice line`."""
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in _WORD.findall(name)) or name


def singular(noun: str) -> str:
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ses", "xes", "ches", "shes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def profile(sql: Sql) -> dict[str, Entity]:
    """The tables that can be asked about, by name."""
    tables = read_schema(sql)
    entities = [_entity(table, sql.rows(f"select * from {quoted(table.name)}", SAMPLE).rows) for table in tables]
    return {entity.table.name: entity for entity in entities if entity is not None}


def _entity(table: Table, rows: Sequence[tuple]) -> Entity | None:
    if len(rows) < MIN_ROWS:
        return None
    keys = {*table.key, *(column for link in table.links for column in link.columns)}
    keys |= {column.name for column in table.columns if words(column.name).split()[-1].lower() == "id"}
    found: dict[str, list[Any]] = {
        column.name: [row[i] for row in rows] for i, column in enumerate(table.columns) if column.name not in keys
    }
    numbers = {name: values for name, values in found.items() if _all_of((int, float), values) and _several(values)}
    texts = {name: values for name, values in found.items() if _all_of((str,), values)}
    categories = {name: _nameable(values) for name, values in texts.items() if _is_category(values)}
    return Entity(
        table=table,
        noun=singular(words(table.name)),
        labels={name: _nameable(values) for name, values in texts.items() if _is_label(values)},
        measures=tuple(numbers),
        categories={name: values for name, values in categories.items() if len(values) > 1},
        whole=frozenset(name for name, values in numbers.items() if _all_of((int,), values)),
        values={name: tuple(sorted({v for v in values if v is not None})) for name, values in numbers.items()},
    )


def _all_of(kinds: tuple[type, ...], values: Sequence[Any]) -> bool:
    """Whether all values that are there are of some kinds (truth values are no numbers), and there are any."""
    there = [value for value in values if value is not None]
    return bool(there) and all(type(value) in kinds for value in there)


def _several(values: Sequence[Any]) -> bool:
    return len(set(values) - {None}) > 2


def _is_category(values: Sequence[Any]) -> bool:
    different = set(values) - {None}
    return 2 <= len(different) <= MAX_VALUES and 2 * len(different) <= len(values)


def _is_label(values: Sequence[Any]) -> bool:
    """Whether values name rows: all there, nearly all different, none long or of several lines."""
    if any(not isinstance(value, str) or not 0 < len(value) <= 2 * MAX_LENGTH for value in values):
        return False
    return 10 * len(set(values)) >= 9 * len(values) and all(_NAMEABLE.fullmatch(value) for value in values)


def _nameable(values: Sequence[Any]) -> tuple[str, ...]:
    """The different values that a question can name without doubt."""
    different = {value for value in values if value is not None}
    return tuple(sorted(v for v in different if v == v.strip() and 0 < len(v) <= MAX_LENGTH and _NAMEABLE.fullmatch(v)))


def hops(entity: Entity, entities: dict[str, Entity]) -> tuple[Hop, ...]:
    """The links of a table to others that can be asked about."""
    return tuple(
        Hop(link=link, noun=_link_noun(link, entities[link.table]), target=entities[link.table])
        for link in entity.table.links
        if link.table in entities and link.table != entity.table.name
    )


def _link_noun(link: ForeignKey, target: Entity) -> str:
    """`SupportRepId` -> `support rep`; the other table's noun where the column says no more."""
    parts = [part for part in words(link.columns[0]).split() if part.lower() not in ("id", "key", "fk", "code")]
    return " ".join(parts) if len(link.columns) == 1 and parts else target.noun


def paths(entity: Entity, entities: dict[str, Entity], length: int) -> Iterator[tuple[Hop, ...]]:
    """Ways of one to `length` hops from a table, the empty one first; none comes back to a table it has seen."""
    open_: list[tuple[Hop, ...]] = [()]
    for path in open_:
        yield path
        if len(path) < length:
            end = path[-1].target if path else entity
            seen = {entity.table.name, *(hop.target.table.name for hop in path)}
            open_ += [(*path, hop) for hop in hops(end, entities) if hop.target.table.name not in seen]
