"""Credit of a branch's best and worst: worked out by hand."""

import pytest

from journeyman.credit import ScoredBatch
from journeyman.credit.group import best_and_worst
from tests.unit.fakes import trajectory


def advantages(*groups: list[float]) -> list[float]:
    batch = ScoredBatch.of([[trajectory(tokens=2).scored(r, {}) for r in group] for group in groups])
    return [float(row[1]) for row in batch.split(best_and_worst(batch))]


def test_best_and_worst_by_hand() -> None:
    # Rewards 8, 5, 2 and 6, 5, 4: mean 5, deviation sqrt((9 + 0 + 9 + 1 + 0 + 1) / 6) = sqrt(10 / 3) = 1.826.
    # z = 1.643, 0, -1.643 and .548, 0, -.548: of both groups the best and the worst.
    assert advantages([8, 5, 2], [6, 5, 4]) == pytest.approx([1.643, 0, -1.643, 0.548, 0, -0.548], abs=1e-3)
    # 9, 5, 1 and 6, 5, 4: deviation sqrt(34 / 6) = 2.380, so z of the second group is .42 at most: it is skipped.
    assert advantages([9, 5, 1], [6, 5, 4]) == pytest.approx([1.680, 0, -1.680, 0, 0, 0], abs=1e-3)
    # In a group of good ones the worst one is no bad one: 9 and 8 of 9, 8, 1, 1: mean 4.75, deviation 3.767.
    assert advantages([9, 8], [1, 1]) == pytest.approx([1.128, 0, -0.996, -0.996], abs=1e-3)
    # One far above 99 equal ones, z = sqrt(99) = 9.95, is cut to 5; the others have -.1.
    assert advantages([1.0, *[0.0] * 99])[:2] == pytest.approx([5, 0])
