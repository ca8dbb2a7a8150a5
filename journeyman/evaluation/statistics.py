"""What the report says about a policy, and how sure it is.

The problem is the unit: its samples share its difficulty, so intervals resample problems, never single samples
(the cluster bootstrap). Seeded: the same verdicts and seed give the same interval. What is NOT covered: that other
training seeds would give other policies; intervals are about the problems alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, nan
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Ratio: TypeAlias = tuple[float, float]
"""One problem's (numerator, denominator): (right answers, attempts), (needless calls, solved attempts)."""
RESAMPLES_AT_ONCE = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, `low` to `high`."""

    value: float
    low: float
    high: float


def ratio(problems: Mapping[str, Ratio]) -> float | None:
    """Sum of numerators over sum of denominators; None where the denominators sum to 0."""
    below = sum(denominator for _, denominator in problems.values())
    return sum(numerator for numerator, _ in problems.values()) / below if below else None


def estimate(problems: Mapping[str, Ratio], *, resamples: int = 1000, seed: int = 0) -> Estimate | None:
    """`ratio` with the percentile interval of its cluster bootstrap; None where there is no ratio.

    Where every problem says the same the interval has no width: none solved of P problems is still compatible with a
    true share of up to about 3/P ("rule of three").
    """
    value = ratio(problems)
    if value is None:
        return None
    above, below = _columns([problems[name] for name in sorted(problems)])
    numerators, denominators = _resampled(above, below, resamples=resamples, seed=seed)
    low, high = _interval(_divide(numerators, denominators))
    return Estimate(value=value, low=low, high=high)


def paired_difference(
    after: Mapping[str, Ratio], before: Mapping[str, Ratio], *, resamples: int = 1000, seed: int = 0
) -> Estimate | None:
    """`ratio(after) - ratio(before)` on the problems that both have; each resample draws the same problems for both.

    None where they share no problem or one of them has no ratio.
    """
    shared = sorted(after.keys() & before.keys())
    values = [ratio({name: part[name] for name in shared}) for part in (after, before)]
    if values[0] is None or values[1] is None:
        return None
    ratios = []
    for part in (after, before):
        above, below = _columns([part[name] for name in shared])
        ratios.append(_divide(*_resampled(above, below, resamples=resamples, seed=seed)))
    low, high = _interval(ratios[0] - ratios[1])
    return Estimate(value=values[0] - values[1], low=low, high=high)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that k of a problem's samples, drawn without replacement, include a right one. Unbiased; arXiv 2107.03374.

    Raises `ValueError` for k outside of 1..samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs between 1 and {samples} samples")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def _columns(ratios: Sequence[Ratio]) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    above, below = np.asarray(ratios, dtype=np.float64).T
    return above, below


def _resampled(
    above: "np.ndarray", below: "np.ndarray", *, resamples: int, seed: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Sums of numerators and denominators, one for each resample of the problems."""
    import numpy as np

    rng = np.random.default_rng(seed)
    sums = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):  # in pieces: resamples x problems may not fit
        drawn = rng.integers(len(above), size=(min(RESAMPLES_AT_ONCE, resamples - start), len(above)))
        sums.append((above[drawn].sum(axis=1), below[drawn].sum(axis=1)))
    return np.concatenate([a for a, _ in sums]), np.concatenate([b for _, b in sums])


def _divide(above: "np.ndarray", below: "np.ndarray") -> "np.ndarray":
    """NaN where a resample has no denominator."""
    import numpy as np

    return np.divide(above, below, out=np.full_like(above, nan), where=below > 0)


def _interval(values: "np.ndarray") -> tuple[float, float]:
    """The middle 95 % of the resamples that have a ratio; NaN ends where none has."""
    import numpy as np

    usable = values[~np.isnan(values)]
    low, high = np.percentile(usable, [2.5, 97.5]) if len(usable) else (nan, nan)
    return float(low), float(high)
