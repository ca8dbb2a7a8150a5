"""A policy's attempts as the table that rules see."""

from pathlib import Path

from journeyman.curation.rules.sql import CONFIDENCE, parquet
from journeyman.trajectory import StopReason

ATTEMPTS = "attempts.parquet"
"""Where stage curate keeps them in its artifact."""
UNSCORED = tuple(str(reason) for reason in StopReason if not reason.scorable)
"""Stop reasons of attempts that say nothing of the policy."""


def attempts_sql(path: Path) -> str:
    """A SELECT of (problem_id, tools, correct, score, confidence) from a Parquet file of trajectories.

    `tools`: whether any was on offer; `confidence`: mean log-probability of a token that the policy sampled, in nats,
    NULL where it sampled none. Attempts that failed through no fault of the policy are left out.
    """
    return (
        "SELECT problem_id, len(tools) > 0 AS tools, correct, score, "
        f"{CONFIDENCE} AS confidence FROM {parquet(path)} WHERE stop_reason NOT IN {UNSCORED}"
    )
