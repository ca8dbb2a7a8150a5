"""Whether one policy is ahead of another everywhere, not only in the mean."""

from collections.abc import Sequence

PERCENTILES = (10, 20, 50)
"""Of a policy's scores, where its progress is read: low ones tell what the mean hides. Ours."""


def dominates(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Pareto dominance: nowhere behind and somewhere ahead. XLand (#87, secondary) judges progress so, on percentiles."""
    return all(a >= b for a, b in zip(scores, others, strict=True)) and any(
        a > b for a, b in zip(scores, others, strict=True)
    )


def percentiles(scores: Sequence[float], points: Sequence[float] = PERCENTILES) -> tuple[float, ...]:
    """Percentiles of normalised scores, with linear interpolation between the two nearest. Raises `ValueError` without scores."""
    if not scores:
        raise ValueError("there are no scores")
    ordered, last = sorted(scores), len(scores) - 1
    places = [point / 100 * last for point in points]
    return tuple(
        ordered[int(place)] + (place % 1) * (ordered[min(int(place) + 1, last)] - ordered[int(place)])
        for place in places
    )
