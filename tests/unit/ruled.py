"""Curation rules over a few rows: what a rule drops, by the row's place."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from journeyman.curation.base import Each, Found, Rows
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory, schema, to_row

Attempt = tuple[str, bool, bool | None]
"""problem id, whether tools were on offer, correct."""
AnyRule = Callable[..., Each | Found]
"""A rule with its options unset."""
ATTEMPTS = pa.schema(
    [
        ("problem_id", pa.string()),
        ("tools", pa.bool_()),
        ("correct", pa.bool_()),
        ("score", pa.float64()),
        ("confidence", pa.float64()),
    ]
)


def rows_of(
    data: Sequence[Trajectory] | Sequence[Problem],
    *,
    kind: str = "",
    attempts: Sequence[Attempt] | None = None,
    seed: int = 0,
    empty_rows: int = 0,
) -> Rows:
    """The rows in a database of their own; `empty_rows` of NULLs come last."""
    kind = kind or ("problem" if data and isinstance(data[0], Problem) else "trajectory")
    database = duckdb.connect(config={"threads": 1})
    table = _table(data, kind)
    table = table.append_column("position", pa.array(range(len(data)), pa.int64()))
    measured = pa.Table.from_pylist(
        [dict(zip(ATTEMPTS.names, one, strict=False)) for one in attempts or ()], schema=ATTEMPTS
    )
    for name, arrow in (("rows", table), ("attempts", measured)):
        database.register("given", arrow)
        database.execute(f"CREATE TABLE {name} AS FROM given")
        database.unregister("given")
    database.execute(f"INSERT INTO rows (position) SELECT {len(data)} + range FROM range({empty_rows})")
    database.execute("CREATE TABLE evaluation (source VARCHAR, id VARCHAR, question VARCHAR, answer VARCHAR)")
    columns = frozenset(row[0] for row in database.execute("DESCRIBE rows").fetchall())
    return Rows(
        kind=kind,  # type: ignore[arg-type]
        columns=columns,
        database=database,
        seed=seed,
        has_attempts=attempts is not None,
    )


def _table(data: Sequence[Trajectory] | Sequence[Problem], kind: str) -> pa.Table:
    if kind == "trajectory":
        return pa.Table.from_pylist([to_row(row) for row in data if isinstance(row, Trajectory)], schema=schema())
    problems = [row.to_json() for row in data if isinstance(row, Problem)]
    rows = [{**row, "data": json.dumps(row["data"]), "world": json.dumps(row["world"])} for row in problems]
    texts = [(name, pa.string()) for name in ("id", "family", "question", "answer", "data", "world")]
    columns = pa.schema([*texts, ("tools", pa.list_(pa.string())), ("min_calls", pa.int32())])
    return pa.Table.from_pylist(rows, schema=columns)


def dropped(rule: AnyRule, rows: Rows, **options: Any) -> dict[int, str]:
    """Position to reason. What a rule promises holds: a reason, and one line a position."""
    with rows.database:
        found = rule(rows, **options)
        if isinstance(found, Each):
            query = f"SELECT position, ({found.reason}) AS reason FROM rows"
            lines = [line for line in rows.database.execute(query).fetchall() if line[1] is not None]
        else:
            lines = rows.database.execute(f"SELECT position, reason FROM ({found.query}) ORDER BY position").fetchall()
    assert all(reason for _, reason in lines), "every dropped row has a reason"
    assert len(dict(lines)) == len(lines), "at most one line a position"
    return dict(lines)


def put_in_order(rule: AnyRule, rows: Rows, **options: Any) -> list[int]:
    """Positions, in the order that a rule asks for."""
    with rows.database:
        found = rule(rows, **options)
        assert isinstance(found, Found) and rows.database.execute(found.query).fetchall() == []
        return [
            at
            for (at,) in rows.database.execute(f"SELECT position FROM rows ORDER BY {found.order}, position").fetchall()
        ]
