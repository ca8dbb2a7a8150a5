"""What a database holds: its tables, their columns, keys and the links between them, read by SQL; and the tool for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from journeyman.tools.base import FunctionTool, ToolError
from journeyman.tools.sql import Sql

MAX_COLUMNS = 5000
"""Most columns, of all tables together, that are read."""
_COLUMNS = {
    "sqlite": "select m.name, p.name, p.type, p.pk from sqlite_master m, pragma_table_info(m.name) p"
    " where m.type in ('table', 'view') and m.name not like 'sqlite\\_%' escape '\\' order by m.rowid, p.cid",
    "duckdb": "select c.table_name, c.column_name, c.data_type, coalesce(list_position(k.constraint_column_names,"
    " c.column_name), 0) from duckdb_columns() c left join duckdb_constraints() k on k.table_oid = c.table_oid"
    " and k.constraint_type = 'PRIMARY KEY' where not c.internal order by c.table_oid, c.column_index",
}
"""(table, column, type, place in the primary key from 1, 0 where it is not of it)."""
_LINKS = {
    "sqlite": 'select m.name, f.id, f.seq, f."from", f."table", f."to" from sqlite_master m,'
    " pragma_foreign_key_list(m.name) f where m.type = 'table' order by m.rowid, f.id, f.seq",
    "duckdb": "select table_name, constraint_index, i, constraint_column_names[i + 1], referenced_table,"
    " referenced_column_names[i + 1] from (select *, generate_subscripts(constraint_column_names, 1) - 1 i"
    " from duckdb_constraints() where constraint_type = 'FOREIGN KEY') order by table_oid, constraint_index, i",
}
"""(table, number of the key, place in it, column, table it points to, column there or null for that table's key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str
    """As the database names it; SQLite's may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A link from a table to another."""

    columns: tuple[str, ...]
    table: str
    """The table that it points to."""
    targets: tuple[str, ...]
    """The columns there, in the order of `columns`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or a view."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    """Columns of the primary key."""
    links: tuple[ForeignKey, ...] = ()

    def describe(self) -> str:
        """`name(column TYPE, ...; key column; column -> table.column)`."""
        parts = [", ".join(f"{column.name} {column.type}".strip() for column in self.columns)]
        if self.key:
            parts.append(f"key {', '.join(self.key)}")
        for link in self.links:
            targets = ", ".join(f"{link.table}.{target}" for target in link.targets)
            parts.append(f"{', '.join(link.columns)} -> {targets}")
        return f"{self.name}({'; '.join(parts)})"


def read_schema(sql: Sql) -> tuple[Table, ...]:
    """The tables and views of a database, in the order in which they were made."""
    columns = sql.rows(_COLUMNS[sql.engine], MAX_COLUMNS).rows
    links = sql.rows(_LINKS[sql.engine], MAX_COLUMNS).rows
    grouped = {name: list(rows) for name, rows in groupby(columns, key=lambda row: row[0])}
    keys = {
        name: tuple(row[1] for row in sorted(rows, key=lambda row: row[3]) if row[3]) for name, rows in grouped.items()
    }
    return tuple(
        Table(
            name=name,
            columns=tuple(Column(name=row[1], type=row[2]) for row in rows),
            key=keys[name],
            links=tuple(_link(list(found), keys) for found in _keys_of(name, links)),
        )
        for name, rows in grouped.items()
    )


def _keys_of(table: str, links: Sequence[tuple]) -> list[list[tuple]]:
    own = [row for row in links if row[0] == table]
    return [list(rows) for _, rows in groupby(own, key=lambda row: row[1])]


def _link(rows: Sequence[tuple], keys: dict[str, tuple[str, ...]]) -> ForeignKey:
    table = next((name for name in keys if name.casefold() == rows[0][4].casefold()), rows[0][4])
    implicit = keys.get(table, ())
    targets = tuple(row[5] or (implicit[row[2]] if row[2] < len(implicit) else "rowid") for row in rows)
    return ForeignKey(columns=tuple(row[3] for row in rows), table=table, targets=targets)


class Schema(FunctionTool):
    """Tells what tables a database has."""

    name = "schema"

    def __init__(self, sql: Sql | None = None, *, path: Path | str | None = None) -> None:
        """The schema of what a `Sql` asks, or of a file."""
        if (sql is None) == (path is None):
            raise TypeError("schema takes either a Sql or the path of a database")
        self._sql = sql or Sql(path=path)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        return read_schema(self._sql)

    async def run(self, table: str = "") -> str:
        """Describe the tables of the database: columns, types, keys and links between tables.

        Args:
            table: the one to describe; all of them where it is left out.
        """
        found = [one for one in self.tables if not table or one.name.casefold() == table.casefold()]
        if not found:
            raise ToolError(f"there is no table {table}; there are {', '.join(one.name for one in self.tables)}"[:1000])
        return describe(found)


def describe(tables: Sequence[Table]) -> str:
    """A line for each table."""
    return "\n".join(table.describe() for table in tables) or "no tables"
