"""Rules that look at how often a policy solves a problem."""

from statistics import NormalDist
from typing import Annotated

from pydantic import Field

from journeyman.curation.base import Found, Rows
from journeyman.curation.rules.sql import Unknown, number, quoted, reason
from journeyman.errors import ConfigError
from journeyman.expressions import Share

RATES = """(
    SELECT *, CASE WHEN n_tools > 0 THEN n_tools ELSE n_free END AS n,
        CASE WHEN n_tools > 0 THEN hits_tools ELSE hits_free END AS hits
    FROM (SELECT problem_id AS attempted,
            count(*) FILTER (WHERE coalesce(tools, true)) AS n_tools,
            count(*) FILTER (WHERE coalesce(tools, true) AND correct) AS hits_tools,
            count(*) FILTER (WHERE NOT tools) AS n_free,
            count(*) FILTER (WHERE NOT tools AND correct) AS hits_free
        FROM attempts WHERE correct IS NOT NULL GROUP BY problem_id)
)"""
"""A table expression, one line a problem: how many verified attempts it had and how many were right, with tools, without
them (`free`), and as the problem is meant to be solved: with tools where there are such attempts, else without."""

NOT_ATTEMPTED = "not attempted"
COUNTED = ("{} of {}", "hits", "n")
"""What a reason says in brackets."""


def measured(rows: Rows, rule: str) -> str:
    """A table expression: `position`, `problem` and the rates of each row's problem, 0 of 0 where it was not attempted.

    Raises `ConfigError` where there are no attempts at all.
    """
    if not rows.has_attempts:
        raise ConfigError(
            f"{rule} needs a policy's attempts at the problems",
            place="curate.rules",
            remedy="set curate.measure, or give a file of attempts: --attempts FILE",
        )
    counts = ", ".join(f"coalesce({name}, 0) AS {name}" for name in _COUNTS)
    return f"(SELECT position, {rows.problem} AS problem, {counts} FROM rows LEFT JOIN {RATES} ON attempted = {rows.problem})"


_COUNTS = ("n", "hits", "n_tools", "hits_tools", "n_free", "hits_free")


def difficulty(
    rows: Rows,
    *,
    low: Share = 0.0,
    high: Share = 1.0,
    open: bool = True,
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    unknown: Unknown = "drop",
) -> Found:
    """Problems, and attempts at them, whose pass rate lies outside of the band from `low` to `high`.

    The ends belong to the band where `open` is false. With `confidence` c a row falls only where the Wilson score
    interval of that level lies outside: few attempts then drop little, and no count makes it sure that a rate is 0 or 1.
    Wilson's, because it has a closed form and stays in [0, 1]. `unknown`: rows without verified attempts.
    """
    if low > high or (open and low == high):
        raise ConfigError(
            f"difficulty keeps nothing: low={low:g}, high={high:g}", place="curate.rules", remedy="take a wider band"
        )
    bottom, top = _wilson(confidence)
    beyond = "=" if open else ""
    return _found(
        rows,
        "difficulty",
        unknown=unknown,
        cases=f"""WHEN {top} <{beyond} {number(low)} THEN {reason("too hard", *COUNTED)}
            WHEN {bottom} >{beyond} {number(high)} THEN {reason("too easy", *COUNTED)}""",
    )


def _wilson(confidence: float) -> tuple[str, str]:
    """SQL of the ends of the interval of hits / n; both are hits / n where the confidence is 0."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    squared = number(z * z)
    centre = f"(hits / n + {squared} / (2 * n))"
    half = f"({number(z)} * sqrt(hits / n * (1 - hits / n) / n + {squared} / (4 * n * n)))"
    return tuple(f"(({centre} {sign} {half}) / (1 + {squared} / n))" for sign in "-+")  # type: ignore[return-value]


def edge(rows: Rows, *, most: Share = 0.25, unknown: Unknown = "drop") -> Found:
    """Interplay (#170, secondary): the edge of competence, problems that are seldom solved but not never.

    Kept where pass@1 <= `most` (a quarter is ours) and pass@k > 0. The unbiased pass@k, 1 - C(n-c, k) / C(n, k), is
    above 0 for every k from 1 to n exactly where c > 0: any hit will do, and k is no option. `unknown`: rows without
    verified attempts.
    """
    return _found(
        rows,
        "edge",
        unknown=unknown,
        cases=f"""WHEN hits = 0 THEN {reason("never solved", *COUNTED)}
            WHEN hits / n > {number(most)} THEN {reason("solved too often", *COUNTED)}""",
    )


def _found(rows: Rows, rule: str, *, unknown: Unknown, cases: str) -> Found:
    none = quoted(NOT_ATTEMPTED) if unknown == "drop" else "NULL"
    judged = f"SELECT position, CASE WHEN n = 0 THEN {none} {cases} END AS reason FROM {measured(rows, rule)}"
    return Found(query=f"SELECT position, reason FROM ({judged}) WHERE reason IS NOT NULL")
