"""What the report says about a policy, and how sure it is.

The problem is the unit: its samples share its difficulty, so intervals resample problems, never single samples
(the cluster bootstrap). Seeded: the same verdicts and seed give the same interval. What is NOT covered: that other
training seeds would give other policies; intervals are about the problems alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, isnan, nan, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Ratio: TypeAlias = tuple[float, float]
"""One problem's (numerator, denominator): (right answers, attempts), (needless calls, solved attempts)."""
Sums: TypeAlias = Sequence[float]
"""One problem's D numbers, which are summed over the problems; a `Ratio` has two."""
Statistic: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
"""From D x R summed numbers to R values, NaN where there is none."""
RESAMPLES_AT_ONCE = 250
DRAWS_KEPT = 2_000_000
"""Resamples x problems that are kept for the next measure; 16 MB."""
ROUNDING = 1e-9
"""Differences no further apart than this are the same."""


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


def share(sums: "np.ndarray") -> "np.ndarray":
    """The statistic of a `Ratio`: the first sum over the last."""
    return _divide(sums[0], sums[-1])


def binned_error(sums: "np.ndarray") -> "np.ndarray":
    """The sizes of all sums but the last, over the last: ECE, where each bin sums (confidence - verdict)."""
    return _divide(abs(sums[:-1]).sum(axis=0), sums[-1])


def total(problems: Mapping[str, Sums], *, statistic: Statistic = share) -> float | None:
    """The statistic over all problems; None where there is none."""
    value = float(statistic(_columns(problems, sorted(problems)).sum(axis=1)[:, None])[0]) if problems else nan
    return None if isnan(value) else value


def estimate(
    problems: Mapping[str, Sums], *, statistic: Statistic = share, resamples: int = 1000, seed: int = 0
) -> Estimate | None:
    """`total` with the percentile interval of its cluster bootstrap; None where there is no value.

    Where every problem says the same the interval has no width: none solved of P problems is still compatible with a
    true share of up to about 3/P ("rule of three").
    """
    value = total(problems, statistic=statistic)
    if value is None:
        return None
    columns = _columns(problems, sorted(problems))
    return _estimated(value, statistic(_resampled(columns, resamples=resamples, seed=seed)))


def paired_difference(
    after: Mapping[str, Sums],
    before: Mapping[str, Sums],
    *,
    statistic: Statistic = share,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """`total(after) - total(before)` on the problems that both have; each resample draws the same problems for both.

    None where they share no problem or one of them has no value.
    """
    shared = sorted(after.keys() & before.keys())
    values = [total({name: part[name] for name in shared}, statistic=statistic) for part in (after, before)]
    if values[0] is None or values[1] is None:
        return None
    drawn = [statistic(_resampled(_columns(part, shared), resamples=resamples, seed=seed)) for part in (after, before)]
    return _estimated(values[0] - values[1], drawn[0] - drawn[1])


def sign_flip(
    after: Mapping[str, Sums],
    before: Mapping[str, Sums],
    *,
    statistic: Statistic = share,
    resamples: int = 1000,
    seed: int = 0,
) -> float | None:
    """Two-sided p of `paired_difference`: how often it is as large if, problem by problem, a coin exchanges the two.

    Exact where the problems that differ have no more than `resamples` ways to be exchanged; else
    (1 + as large) / (1 + `resamples`), which is never 0. Exchanges that leave no value count as large. None where
    there is no difference to test.
    """
    import numpy as np

    shared = sorted(after.keys() & before.keys())
    if not shared:
        return None
    late, early = _columns(after, shared), _columns(before, shared)
    gap = early - late
    gap = gap[:, gap.any(axis=0)]

    def difference(moved: "np.ndarray") -> "np.ndarray":
        return statistic(late.sum(axis=1)[:, None] + moved) - statistic(early.sum(axis=1)[:, None] - moved)

    observed = abs(difference(np.zeros((len(gap), 1)))[0])
    if np.isnan(observed):
        return None
    exact = 2 ** gap.shape[1] <= resamples
    large = drawn = 0
    for flips in _every_flip(gap.shape[1]) if exact else _flips(gap.shape[1], resamples, seed):
        large += int((~(abs(difference(gap @ flips)) < observed - ROUNDING)).sum())
        drawn += flips.shape[1]
    return large / drawn if exact else (1 + large) / (1 + drawn)


def mcnemar(after: Mapping[str, Sums], before: Mapping[str, Sums]) -> float | None:
    """Exact two-sided McNemar test of one attempt a problem: among the verdicts that changed, both ways are as likely.

    None where they share no problem that has both verdicts; 1 where nothing changed.
    """
    both = [name for name in after.keys() & before.keys() if after[name][-1] and before[name][-1]]
    won = sum(after[name][0] > before[name][0] for name in both)
    lost = sum(after[name][0] < before[name][0] for name in both)
    if not both:
        return None
    return min(1.0, 2 * sum(comb(won + lost, i) for i in range(min(won, lost) + 1)) / 2 ** (won + lost))


def holm(ps: Sequence[float]) -> list[float]:
    """Two-sided p of several tests, corrected (Holm 1979): below .05 for one that is small by chance in 5 % of such sets.

    The smallest of m counts m times, the next m - 1 times, and so on, and none below one that was smaller.
    """
    corrected, least = [1.0] * len(ps), 0.0
    for smaller, place in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        least = max(least, min(1.0, (len(ps) - smaller) * ps[place]))
        corrected[place] = least
    return corrected


def wilson(successes: float, trials: int) -> Estimate | None:
    """A share with Wilson's 95 % score interval: also for few trials, and shares of 0 and 1. None without trials."""
    if not trials:
        return None
    z = NormalDist().inv_cdf(0.975)
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that k of a problem's samples, drawn without replacement, include a right one. Unbiased; arXiv 2107.03374.

    Raises `ValueError` for k outside of 1..samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs between 1 and {samples} samples")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def pass_hat_k(samples: int, correct: int, k: int) -> float:
    """pass^k: chance that k of a problem's samples, drawn without replacement, are all right. Unbiased; arXiv 2406.12045.

    Raises `ValueError` for k outside of 1..samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass^{k} needs between 1 and {samples} samples")
    return comb(correct, k) / comb(samples, k)


def _columns(problems: Mapping[str, Sums], names: Sequence[str]) -> "np.ndarray":
    """D x problems."""
    import numpy as np

    return np.asarray([problems[name] for name in names], dtype=np.float64).T


def _resampled(columns: "np.ndarray", *, resamples: int, seed: int) -> "np.ndarray":
    """D x resamples: the sums over each resample of the problems."""
    import numpy as np

    problems = columns.shape[1]
    draws = _kept_draws if problems * resamples <= DRAWS_KEPT else _draws
    sums = [np.stack([column[drawn].sum(axis=1) for column in columns]) for drawn in draws(problems, resamples, seed)]
    return np.concatenate(sums, axis=1)


def _draws(problems: int, resamples: int, seed: int) -> "Iterator[np.ndarray]":
    """Some resamples x problems, until there are `resamples`: in pieces, for all of them may not fit."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        yield rng.integers(problems, size=(min(RESAMPLES_AT_ONCE, resamples - start), problems))


@lru_cache(maxsize=4)
def _kept_draws(problems: int, resamples: int, seed: int) -> "tuple[np.ndarray, ...]":
    """The same at once. All measures of a report draw the same problems."""
    return tuple(_draws(problems, resamples, seed))


def _every_flip(problems: int) -> "Iterator[np.ndarray]":
    """Problems x 2^problems, once: each way to exchange them."""
    import numpy as np

    yield ((np.arange(2**problems) >> np.arange(problems)[:, None]) & 1).astype(np.float64)


def _flips(problems: int, resamples: int, seed: int) -> "Iterator[np.ndarray]":
    """Problems x some, until there are `resamples`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        yield rng.integers(2, size=(problems, min(RESAMPLES_AT_ONCE, resamples - start))).astype(np.float64)


def _divide(above: "np.ndarray", below: "np.ndarray") -> "np.ndarray":
    """NaN where a resample has no denominator."""
    import numpy as np

    return np.divide(above, below, out=np.full_like(above, nan), where=below > 0)


def _estimated(value: float, resampled: "np.ndarray") -> Estimate:
    """With the middle 95 % of the resamples that have a value, or NaN ends where none has.

    An interval goes as far as its value: sums of sizes, as in ECE, are higher in nearly every resample.
    """
    import numpy as np

    usable = resampled[~np.isnan(resampled)]
    low, high = np.percentile(usable, [2.5, 97.5]) if len(usable) else (nan, nan)
    return Estimate(value=value, low=float(min(low, value)), high=float(max(high, value)))
