"""Rules that look at how an attempt was judged: by its world, by a reward, by the policy's own certainty."""

from typing import Literal

from journeyman.curation.base import Each, Rows
from journeyman.curation.normal_form import question_sql
from journeyman.curation.rules.sql import CONFIDENCE, Unknown, attempts_only, blank, is_attempt, number, quoted, reason

UNSCORED = "not scored"


def verified(rows: Rows, *, by: Literal["verdict", "answer"] = "verdict") -> Each:
    """Attempts that are not known to be right: rejection sampling, for who wants it.

    `by`: the environment's verdict; or the answer, which has to be the reference in normal form, for files that have no
    verdicts. Samples that are no attempts pass.
    """
    attempts_only(rows, "verified")
    right = "correct"
    if by == "answer":
        given = question_sql("coalesce(answer, '')")
        same = f"{given} = {question_sql('reference')}"
        right = f"CASE WHEN NOT ({blank('reference')}) THEN {same} END"
    return Each(
        reason=f"""CASE WHEN NOT ({is_attempt(rows)}) OR ({right}) THEN NULL
            WHEN ({right}) IS NULL THEN 'not verified' ELSE 'wrong' END"""
    )


def scored(
    rows: Rows, *, least: float, by: Literal["score", "reward"] = "score", part: str = "", unknown: Unknown = "drop"
) -> Each:
    """Attempts that scored less than `least`: by the environment's graded verdict, or by the reward; or by a named part.

    A score that is missing is never 0: `unknown` says whether such rows fall. Samples that are no attempts pass.
    """
    attempts_only(rows, "scored")
    value = by
    if part:
        path = "/" + part.replace("~", "~0").replace("/", "~1")  # a JSON pointer: no character of a name is special
        value = f"TRY(CAST(json_extract({by}_parts, {quoted(path)}) AS DOUBLE))"
    phrase = f"{part or by} below {least:g}"
    return _at_least(rows, value, least=least, low=phrase, none=_none(UNSCORED, unknown))


def confident(rows: Rows, *, least: float, unknown: Unknown = "drop") -> Each:
    """Attempts whose policy was unsure: the mean log-probability of its own tokens, in nats, is below `least`.

    It is the policy that sampled the attempt. One that was written has no log-probabilities: `unknown` says whether
    such rows fall. Samples that are no attempts pass.
    """
    attempts_only(rows, "confident")
    phrase = f"mean log-probability below {least:g}"
    return _at_least(rows, CONFIDENCE, least=least, low=phrase, none=_none("no log-probabilities", unknown))


def _none(phrase: str, unknown: Unknown) -> str:
    return quoted(phrase) if unknown == "drop" else "NULL"


def _at_least(rows: Rows, value: str, *, least: float, low: str, none: str) -> Each:
    return Each(
        reason=f"""CASE WHEN NOT ({is_attempt(rows)}) OR {value} >= {number(least)} THEN NULL
            WHEN ({value}) IS NULL THEN {none} ELSE {reason(low, "{}", f"round({value}, 3)")} END"""
    )
