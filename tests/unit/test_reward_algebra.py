"""Sums, products, channels, ensembles and weights: numbers by hand, laws, what can't be scored."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.algebra import (
    channels,
    confident,
    constant,
    ensemble,
    geometric,
    merged_parts,
    product,
    weighted_sum,
    whole_of,
)
from journeyman.rewards.base import Score
from journeyman.trajectory import Span
from tests.unit.given import earned, members, steps, totals

NUMBERS = st.floats(-10, 10)
MAYBE = st.one_of(st.none(), NUMBERS)


def test_weighted_sum_by_hand() -> None:
    # 0.5 * 2 + 2 * (1 + 0.25 + 0.75) = 5; turns 2 * (0.25, 0.75)
    [score] = weighted_sum((0.5, totals(2.0)), (2.0, steps((0.25, 0.75), end=1.0)))(members(1))
    assert score.total == 5.0
    assert score.turns == (0.5, 1.5)
    assert whole_of(score) == 3.0
    assert score.parts == {"given": 2.0, "steps": 2.0, "end": 1.0}


def test_a_sum_is_none_where_an_operand_that_has_a_say_is() -> None:
    assert earned(weighted_sum((1.0, totals(1.0, None)), (1.0, totals(2.0, 2.0))), 2) == [3.0, None]
    assert earned(weighted_sum((0.0, totals(1.0, None)), (1.0, totals(2.0, 2.0))), 2) == [2.0, 2.0]


def test_step_rewards_of_two_operands_are_added_and_their_parts_kept_apart() -> None:
    [score] = weighted_sum((1.0, steps((1.0, 2.0))), (1.0, steps((3.0, 4.0))))(members(1))
    assert score.turns == (4.0, 6.0)
    assert score.turn_parts == {"steps": (1.0, 2.0), "steps_2": (3.0, 4.0)}


def test_spans_are_weighted() -> None:
    span = Span(turn=0, start=0, stop=3, reward=0.5)
    [score] = weighted_sum((2.0, lambda group: [Score(total=0.5, spans=(span,))]))(members(1))
    assert (score.total, score.spans[0].reward, whole_of(score)) == (1.0, 1.0, 0.0)


def test_merged_parts_numbers_what_has_one_name_and_two_values() -> None:
    one, other = Score(total=1.0, parts={"x": 1.0, "y": 2.0}), Score(total=2.0, parts={"x": 3.0, "y": 2.0})
    assert merged_parts([("a", one), ("b", other)]) == {"a": 1.0, "x": 1.0, "y": 2.0, "b": 2.0, "x_2": 3.0}


def test_product_by_hand() -> None:
    # 2 * 3; 0 whatever the other is; None otherwise
    pairs = product(totals(2.0, 0.0, None, 1.0), totals(3.0, None, 0.0, None))
    assert earned(pairs, 4) == [6.0, 0.0, 0.0, None]


def test_a_product_is_earned_by_the_whole() -> None:
    [score] = product(steps((1.0, 2.0)), constant(2.0))(members(1))
    assert (score.total, score.turns) == (6.0, ())


def test_channels_by_hand() -> None:
    made = channels(accuracy=totals(1.0, 0.0, None), thrift=totals(0.5, None, None), weights={"thrift": 0.15})
    scores = made(members(3))
    # 1 + 0.15 * 0.5; the channel alone that scored it; nothing
    assert [score.total for score in scores] == [1.075, 0.0, None]
    assert [dict(score.channels) for score in scores] == [
        {"accuracy": 1.0, "thrift": 0.5},
        {"accuracy": 0.0, "thrift": None},
        {},
    ]


def test_channels_keep_step_rewards() -> None:
    [score] = channels(a=steps((1.0, 2.0)), b=totals(4.0), weights={"a": 0.5})(members(1))
    assert (score.total, score.turns, whole_of(score)) == (5.5, (0.5, 1.0), 4.0)


def test_channels_are_told_of_weights_without_a_channel() -> None:
    with pytest.raises(ValueError, match="no channel"):
        channels(a=totals(1.0), weights={"b": 1.0})
    with pytest.raises(ValueError, match="no channels"):
        channels()


@pytest.mark.parametrize(
    ("how", "value"),
    # of 1, 2, 6: mean 3, median 2, least 1; variance (4 + 1 + 9) / 3 = 14/3, std 2.160247, 3 - 0.5 * std
    [("mean", 3.0), ("median", 2.0), ("min", 1.0), ("mean_minus_std", 1.9198765)],
)
def test_ensemble_by_hand(how: str, value: float) -> None:
    made = ensemble(totals(1.0), totals(None), totals(2.0), totals(6.0), how=how, k=0.5)  # type: ignore[arg-type]
    assert earned(made, 1) == [pytest.approx(value)]


def test_an_ensemble_without_a_score_has_none() -> None:
    assert earned(ensemble(totals(None), totals(None)), 1) == [None]


@pytest.mark.parametrize(
    ("values", "combined"),
    [
        ((0.25, 1.0), 0.5),
        ((0.25, -1.0), -0.5),
        ((-0.25, -1.0), -0.5),  # the paper's sign; multiplied signs would give +0.5
        ((0.8, 0.2), 0.4),  # mutual welfare: sqrt(0.16)
        ((0.5, 0.5), 0.5),
        ((0.125, 1.0, 1.0), 0.5),
        ((0.81, 0.0), -0.0284605),  # sqrt(0.81 * 0.001), and 0 is not above 0
    ],
)
def test_geometric_by_hand(values: tuple[float, ...], combined: float) -> None:
    for order in permutations(values):
        assert earned(geometric(*[totals(value) for value in order]), 1) == [pytest.approx(combined)]


def test_geometric_without_a_floor_is_the_authors_form() -> None:
    assert earned(geometric(totals(0.81), totals(0.0), floor=0.0), 1) == [0.0]
    assert earned(geometric(totals(0.81), totals(None)), 1) == [None]


def test_confident_by_hand() -> None:
    # w (1, 0.5), R (1, 0): mean 1 / 1.5 = 2/3; 1 * 1/3, 0.5 * -2/3
    assert earned(confident(totals(1.0, 0.0), totals(1.0, 0.5)), 2) == pytest.approx([1 / 3, -1 / 3])
    # equal weights: the plain centred reward times w
    assert earned(confident(totals(3.0, 1.0), totals(0.25, 0.25)), 2) == [0.25, -0.25]


def test_confidence_of_the_uncertainty_of_two_readings() -> None:
    # p = (.9, .1), q = (.6, .4): u = .6 log(.6/.9) + .4 log(.4/.1) = 0.311, w = exp(-u) = 0.733
    u = 0.6 * math.log(0.6 / 0.9) + 0.4 * math.log(0.4 / 0.1)
    assert (u, math.exp(-u)) == (pytest.approx(0.311, abs=1e-3), pytest.approx(0.733, abs=1e-3))
    # R (1, 0), w (.733, 1): mean .733 / 1.733 = .4230; .733 * .5770, -.4230
    found = earned(confident(totals(1.0, 0.0), totals(math.exp(-u), 1.0)), 2)
    assert found == pytest.approx([0.4229, -0.4229], abs=1e-3)


def test_confident_in_degenerate_groups() -> None:
    assert earned(confident(totals(1.0, 2.0), totals(0.0, -1.0)), 2) == [0.0, 0.0]
    assert earned(confident(totals(1.0, None, 2.0), totals(1.0, 1.0, None)), 3) == [0.0, None, None]


@given(st.lists(st.tuples(NUMBERS, st.floats(0, 1)), min_size=1, max_size=6))
def test_confident_rewards_add_up_to_nothing(rows: list[tuple[float, float]]) -> None:
    values, weights = zip(*rows, strict=True)
    found = earned(confident(totals(*values), totals(*weights)), len(rows))
    assert sum(value or 0.0 for value in found) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, MAYBE), min_size=1, max_size=5))
def test_a_weighted_sum_is_the_naive_sum(rows: list[tuple[float, float, float | None]]) -> None:
    one, two, three = zip(*rows, strict=True)
    found = earned(weighted_sum((2.0, totals(*one)), (-0.5, totals(*two)), (1.0, totals(*three))), len(rows))
    naive = [None if c is None else 2 * a - 0.5 * b + c for a, b, c in rows]
    assert found == [None if value is None else pytest.approx(value) for value in naive]
