"""Rows that hold what is evaluated on, or an answer that was not worked out."""

from typing import Annotated

from pydantic import Field

from journeyman.curation.base import Found, Rows
from journeyman.curation.normal_form import answer_sql, question_sql
from journeyman.curation.rules.sql import attempts_only, is_attempt, quoted
from journeyman.errors import ConfigError
from journeyman.expressions import Share

SHORTEST = 3
"""Words of the shortest question that is looked for inside of others (ours): "how many" would be in too many."""
FEW = 10
"""Rows or questions that may have a run before it can be boilerplate (ours)."""
_MARKS, _END = " .?!;:\t\r\n\"')", r"""([?!;\n]|\.[\s"')])[.?!;:\s"')]*"""
_STOP = " \x02 "
_ENDED = f"(regexp_replace(rtrim(question, {quoted(_MARKS)}), {quoted(_END)}, '{_STOP}', 'g') || '{_STOP}')"
"""An SQL expression: the question with a word of its own where a sentence ends, and at the end."""


def decontaminate(
    rows: Rows,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.7,
    run: Annotated[int, Field(ge=2)] = 5,
    common: Share = 0.01,
) -> Found:
    """Rows that hold a question which is evaluated on: the same in normal form, else most of its runs of words.

    A row is dropped where its text has `share` of the runs of `run` words of an evaluated question, and `share` of its
    rare ones. A run is not rare where more than `common` of the rows, or of the evaluated questions, have it (and more
    than 10): boilerplate by itself condemns nobody. Of a short question, with less than four times `run` words, one
    word makes another question: all of its runs must stand in the row's own question, and a sentence must end there
    as it does; below `run` words the row's question must not be more than twice as long. What has one or two words is
    found as a whole only. Not covered: paraphrases, translations, the same story with other numbers.
    """
    from journeyman.curation.runs import find

    database = rows.database
    if not rows.has_evaluation:
        raise ConfigError(
            "decontaminate has nothing to hold the rows against",
            place="curate.against",
            remedy="name a file with the evaluated questions (--against FILE), or take the rule out",
        )
    database.execute(f"""
        CREATE OR REPLACE TABLE questions AS
        SELECT row_number() OVER (ORDER BY first) AS position, form, question, source, id, len(string_split(form, ' ')) AS words
        FROM (SELECT {question_sql("question")} AS form, min(rowid) AS first, arg_min(question, rowid) AS question,
            arg_min(source, rowid) AS source, arg_min(id, rowid) AS id FROM evaluation GROUP BY form) WHERE form <> ''
    """)
    database.execute("CREATE OR REPLACE TABLE grams (gram UBIGINT, question BIGINT)")
    database.execute("CREATE OR REPLACE TABLE hits (position BIGINT, gram UBIGINT)")
    find(rows, rows.text, "question", run, f"words >= {4 * run}")
    find(rows, _ENDED, _ENDED, run, f"words BETWEEN {run - 1} AND {4 * run - 1}")
    for words in range(SHORTEST, run - 1):
        find(rows, _ENDED, _ENDED, words + 1, f"words = {words}")
    rare = max(FEW, common * _count(rows, "rows")), max(FEW, common * _count(rows, "questions"))
    return Found(
        query=_DECONTAMINATE.format(
            form=question_sql("question"), run=run, share=share, rows=rare[0], questions=rare[1]
        ),
        tables=("questions", "grams", "hits"),
    )


_DECONTAMINATE = """
    WITH rare AS (
        SELECT gram FROM (SELECT gram, count(*) AS rows FROM hits GROUP BY gram)
        JOIN (SELECT gram, count(*) AS questions FROM grams GROUP BY gram) USING (gram)
        WHERE rows <= {rows} AND questions <= {questions}
    ), sizes AS (
        SELECT question, count(*) AS runs, count(rare.gram) AS rare_runs FROM grams LEFT JOIN rare USING (gram) GROUP BY question
    ), likely AS (
        SELECT position, question, count(*) AS rare_found FROM hits JOIN rare USING (gram) JOIN grams USING (gram)
        GROUP BY position, question
    ), shared AS (
        SELECT position, question, any_value(rare_found) AS rare_found, count(*) AS found
        FROM likely JOIN grams USING (question) JOIN hits USING (position, gram) GROUP BY position, question
    ), held AS (
        SELECT shared.position, question, found / runs AS part FROM shared
        JOIN sizes USING (question) JOIN questions ON questions.position = question
        JOIN (SELECT position, len(string_split({form}, ' ')) AS words FROM rows SEMI JOIN shared USING (position)) AS own
            ON own.position = shared.position
        WHERE CASE WHEN questions.words < {run} THEN found = runs AND own.words <= 2 * questions.words
            WHEN questions.words < 4 * {run} THEN found = runs
            ELSE found >= {share} * runs AND rare_found >= {share} * rare_runs END
    ), same AS (
        SELECT rows.position, questions.position AS question, 2.0 AS part
        FROM (SELECT position, {form} AS form FROM rows) AS rows JOIN questions USING (form)
    ), best AS (
        SELECT position, arg_max(question, (part, -question)) AS question, max(part) AS part
        FROM (FROM held UNION ALL FROM same) GROUP BY position
    )
    SELECT best.position, CASE WHEN part > 1 THEN 'the question is evaluated on (' || source || ')'
        ELSE 'holds a question that is evaluated on (' || source || ', ' || round(100 * part)::INT || ' % of its words)'
        END AS reason,
        to_json({{'id': id, 'source': source, 'text': question_text}})::VARCHAR AS match
    FROM best JOIN (SELECT position, source, id, question AS question_text FROM questions) AS asked ON asked.position = question
"""


def looked_up(rows: Rows) -> Found:
    """Attempts that state the reference before the question or a tool result has shown it: it was looked up, not worked out.

    Only of problems that need a call. Arguments of calls count too unless the reference is a number: numbers in an
    expression are its operands. What this does not see: a reference in other words.
    """
    attempts_only(rows, "looked_up")
    prose = "regexp_replace(turns[turn].text, '<tool_call>.*?</tool_call>', ' ', 'gs')"
    said = f"CASE WHEN try_cast(replace(reference, ',', '') AS DOUBLE) IS NULL THEN turns[turn].text ELSE {prose} END"
    outputs = "[result.output FOR result IN flatten([earlier.results FOR earlier IN turns[:turn - 1]])]"
    seen = f"question || ' ' || array_to_string({outputs}, ' ')"
    reference = answer_sql("reference")
    return Found(
        query=f"""
        SELECT position, 'the answer is stated before a tool result shows it (turn ' || min(turn) || ')' AS reason
        FROM (SELECT position, question, reference, turns, unnest(range(1, len(turns) + 1)) AS turn
            FROM rows WHERE min_calls > 0 AND {is_attempt(rows)})
        WHERE trim({reference}) <> '' AND contains({answer_sql(said)}, {reference})
            AND NOT contains({answer_sql(seen)}, {reference})
        GROUP BY position
        """
    )


def _count(rows: Rows, table: str) -> int:
    [(found,)] = rows.database.sql(f"SELECT count(*) FROM {table}").fetchall()
    return found
