"""Rules that compare the attempts at a problem with each other."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from journeyman.curation.base import Found, Rows
from journeyman.curation.rules.shape import Most
from journeyman.curation.rules.sql import CALLS, CONFIDENCE, attempts_only, is_attempt, number, reason
from journeyman.expressions import Count, NotNegative, Share

Measure = Literal["score", "reward", "confidence", "shortest", "fewest_calls"]
_MEASURES: dict[Measure, str] = {
    "score": "-score",
    "reward": "-reward",
    "confidence": f"-{CONFIDENCE}",
    "shortest": "list_sum([length(turn.text) FOR turn IN turns])",
    "fewest_calls": f"len({CALLS})",
}
"""SQL of what the best has least of."""


def agreement(rows: Rows, *, keep: Share = 0.5, penalty: NotNegative = 0.0, most_steps: Count | None = None) -> Found:
    """PROF (#163, verified): of the attempts at a problem, those stay whose process agrees with their outcome.

    Right attempts fall from the lowest mean step score upwards, wrong ones from the highest downwards; how many of each
    is what brings the kept as near to half right, half wrong as they allow. `keep`: the share of them that stays, rounded
    up (half is ours; of an odd number the odd one is right). A step's score is one of provenance `step_values`, else a
    turn reward. `penalty` is taken off the mean where an attempt has one step or, with
    `most_steps`, as many or more (as others tell it).

    Attempts without a verdict or without step scores take no part, and stay.
    """
    attempts_only(rows, "agreement")
    steps = "TRY(CAST(json_extract(provenance, '$.step_values') AS DOUBLE[]))"
    if "turn_rewards" in rows.columns:
        steps = f"coalesce({steps}, turn_rewards)"
    odd = "len(steps) = 1" + (f" OR len(steps) >= {most_steps}" if most_steps else "")
    return Found(
        query=f"""WITH judged AS (
            SELECT position, problem_id, correct,
                list_avg(steps) - CASE WHEN {odd} THEN {number(penalty)} ELSE 0 END AS process
            FROM (SELECT *, {steps} AS steps FROM rows WHERE {is_attempt(rows)})
            WHERE correct IS NOT NULL AND list_avg(steps) IS NOT NULL
        ), ranked AS (
            SELECT *, row_number() OVER side AS place, count(*) FILTER (WHERE correct) OVER whole AS n_right,
                count(*) FILTER (WHERE NOT correct) OVER whole AS n_wrong,
                ceil({number(keep)} * count(*) OVER whole - 1e-9) AS n_kept
            FROM judged
            WINDOW whole AS (PARTITION BY problem_id), side AS (
                PARTITION BY problem_id, correct ORDER BY CASE WHEN correct THEN -process ELSE process END, position)
        ), shared AS (
            SELECT *, least(n_right, greatest(ceil(n_kept / 2), n_kept - n_wrong)) AS kept_right FROM ranked
        )
        SELECT position, CASE WHEN correct THEN {reason("right by a poor process", "{}", "round(process, 3)")}
            ELSE {reason("wrong by a good process", "{}", "round(process, 3)")} END AS reason
        FROM shared WHERE place > CASE WHEN correct THEN kept_right ELSE n_kept - kept_right END"""
    )


def best(
    rows: Rows,
    *,
    n: Count = 1,
    by: Annotated[Sequence[Measure], Field(min_length=1)] = ("score",),
    worst: Most = 0,
) -> Found:
    """All but the best attempts at each problem: `n` of them stay.

    `by`: the measures, the first decides, the next where it is equal; an attempt that lacks one comes last. Then the
    earlier row is the better. `worst`: that many of the other end stay too, as pairs of a preference are made of.
    Samples that are no attempts pass.
    """
    attempts_only(rows, "best")
    order = ", ".join(f"{_MEASURES[measure]} NULLS LAST" for measure in by)
    return Found(
        query=f"""WITH ranked AS (
            SELECT position, row_number() OVER place AS place, count(*) OVER (PARTITION BY problem_id) AS attempts,
                first_value(id) OVER place AS match
            FROM rows WHERE {is_attempt(rows)}
            WINDOW place AS (PARTITION BY problem_id ORDER BY {order}, position)
        )
        SELECT position, {reason("other attempts at the problem are better", "place {} of {}", "place", "attempts")}
            AS reason, match
        FROM ranked WHERE place > {n} AND place <= attempts - {worst}"""
    )
