"""Questions on any database, with the SQL that answers them and the SQL of typical mistakes. Templates are ours."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from journeyman.environments.database_profile import Entity, Hop, hops, paths, plural, profile, quoted, words
from journeyman.errors import DataError
from journeyman.tools.sql import Sql

MAX_HOPS = 2
"""Foreign keys that a question goes along."""
TRIES = 2000
"""Questions in a row that come to nothing, after which a database is not one to ask about."""
AGGREGATES = {"max": "highest", "min": "lowest", "sum": "total", "avg": "average"}
CONFUSED = {"max": "min", "min": "max", "sum": "max", "avg": "sum"}
"""The aggregate that a hasty teacher takes instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A question that has not been tried on the data yet."""

    wordings: tuple[str, ...]
    query: str
    mistakes: tuple[tuple[str, str], ...]
    """(what is wrong, the query with that in it)."""
    ordered: bool = False
    ties: str = ""
    """A query whose rows must all differ: else the answer is not clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A condition on a column of a table or of one that it links to."""

    path: tuple[Hop, ...]
    column: str
    value: str

    @property
    def phrase(self) -> str:
        owners = "".join(f"{hop.noun}'s " for hop in self.path)
        return f'whose {owners}{words(self.column)} is "{self.value}"'

    @property
    def where(self) -> str:
        value = self.value.replace("'", "''")
        return f" where t{len(self.path)}.{quoted(self.column)} = '{value}'"

    @property
    def mistake(self) -> str:
        return "missing join filter" if self.path else "missing filter"


def source(entity: Entity, path: Sequence[Hop] = ()) -> str:
    """`TABLE t0 join TABLE t1 on ...` along a path."""
    text = f"{quoted(entity.table.name)} t0"
    for i, hop in enumerate(path):
        pairs = zip(hop.link.columns, hop.link.targets, strict=True)
        on = " and ".join(f"t{i}.{quoted(here)} = t{i + 1}.{quoted(there)}" for here, there in pairs)
        text += f" join {quoted(hop.target.table.name)} t{i + 1} on {on}"
    return text


class Questions:
    """Makes drafts by seed."""

    def __init__(self, sql: Sql) -> None:
        self._entities = profile(sql)
        self._all = sorted(self._entities.values(), key=lambda entity: entity.table.name)
        self._makers: tuple[Callable[[random.Random, Entity], Draft | None], ...] = (
            *(self._count, self._aggregate, self._aggregate, self._threshold),
            *(self._most, self._ranked, self._listed, self._grouped),
        )

    def drafts(self, rng: random.Random) -> Iterator[Draft]:
        """An endless stream. Raises `DataError` where the database has nothing to ask about."""
        failed = 0
        while failed < TRIES:
            draft = rng.choice(self._makers)(rng, rng.choice(self._all)) if self._all else None
            failed = 0 if draft else failed + 1
            if draft:
                yield draft
        raise DataError("there is nothing in this database to ask about", remedy="give one with tables of some rows")

    def _filter(self, rng: random.Random, entity: Entity) -> Filter | None:
        """A condition on a category up to two links away, or on the name of a row that this one belongs to."""
        ways = []
        for path in paths(entity, self._entities, MAX_HOPS):
            end = path[-1].target if path else entity
            columns = {**(end.labels if path else {}), **end.categories}
            ways += [(path, column, values) for column, values in columns.items() if values]
        if not ways:
            return None
        path, column, values = rng.choice(ways)
        return Filter(path=path, column=column, value=rng.choice(values))

    def _count(self, rng: random.Random, entity: Entity) -> Draft | None:
        if (found := self._filter(rng, entity)) is None:
            return None
        many = plural(entity.noun)
        query = f"select count(*) from {source(entity, found.path)}"
        return Draft(
            wordings=(f"How many {many} are there {found.phrase}?", f"Count the {many} {found.phrase}."),
            query=query + found.where,
            mistakes=((found.mistake, query),),
        )

    def _aggregate(self, rng: random.Random, entity: Entity) -> Draft | None:
        """An aggregate of numbers, nearly always under a condition."""
        if not entity.measures:
            return None
        found = self._filter(rng, entity) if rng.random() < 0.9 else None
        aggregate, measure = rng.choice(list(AGGREGATES)), rng.choice(entity.measures)
        table = source(entity, found.path if found else ())
        where, phrase = (found.where, f" {found.phrase}") if found else ("", "")
        taken = _taken(entity, aggregate, measure)
        mistakes = [("wrong aggregate", f"select {_taken(entity, CONFUSED[aggregate], measure)} from {table}{where}")]
        if others := [one for one in entity.measures if one != measure]:
            mistakes.append(
                ("wrong column", f"select {_taken(entity, aggregate, rng.choice(others))} from {table}{where}")
            )
        if found:
            mistakes.append((found.mistake, f"select {taken} from {table}"))
        of = f"the {_aggregated(aggregate, measure)} of the {plural(entity.noun)}{phrase}"
        rounded = "" if _is_whole(entity, aggregate, measure) else " Round to two decimals."
        return Draft(
            wordings=(f"What is {of}?{rounded}", f"Find {of}.{rounded}"),
            query=f"select {taken} from {table}{where}",
            mistakes=tuple(mistakes),
        )

    def _threshold(self, rng: random.Random, entity: Entity) -> Draft | None:
        if not entity.measures:
            return None
        measure, found = rng.choice(entity.measures), self._filter(rng, entity) if rng.random() < 0.5 else None
        bound, above = rng.choice(entity.values[measure]), rng.random() < 0.5
        query = f"select count(*) from {source(entity, found.path if found else ())}{found.where if found else ' where 1 = 1'}"
        signs, more = (">", "<") if above else ("<", ">"), "more" if above else "less"
        many = plural(entity.noun) + (f" {found.phrase}" if found else "")
        what = f"{_with_article(words(measure))} of {more} than {bound}"
        column = f"t0.{quoted(measure)}"
        return Draft(
            wordings=(f"How many {many} have {what}?", f"Count the {many} that have {what}."),
            query=f"{query} and {column} {signs[0]} {bound}",
            mistakes=(("wrong comparison", f"{query} and {column} {signs[1]} {bound}"),),
        )

    def _most(self, rng: random.Random, entity: Entity) -> Draft | None:
        """Which row of another table has the most rows of this one, or the fewest of those that have any."""
        if not (near := [hop for hop in hops(entity, self._entities) if hop.target.labels]):
            return None
        hop, most = rng.choice(near), rng.random() < 0.7
        label = rng.choice(list(hop.target.labels))
        groups = ", ".join(f"t1.{quoted(name)}" for name in (*hop.link.targets, label))
        rest = f"from {source(entity, (hop,))} group by {groups} order by count(*)"
        up, down = ("desc", "asc") if most else ("asc", "desc")
        what = f"{words(label)} of the {hop.noun} with the {'most' if most else 'fewest'} {plural(entity.noun)}"
        several = "" if most else f", among those with any {entity.noun}"
        return Draft(
            wordings=(f"What is the {what}{several}?", f"Give the {what}{several}."),
            query=f"select t1.{quoted(label)} {rest} {up} limit 1",
            mistakes=(("wrong order", f"select t1.{quoted(label)} {rest} {down} limit 1"),),
            ties=f"select count(*) {rest} {up} limit 2",
        )

    def _ranked(self, rng: random.Random, entity: Entity) -> Draft | None:
        """The names of the rows with the largest or smallest numbers, in order."""
        if not entity.labels or not entity.measures:
            return None
        label, measure = rng.choice(list(entity.labels)), rng.choice(entity.measures)
        highest, count = rng.random() < 0.5, rng.randint(1, 5)
        found = self._filter(rng, entity) if rng.random() < 0.6 else None
        column = f"t0.{quoted(measure)}"
        table = f"from {source(entity, found.path if found else ())}"
        condition = f"{found.where if found else ' where 1 = 1'} and {column} is not null"
        up, down = ("desc", "asc") if highest else ("asc", "desc")
        query = f"select t0.{quoted(label)} {table}"
        order = f" order by {column} {up} limit {count}"
        mistakes = [("wrong order", f"{query}{condition} order by {column} {down} limit {count}")]
        if found:
            mistakes.append((found.mistake, f"{query} where {column} is not null{order}"))
        phrase = f" {found.phrase}" if found else ""
        extreme = "highest" if highest else "lowest"
        many = f"{count} {plural(entity.noun)}" if count > 1 else entity.noun
        what = f"the {words(label)} of the {many}{phrase} with the {extreme} {words(measure)}"
        tail = f", {extreme} first" if count > 1 else ""
        return Draft(
            wordings=(f"Give {what}{tail}.", f"List {what}{tail}."),
            query=query + condition + order,
            mistakes=tuple(mistakes),
            ordered=True,
            ties=f"select {column} {table}{condition} order by {column} {up} limit {count + 1}",
        )

    def _listed(self, rng: random.Random, entity: Entity) -> Draft | None:
        if not entity.labels or (found := self._filter(rng, entity)) is None:
            return None
        label = rng.choice(list(entity.labels))
        if not found.path and label == found.column:
            return None
        query = f"select t0.{quoted(label)} from {source(entity, found.path)}"
        what = f"the {words(label)} of the {plural(entity.noun)} {found.phrase}"
        return Draft(
            wordings=(f"List {what}.", f"Give {what}."),
            query=query + found.where,
            mistakes=((found.mistake, query),),
        )

    def _grouped(self, rng: random.Random, entity: Entity) -> Draft | None:
        """Counts, or an aggregate, for each value of a category."""
        ways = [
            (path, column)
            for path in paths(entity, self._entities, 1)
            for column in (path[-1].target if path else entity).categories
        ]
        if not ways:
            return None
        path, column = rng.choice(ways)
        group = f"t{len(path)}.{quoted(column)}"
        tail = f"from {source(entity, path)} where {group} is not null group by {group}"
        each = "".join(f"{hop.noun}'s " for hop in path) + words(column)
        many = plural(entity.noun)
        if entity.measures and rng.random() < 0.6:
            aggregate, measure = rng.choice(list(AGGREGATES)), rng.choice(entity.measures)
            taken, wrong = (_taken(entity, one, measure) for one in (aggregate, CONFUSED[aggregate]))
            what = f"the {_aggregated(aggregate, measure)} of the {many}"
            rounded = "" if _is_whole(entity, aggregate, measure) else " Round to two decimals."
        else:
            taken, wrong, what, rounded = "count(*)", f"count(distinct {group})", f"the number of {many}", ""
        return Draft(
            wordings=(f"For each {each}, give {what}.{rounded}", f"Give {what} for each {each}.{rounded}"),
            query=f"select {group}, {taken} {tail}",
            mistakes=(("wrong aggregate", f"select {group}, {wrong} {tail}"),),
        )


def _is_whole(entity: Entity, aggregate: str, measure: str) -> bool:
    return measure in entity.whole and aggregate != "avg"


def _taken(entity: Entity, aggregate: str, measure: str) -> str:
    value = f"{aggregate}(t0.{quoted(measure)})"
    return value if _is_whole(entity, aggregate, measure) else f"round({value}, 2)"


def _aggregated(aggregate: str, measure: str) -> str:
    """`highest price`; a column that is itself called a total is summed."""
    noun, word = words(measure), AGGREGATES[aggregate]
    return f"{'summed' if noun.split()[0] == word else word} {noun}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
