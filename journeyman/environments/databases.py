"""Questions on databases, answered with SQL: made from any SQLite or DuckDB file, or read as text-to-SQL rows (#64 #167).

Rows are those of Spider (`db_id`, `question`, `query`), of BIRD (`db_id`, `question`, `evidence`, `SQL`), or plain ones
with `database`, `question`, `query`. A database is a file, or a name in the folder of databases: `NAME/NAME.sqlite`.

An answer is right where its values are those of the gold query, in any order unless the gold query orders them, or where
it is itself a query that gives them. Columns count in the order of the gold query.
"""

import asyncio
import random
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.environments.base import Course, Environment, Step, validate
from journeyman.environments.database_questions import Draft, Questions
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.result_rows import read_rows, rows_found, same_rows, text_of
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.environments.shop import make_shop
from journeyman.errors import DataError
from journeyman.messages import Message, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool, ToolError
from journeyman.tools.schema import Schema, describe
from journeyman.tools.sql import FILE_BOUNDS, Bounds, Sql

MAX_ROWS = 8
"""Rows of a made question's answer."""
MAX_GOLD_ROWS = 200
"""Rows of a read question's answer; a row with more is kept apart."""
MAKER_BOUNDS = Bounds(query=100_000, rows=FILE_BOUNDS.rows, characters=FILE_BOUNDS.characters, seconds=30.0)
"""For gold queries, which nobody waits for."""
OPEN = 64
"""Databases whose tools are kept."""
_QUERY = re.compile(r"\s*(?:```(?:sql)?\s*)?((?:select|with)\b.*?)(?:```)?\s*", re.IGNORECASE | re.DOTALL)
_PARENTHESES = re.compile(r"\([^()]*\)")
_STRINGS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_ORDER = re.compile(r"\border\s+by\b", re.IGNORECASE)


class Databases(Environment):
    """SQL on any database.

    Args:
        path: the SQLite or DuckDB file that questions are made from; a small shop made on the spot by default.
        folder: where the databases of rows are.
        show_schema: whether the schema stands before the question; by default a tool `schema` tells it.
    """

    name = "databases"
    columns: Sequence[str] = ("question",)

    def __init__(self, path: Path | str | None = None, *, folder: Path | str = ".", show_schema: bool = False) -> None:
        self._given = None if path is None else Path(path)
        self._folder, self.show_schema = Path(folder), show_schema
        self._opened = lru_cache(maxsize=OPEN)(self._open)
        self._asked = lru_cache(maxsize=8192)(self._ask)

    @cached_property
    def _path(self) -> Path:
        if self._given is not None:
            return self._given
        folder = tempfile.TemporaryDirectory(prefix="journeyman-shop-")
        weakref.finalize(self, folder.cleanup)
        make_shop(Path(folder.name) / "shop.sqlite")
        return Path(folder.name) / "shop.sqlite"

    @cached_property
    def _questions(self) -> Questions:
        return Questions(self._maker(""))

    def tools(self) -> Mapping[str, Tool]:
        return self.tools_on("")

    def tools_on(self, database: str) -> Mapping[str, Tool]:
        """The tools on a database of the folder; empty: the one that questions are made from."""
        sql, schema, _ = self._opened(database)
        return {"sql": sql} if self.show_schema else {"schema": schema, "sql": sql}

    def schema_of(self, problem: Problem) -> str:
        """The schema as text."""
        return describe(self._opened(problem.data["database"])[1].tables)

    def _maker(self, database: str) -> Sql:
        return self._opened(database)[2]

    def _open(self, database: str) -> tuple[Sql, Schema, Sql]:
        path = self._file(database) if database else self._path
        sql = Sql.of_file(path)
        return sql, Schema(sql), Sql.of_file(path, bounds=MAKER_BOUNDS)

    def _file(self, database: str) -> Path:
        """Raises `DataError` where there is no such file."""
        bases = (Path(database), Path(database) / Path(database).name)
        names = [base.with_name(base.name + ending) for base in bases for ending in ("", ".sqlite", ".db", ".duckdb")]
        found = next((self._folder / name for name in names if (self._folder / name).is_file()), None)
        if found is None:
            raise DataError(f"there is no database {database}", place=str(self._folder))
        return found

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return DatabaseEpisode(self, problem, context)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        failed = 0
        for draft in self._questions.drafts(rng):
            problem = self._problem(draft, rng.choice(draft.wordings))
            failed = 0 if problem else failed + 1
            if failed > 1000:
                raise DataError("no question on this database has a clear answer", place=str(self._path))
            if problem:
                yield problem

    def _problem(self, draft: Draft, question: str) -> Problem | None:
        """The question with its answer; None where the answer is none, not clear, or too long."""
        rows = self._asked("", draft.query)
        if not rows or len(rows) > MAX_ROWS or any(value in (None, "") for row in rows for value in row):
            return None
        if draft.ties and len(set(ties := self._asked("", draft.ties))) < len(ties):
            return None
        wrong = [(mistake, query) for mistake, query in draft.mistakes if self._differs(rows, query, draft.ordered)]
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=text_of(rows),
            min_calls=1 if self.show_schema else 2,
            data={
                **_data("", draft.query, rows, draft.ordered),
                "key": draft.query,
                "mistakes": [{"mistake": mistake, "query": query} for mistake, query in wrong],
            },
        )

    def _differs(self, rows: tuple[tuple, ...], query: str, ordered: bool) -> bool:
        return not same_rows(rows, self._asked("", query), ordered=ordered)

    def _ask(self, database: str, query: str) -> tuple[tuple[Any, ...], ...]:
        """Values of a query of our own. Raises `ToolError`."""
        return self._maker(database).rows(query, MAX_GOLD_ROWS + 1).rows

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row whose gold query gives something; the other rows are kept apart."""
        return read_each(rows, self._usable)

    def _usable(self, row: Mapping[str, Any]) -> Problem:
        try:
            return self._read(row)
        except DataError as error:
            raise BadRow("no such database", str(error)) from error
        except ToolError as error:
            reason, _, detail = str(error).partition(": ")
            raise BadRow(reason, detail) from error

    def _read(self, row: Mapping[str, Any]) -> Problem:
        question, query, database = _text(row, "question"), _text(row, "query", "SQL", "sql"), _text(row, *_DATABASE)
        if hint := row.get("evidence"):
            question = f"{question}\nHint: {hint}"
        try:
            found = self._ask(database, query)
        except ToolError as error:
            raise ToolError(f"the gold query fails: {error}") from None
        if not found or all(value is None for values in found for value in values):
            raise ToolError("the gold query gives nothing")
        if len(found) > MAX_GOLD_ROWS:
            raise ToolError(f"the gold query gives more than {MAX_GOLD_ROWS} rows")
        data = _data(database, query, found, is_ordered(query))
        return Problem(
            id=problem_id(self.name, question, {"database": database, "query": query}),
            family=self.name,
            question=question,
            answer=text_of(found),
            tools=("sql",) if self.show_schema else ("schema", "sql"),
            min_calls=1 if self.show_schema else 2,
            data={**data, "mistakes": []},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        """A look at the schema, then a query. An answer that the tool would not show in full is the query itself."""
        gold, shown = problem.data["query"], problem.answer
        fits = len(problem.data["rows"]) <= FILE_BOUNDS.rows and len(shown) <= FILE_BOUNDS.characters
        right = Course(steps=self._steps(gold), answer=None if fits else gold)
        wrong = [Course(steps=self._steps(one["query"]), mistake=one["mistake"]) for one in problem.data["mistakes"]]
        return right, *wrong

    def _steps(self, query: str) -> tuple[Step, ...]:
        ask = Step(thought="I query the tables.", call=ToolCall(name="sql", arguments={"query": query}))
        if self.show_schema:
            return (ask,)
        return Step(thought="I look at the tables.", call=ToolCall(name="schema", arguments={})), ask

    def verify(self, problem: Problem, answer: str) -> bool:
        """Waits for the database where the answer is a query."""
        return same_rows(problem.data["rows"], self.rows_in(problem, answer), ordered=problem.data["ordered"])

    def rows_in(self, problem: Problem, answer: str) -> Sequence[Sequence[Any]]:
        """The values that an answer gives: its own, or those of the query that it is. None for a query that fails."""
        rows = problem.data["rows"]
        if answer.strip().casefold() == text_of(rows).strip().casefold():
            return rows
        if found := _QUERY.fullmatch(answer):
            try:
                return self._opened(problem.data["database"])[0].rows(found[1], MAX_GOLD_ROWS + 1).rows
            except ToolError:
                return ()
        return read_rows(answer, rows)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))


class DatabaseEpisode(Episode):
    """An attempt on the problem's own database."""

    environment: Databases

    def offered(self) -> Mapping[str, Tool]:
        own = self.environment.tools_on(self.problem.data["database"])
        return {name: own.get(name, tool) for name, tool in super().offered().items()}

    def opening(self) -> tuple[Message, ...]:
        if not self.environment.show_schema:
            return super().opening()
        schema = f"The database has these tables:\n{self.environment.schema_of(self.problem)}"
        return Message(role="system", content=schema), *super().opening()

    async def verify(self, answer: str | None) -> Verdict:
        """With the part of the gold rows that the answer has, #167's partial match by rows."""
        if answer is None:
            return Verdict.of(False, rows=0.0)
        rows = self.problem.data["rows"]
        given = await asyncio.to_thread(self.environment.rows_in, self.problem, answer)
        correct = same_rows(rows, given, ordered=self.problem.data["ordered"])
        return Verdict.of(correct, rows=rows_found(rows, given) / max(len(rows), len(given)))


_DATABASE = ("database", "db_id", "db")


def is_ordered(query: str) -> bool:
    """Whether a query orders its result: an ORDER BY outside of all parentheses."""
    text, before = _STRINGS.sub("''", query), ""
    while text != before:
        text, before = _PARENTHESES.sub(" ", text), text
    return bool(_ORDER.search(text))


def _data(database: str, query: str, rows: Sequence[Sequence[Any]], ordered: bool) -> dict[str, Any]:
    return {"database": database, "query": query, "rows": [list(row) for row in rows], "ordered": ordered}


def _text(row: Mapping[str, Any], *names: str) -> str:
    """The first of some columns that has text."""
    found = next((value for name in names if isinstance(value := row.get(name), str) and value.strip()), None)
    if found is None:
        raise ToolError(f"no {names[0]}")
    return found.strip()
