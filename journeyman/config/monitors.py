"""Block `rl.*.monitors`: up to which values a training run is left alone. The default thresholds are ours."""

from typing import Annotated

from pydantic import Field

from journeyman.config.base import Config
from journeyman.config.checks import Expressed

LEVELS = ("", "warn", "pause", "stop")
"""What a value calls for, from nothing to the most."""


class _Thresholds(Config):
    warn: float | None = Field(default=None, description="Beyond it: logged and counted; empty: never")
    pause: float | None = Field(
        default=None, description="Beyond it: the run ends with an error after a checkpoint, to be gone on from"
    )
    stop: float | None = Field(default=None, description="Beyond it: the stage ends early with the policy that it has")
    patience: int = Field(default=1, ge=1, description="Steps in a row beyond a threshold until it counts")
    every: int = Field(default=1, ge=1, description="Looks at the first step and at every so many after it")

    @property
    def watched(self) -> bool:
        return any(getattr(self, level) is not None for level in LEVELS[1:])

    def level(self, value: float) -> str:
        """The gravest of `LEVELS` that a value has reached. What is not a number lies beyond every threshold."""
        thresholds = {level: getattr(self, level) for level in LEVELS[1:]}
        return max(
            (level for level, at in thresholds.items() if at is not None and not self._within(value, at)),
            key=LEVELS.index,
            default="",
        )

    def _within(self, value: float, threshold: float) -> bool:
        raise NotImplementedError


class Highest(_Thresholds):
    """Values above are beyond a threshold. With none of them nothing is measured."""

    def _within(self, value: float, threshold: float) -> bool:
        return value <= threshold


class Lowest(_Thresholds):
    """Values below are beyond a threshold. With none of them nothing is measured."""

    def _within(self, value: float, threshold: float) -> bool:
        return value >= threshold


class MonitorsConfig(Config):
    """What is watched while a policy learns: a threshold or more for each of `journeyman catalog --kind monitor`.

    Those without a threshold are off: they cost something, or what is too much depends on the block.
    """

    gold: Annotated[str, Expressed("journeyman.rewards:VOCABULARY")] = Field(
        default="correct",
        description="What the reward is a proxy for: an expression over the rewards that is only watched",
        examples=["correct", "graded"],
    )
    sampler_kl: Highest = Highest(warn=0.05)
    sampler_chi_square: Highest = Highest(warn=1.0)
    entropy_collapse: Lowest = Lowest(warn=0.1)
    zero_variance_groups: Highest = Highest(warn=0.9)
    length_of_wrong: Highest = Highest(warn=3.0)
    repetition: Lowest = Lowest(warn=0.5)
    reward_without_outcome: Highest = Highest(warn=0.01)
    reward_outcome_correlation: Lowest = Lowest(warn=0.2)
    call_share: Lowest = Lowest(warn=0.1)
    tool_errors: Highest = Highest(warn=0.5)
    invented_results: Highest = Highest(warn=0.05)
    masked_share: Highest = Highest(warn=0.1)
    truncated_share: Highest = Highest(warn=0.3)
    staleness: Highest = Highest(warn=4)
    length_collapse: Lowest = Lowest(warn=0.2)
    turn_weighting: Highest = Highest()
    reward_distance: Highest = Highest()
    reward_hacking: Highest = Highest(warn=0.05, patience=3)
    tied_best: Highest = Highest()
    flip_rate: Highest = Highest()
    artefacts: Highest = Highest()
    reference_kl: Highest = Highest(every=5)
    reference_chi_square: Highest = Highest(every=5)
    over_optimisation: Highest = Highest(every=5)
    judge_false_positives: Highest = Highest(every=10)
    style_drift: Highest = Highest(every=10)
    reward_hacks: Highest = Highest(every=20)
