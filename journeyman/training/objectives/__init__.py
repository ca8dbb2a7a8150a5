"""Objectives: log-probabilities, advantages and mask to a loss. They know nothing of rewards or environments.

What other papers call an objective is a credit or reward of this project: self-critical training (#175), the Lagrangian
(#191), filtering by reward (#225).
"""

from journeyman.training.objectives.base import (
    Objective,
    RowBatch,
    RowObjective,
    Sums,
    TokenBatch,
    TokenObjective,
    Totals,
)
from journeyman.training.objectives.likelihood import distill, nll, superhf
from journeyman.training.objectives.policy_gradient import grpo, laser_self, r0
from journeyman.training.objectives.rows import dpo, implicit_reward, ipo, kto, pacs, regression
from journeyman.training.objectives.values import flow, outcome_mixture, rover

TOKEN_OBJECTIVES: dict[str, TokenObjective] = {
    "grpo": grpo,
    "nll": nll,
    "distill": distill,
    "superhf": superhf,
    "rover": rover,
    "flow": flow,
    "laser_self": laser_self,
    "r0": r0,
}
ROW_OBJECTIVES: dict[str, RowObjective] = {
    "pacs": pacs,
    "dpo": dpo,
    "ipo": ipo,
    "kto": kto,
    "implicit_reward": implicit_reward,
    "regression": regression,
}
OBJECTIVES: dict[str, Objective] = {**TOKEN_OBJECTIVES, **ROW_OBJECTIVES}
"""Type -> function; its options are those of the type's config."""

__all__ = [
    "OBJECTIVES",
    "ROW_OBJECTIVES",
    "TOKEN_OBJECTIVES",
    "Objective",
    "RowBatch",
    "RowObjective",
    "Sums",
    "TokenBatch",
    "TokenObjective",
    "Totals",
    "distill",
    "dpo",
    "flow",
    "grpo",
    "implicit_reward",
    "ipo",
    "kto",
    "laser_self",
    "nll",
    "outcome_mixture",
    "pacs",
    "r0",
    "regression",
    "rover",
    "superhf",
]
