"""Comparisons within a group: HERON's pairs, min-max, z-scores, trust."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.comparisons import hierarchy, minmax, normalized, trust
from tests.unit.given import earned, members, steps, totals

GROUP = st.lists(st.one_of(st.none(), st.integers(-3, 3).map(float)), min_size=1, max_size=6)


def test_hierarchy_by_hand() -> None:
    # first factor: a = b > c; second, by more than 1: b - a = 1 does not decide, so a and b are no comparison
    made = hierarchy(totals(1.0, 1.0, 0.0), totals(3.0, 4.0, 9.0), margins=[0.0, 1.0])
    assert earned(made, 3) == [0.5, 0.5, -1.0]  # one win of two others, two losses
    # without the margin b beats a: a (1 - 1) / 2, b 2 / 2, c -2 / 2
    assert earned(hierarchy(totals(1.0, 1.0, 0.0), totals(3.0, 4.0, 9.0)), 3) == [0.0, 1.0, -1.0]


def test_hierarchy_fits_bradley_terry() -> None:
    # one win: p_2 = 1 / p_1, and p_1 (p_1 / (p_1^2 + 1) + 1 / (p_1 + 1)) = 1 + 0.5
    better, worse = earned(hierarchy(totals(1.0, 0.0), how="bradley_terry"), 2)
    assert better is not None and worse is not None
    p = math.exp(better)
    assert worse == pytest.approx(-better)
    assert p * (p / (p * p + 1) + 1 / (p + 1)) == pytest.approx(1.5)


def test_a_ranked_group_has_ranked_strengths() -> None:
    found = earned(hierarchy(totals(3.0, 1.0, 2.0, 0.0), how="bradley_terry"), 4)
    assert sorted(range(4), key=lambda i: -(found[i] or 0.0)) == [0, 2, 1, 3]


def test_who_lacks_a_factor_takes_no_part() -> None:
    assert earned(hierarchy(totals(1.0, None, 0.0), totals(1.0, 1.0, 1.0)), 3) == [1.0, None, -1.0]
    assert earned(hierarchy(totals(None, None)), 2) == [None, None]
    assert earned(hierarchy(totals(5.0)), 1) == [0.0]


def test_hierarchy_is_told_of_missing_margins() -> None:
    with pytest.raises(ValueError, match="one number for each"):
        hierarchy(totals(1.0), totals(1.0), margins=[0.0])


@given(GROUP, st.sampled_from(["mean", "bradley_terry"]))
def test_standings_are_antisymmetric(values: list[float | None], how) -> None:
    found = earned(hierarchy(totals(*values), how=how), len(values))
    turned = earned(hierarchy(totals(*[None if v is None else -v for v in values]), how=how), len(values))
    for one, other in zip(found, turned, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or one == pytest.approx(-other, abs=1e-6)


def test_minmax_by_hand() -> None:
    # (2 - 1) / (5 - 1)
    assert earned(minmax(totals(1.0, 2.0, 5.0, None)), 4) == [0.0, 0.25, 1.0, None]
    assert earned(minmax(totals(2.0, 2.0)), 2) == [0.0, 0.0]
    assert earned(minmax(totals(None)), 1) == [None]


def test_normalized_by_hand() -> None:
    # mean 0.25, std sqrt(0.25 * 0.75) = 0.4330127: 0.75 / 0.4330137, -0.25 / 0.4330137
    found = earned(normalized(totals(1.0, 0.0, 0.0, 0.0)), 4)
    assert found == pytest.approx([1.7320468, -0.5773489, -0.5773489, -0.5773489], abs=1e-6)
    assert earned(normalized(totals(3.0, None, 3.0)), 3) == [0.0, None, 0.0]
    assert earned(normalized(totals(7.0)), 1) == [0.0]


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=6), st.floats(0.5, 4), st.floats(-5, 5))
def test_group_scales_do_not_mind_shift_and_scale(values: list[int], scale: float, shift: float) -> None:
    moved = totals(*[scale * value + shift for value in values])
    for made in (minmax, normalized):
        same = earned(made(totals(*map(float, values))), len(values))
        assert earned(made(moved), len(values)) == pytest.approx(same, abs=1e-4)


def test_trust_by_hand() -> None:
    # right thinking 0.2, 0.4 (mean 0.3), wrong 0.8: g = exp(-0.5)
    made = trust(totals(1.0, 1.0, 0.0), totals(0.2, 0.4, 0.8))
    g = math.exp(-0.5)
    assert earned(made, 3) == pytest.approx([0.2 * g, 0.4 * g, 0.8 * g])
    # thinking that is better behind right answers is trusted in full
    assert earned(trust(totals(1.0, 0.0), totals(0.8, 0.2)), 2) == [0.8, 0.2]
    # all right or all wrong: nothing
    assert earned(trust(totals(1.0, 1.0), totals(0.8, 0.2)), 2) == [0.0, 0.0]
    assert earned(trust(totals(1.0, 0.0, None), totals(0.5, 0.5, 0.5)), 3) == [0.5, 0.5, None]


def test_trust_of_released_code_is_almost_always_full() -> None:
    # the code scores no thinking behind wrong answers: mu_wrong = 0, so g = 1 where the paper has exp(0.2 - 0.9)
    paper = trust(totals(1.0, 0.0), totals(0.2, 0.9))(members(2))
    code = trust(totals(1.0, 0.0), totals(0.2, 0.0))(members(2))
    assert paper[0].parts["trust"] == pytest.approx(math.exp(-0.7))
    assert code[0].parts["trust"] == 1.0


def test_trust_keeps_step_rewards() -> None:
    scores = trust(totals(1.0, 0.0), steps((0.5, 0.5), (0.0, 0.0)))(members(2))
    assert scores[0].turns == (0.5, 0.5)
