"""SQL over tables in memory: DuckDB, read-only, with row and time limits."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from journeyman.tools.base import FunctionTool, ToolError

if TYPE_CHECKING:
    import duckdb

MAX_QUERY = 1000
"""Most characters of a query."""
MAX_ROWS = 20
MAX_CHARACTERS = 500
SECONDS = 2.0
"""Longest that a query may run."""
CONFIG = {"threads": 1, "memory_limit": "256MB", "temp_directory": ""}
"""Without a folder to spill to, a query that needs more memory fails."""
_SWELLING = re.compile(
    r"\b(array_resize|bitstring|format|generate_series|list_resize|lpad|printf|range|repeat|rpad)\b\"?\s*\(",
    re.IGNORECASE,
)
"""Functions that make gigabytes of a few characters, past DuckDB's memory limit and deaf to its interrupt."""
PATIENCE = 0.2
"""How long a query may hold up the event loop; then it starts again in a thread. Short ones, nearly all, stay in
the loop, where the order of events, and so a seeded rollout, is the same each time."""


class _TooLongError(ToolError):
    """The query was interrupted."""


class Sql(FunctionTool):
    """Asks a database one SELECT. Nothing outside of its tables can be read, nothing can be changed.

    Rows, characters and time are bounded, and memory against accidents: not against a query made to swell one value by
    concatenation.
    """

    name = "sql"

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._tables = tables
        self._cached = lru_cache(maxsize=8192)(lambda query: self._query(query, PATIENCE))
        self._database = lru_cache(self._make_database)

    async def run(self, query: str) -> str:
        """Query the database with SQL."""
        try:
            return self._cached(query)
        except _TooLongError:
            self._database(SECONDS)  # made here, not in two threads at once
            return await asyncio.to_thread(self._query, query, SECONDS)

    def _query(self, query: str, seconds: float) -> str:
        import duckdb

        if len(query) > MAX_QUERY:
            raise ToolError(f"a query has at most {MAX_QUERY} characters")
        if found := _SWELLING.search(query):
            raise ToolError(f"there is no function {found[1]} here")
        try:
            statements = duckdb.extract_statements(query)
        except duckdb.Error as error:
            raise ToolError(_first_line(error)) from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ToolError("exactly one SELECT is allowed")
        # A cursor of its own: nothing of one query is visible to the next.
        with self._database(seconds).cursor() as cursor:
            # A SELECT can have an INSERT in its WITH.
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                rows = cursor.execute(statements[0]).fetchmany(MAX_ROWS)
            except duckdb.InterruptException:
                raise _TooLongError(f"the query takes longer than {SECONDS:g} seconds") from None
            except duckdb.Error as error:
                raise ToolError(_first_line(error)) from None
        text = "\n".join(" | ".join("null" if v is None else str(v) for v in row) for row in rows)
        return text[:MAX_CHARACTERS] or "no rows"

    def _make_database(self, seconds: float) -> "duckdb.DuckDBPyConnection":
        """The tables, in a database that interrupts a query after some time."""
        import duckdb
        import pyarrow as pa

        database = duckdb.connect(":memory:", config={**CONFIG, "max_execution_time": max(1, round(1000 * seconds))})
        for name, rows in self._tables.items():
            table = pa.Table.from_pylist([dict(row) for row in rows])
            database.register("rows_to_copy", table)
            database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM rows_to_copy')
            database.unregister("rows_to_copy")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        return database


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
