"""Rules that sort problems by what tools are good for, given a policy's attempts with and without them."""

from collections.abc import Sequence
from typing import Literal

from journeyman.curation.base import Found, Rows
from journeyman.curation.rules.difficulty import measured
from journeyman.curation.rules.sql import CALLS, drawn, is_attempt, number, quoted, reason
from journeyman.expressions import Share

Benefit = Literal["easy", "rl", "teacher", "low", "unknown"]
Solved = Literal["direct", "tool", "unsolved", "unknown"]
UNMEASURED = "not attempted both with and without tools"


def tool_benefit(
    rows: Rows,
    *,
    keep: Sequence[Benefit] = ("rl", "low"),
    easy: Share = 0.75,
    gain: Share = 0.25,
    tool_free: Share = 0.1,
) -> Found:
    """DeepEyesV2 (#149, derived): keep problems where tools help.

    With pass rates p0 without and pt with tools, each problem is in one class: `easy`, p0 >= `easy`; else `rl`,
    pt - p0 >= `gain` and pt < 1; else `teacher`, pt = 0: a stronger model has to show it; else `low`, for RL with a low
    weight, which is not set here. `unknown`: one of the rates is not there. Of the easy ones the share `tool_free` stays
    even where `keep` leaves them out, so that calling does not become a habit; which, follows from the seed and the
    problem's id. All thresholds and the share are ours. Both rates should have had the same number of attempts.
    """
    with_tools, without = "hits_tools / n_tools", "hits_free / n_free"
    # Rates that differ at all differ by far more than the rounding of a difference.
    kind = f"""CASE WHEN n_tools = 0 OR n_free = 0 THEN 'unknown'
        WHEN {without} >= {number(easy)} THEN 'easy'
        WHEN {with_tools} - {without} >= {number(gain - 1e-9)} AND hits_tools < n_tools THEN 'rl'
        WHEN hits_tools = 0 THEN 'teacher' ELSE 'low' END"""
    rates = ("{} of {} without, {} of {} with", "hits_free", "n_free", "hits_tools", "n_tools")
    reasons = {
        "easy": reason("easy without tools", *rates),
        "rl": reason("tools help", *rates),
        "teacher": reason("not solved even with tools", *rates),
        "low": reason("tools help little", *rates),
        "unknown": quoted(UNMEASURED),
    }
    cases = " ".join(f"WHEN kind = '{kind}' THEN {text}" for kind, text in reasons.items() if kind not in keep)
    spared = f"kind = 'easy' AND {drawn(rows, 'tool_benefit', 'problem')} < {number(tool_free)}"
    return Found(
        query=f"""SELECT position, reason FROM (
            SELECT position, CASE WHEN {spared} THEN NULL {cases} END AS reason
            FROM (SELECT *, {kind} AS kind FROM {measured(rows, "tool_benefit")}))
        WHERE reason IS NOT NULL"""
    )


def tool_classes(
    rows: Rows,
    *,
    keep: Sequence[Solved] = ("direct", "tool"),
    over: Share = 0.0,
    fitting: bool = True,
) -> Found:
    """Tool-Star (#19, derived): problems by whether the policy solves them directly, with tools only, or not at all.

    `direct`: solved without tools; else `tool`: solved with them; else `unsolved`; `unknown`: what it would take to tell
    is not there. The first two are for the cold start, the unsolved for RL: `keep: [unsolved]`. Solved is where more than
    the share `over` (ours) of the attempts is right. With `fitting`, of attempts only those stay that fit: without calls
    for `direct`, with a call for `tool`.
    """
    kind = f"""CASE WHEN n_free = 0 THEN 'unknown'
        WHEN hits_free / n_free > {number(over)} THEN 'direct'
        WHEN n_tools = 0 THEN 'unknown'
        WHEN hits_tools / n_tools > {number(over)} THEN 'tool' ELSE 'unsolved' END"""
    reasons = {
        "direct": "solved without tools",
        "tool": "solved with tools only",
        "unsolved": "not solved even with tools",
        "unknown": UNMEASURED,
    }
    cases = [f"WHEN kind = '{kind}' THEN '{text}'" for kind, text in reasons.items() if kind not in keep]
    table = measured(rows, "tool_classes")
    if fitting and rows.kind == "trajectory":
        made = f"(SELECT position, len({CALLS}) AS calls FROM rows WHERE {is_attempt(rows)})"
        table = f"({table} LEFT JOIN {made} USING (position))"
        cases.append("WHEN kind = 'direct' AND calls > 0 THEN 'calls a tool where none is needed'")
        cases.append("WHEN kind = 'tool' AND calls = 0 THEN 'calls no tool where one is needed'")
    return Found(
        query=f"""SELECT position, reason FROM (
            SELECT position, CASE {" ".join(cases)} END AS reason FROM (SELECT *, {kind} AS kind FROM {table}))
        WHERE reason IS NOT NULL"""
    )
