"""Intervals resample problems, pairs are kept, pass@k is what enumeration says. Literals are worked out by hand."""

import subprocess
import sys
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.evaluation.statistics import Estimate, estimate, paired_difference, pass_at_k, ratio


def test_a_ratio_is_sums_over_sums() -> None:
    # (1 + 3) right of (2 + 4) attempts
    assert ratio({"a": (1, 2), "b": (3, 4)}) == pytest.approx(4 / 6)
    assert ratio({"a": (0, 0)}) is None and ratio({}) is None
    assert estimate({}) is None and estimate({"a": (0, 0)}) is None


def test_two_opposite_problems_have_the_whole_range() -> None:
    # Means of two draws are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: both ends hold more than 2.5 %.
    assert estimate({"a": (0, 1), "b": (1, 1)}) == Estimate(value=0.5, low=0, high=1)


def test_equal_problems_have_an_interval_without_width() -> None:
    assert estimate({str(n): (3, 4) for n in range(20)}) == Estimate(value=0.75, low=0.75, high=0.75)


def test_the_interval_is_that_of_a_share() -> None:
    # Standard error of a share of 1/2 over 400 problems: sqrt(.25 / 400) = .025; 1.96 of it is .049.
    found = estimate({str(n): (n % 2, 1) for n in range(400)}, resamples=4000)
    assert found is not None
    assert found.value == 0.5
    assert found.low == pytest.approx(0.451, abs=0.004) and found.high == pytest.approx(0.549, abs=0.004)


def test_more_samples_of_the_same_problems_do_not_narrow_it() -> None:
    few = estimate({str(n): (n % 2, 1) for n in range(50)})
    many = estimate({str(n): (100 * (n % 2), 100) for n in range(50)})
    assert few == many


def test_order_does_not_matter_and_the_seed_does() -> None:
    problems = {str(n): (float(n % 3 == 0), 1.0) for n in range(60)}
    backwards = dict(reversed(problems.items()))
    assert estimate(problems, seed=3) == estimate(backwards, seed=3)
    assert estimate(problems, seed=3) != estimate(problems, seed=4)


def test_many_resamples_are_drawn_in_pieces_and_are_as_many() -> None:
    problems = {str(n): (float(n % 3 == 0), 1.0) for n in range(30)}
    coarse, fine = estimate(problems, resamples=100), estimate(problems, resamples=20_000)
    assert coarse is not None and fine is not None
    # sqrt(1/3 * 2/3 / 30) = .086; 1.96 of it is .169
    assert fine.low == pytest.approx(1 / 3 - 0.169, abs=0.02) and fine.high == pytest.approx(1 / 3 + 0.169, abs=0.02)


def test_a_ratio_of_calls_to_solved_uses_only_resamples_that_solve() -> None:
    # One solved problem of ten with two needless calls: whenever it is drawn, the ratio is 2.
    problems = {str(n): (0.0, 0.0) for n in range(9)} | {"solved": (2.0, 1.0)}
    assert estimate(problems) == Estimate(value=2, low=2, high=2)


def test_a_policy_against_itself_has_no_difference_and_no_width() -> None:
    policy = {str(n): (float(n % 3), 3.0) for n in range(40)}
    assert paired_difference(policy, policy) == Estimate(value=0, low=0, high=0)


def test_one_flip_in_four_problems() -> None:
    # The flip is drawn Binomial(4, 1/4) times: P(0) = .32, P(<=2) = .949, P(<=3) = .996, so the 2.5th percentile is 0
    # and the 97.5th is 3 of 4.
    before = {name: (float(name == "a"), 1.0) for name in "abcd"}
    after = before | {"b": (1.0, 1.0)}
    assert paired_difference(after, before, resamples=4000) == Estimate(value=0.25, low=0, high=0.75)


def test_pairs_are_narrower_than_two_intervals_and_antisymmetric() -> None:
    before = {str(n): (float(n % 2), 1.0) for n in range(100)}
    after = before | {str(n): (1.0, 1.0) for n in range(10)}  # 5 more of 100
    gain, loss = paired_difference(after, before), paired_difference(before, after)
    alone = estimate(after)
    assert gain is not None and loss is not None and alone is not None
    assert gain.value == pytest.approx(0.05) and (loss.value, loss.low) == (-gain.value, pytest.approx(-gain.high))
    assert gain.high - gain.low < 0.7 * (alone.high - alone.low)


def test_only_problems_that_both_have_are_compared() -> None:
    found = paired_difference({"a": (1, 1), "x": (1, 1)}, {"a": (0, 1), "y": (1, 1)})
    assert found == Estimate(value=1, low=1, high=1)
    assert paired_difference({"a": (1, 1)}, {"b": (1, 1)}) is None


def test_pass_at_k_by_hand() -> None:
    # 4 samples, 1 right, 2 drawn: 3 of the 6 pairs have only wrong ones
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(4, 0, 4) == 0 and pass_at_k(4, 3, 2) == 1


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_what_enumeration_says(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    verdicts = [True] * correct + [False] * (samples - correct)
    assert pass_at_k(samples, correct, k) == pytest.approx(fmean(any(c) for c in combinations(verdicts, k)))


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_needs_enough_samples(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 4"):
        pass_at_k(4, 2, k)


def test_importing_the_report_imports_nothing_heavy() -> None:
    program = (
        "import sys, journeyman.evaluation.report, journeyman.evaluation.statistics, journeyman.curation.stage\n"
        "heavy = {'numpy', 'torch', 'duckdb', 'pyarrow', 'datasets', 'pandas', 'mlflow', 'prefect', 'ray'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
