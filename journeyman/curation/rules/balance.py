"""Rules for the whole: how many of each sort, and in which order."""

from typing import Annotated, Literal

from pydantic import Field

from journeyman.curation.base import Found, Rows
from journeyman.curation.rules.difficulty import RATES, measured
from journeyman.curation.rules.sql import CALLS, column, drawn, number, reason
from journeyman.errors import ConfigError, nearest
from journeyman.expressions import Count

NOTHING = "SELECT CAST(NULL AS BIGINT) AS position, CAST(NULL AS VARCHAR) AS reason WHERE false"


def balance(
    rows: Rows, *, by: str = "family", most: Count | None = None, ratio: Annotated[float, Field(ge=1)] | None = None
) -> Found:
    """Rows of a sort that has too many: more than `most`, or more than `ratio` times as many as the smallest has.

    `by`: the column that sorts them. Which of them fall follows from the seed and the row's id, not from its place.
    """
    if by not in rows.columns:
        raise ConfigError(
            f"balance: the rows have no column {by!r}",
            place="curate.rules",
            remedy=nearest(by, sorted(rows.columns - {"position"})),
        )
    if most is None and ratio is None:
        raise ConfigError("balance has no limit", place="curate.rules", remedy="give it `most` or `ratio`, or both")
    limits = [str(most)] if most is not None else []
    if ratio is not None:
        # A ratio times a whole number may come out a little below the whole number that it is.
        limits.append(f"floor({number(ratio)} * (SELECT min(size) FROM sizes) + 1e-9)")
    return Found(
        query=f"""WITH sorts AS (SELECT position, id, {column(by)} AS sort FROM rows),
        sizes AS (SELECT count(*) AS size FROM sorts GROUP BY sort),
        ranked AS (SELECT position, sort, row_number() OVER (
            PARTITION BY sort ORDER BY {drawn(rows, "balance", "id")}, position) AS place FROM sorts)
        SELECT position, {reason(f"too many of one {by}", "{}", "sort")} AS reason
        FROM ranked WHERE place > least({", ".join(limits)})"""
    )


def ordered(
    rows: Rows, *, by: Literal["pass_rate", "calls", "length"] = "pass_rate", hardest_first: bool = False
) -> Found:
    """Nothing is dropped: the rows are put in order, the easiest first. Tool-Star (#19, derived) goes from easy to hard.

    Easy is where a policy's pass rate is high; or where few calls were made, of a problem: are needed; or where the text
    is short. Rows of which that isn't known come last.
    """
    if by == "pass_rate":
        measured(rows, "ordered")
        # No name of the inner table is one of the rows': the row's own problem is meant.
        hard = f"-(SELECT hits / n FROM {RATES} WHERE attempted = {rows.problem})"
    elif by == "calls":
        hard = "min_calls" if rows.kind == "problem" else f"len({CALLS})"
    else:
        hard = f"length({rows.text})"
    return Found(query=NOTHING, order=f"-({hard})" if hardest_first else hard)
