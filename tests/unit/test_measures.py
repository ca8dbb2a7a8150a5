"""Measures by hand, tests by enumeration, intervals by simulation; the report has them all."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import EvaluateConfig, PipelineConfig
from journeyman.curation.normal_form import answer_form, answer_sql
from journeyman.evaluation.ladder import Attempts, Report, build_report
from journeyman.evaluation.markdown import markdown
from journeyman.evaluation.measures import by_problem, looked_up, majority, measures, values
from journeyman.evaluation.page import page
from journeyman.evaluation.statistics import (
    binned_error,
    estimate,
    mcnemar,
    paired_difference,
    pass_hat_k,
    sign_flip,
    total,
)
from journeyman.evaluation.tables import measure_table
from journeyman.trajectory import ToolCall, ToolResult, Trajectory, Turn
from tests.unit.curated import verdicts
from tests.unit.fakes import trajectory


def attempt(problem: str, answer: str | None = "42", *, right: bool | None = True, **fields) -> Trajectory:
    return trajectory(problem_id=problem, answer=answer, correct=right, **fields)


def group(problem: str, verdicts: Sequence[bool | None]) -> list[Trajectory]:
    return [attempt(problem, right=right, sample=sample) for sample, right in enumerate(verdicts)]


def called(*results: bool, name: str = "calculator") -> Turn:
    calls = tuple(ToolCall(name=name, arguments={}) for _ in results)
    shown = tuple(ToolResult(name=name, ok=ok, output="42", seconds=0.5, cost=2.0) for ok in results)
    return Turn(text="", calls=calls, results=shown)


def only(attempts: Sequence[Trajectory], name: str) -> float | None:
    problems = by_problem(attempts, (), ks=[1, 2, 4])
    return values(problems, {t.problem_id for t in attempts})[name]


def test_pass_hat_k_by_hand() -> None:
    # 4 samples, 3 right: 3 of the 6 pairs are all right
    assert pass_hat_k(4, 3, 2) == 0.5
    assert pass_hat_k(4, 4, 4) == 1 and pass_hat_k(4, 1, 2) == 0 and pass_hat_k(4, 1, 1) == 0.25
    with pytest.raises(ValueError, match="between 1 and 4"):
        pass_hat_k(4, 2, 5)


@given(st.integers(1, 7), st.data())
def test_pass_hat_k_is_what_enumeration_says(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    verdicts = [True] * correct + [False] * (samples - correct)
    assert pass_hat_k(samples, correct, k) == pytest.approx(fmean(all(c) for c in combinations(verdicts, k)))


def test_pass_and_avg_by_hand() -> None:
    # a: 1 of 4; b: 3 of 4. Of the 6 pairs of a 3 have the right one, of b all; all right: 0 and 3 of 6.
    attempts = [*group("a", [True, False, False, False]), *group("b", [True, True, True, False])]
    assert only(attempts, "pass@2") == 0.75 and only(attempts, "pass^2") == 0.25
    assert only(attempts, "pass@4") == 1 and only(attempts, "pass^4") == 0
    assert only(attempts, "pass@1") == only(attempts, "pass^1") == only(attempts, "avg@4") == 0.5


def test_only_k_for_which_there_are_samples() -> None:
    # b has one verdict of two, so that pass@2 is that of a alone; nobody has four.
    attempts = [*group("a", [True, False]), *group("b", [False, None])]
    problems = by_problem(attempts, (), ks=[1, 2, 4])
    assert values(problems, "ab")["pass@2"] == 1 and values(problems, "ab")["pass@1"] == 0.25
    assert not [name for name in problems if name.endswith("@4")]


def test_votes_by_hand() -> None:
    one, other, third = attempt("a", "1,200"), attempt("a", "1200.0"), attempt("a", "7", right=False)
    assert majority([one, third, other], k=3) == (1, 1)  # the same number twice
    assert majority([one, third], k=2) == (0.5, 1)  # a tie is split
    assert majority([one, third, other, third, third], k=2) == (1.0, 2)  # two ties of two, one attempt is left over
    assert majority([one, third, other], k=1) == (2, 3)
    assert majority([attempt("a", "Paris."), attempt("a", "paris"), third], k=3) == (1, 1)


def test_what_is_no_answer_does_not_vote() -> None:
    wrong = [attempt("a", answer, right=False) for answer in (None, "I don't know", "")]
    assert majority([*wrong, attempt("a")], k=4) == (1, 1)
    assert majority(wrong, k=3) == (0, 1)
    assert majority([attempt("a", None), attempt("a", "7", right=False)], k=2) == (0, 0)  # right by what it did


@given(st.lists(st.tuples(st.sampled_from("12"), st.booleans()), min_size=1, max_size=6))
def test_a_vote_of_one_is_the_share_of_right_ones(made: list[tuple[str, bool]]) -> None:
    attempts = [attempt("a", answer, right=right) for answer, right in made]
    assert majority(attempts, k=1) == (sum(right for _, right in made), len(made))


def test_cot_pass_by_hand() -> None:
    # Two right of four, one of them states 42 before the calculator does: pass@2 = 1 - 1/6, with one left 1 - 3/6.
    early = attempt("a", sample=1, turns=(Turn(text="<think>It is 42.</think>"), called(True)))
    attempts = [attempt("a"), early, *(attempt("a", right=False, sample=s) for s in (2, 3))]
    assert only(attempts, "pass@2") == pytest.approx(5 / 6, abs=1e-6)
    assert only(attempts, "cot_pass@2") == 0.5


def test_what_is_looked_up_is_what_curation_says(tmp_path: Path) -> None:
    early, call = Turn(text="so 42"), Turn(text='<tool_call>{"x": 42}</tool_call>')
    seen = called(True)
    rows = [
        trajectory(),
        trajectory(turns=(early, seen)),
        trajectory(turns=(seen, early)),
        trajectory(turns=(call, seen)),
        trajectory(turns=(call, seen), reference="x"),
        trajectory(turns=(early, seen), min_calls=0),
        trajectory(turns=(early, seen), question="Is it 42?"),
        trajectory(turns=(Turn(text="so 142 or 4.2"), seen)),
        trajectory(turns=(Turn(text="**Rue_d'Été**!"),), reference="rue d'été"),
        trajectory(turns=(early,), reference=" "),
    ]
    assert [looked_up(row) for row in rows] == [n in verdicts(tmp_path, rows, "looked_up") for n in range(len(rows))]
    assert [n for n, row in enumerate(rows) if looked_up(row)] == [1, 4, 8]


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="\x00İ"), max_size=40))
def test_both_forms_of_an_answer_are_the_same(text: str) -> None:
    [(form,)] = duckdb.execute(f"SELECT {answer_sql('x')} FROM (SELECT ? AS x)", [text]).fetchall()
    assert form == answer_form(text)


def test_tool_measures_by_hand() -> None:
    unknown = called(False, name="oracle")
    attempts = [
        attempt("a", turns=(called(True, False), called(True))),  # 3 calls, 1 failed, right
        attempt("a", turns=(unknown, Turn(text="?", error="no call")), right=False),  # 1 call, failed, and no format
        attempt("b", turns=()),  # no call
    ]
    assert only(attempts, "calls_per_attempt") == pytest.approx(4 / 3, abs=1e-6)
    assert only(attempts, "productivity") == 0.5  # 2 right, 4 calls
    assert only(attempts, "call_error_rate") == 0.5  # 2 of 4
    assert only(attempts, "recovery_rate") == 0.5  # 1 of the 2 with an error
    assert only(attempts, "invalid_call_rate") == 0.4  # unknown tool and rejected turn of 4 calls and 1 rejected turn
    assert only(attempts, "call_seconds_per_attempt") == pytest.approx(2 / 3, abs=1e-6)  # 4 x .5 over 3
    assert only(attempts, "call_cost_per_attempt") == pytest.approx(8 / 3, abs=1e-6)
    assert only(attempts, "tokens_per_attempt") == 3
    assert only([attempt("a", turns=())], "recovery_rate") is None
    assert only([attempt("a", turns=())], "productivity") is None


def sure(confidence: str, *, right: bool, problem: str = "a") -> Trajectory:
    return attempt(problem, right=right, turns=(Turn(text=f"<confidence>{confidence}</confidence>"),))


def test_calibration_by_hand() -> None:
    # Errors .2, .8, .4: squares .04 + .64 + .16 = .84. Bins: [.8, .9) holds .8 - 1 + .8 - 0 = .6, [.4, .5) .4;
    # ECE (.6 + .4) / 3. What says no confidence is left out.
    attempts = [sure("0.8", right=True), sure("80%", right=False, problem="b"), sure("0.4", right=False)]
    attempts.append(attempt("b"))
    assert only(attempts, "brier") == pytest.approx(0.28)
    assert only(attempts, "ece") == pytest.approx(1 / 3, abs=1e-6)
    assert only([attempt("a")], "brier") is None and only([attempt("a")], "ece") is None
    assert only([sure("1", right=True)], "ece") == 0 and only([sure("1", right=False)], "ece") == 1


def test_abstentions_by_hand() -> None:
    assert only(
        [attempt("a", "I don't know.", right=False), attempt("a", "7"), attempt("b", None)], "abstention_rate"
    ) == (pytest.approx(1 / 3, abs=1e-6))


def test_mcnemar_by_hand() -> None:
    def p(won: int, lost: int) -> float | None:
        flips = [(1.0, 0.0)] * won + [(0.0, 1.0)] * lost + [(1.0, 1.0)] * 3
        after, before = ({str(n): (pair[i], 1.0) for n, pair in enumerate(flips)} for i in (0, 1))
        return mcnemar(after, before)

    # 2 (1 + 6) / 64; 2 (1 + 6 + 15) / 64; 2 (1 + 12 + 66) / 4096: the figures of Perception-R1 (#211)
    assert (p(5, 1), p(2, 4), p(2, 10)) == (0.21875, 0.6875, 158 / 4096)
    assert p(1, 5) == p(5, 1) and p(2, 2) == 1 and p(0, 0) == 1
    assert mcnemar({"a": (1, 1)}, {"b": (1, 1)}) is None and mcnemar({"a": (0, 0)}, {"a": (1, 1)}) is None


def test_sign_flip_by_hand() -> None:
    # Five problems become right: of the 32 exchanges only none and all are as large.
    before = dict.fromkeys("abcdefgh", (0.0, 1.0))
    after = before | dict.fromkeys("abcde", (1.0, 1.0))
    assert sign_flip(after, before) == sign_flip(before, after) == 2 / 32
    assert sign_flip(before, before) == 1
    assert sign_flip(before, {}) is None and sign_flip({"a": (0, 0)}, {"a": (0, 0)}) is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=7))
def test_sign_flip_is_what_enumeration_says(counts: list[tuple[int, int]]) -> None:
    after, before = ({str(n): (float(pair[i]), 4.0) for n, pair in enumerate(counts)} for i in (0, 1))
    gaps = [one - other for one, other in counts]
    sums = [
        abs(sum(sign * gap for sign, gap in zip(signs, gaps, strict=True)))
        for signs in product((1, -1), repeat=len(gaps))
    ]
    assert sign_flip(after, before) == pytest.approx(fmean(one >= abs(sum(gaps)) for one in sums))


def test_many_problems_are_exchanged_by_seeded_draws() -> None:
    after = {str(n): (float(n % 4 > 0), 1.0) for n in range(40)}
    before = {str(n): (float(n % 4 == 0), 1.0) for n in range(40)}  # 30 against 10, all 40 differ
    p = sign_flip(after, before, resamples=4000, seed=1)
    # McNemar's exact p of (30, 10) is .0022; its standard error over 4000 draws is .0007.
    assert p == sign_flip(after, before, resamples=4000, seed=1) and p == pytest.approx(
        mcnemar(after, before), abs=0.0025
    )


def test_p_is_small_as_often_as_it_says_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    small = 0
    for number in range(200):
        made = rng.binomial(4, rng.uniform(size=30), size=(2, 30))
        after, before = ({str(n): (float(right), 4.0) for n, right in enumerate(row)} for row in made)
        p = sign_flip(after, before, resamples=200, seed=number)
        small += p is not None and p <= 0.1
    assert 8 <= small <= 34  # 20 expected, standard deviation 4.2


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # Problems with chances uniform on [0, 1], four samples each: the true accuracy is 1/2.
    rng = np.random.default_rng(0)
    held = 0
    for number in range(200):
        right = rng.binomial(4, rng.uniform(size=60))
        found = estimate({str(n): (float(one), 4.0) for n, one in enumerate(right)}, resamples=200, seed=number)
        held += found is not None and found.low <= 0.5 <= found.high
    assert 180 <= held <= 198  # 190 expected, standard deviation 3.1; the percentile interval is a little short


def test_a_binned_error_has_intervals_and_differences() -> None:
    # Two bins: |.3 - .1| + |-.2| = .4 over 2; where only one problem is drawn (.3 + 0) or (.1 + .2) over 1.
    one = {"a": (0.3, 0.0, 1.0), "b": (-0.1, -0.2, 1.0)}
    assert total(one, statistic=binned_error) == pytest.approx(0.2)
    found = estimate(one, statistic=binned_error)
    assert found is not None and (found.low, found.high) == pytest.approx((0.2, 0.3))
    none = {"a": (0.0, 0.0, 1.0), "b": (0.0, 0.0, 1.0)}
    gain = paired_difference(one, none, statistic=binned_error)
    assert gain is not None and gain.value == pytest.approx(0.2)


def test_an_interval_goes_as_far_as_its_value() -> None:
    # Ten bins that cancel out: ECE 0, but above 0 in nearly every resample of the twenty problems.
    cancelling = {
        f"{sign}{place}": (*(sign * 0.5 * (at == place) for at in range(10)), 1.0)
        for place in range(10)
        for sign in (-1, 1)
    }
    found = estimate(cancelling, statistic=binned_error)
    assert found is not None and found.value == found.low == 0 < found.high
    none = dict.fromkeys(cancelling, (0.0,) * 10 + (1.0,))
    gain = paired_difference(none, cancelling, statistic=binned_error)
    assert gain is not None and gain.low < 0 == gain.value == gain.high


def test_no_p_is_told_as_zero() -> None:
    # Forty of forty wrong before and right after: 2 / 2^40.
    before, after = ([attempt(str(n), right=right) for n in range(40)] for right in (False, True))
    found = measures(by_problem([], after, ks=[]), by_problem([], before, ks=[]), resamples=10)["greedy"]
    assert found is not None and found.paired is not None and found.paired.p == 1e-6


def test_each_policy_is_compared_with_the_one_before() -> None:
    before = by_problem([t for p in "abcde" for t in group(p, [False])], group("a", [False]), ks=[1])
    after = by_problem([t for p in "abcde" for t in group(p, [True])], group("a", [True]), ks=[1])
    found = measures(after, before, resamples=100)["pass@1"]
    assert found is not None and found.paired is not None
    assert (found.value, found.paired.value, found.paired.p) == (1, 1, 2 / 32)
    greedy = measures(after, before, resamples=100)["greedy"]
    assert greedy is not None and greedy.paired is not None and greedy.paired.p == 1  # one verdict changed: 2 * 1/2
    first = measures(after, resamples=100)
    assert first["pass@1"] is not None and first["pass@1"].paired is None and first["brier"] is None


def test_the_report_has_them(tmp_path: Path) -> None:
    policies = [
        Attempts(name=name, sampled=group("a", right), greedy=group("a", right[:1]), seconds=1)
        for name, right in (("base", [False, False]), ("sft", [True, False]))
    ]
    config = PipelineConfig(evaluate=EvaluateConfig(k=[2, 1, 9]))
    report = build_report(config, policies)
    value = report.to_json()
    assert Report.from_json(value) == replace(report, examples=())
    base, sft = value["stages"]
    assert sft["measures"]["pass@2"]["paired"] == {"value": 1, "low": 1, "high": 1, "p": 1}
    assert sft["families"]["arithmetic"]["measures"]["pass^2"] == 0 and "pass@9" not in sft["measures"]
    assert base["measures"]["brier"] is None and base["measures"]["pass@1"]["paired"] is None
    rows = {name: cells for name, *cells in measure_table(report.stages).rows}
    assert rows["pass@1"] == ["0 [0, 0]", "0.5 [0.5, 0.5] p 1"] and "brier" not in rows
    assert "pass^2" in page(report) and "## Measures" in markdown(report)
    for row in value["stages"]:  # as it was before there were any
        del row["measures"], row["families"]["arithmetic"]["measures"]
    assert Report.from_json(value).stages[0].measures == {}
