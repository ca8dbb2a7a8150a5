"""A process reward model that is trained along: a second learner, whose log-ratio to a reference tells tokens' rewards."""

from collections.abc import Sequence
from dataclasses import replace

from journeyman.config import ProcessConfig
from journeyman.config.objective import DpoObjective, ImplicitRewardObjective
from journeyman.training.handle import LearnerHandle, Row

METRICS = {"loss/total": "process/loss", "policy/implicit_accuracy": "process/accuracy"}


class ProcessModel:
    """beta * log pi_phi / pi_ref of every learned token: the reward of a step is their sum over it.

    `outcome`: phi learns to tell the verdict from a whole row (PRIME, #49, verified; Implicit PRM, #83, verified); the
    reference are the weights that phi began with. `pairs`: phi learns to order a group's rows by their rewards, by DPO
    (OPRL, #50, secondary); the reference is the policy that sampled, and moves with it.
    """

    def __init__(self, config: ProcessConfig, learner: LearnerHandle) -> None:
        """`learner` is a second one, of the same vocabulary as the policy."""
        self._beta, self.learner = config.beta, learner
        outcome = config.loss == "outcome"
        self._rolling = not outcome
        self._objective = ImplicitRewardObjective(beta=self._beta) if outcome else DpoObjective(beta=self._beta)

    def process_T(self, rows: Sequence[Row]) -> list[list[float]]:
        """T numbers a row, 0 where nothing is learned. All rows were sampled at one temperature."""
        if not rows:
            return []
        referred = self._referred(rows)
        [temperature] = {row.temperature for row in rows}
        scores = self.learner.score([row.token_ids for row in rows], temperature)
        return [
            [
                0.0,
                *(
                    self._beta * (p - q) * m
                    for p, q, m in zip(own, row.reference_logprobs[1:], row.mask[1:], strict=True)
                ),
            ]
            for row, own in zip(referred, scores, strict=True)
        ]

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """An optimizer step on rows with rewards, whole groups of them; metrics by name.

        PRIME updates before it asks for rewards, OPRL after.
        """
        found = self.learner.step(self._referred(rows), self._objective)
        return {name: found[theirs] for theirs, name in METRICS.items() if theirs in found}

    def _referred(self, rows: Sequence[Row]) -> list[Row]:
        """Rows with the reference's log-probabilities."""
        if self._rolling:
            return [replace(row, reference_logprobs=row.old_logprobs or row.logprobs) for row in rows]
        [temperature] = {row.temperature for row in rows} or {1.0}
        scores = self.learner.score_reference([row.token_ids for row in rows], temperature)
        return [replace(row, reference_logprobs=(0.0, *own)) for row, own in zip(rows, scores, strict=True)]
