"""What a monitor is: a function of a step, and of what it noted of earlier ones, to one number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from journeyman.rewards.base import Judge, scorable
from journeyman.trajectory import Trajectory

WINDOW = 10
"""Steps over which trends are taken (ours)."""

Past = Sequence[Sequence[float]]
"""What a monitor noted of earlier steps that it looked at: of the first, then of the latest `WINDOW` - 1, or of all."""
Numbers = list[list[float | None]]
"""One for each attempt of each group; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a monitor is shown."""

    groups: Sequence[Sequence[Trajectory]]
    """Scored attempts, problem by problem."""
    metrics: Mapping[str, float]
    version: int
    """Of the weights that the step began to learn with."""
    gold: Callable[[], Numbers] | None = None
    """What the attempts are worth by the reward that is wanted; None: by the world's verdict."""
    log_ratios: Callable[[], Sequence[float]] | None = None
    """log(policy / reference) of each sampled attempt, in nats over its sampled tokens; None: there is no reference."""
    judge: Judge | None = None
    """The one of the block's reward; None: it has none."""
    writer: Judge | None = None
    """The policy itself, asked in words; None: it can't be asked."""

    @property
    def trajectories(self) -> list[Trajectory]:
        return [t for group in self.groups for t in group]

    def pairs(self) -> list[list[tuple[float, float]]]:
        """(reward, gold) of the attempts that have both, by group; groups without such an attempt are left out."""
        gold = self.gold() if self.gold else [[verdict(t) for t in group] for group in self.groups]
        known = [
            [(t.reward, worth) for t, worth in zip(*both, strict=True) if t.reward is not None and worth is not None]
            for both in zip(self.groups, gold, strict=True)
        ]
        return [group for group in known if group]

    def means(self) -> tuple[float, float] | None:
        """Mean reward and mean gold over those attempts; None where there are none."""
        pairs = [pair for group in self.pairs() for pair in group]
        return (fmean(reward for reward, _ in pairs), fmean(worth for _, worth in pairs)) if pairs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a monitor makes of a step."""

    value: float | None = None
    """None: the step says nothing."""
    noted: tuple[float, ...] = ()
    """To be shown to it again at later steps; empty: nothing."""
    kept: bool = False
    """Whether all that it noted is needed later, not only the latest."""


Monitor = Callable[[Step, Past], Reading]


def verdict(trajectory: Trajectory) -> float | None:
    """The world's; None for attempts that say nothing about the policy."""
    return float(bool(trajectory.correct)) if scorable(trajectory) else None


def of_first(value: float, past: Past) -> Reading:
    """A value as a share of that of the first step; nothing where that was 0."""
    first = past[0][0] if past else value
    return Reading(value=value / first if first else None, noted=(value,))


def slope(values: Sequence[float]) -> float:
    """Of the least-squares line through values at 0, 1, 2, ...; needs two or more."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(len(values)))
