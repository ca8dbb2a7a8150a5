"""SQL over tables in memory: DuckDB, read-only, with row and time limits."""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from journeyman.tools.base import FunctionTool, ToolError

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 20
MAX_CHARACTERS = 500
SECONDS = 2.0


class Sql(FunctionTool):
    """Asks a database one SELECT. Nothing outside of its tables can be read, nothing can be changed."""

    name = "sql"

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._tables = tables
        self._cached = lru_cache(maxsize=8192)(self._query)

    async def run(self, query: str) -> str:
        """Query the database with SQL."""
        return self._cached(query)

    def _query(self, query: str) -> str:
        import duckdb

        try:
            statements = duckdb.extract_statements(query)
        except duckdb.Error as error:
            raise ToolError(_first_line(error)) from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ToolError("exactly one SELECT is allowed")
        # A cursor of its own: nothing of one query is visible to the next.
        with self._database.cursor() as cursor:
            timer = threading.Timer(SECONDS, cursor.interrupt)
            timer.start()
            try:
                rows = cursor.execute(statements[0]).fetchmany(MAX_ROWS)
            except duckdb.Error as error:
                raise ToolError(_first_line(error)) from None
            finally:
                timer.cancel()
        text = "\n".join(" | ".join("null" if v is None else str(v) for v in row) for row in rows)
        return text[:MAX_CHARACTERS] or "no rows"

    @cached_property
    def _database(self) -> "duckdb.DuckDBPyConnection":
        import duckdb
        import pyarrow as pa

        database = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "256MB"})
        for name, rows in self._tables.items():
            table = pa.Table.from_pylist([dict(row) for row in rows])
            database.register("rows_to_copy", table)
            database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM rows_to_copy')  # noqa: S608 (our own name)
            database.unregister("rows_to_copy")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        return database


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
