"""Sets of samples: Vendi contributions, nearness to a success; and what terms do to a batch, as data."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import ToolCall, ToolResult
from journeyman.rewards.algebra import geometric, weighted_sum
from journeyman.rewards.plots import reward_grid, reward_plot
from journeyman.rewards.sets import contributions, coverage, diversity, failure_rewards, scaled, srpo, vendi
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.given import members, totals
from tests.unit.supplies import WordEncoder

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_vendi_by_hand() -> None:
    # K/3 of {a, a, b} has eigenvalues 2/3, 1/3: exp(2/3 log 3/2 + 1/3 log 3) = 1.890
    assert vendi(np.array([A, A, B])) == pytest.approx(1.890, abs=1e-3)
    assert contributions(np.array([A, A, B])) == pytest.approx([-0.110, -0.110, 0.890], abs=1e-3)
    assert vendi(np.array([A] * 5)) == pytest.approx(1.0)
    assert vendi(np.eye(4)) == pytest.approx(4.0)
    assert vendi(np.empty((0, 2))) == 0.0


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=6))
def test_vendi_does_not_mind_the_order(places: list[int]) -> None:
    rows = np.eye(3)[places]
    assert vendi(rows) == pytest.approx(vendi(rows[::-1]))
    assert 1 - 1e-9 <= vendi(rows) <= len(set(places)) + 1e-9


def said(text: str, **fields) -> Trajectory:
    return trajectory(turns=(Turn(text=text),), **fields)


def test_diversity_by_hand() -> None:
    group = [said("up"), said("up"), said("down"), said("left", correct=False), said("up", correct=None)]
    found = [score.total for score in diversity(group, encoder=WordEncoder())]
    assert found[:3] == pytest.approx([-0.110, -0.110, 0.890], abs=1e-3)
    assert found[3:] == [0.0, None]


def test_diversity_in_degenerate_groups() -> None:
    assert [s.total for s in diversity([said("up")], encoder=WordEncoder())] == pytest.approx([1.0])
    assert [s.total for s in diversity([said("up", correct=False)], encoder=WordEncoder())] == [0.0]
    assert diversity([], encoder=WordEncoder()) == []
    assert [s.total for s in diversity([trajectory(turns=())], encoder=WordEncoder())] == pytest.approx([1.0])


def test_coverage_by_hand() -> None:
    success = np.eye(4)
    assert coverage(success[:2], success) == 0.5  # a copy of its first half
    assert coverage(success, success) == 1.0
    assert coverage(np.empty((0, 4)), success) == 0.0
    assert coverage(success[::-1], success) == 0.25  # in reverse only one can be aligned
    assert coverage(success[[0, 2]], success) == 0.5


def naive(rows: np.ndarray, others: np.ndarray) -> float:
    n, m = len(rows), len(others)
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for a in range(1, n + 1):
        for b in range(1, m + 1):
            alike = max(0.0, float(rows[a - 1] @ others[b - 1]))
            best[a][b] = max(best[a - 1][b], best[a][b - 1], best[a - 1][b - 1] + alike)
    return best[n][m] / m


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_coverage_is_the_naive_alignment(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    rows, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(k, 3)) for k in (n, m)))
    assert coverage(rows, others) == pytest.approx(naive(rows, others))


def test_what_distances_pay_by_hand() -> None:
    # scaled 0, .5, 1: .6 sigmoid(5), .6 sigmoid(0), .6 sigmoid(-5)
    assert failure_rewards(scaled([1.0, 2.0, 3.0])) == pytest.approx([0.596, 0.300, 0.004], abs=1e-3)
    assert failure_rewards(scaled([2.0, 2.0])) == pytest.approx([0.3, 0.3])
    for order in permutations([1.0, 2.0, 3.0]):
        paid = failure_rewards(scaled(order))
        assert sorted(range(3), key=lambda i: order[i]) == sorted(range(3), key=lambda i: -paid[i])
        assert max(paid) < 1


def called(*words: str, **fields) -> Trajectory:
    turns = [
        Turn(
            text="", calls=(ToolCall(name=word, arguments={}),), results=(ToolResult(name=word, ok=True, output=word),)
        )
        for word in words
    ]
    return trajectory(turns=(*turns, Turn(text="so it is")), **fields)


class Named:
    """An encoder in which each first word is a direction of its own."""

    def embed(self, texts):
        return np.array([np.eye(5)["abcde".index(text[0])] for text in texts])


def test_srpo_by_hand() -> None:
    group = [
        called("a", "b", "c", "d"),
        called("a", "b", correct=False),  # coverage .5
        called("a", "b", "c", correct=False),  # .75
        called("e", correct=False),  # 0
    ]
    # d = .5, .25, 1; scaled 1/3, 0, 1: .6 sigmoid(10 / 6), .6 sigmoid(5), .6 sigmoid(-5)
    found = [score.total for score in srpo(group, encoder=Named())]
    assert found == pytest.approx([1.0, 0.6 / (1 + math.exp(-10 / 6)), 0.596, 0.004], abs=1e-3)
    # as they are: .6 sigmoid(0), .6 sigmoid(2.5), .6 sigmoid(-5)
    found = [score.total for score in srpo(group, absolute=True, encoder=Named())]
    assert found == pytest.approx([1.0, 0.3, 0.6 / (1 + math.exp(-2.5)), 0.004], abs=1e-3)


def test_srpo_in_degenerate_groups() -> None:
    right, wrong = called("a"), called("a", correct=False)
    assert [s.total for s in srpo([right, right], encoder=Named())] == [1.0, 1.0]
    assert [s.total for s in srpo([wrong, wrong], encoder=Named())] == [0.0, 0.0]
    assert [s.total for s in srpo([right, wrong], encoder=Named())] == [1.0, pytest.approx(0.3)]  # a lone failure
    cut = called("a", correct=False, stop_reason=StopReason.MAX_TOKENS)
    broken = called("a", correct=False, stop_reason=StopReason.FORMAT_ERROR)
    missing = called("a", correct=None)
    found = [s.total for s in srpo([right, wrong, cut, broken, missing], encoder=Named())]
    assert found == [1.0, pytest.approx(0.3), 0.0, 0.0, None]
    assert [s.total for s in srpo([called(), called(correct=False)], encoder=Named())] == [1.0, pytest.approx(0.3)]


def test_a_grid_of_two_components() -> None:
    grid = reward_grid(lambda one, other: geometric(one, other, floor=0.0), points=3)
    assert grid["axis"] == [-1.0, 0.0, 1.0]
    # (-1, -1) is -1, not +1
    assert grid["values"] == [[-1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]


def test_a_plot_of_terms_by_hand() -> None:
    # accuracy apart from its mean .5 by .5 each; length (weight .1) by .1, .1; the third group member decides nothing
    terms = {
        "accuracy": weighted_sum((1.0, totals(1.0, 0.0))),
        "length": weighted_sum((0.1, totals(1.0, 3.0))),
        "flat": totals(2.0, None),
    }
    plot = reward_plot(terms, [members(2)], bins=2)
    assert [plot[name]["decides"] for name in terms] == [1.0, 0.0, 0.0]
    assert plot["accuracy"]["counts"] == [1, 1] and plot["accuracy"]["edges"] == [0.0, 0.5, 1.0]
    assert (plot["length"]["mean"], plot["flat"]["counts"]) == (pytest.approx(0.2), [1, 0])
    same = reward_plot({"a": totals(1.0, 1.0), "b": totals(None, None)}, [members(2)])
    assert (same["a"]["decides"], same["b"]["mean"]) == (0.0, None)
