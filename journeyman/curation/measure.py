"""A policy's attempts as the table that rules see."""

import glob
from pathlib import Path

from journeyman.trajectory import StopReason

UNSCORED = tuple(str(reason) for reason in StopReason if not reason.scorable)
"""Stop reasons of attempts that say nothing of the policy."""


def attempts_sql(path: Path) -> str:
    """A SELECT of (problem_id, tools, correct, score, confidence) from a Parquet file of trajectories.

    `tools`: whether any was on offer; `confidence`: mean log-probability of a token that the policy sampled, in nats,
    NULL where it sampled none. Attempts that failed through no fault of the policy are left out.
    """
    file = glob.escape(str(path)).replace("'", "''")
    learned = "list_sum(loss_mask)"
    return (
        "SELECT problem_id, len(tools) > 0 AS tools, correct, score, "
        f"list_sum([p FOR p, i IN logprobs IF loss_mask[i] = 1]) / nullif({learned}, 0) AS confidence "
        f"FROM read_parquet('{file}') WHERE stop_reason NOT IN {UNSCORED}"
    )
