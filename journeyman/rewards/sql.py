"""Rewards for SQL: what a query gives, what it names, how it is written. Queries run where the tool `sql` runs them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from journeyman.environments.result_rows import same_cell, same_rows
from journeyman.expressions import NotNegative
from journeyman.graders.partial import jaccard
from journeyman.problem import Problem
from journeyman.rewards.base import UNSCORED, Group, Judge, Score, Scores
from journeyman.rewards.outcome import is_well_formed, told
from journeyman.rewards.reference import reference_calls
from journeyman.tools.base import ToolError
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    from journeyman.tools.sql import Sql

MOST_ROWS = 201
"""Rows of a result that are looked at; a reference has fewer (ours)."""
LONGEST = 4000
"""Characters of a query that are read, as many as the tool takes."""
SHORTEST = 16
"""Characters of a query that PaVeRL-SQL runs."""
ROWS_APART = 5
"""Most rows that a result may have more or fewer than the reference in PaVeRL-SQL's partial match."""
TOP, RUNS = 10.0, 0.5
"""PaVeRL-SQL's: all of the reference matched, a query that runs and matches nothing."""
_BLOCK = re.compile(r"```sql\b(.*?)```", re.IGNORECASE | re.DOTALL)
_BARE = re.compile(r"\s*(?:select|with)\b", re.IGNORECASE)
_TOKENS = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\d+(?:\.\d+)?|\w+|[<>!]=|<>|\|\||[^\s\w]")
_NUMBER = re.compile(r"[0-9]+")
_NAMES = {
    "sqlite": "select m.name, p.name from sqlite_master m, pragma_table_info(m.name) p",
    "duckdb": "select table_name, column_name from duckdb_columns() where not internal",
}
MOST_NAMES = 5000
"""Columns of a database whose names are known (ours)."""

Table = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A problem's database with its reference."""

    sql: "Sql"
    query: str
    rows: Table
    ordered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An attempt's query and what it gave."""

    query: str
    """Empty: it wrote none."""
    rows: Table | None
    """None: it failed, or there is none."""


def asked_of(problem: Problem | None) -> Asked | None:
    """The database that a problem asks, its reference query and rows; None where it asks none or has no reference.

    The tool `sql` of the problem's family, on the problem's own database where the family has several; the query of
    data["query"], else of the last `sql` call among the reference calls. Raises `InfrastructureError`.
    """
    sql = problem and _sql_of(problem)
    if problem is None or not sql:
        return None
    data = problem.data
    queries = [c.arguments.get("query") for c in reference_calls(problem) or () if c.name == "sql"]
    query = data.get("query") or (queries[-1] if queries else None)
    if not isinstance(query, str):
        return None
    rows = data.get("rows") or _rows(sql, query)
    return None if rows is None else Asked(sql=sql, query=query, rows=rows, ordered=bool(data.get("ordered")))


def _sql_of(problem: Problem) -> "Sql | None":
    from journeyman.environments import environment_of
    from journeyman.environments.databases import Databases
    from journeyman.tools.sql import Sql

    try:
        home = environment_of(problem)
    except KeyError:
        return None
    tools = home.tools_on(problem.data.get("database", "")) if isinstance(home, Databases) else home.tools()
    found = tools.get("sql")
    return found if isinstance(found, Sql) else None


def _rows(sql: "Sql", query: str) -> Table | None:
    try:
        return sql.rows(query, MOST_ROWS).rows
    except ToolError:
        return None


def query_of(trajectory: Trajectory) -> str:
    """The query that an attempt stands by: the last SQL block of its answer, the answer itself, its last `sql` call."""
    answer = (trajectory.answer or "")[-2 * LONGEST :]
    if blocks := _BLOCK.findall(answer):
        return blocks[-1].strip()
    if _BARE.match(answer):
        return answer.strip()
    calls = [call.arguments.get("query") for call in trajectory.calls if call.name == "sql"]
    return calls[-1] if calls and isinstance(calls[-1], str) else ""


def _ran(trajectory: Trajectory, asked: Asked) -> Ran:
    query = query_of(trajectory)
    return Ran(query=query, rows=_rows(asked.sql, query) if query else None)


# --- Reasoning-SQL ----------------------------------------------------------------------------------------------------


def sql_partials(
    group: Group,
    *,
    execution: NotNegative = 3.0,
    syntax: NotNegative = 1.0,
    schema: NotNegative = 1.0,
    ngrams: NotNegative = 1.0,
    form: NotNegative = 1.0,
) -> Scores:
    """Reasoning-SQL's partial rewards (#64, derived) without its judge: result, syntax, schema, pairs of tokens, form.

    What they are, which query counts, and what a problem needs: see `reasoning_sql`. The weights are from memory.
    """
    weights = {"execution": execution, "syntax": syntax, "schema": schema, "ngrams": ngrams, "form": form}
    return _weighed(group, weights, None)


def reasoning_sql(
    group: Group,
    *,
    execution: NotNegative = 3.0,
    judged: NotNegative = 2.0,
    syntax: NotNegative = 1.0,
    schema: NotNegative = 1.0,
    ngrams: NotNegative = 1.0,
    form: NotNegative = 1.0,
    judge: Judge,
) -> Scores:
    """Reasoning-SQL (#64, derived): the reference's result, else a judge's opinion; and rewards for what is partly right.

    Partly right is a query that runs, that names the reference's tables and columns, that shares its pairs of tokens,
    and the form of the attempt. Each is in [0, 1] and has its weight, from memory.

    Result: the same rows, in order where the reference orders them. Names and pairs: Jaccard indices. Form: every turn
    accepted and an answer given. The judge says 0 to 10 (ours) where the result is not the reference's; what it says
    unreadably leaves the attempt unscored. Which query counts: the last SQL block of the answer, an answer that is a
    query, the last `sql` call. Unscored where the problem has no database.
    """
    weights = {"execution": execution, "syntax": syntax, "schema": schema, "ngrams": ngrams, "form": form}
    return _weighed(group, {**weights, "judged": judged}, judge)


def _weighed(group: Group, weights: dict[str, float], judge: Judge | None) -> Scores:
    asked = asked_of(group.problem)
    if asked is None:
        return [UNSCORED for _ in group]
    ran = [_ran(t, asked) if told(t) else Ran(query="", rows=None) for t in group]
    parts = [_partials(t, one, asked) for t, one in zip(group, ran, strict=True)]
    opinions: list[float | None] = [0.0] * len(group)
    if judge is not None:
        doubtful = [i for i, one in enumerate(ran) if one.query and not parts[i]["execution"]]
        for i, opinion in zip(doubtful, _opinions(group, asked, [ran[i].query for i in doubtful], judge), strict=True):
            opinions[i] = opinion
    scores: list[Score] = []
    for t, own, opinion in zip(group, parts, opinions, strict=True):
        whole = {**own, **({"judged": opinion} if judge is not None and opinion is not None else {})}
        total = sum(weights[name] * value for name, value in whole.items())
        scores.append(Score(total=total, parts=whole) if told(t) and opinion is not None else UNSCORED)
    return scores


def _partials(t: Trajectory, ran: Ran, asked: Asked) -> dict[str, float]:
    same = ran.rows is not None and same_rows(asked.rows, ran.rows, ordered=asked.ordered)
    return {
        "execution": float(same),
        "syntax": float(ran.rows is not None),
        "schema": _schema_overlap(ran.query, asked) if ran.query else 0.0,
        "ngrams": jaccard(set(_pairs(ran.query)), set(_pairs(asked.query))) if ran.query else 0.0,
        "form": float(is_well_formed(t) and t.answer is not None),
    }


def _schema_overlap(query: str, asked: Asked) -> float:
    known = _names(asked.sql)
    return jaccard(set(sql_tokens(query)) & known, set(sql_tokens(asked.query)) & known)


def _pairs(query: str) -> list[tuple[str, str]]:
    return list(pairwise(sql_tokens(query)))


def sql_tokens(query: str) -> list[str]:
    """A query's tokens in lower case, names without their quotes."""
    return [token.casefold().strip('"`') for token in _TOKENS.findall(query[:LONGEST])]


@lru_cache(maxsize=64)
def _names(sql: "Sql") -> frozenset[str]:
    """Names of a database's tables and columns."""
    found = sql.rows(_NAMES[sql.engine], MOST_NAMES).rows
    return frozenset(str(name).casefold() for row in found for name in row)


def _opinions(group: Group, asked: Asked, queries: Sequence[str], judge: Judge) -> list[float | None]:
    """What a judge thinks of queries, 0 to 1; None where it can't be read."""
    question = group.problem.question if group.problem else ""
    put = [
        f"A question about a database:\n{question}\n\nA right query:\n{asked.query}\n\nAnother query, which gives another "
        f"result:\n{query[:LONGEST]}\n\nHow much of the question does the other query get right? Answer with a whole "
        "number from 0, nothing, to 10, all of it, and nothing else."
        for query in queries
    ]
    return [_opinion(said) for said, *_ in judge.ask(put)] if put else []


def _opinion(said: str) -> float | None:
    numbers = _NUMBER.findall(said)
    return int(numbers[0]) / 10 if len(numbers) == 1 and len(numbers[0]) <= 2 and int(numbers[0]) <= 10 else None


# --- PaVeRL-SQL -------------------------------------------------------------------------------------------------------


def paverl_sql(group: Group) -> Scores:
    """PaVeRL-SQL's partial match (#167, verified): 10 times the share of the reference's cells that a result matches.

    0.5 where a query runs and matches none, 0 where it fails or has fewer than 16 characters.
    The share is (rows matched * columns matched) / (rows * columns of the reference). A column matches one of the result
    that has the same values in any order, numbers up to 0.005 apart and never more than 1 % (ours); columns besides are
    free, and rows are not held together across columns. Of two results with up to 5 rows between them the longer one is cut to
    the rows whose key the other has, as often as there (ours: the code's rule for one column differs); the key is the
    first column of text, else of any kind. Which query counts: see `reasoning_sql`.
    """
    asked = asked_of(group.problem)
    if asked is None:
        return [UNSCORED for _ in group]
    scores: list[Score] = []
    for t in group:
        ran = _ran(t, asked) if told(t) and len(query_of(t)) >= SHORTEST else Ran(query="", rows=None)
        share = matched_cells(ran.rows, asked.rows) if ran.rows is not None else 0.0
        total = 0.0 if ran.rows is None else TOP * share or RUNS
        scores.append(Score(total=total, parts={"matched_cells": share}) if told(t) else UNSCORED)
    return scores


def matched_cells(rows: Table, reference: Table) -> float:
    """PaVeRL-SQL's share of the reference that a result matches, in [0, 1]."""
    if not rows or not reference or abs(len(rows) - len(reference)) > ROWS_APART:
        return 0.0
    gold: Table = reference
    if len(rows) > len(reference):
        rows = _cut(rows, reference)
    elif len(rows) < len(reference):
        gold = _cut(reference, rows)
    if len(rows) != len(gold):
        return 0.0
    left = [sorted(column, key=_order) for column in zip(*rows, strict=True)]
    columns = 0
    for column in (sorted(column, key=_order) for column in zip(*gold, strict=True)):
        fit = next((i for i, other in enumerate(left) if all(map(same_cell, column, other))), None)
        if fit is not None:
            columns += 1
            del left[fit]
    return len(gold) * columns / (len(reference) * len(reference[0]))


def _cut(longer: Table, shorter: Table) -> Table:
    """The rows of the longer table whose key is among the shorter one's, each of those once; none where no column fits."""
    kinds = [_kind(column[0]) for column in zip(*shorter, strict=True)]
    key = kinds.index("text") if "text" in kinds else 0
    keys = [row[key] for row in shorter]
    for place in range(len(longer[0])):
        left, kept = list(keys), []
        for row in longer:
            found = next((i for i, value in enumerate(left) if same_cell(value, row[place])), None)
            if found is not None:
                del left[found]
                kept.append(row)
        if not left:
            return kept
    return ()


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) and _number(value) is None else "number"


def _order(value: Any) -> tuple[int, float, str]:
    number = _number(value)
    return (1, 0.0, str(value).strip().casefold()) if number is None else (0, number, "")


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (ValueError, TypeError, OverflowError):
        return None
