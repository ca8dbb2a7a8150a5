"""The program that runs the queries of `journeyman.tools.sql` in a process of its own. Standard library and DuckDB only.

A request and its reply are JSON behind their length (4 bytes, big endian), on standard input and output. A request has
`path`, `engine`, `query`, `seconds` and `rows`; a reply has `columns` and `rows`, or `error`, `interrupted` or
`broken`. The kernel bounds what a query can do, whatever the engine lets through: memory, no byte written to any file,
no core. The process ends with its input, and soon after its time where a query is deaf to the interrupt.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sqlite3
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import duckdb

DATA = 768 << 20
"""Bytes of memory of its own that the process may take; the interpreter with DuckDB needs a quarter of it."""
ADDRESS_SPACE = 4 << 30
"""Bytes that it may map at all; DuckDB reserves more than a gigabyte that it never touches."""
ENGINE_MEMORY = 256 << 20
"""Bytes that an engine may take for a query, by its own count."""
MAX_VALUE = 1 << 20
"""Bytes of one value of SQLite."""
MAX_CELL = 100_000
"""Most characters of a value in a reply."""
SPENT = 384 << 20
"""Bytes of memory of its own above which a process ends after its reply: what a query that swelled has left behind
would fail the next one."""
CONNECTIONS = 8
"""Most databases kept open."""
GRACE = 1.0
"""Seconds beyond its time after which a query, deaf to the interrupt, takes the process with it."""
OPERATIONS = 10_000
"""SQLite looks at the clock after as many operations of its virtual machine: about a millisecond."""
_DESCRIBING = ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
"""Pragmas that only describe the schema; a SELECT has them as table functions, `pragma_table_info('t')`."""
_PRAGMAS = frozenset((*_DESCRIBING, "data_version"))  # the last is what full-text tables look at
_FUNCTIONS_REFUSED = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "fsdir", "lsdir"))
_LEADING = re.compile(r"(\s|--[^\n]*(\n|$)|/\*.*?\*/)*(select|with|values)\b", re.IGNORECASE | re.DOTALL)


class _InterruptedError(Exception):
    """The query ran out of time."""


class _RefusedError(Exception):
    """The query is not one that may run; the text goes to the model."""


def confine() -> None:
    """Give up, for good, what no query needs."""
    resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asks


class Duck:
    """A DuckDB file, read-only, without access to anything outside of it."""

    def __init__(self, path: str, seconds: float) -> None:
        import duckdb

        config = {
            "threads": 1,
            "memory_limit": f"{ENGINE_MEMORY >> 20}MB",
            "temp_directory": "",  # without a folder to spill to, a query that needs more memory fails
            "max_execution_time": max(1, round(1000 * seconds)),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._database = duckdb.connect(path, read_only=True, config=config)
        self._database.execute("SET enable_external_access = false")
        self._database.execute("SET lock_configuration = true")

    def run(self, query: str, rows: int) -> tuple[list[str], list[tuple]]:
        import duckdb

        try:
            statement = _one_select(duckdb.extract_statements(query))
            # A cursor of its own: nothing of one query is visible to the next.
            with self._database.cursor() as cursor:
                # A SELECT can have an INSERT in its WITH.
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                cursor.execute(statement)
                columns = [column[0] for column in cursor.description or ()]
                return columns, cursor.fetchmany(rows)
        except duckdb.InterruptException:
            raise _InterruptedError from None
        except duckdb.Error as error:
            raise _RefusedError(_first_line(error)) from None

    def close(self) -> None:
        self._database.close()


def _one_select(statements: "list[duckdb.Statement]") -> "duckdb.Statement":
    import duckdb

    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise _RefusedError("exactly one SELECT is allowed")
    return statements[0]


class Lite:
    """A SQLite file, read-only and taken as it lies there: nobody writes it, no journal is looked for."""

    def __init__(self, path: str, seconds: float) -> None:
        self._seconds, self._until = seconds, 0.0
        self._database = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro&immutable=1", uri=True)
        self._database.text_factory = lambda data: data.decode(errors="replace")
        for pragma in ("query_only = on", "trusted_schema = off", "temp_store = memory", "mmap_size = 0"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(f"PRAGMA hard_heap_limit = {ENGINE_MEMORY}")
        limits = {
            sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE,
            sqlite3.SQLITE_LIMIT_ATTACHED: 0,
            sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
            sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
            sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
            sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
            sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
        }
        for limit, value in limits.items():
            self._database.setlimit(limit, value)
        self._declare_virtual_tables()
        self._database.set_authorizer(_may)
        self._database.set_progress_handler(lambda: time.monotonic() > self._until, OPERATIONS)

    def _declare_virtual_tables(self) -> None:
        """Use each once: SQLite declares them by a statement of its own, which the authorizer would refuse later."""
        made = self._database.execute(
            "select name from sqlite_master where sql like 'create virtual table%'"
        ).fetchall()
        functions = ["json_each", "json_tree", *(f"pragma_{name}" for name in _DESCRIBING)]
        for name in (*functions, *(row[0] for row in made)):
            with contextlib.suppress(sqlite3.Error):  # one that this build lacks is not there for a query either
                self._database.execute(f'select 1 from "{name.replace(chr(34), chr(34) * 2)}" limit 0').fetchall()

    def run(self, query: str, rows: int) -> tuple[list[str], list[tuple]]:
        if not _LEADING.match(query):
            raise _RefusedError("exactly one SELECT is allowed")
        self._until = time.monotonic() + self._seconds
        cursor = self._database.cursor()
        try:
            cursor.execute(query)
            return [column[0] for column in cursor.description or ()], cursor.fetchmany(rows)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            if time.monotonic() > self._until and "interrupted" in str(error):
                raise _InterruptedError from None
            raise _RefusedError(_first_line(error)) from None
        finally:
            cursor.close()

    def close(self) -> None:
        self._database.close()


def _may(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    """The authorizer of SQLite: reading and describing, nothing else."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").casefold() not in _FUNCTIONS_REFUSED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and (first or "").casefold() in _PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


ENGINES = {"duckdb": Duck, "sqlite": Lite}


def answer(request: dict[str, Any], open_: dict[tuple[str, str, float], "Duck | Lite"]) -> dict[str, Any]:
    """The reply to a request; `open_` are the databases that are open, oldest use first."""
    import duckdb

    key = (request["path"], request["engine"], request["seconds"])
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + 2 * GRACE)  # should the process that asked be gone
    try:
        if key not in open_:
            same = [other for other in open_ if other[0] == key[0]]  # DuckDB opens a file once, with one time limit
            for other in same or list(open_)[: max(0, len(open_) - CONNECTIONS + 1)]:
                open_.pop(other).close()
            try:
                open_[key] = ENGINES[request["engine"]](request["path"], request["seconds"])
            except (sqlite3.Error, duckdb.Error, OSError) as error:
                return {"broken": _first_line(error)}
        open_[key] = database = open_.pop(key)
        columns, rows = database.run(request["query"], request["rows"])
        return {"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}
    except _InterruptedError:
        return {"interrupted": True}
    except _RefusedError as error:
        return {"error": str(error)}
    except (MemoryError, RecursionError):
        return {"error": "the query needs too much memory"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no form for is its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MAX_CELL]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return json.loads(stream.read(struct.unpack(">I", head)[0]))


def write_message(stream: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine prints is no reply
    import duckdb  # before the limits: its start takes memory that no query does  # noqa: F401

    confine()
    open_: dict[tuple[str, str, float], Duck | Lite] = {}
    write_message(replies, {"ready": True})
    spent = False
    while not spent and (request := read_message(sys.stdin.buffer)) is not None:
        reply = answer(request, open_)
        spent = data_size() > SPENT
        write_message(replies, {**reply, "spent": spent})


def data_size() -> int:
    """Bytes of memory of this process's own."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
