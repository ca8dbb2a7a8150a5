"""SQL, read-only, with limits on rows, characters, time and memory: tables in memory, DuckDB files, SQLite files.

Queries run in processes of their own (`journeyman.tools.sql_worker`): one that swells or hangs takes down nothing else.
"""

import asyncio
import re
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journeyman.errors import DataError, InfrastructureError
from journeyman.tools.base import FunctionTool, Limits, ToolError

if TYPE_CHECKING:
    from journeyman.tools.sql_process import Running

MAX_QUERY = 1000
"""Most characters of a query."""
MAX_ROWS = 20
MAX_CHARACTERS = 500
SECONDS = 2.0
"""Longest that a query may run."""
_SWELLING = re.compile(
    r"\b(array_resize|bitstring|format|generate_series|list_resize|lpad|printf|range|repeat|rpad)\b\"?\s*\(",
    re.IGNORECASE,
)
"""Functions that make gigabytes of a few characters and that no question on a table needs."""
PATIENCE = 0.2
"""How long a query may hold up the event loop; then its end is awaited in a thread. Short ones, nearly all, stay in
the loop, where the order of events, and so a seeded rollout, is the same each time."""


class _PendingError(Exception):
    """The query still runs when the loop's patience ends."""

    def __init__(self, running: "Running") -> None:
        self.running = running
        super().__init__()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a query may ask for and get."""

    query: int = MAX_QUERY
    """Most characters of a query."""
    rows: int = MAX_ROWS
    characters: int = MAX_CHARACTERS
    """Most characters of an observation."""
    seconds: float | None = None
    """Longest that a query may run; None: `SECONDS`."""


FILE_BOUNDS = Bounds(query=4000, rows=50, characters=2000)
"""Of a database with many tables, whose queries join several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a query gives, as values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """None, truth values, numbers and text; what else there is has become text."""


class Sql(FunctionTool):
    """Asks a database one SELECT. Nothing outside of its tables can be read, nothing can be changed.

    Rows, characters, time and memory are bounded. The data must not change while the tool is in use.
    """

    name = "sql"
    limits = Limits(concurrency=4)
    """Of queries that take long: each has a process that may take a gigabyte."""

    def __init__(
        self,
        tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        *,
        path: Path | str | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """Either tables, or the path of a DuckDB or SQLite file. Raises `DataError` for any other file."""
        if (tables is None) == (path is None):
            raise TypeError("sql takes either tables or the path of a database")
        self._tables, self._path = tables, None if path is None else Path(path).resolve()
        self.engine = "duckdb" if self._path is None else engine_of(self._path)
        self.bounds = bounds or (Bounds() if self._path is None else FILE_BOUNDS)
        self._cached = lru_cache(maxsize=8192)(self._ask_briefly)
        self._file = cache(self._make_file)

    @classmethod
    def of_file(cls, path: Path | str, *, bounds: Bounds = FILE_BOUNDS) -> "Sql":
        """A DuckDB or SQLite file, opened read-only. Raises `DataError` for any other."""
        return cls(path=path, bounds=bounds)

    async def run(self, query: str) -> str:
        """Query the database with SQL."""
        try:
            return self._cached(query)
        except _PendingError as pending:
            reply = await asyncio.to_thread(pending.running.wait)
            return self._told(self._read(reply))

    def rows(self, query: str, limit: int = 1000) -> Rows:
        """The first rows as values, for graders and makers of problems. Raises `ToolError`; waits for the result."""
        return self._read(self._start(query, limit).wait())

    def _ask_briefly(self, query: str) -> str:
        running = self._start(query, self.bounds.rows)
        reply = running.wait(PATIENCE)
        if reply is None:
            raise _PendingError(running)
        return self._told(self._read(reply))

    def _start(self, query: str, rows: int) -> "Running":
        from journeyman.tools.sql_process import Running

        if len(query) > self.bounds.query:
            raise ToolError(f"a query has at most {self.bounds.query} characters")
        if self._path is None and (found := _SWELLING.search(query)):
            raise ToolError(f"there is no function {found[1]} here")
        path, seconds = self._file(), self._seconds
        return Running({"path": path, "engine": self.engine, "query": query, "seconds": seconds, "rows": rows})

    @property
    def _seconds(self) -> float:
        return SECONDS if self.bounds.seconds is None else self.bounds.seconds

    def _read(self, reply: Mapping[str, Any] | None) -> Rows:
        if not reply:
            raise ToolError("the query needs too much memory")
        if "interrupted" in reply:
            raise ToolError(f"the query takes longer than {self._seconds:g} seconds")
        if "broken" in reply:
            raise InfrastructureError(f"the database does not open: {reply['broken']}")
        if "error" in reply:
            raise ToolError(reply["error"])
        return Rows(columns=tuple(reply["columns"]), rows=tuple(tuple(row) for row in reply["rows"]))

    def _told(self, found: Rows) -> str:
        text = "\n".join(" | ".join("null" if v is None else str(v) for v in row) for row in found.rows)
        return text[: self.bounds.characters] or "no rows"

    def _make_file(self) -> str:
        """The database as a file: a temporary one, for as long as this tool lives, where it is made of tables."""
        if self._path is not None:
            return str(self._path)
        assert self._tables is not None
        folder = tempfile.TemporaryDirectory(prefix="journeyman-sql-")
        weakref.finalize(self, folder.cleanup)
        path = Path(folder.name) / "tables.duckdb"
        write_tables(self._tables, path)
        return str(path)


def write_tables(tables: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Make a DuckDB file of tables."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect(str(path), config={"threads": 1}) as database:
        for name, rows in tables.items():
            table = pa.Table.from_pylist([dict(row) for row in rows])
            database.register("rows_to_copy", table)
            database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM rows_to_copy')
            database.unregister("rows_to_copy")


def engine_of(path: Path) -> Literal["duckdb", "sqlite"]:
    """Which engine reads a file. Raises `DataError` where there is none."""
    if not path.is_file():
        raise DataError("there is no such database", place=str(path))
    with path.open("rb") as file:
        head = file.read(16)
    if head == b"SQLite format 3\x00":
        return "sqlite"
    if head[8:12] == b"DUCK":
        return "duckdb"
    raise DataError("this is neither a SQLite nor a DuckDB file", place=str(path))
