"""What a monitor is: a function of a step, and of what it noted of earlier ones, to one number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from journeyman.trajectory import Trajectory

WINDOW = 10
"""Steps over which trends are taken (ours)."""

Past = Sequence[Sequence[float]]
"""What a monitor noted of earlier steps: of the first, then of the latest `WINDOW` - 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a monitor is shown."""

    groups: Sequence[Sequence[Trajectory]]
    """Scored attempts, problem by problem."""
    metrics: Mapping[str, float]
    version: int
    """Of the weights that the step began to learn with."""

    @property
    def trajectories(self) -> list[Trajectory]:
        return [t for group in self.groups for t in group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a monitor makes of a step."""

    value: float | None = None
    """None: the step says nothing."""
    noted: tuple[float, ...] = ()
    """To be shown to it again at later steps; empty: nothing."""


Monitor = Callable[[Step, Past], Reading]


def of_first(value: float, past: Past) -> Reading:
    """A value as a share of that of the first step; nothing where that was 0."""
    first = past[0][0] if past else value
    return Reading(value=value / first if first else None, noted=(value,))


def slope(values: Sequence[float]) -> float:
    """Of the least-squares line through values at 0, 1, 2, ...; needs two or more."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(len(values)))
