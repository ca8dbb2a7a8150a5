"""Rows that say what an earlier row says: the same, or nearly."""

from typing import Annotated

from pydantic import Field

from journeyman.curation.base import Found, Rows
from journeyman.curation.normal_form import question_sql
from journeyman.expressions import Count


def exact(rows: Rows) -> Found:
    """Rows that repeat an earlier one; the first stays.

    Of problems: the same question in normal form (case, marks and space don't count; numbers and operators do); where the
    answers differ, the reason says so. Of trajectories: the same turns for the same question of the same problem.
    """
    if rows.kind == "problem":
        said, answer, key = "question", "trim(answer)", f"md5_number({question_sql('question')})"
    else:
        said, answer, key = "problem and turns", "NULL", f"md5_number({_TURNS})"
    return Found(
        query=f"""
        WITH keyed AS MATERIALIZED (SELECT position, {key} AS key FROM rows),
        first AS (SELECT key, min(position) AS earlier FROM keyed GROUP BY key HAVING count(*) > 1),
        repeated AS (SELECT position, earlier FROM keyed JOIN first USING (key) WHERE position > earlier)
        SELECT repeated.position, 'same {said} as an earlier row'
            || CASE WHEN this.answer <> other.answer THEN ', with another answer' ELSE '' END
            || ' (row ' || earlier || ')' AS reason, other.id AS match
        FROM repeated JOIN (SELECT position, {answer} AS answer FROM rows) AS this USING (position)
            JOIN (SELECT position, id, {answer} AS answer FROM rows) AS other ON other.position = earlier
        """
    )


_TURNS = "problem_id || '\x01' || question || '\x01' || array_to_string([turn.text FOR turn IN turns], '\x01')"


def unique_ids(rows: Rows) -> Found:
    """Rows whose id an earlier row has: what asks for a row by its id would find two. The first stays."""
    return Found(
        query="""
        WITH first AS (SELECT id, min(position) AS earlier FROM rows WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1)
        SELECT position, 'the id of an earlier row, with other content (row ' || earlier || ')' AS reason, id AS match
        FROM rows JOIN first USING (id) WHERE position > earlier
        """
    )


def near(
    rows: Rows,
    *,
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.8,
    shingle: Count = 2,
    same_numbers: bool = False,
) -> Found:
    """Rows whose words are nearly those of an earlier one: MinHash signatures in bands, then the exact similarity.

    The similarity is Jaccard's, of the sets of runs of `shingle` words in normal form: of the question, and for
    trajectories of all turns. What meets an earlier row in a band is compared with the first there and with the one just
    before; a pair at a threshold of .8 is found with a chance above .99. `same_numbers`: other numbers, another text.
    """
    from journeyman.curation.signatures import meet

    database = rows.database
    meet(rows, shingle)
    numbers = (
        f", regexp_extract_all({question_sql(rows.text)}, '[0-9]+(\\.[0-9]+)?') AS numbers" if same_numbers else ""
    )
    database.execute(f"""
        CREATE OR REPLACE TABLE numbered AS SELECT position{numbers}
        FROM rows SEMI JOIN (SELECT position FROM met UNION SELECT earlier FROM met) USING (position)
    """)
    alike = "AND one.numbers = two.numbers" if same_numbers else ""
    return Found(
        query=f"""
        WITH compared AS (
            SELECT met.position, met.earlier, len(list_intersect(a.runs, b.runs)) AS common, len(a.runs) + len(b.runs) AS total
            FROM met JOIN shingles AS a ON a.position = met.position JOIN shingles AS b ON b.position = met.earlier
        ), close AS (
            SELECT position, earlier, common / (total - common) AS similarity FROM compared
            JOIN numbered AS one USING (position) JOIN numbered AS two ON two.position = earlier
            WHERE common / (total - common) >= {threshold} {alike}
        ), best AS (
            SELECT position, min(earlier) AS earlier, arg_min(similarity, earlier) AS similarity FROM close GROUP BY position
        )
        SELECT best.position, 'nearly the words of an earlier row (row ' || earlier || ', similarity '
            || printf('%.2f', similarity) || ')' AS reason, other.id AS match
        FROM best JOIN rows AS other ON other.position = earlier
        """,
        tables=("met", "shingles", "numbered"),
    )
