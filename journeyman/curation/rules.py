"""The curation rules. Each is a query over two views and yields the rows to drop, each with a reason.

The views: `trajectories`, what the rules before have left, with its position in the file as `position`; and
`evaluation`, the dev and held-out problems, with `split` and `question`. A rule yields at most one line a position,
`(position, reason)`. A reason is one of few fixed phrases; what belongs to the row alone stands in brackets at its end.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from journeyman.curation.normal_form import answer_sql, question_sql

if TYPE_CHECKING:
    import duckdb

Rule: TypeAlias = "Callable[[duckdb.DuckDBPyConnection], duckdb.DuckDBPyRelation]"

# What a turn may look like, after each well-formed block became one letter between control characters, which nobody
# types: at most one thought, then calls or an answer.
_BLOCKS = (("think", "T"), ("tool_call", "C"), ("answer", "A"))
_SHAPE = "^(\x01T)?((\x01C)+|\x01A)$"


def format_errors(database: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyRelation":
    """Turns that a parser rejected or that have text outside of the blocks; attempts that end without an answer."""
    shape = "turn.text"
    for tag, letter in _BLOCKS:
        shape = f"regexp_replace({shape}, '<{tag}>.*?</{tag}>', '\x01{letter}', 'gs')"
    shape = f"regexp_replace({shape}, '\\s', '', 'g')"
    return database.sql(f"""
        SELECT position, CASE
            WHEN len(turns) = 0 THEN 'no turn'
            WHEN rejected IS NOT NULL THEN 'a turn was rejected (turn ' || rejected || ')'
            WHEN stop_reason <> 'answer' THEN 'did not end with an answer (' || stop_reason || ')'
            WHEN trim(coalesce(answer, '')) = '' THEN 'no answer'
            ELSE 'text outside of thought, call and answer (turn ' || misshapen || ')'
        END AS reason
        FROM (SELECT *,
            nullif(list_position([turn.error <> '' FOR turn IN turns], true), 0) AS rejected,
            nullif(list_position([regexp_matches({shape}, '{_SHAPE}') FOR turn IN turns], false), 0) AS misshapen
            FROM trajectories)
        WHERE len(turns) = 0 OR rejected IS NOT NULL OR misshapen IS NOT NULL
            OR stop_reason <> 'answer' OR trim(coalesce(answer, '')) = ''
    """)


def errors(database: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyRelation":
    """Attempts in which a tool call failed."""
    return database.sql("""
        SELECT position, 'a tool call failed (' || failed[1] || ')' AS reason
        FROM (SELECT position, [result.name FOR result IN flatten([turn.results FOR turn IN turns])
            IF NOT result.ok] AS failed FROM trajectories)
        WHERE len(failed) > 0
    """)


def duplicates(database: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyRelation":
    """The same turns for the same problem as an earlier row: the first stays."""
    return database.sql("""
        SELECT position, 'same problem and turns as an earlier row (row ' || earlier || ')' AS reason
        FROM (SELECT position, min(position) OVER (PARTITION BY problem_id, [turn.text FOR turn IN turns]) AS earlier
            FROM trajectories)
        WHERE position > earlier
    """)


def leaks(database: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyRelation":
    """Questions that are evaluated on, and answers that were looked up instead of worked out.

    An answer was looked up where the problem needs a call and the policy's own words state the reference before the
    question or a tool result has shown it. Arguments of calls count too unless the reference is a number: numbers in
    an expression are its operands. What this does not see: a reference in other words.
    """
    prose = "regexp_replace(turns[turn].text, '<tool_call>.*?</tool_call>', ' ', 'gs')"
    said = f"CASE WHEN try_cast(replace(reference, ',', '') AS DOUBLE) IS NULL THEN turns[turn].text ELSE {prose} END"
    outputs = "[result.output FOR result IN flatten([earlier.results FOR earlier IN turns[:turn - 1]])]"
    seen = f"question || ' ' || array_to_string({outputs}, ' ')"
    reference = answer_sql("reference")
    return database.sql(f"""
        WITH turned AS (
            SELECT position, question, reference, turns, unnest(range(1, len(turns) + 1)) AS turn
            FROM trajectories WHERE min_calls > 0
        ), forms AS (
            SELECT {question_sql("question")} AS form, min(split) AS split FROM evaluation GROUP BY form
        ), found AS (
            SELECT position, 'the question is evaluated on (' || split || ')' AS reason
            FROM trajectories JOIN forms ON {question_sql("question")} = form
            UNION ALL
            SELECT position, 'the answer is stated before a tool result shows it (turn ' || min(turn) || ')'
            FROM turned
            WHERE trim({reference}) <> '' AND contains({answer_sql(said)}, {reference})
                AND NOT contains({answer_sql(seen)}, {reference})
            GROUP BY position
        )
        SELECT position, max(reason) AS reason FROM found GROUP BY position
    """)


def verified(database: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyRelation":
    """Attempts that the environment did not find correct: rejection sampling, for who wants it; not in the default."""
    return database.sql("""
        SELECT position, CASE WHEN correct THEN '' WHEN correct IS NULL THEN 'not verified' ELSE 'wrong' END AS reason
        FROM trajectories WHERE correct IS NOT TRUE
    """)
