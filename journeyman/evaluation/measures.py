"""What a policy's attempts say beyond accuracy: votes, reliability, tools, confidence, cost; with intervals and tests.

A measure is taken problem by problem as numbers that are summed over the problems, so that `statistics` resamples
problems. Attempts without a verdict are left out; a problem that a measure says nothing about counts for none. By
policy, on the sampled attempts unless said otherwise:

- `pass@k`, `pass^k`: at least one, all of k attempts right; unbiased (arXiv 2107.03374, 2406.12045).
- `avg@n`: share of right attempts, n the most that a problem has; the mean over problems.
- `maj@k`: the most frequent answer is right; see `majority`.
- `cot_pass@k`: CoT-pass@k (#176, derived): pass@k, where a right attempt counts only if its trace holds. Here that is
  `not looked_up`; in the paper judges read the whole chain.
- `greedy`: share of right greedy attempts.
- `calls_per_attempt`, `call_seconds_per_attempt`, `call_cost_per_attempt` (in the tools' units), `tokens_per_attempt`
  (sampled ones). The time that the model takes is not covered.
- `productivity`: right answers a call (#18, secondary).
- `call_error_rate`: share of calls whose observation is an error. `recovery_rate`: share of right ones among the
  attempts with such a call. `invalid_call_rate`: turns that no parser accepts and calls of tools that are not on offer,
  over all calls and such turns.
- `awareness_*`: whether it calls where a call is needed (#23, derived); `csr_*`: whether it calls the right tools, and
  `evidence_*`, `integration`, `luck`: how it comes by what it must know (#129, derived), where problems have gold for
  it; see `evaluation.tool_use`.
- `abstention_rate`: share of answers that only say "I don't know".
- `brier`, `ece`: of stated confidences, where there are some (#156, derived). ECE has ten bins of equal width, [0, 0.1)
  to [0.9, 1].
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from journeyman.curation.normal_form import answer_form
from journeyman.evaluation import tool_use
from journeyman.evaluation.statistics import (
    Estimate,
    Ratio,
    Statistic,
    Sums,
    binned_error,
    estimate,
    mcnemar,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    share,
    sign_flip,
    total,
)
from journeyman.graders.quantities import quantity
from journeyman.graders.values import normal_string
from journeyman.problem import Problem
from journeyman.rewards.calibration import abstains, stated_confidence
from journeyman.trajectory import Trajectory

ByProblem: TypeAlias = Mapping[str, Mapping[str, Sums]]
"""Measure to problem to what is summed."""
BINS = 10
LEAST_P = 1e-6
"""No p is told as less."""
LONGEST_NUMBER = 200
"""Characters of an answer that is read as a number."""
_CALL = re.compile(r"<tool_call>.*?</tool_call>", re.DOTALL)
_NOTHING: Ratio = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """Against the policy before, on the same problems."""

    p: float
    """Two-sided: McNemar's for `greedy`, else by exchanging the two policies problem by problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure(Estimate):
    """A measure of a policy; None in its place where it has no value."""

    paired: Difference | None
    """None for the first policy, and where the one before has no value."""


def measures(
    policy: ByProblem,
    before: ByProblem | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    flips: int | None = None,
) -> dict[str, Measure | None]:
    """Each measure of a policy as an estimate, compared with the policy before.

    `flips`: exchanges of the two that p goes by, where it has to be told from 0 more finely; None: `resamples`.
    """
    made: dict[str, Measure | None] = {}
    for name, problems in policy.items():
        found = estimate(problems, statistic=statistic_of(name), resamples=resamples, seed=seed)
        how = {"statistic": statistic_of(name), "resamples": resamples, "seed": seed}
        paired = _difference(name, problems, (before or {}).get(name, {}), how, flips=flips or resamples)
        made[name] = found and Measure(**_rounded(found), paired=paired)
    return made


def values(policy: ByProblem, among: Collection[str]) -> dict[str, float | None]:
    """Each measure on some of the problems, without its interval."""
    made = {}
    for name, problems in policy.items():
        some = {problem: sums for problem, sums in problems.items() if problem in among}
        value = total(some, statistic=statistic_of(name))
        made[name] = None if value is None else round(value, 6)
    return made


def by_problem(
    sampled: Sequence[Trajectory],
    greedy: Sequence[Trajectory],
    *,
    ks: Sequence[int],
    problems: Mapping[str, Problem] = MappingProxyType({}),
) -> ByProblem:
    """All measures of a policy's attempts, problem by problem. Only those k that some problem has the samples for.

    `problems`: by id, for what their `data` says; without them awareness goes by `min_calls`.
    """
    attempts = grouped(sampled)
    most = max(map(len, attempts.values()), default=0)
    right = _counts(attempts, is_right)
    held = _counts(attempts, lambda t: is_right(t) and not looked_up(t))
    made: dict[str, Mapping[str, Sums]] = {}
    for k in sorted(k for k in set(ks) if k <= most):
        made[f"pass@{k}"] = _chances(right, k, pass_at_k)
        made[f"pass^{k}"] = _chances(right, k, pass_hat_k)
        made[f"maj@{k}"] = {name: majority(group, k=k) for name, group in attempts.items()}
        made[f"cot_pass@{k}"] = _chances(held, k, pass_at_k)
    if most:
        made[f"avg@{most}"] = {name: (count / samples, 1.0) for name, (count, samples) in right.items()}
    made["greedy"] = per_problem(greedy, lambda t: (float(is_right(t)), 1.0))
    counted = {**_COUNTS, **tool_use.counts(problems)}
    return made | {name: per_problem(sampled, count) for name, count in counted.items()} | {"ece": _bins(attempts)}


def per_problem(trajectories: Sequence[Trajectory], count: Callable[[Trajectory], Ratio]) -> dict[str, Ratio]:
    """Sums of (numerator, denominator) by problem over the attempts that have a verdict."""
    sums: dict[str, Ratio] = {}
    for trajectory in trajectories:
        if trajectory.correct is not None:
            above, below = sums.get(trajectory.problem_id, _NOTHING)
            more, weight = count(trajectory)
            sums[trajectory.problem_id] = (above + more, below + weight)
    return sums


def is_right(trajectory: Trajectory) -> bool:
    return bool(trajectory.correct)


def majority(attempts: Sequence[Trajectory], *, k: int) -> Ratio:
    """maj@k of one problem: (votes that came out right, votes) over its attempts, k after k, what is left over unused.

    Numbers with their units and texts in normal form are the same answer. Attempts without an answer don't vote; a vote
    without any is wrong. Ties are split evenly (ours). Of attempts with one answer and different verdicts the share of
    right ones counts. (0, 0) where an attempt is right without an answer, by what it did: there is nothing to vote on.
    """
    if any(t.correct and t.answer is None for t in attempts):
        return _NOTHING
    votes = [_vote(attempts[start : start + k]) for start in range(0, len(attempts) - k + 1, k)]
    return sum(votes), float(len(votes))


def _vote(attempts: Sequence[Trajectory]) -> float:
    verdicts: dict[Hashable, list[bool]] = defaultdict(list)
    for trajectory in attempts:
        if (answer := voted(trajectory)) is not None:
            verdicts[answer].append(is_right(trajectory))
    most = max(map(len, verdicts.values()), default=0)
    shares = [sum(found) / most for found in verdicts.values() if len(found) == most]
    return sum(shares) / len(shares) if shares else 0.0


def voted(trajectory: Trajectory) -> Hashable | None:
    """What it votes for, the same for answers that are the same; None where it gives no answer or abstains."""
    answer = (trajectory.answer or "").strip()
    if not answer or abstains(trajectory):
        return None
    return _number(answer) if len(answer) <= LONGEST_NUMBER else normal_string(answer)


@lru_cache(maxsize=1 << 16)
def _number(answer: str) -> Hashable:
    """A short answer as a number with its unit, else its normal form. Kept, for most answers are given many times."""
    read = quantity(answer)
    return (read.value.as_integer_ratio(), read.unit) if read else normal_string(answer)


def looked_up(trajectory: Trajectory) -> bool:
    """Whether it states the reference before the question or a tool result shows it: curation's rule of this name.

    Only for problems that need a call. In the arguments of calls only a reference that is no number counts.
    """
    reference = answer_form(trajectory.reference)
    if not trajectory.min_calls or not reference.strip():
        return False
    seen = trajectory.question
    for turn in trajectory.turns:
        said = _CALL.sub(" ", turn.text) if _is_number(trajectory.reference) else turn.text
        if reference in answer_form(said) and reference not in answer_form(seen):
            return True
        seen = " ".join([seen, *(result.output for result in turn.results)])
    return False


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def grouped(trajectories: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Attempts with a verdict by problem, in the order of their samples."""
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in sorted(trajectories, key=lambda t: t.sample):
        if trajectory.correct is not None:
            groups[trajectory.problem_id].append(trajectory)
    return groups


def _counts(
    attempts: Mapping[str, Sequence[Trajectory]], counts: Callable[[Trajectory], bool]
) -> dict[str, tuple[int, int]]:
    """By problem (attempts that count, attempts)."""
    return {name: (sum(map(counts, group)), len(group)) for name, group in attempts.items()}


def _chances(
    counts: Mapping[str, tuple[int, int]], k: int, chance: Callable[[int, int, int], float]
) -> dict[str, Ratio]:
    return {
        name: (chance(samples, count, k), 1.0) if samples >= k else _NOTHING
        for name, (count, samples) in counts.items()
    }


def _failed(trajectory: Trajectory) -> int:
    return sum(not result.ok for turn in trajectory.turns for result in turn.results)


def _results(trajectory: Trajectory, field: str) -> float:
    return sum(getattr(result, field) for turn in trajectory.turns for result in turn.results)


def _errors(trajectory: Trajectory) -> Ratio:
    return float(_failed(trajectory)), float(sum(len(turn.results) for turn in trajectory.turns))


def _recovered(trajectory: Trajectory) -> Ratio:
    return (float(is_right(trajectory)), 1.0) if _failed(trajectory) else _NOTHING


def _invalid(trajectory: Trajectory) -> Ratio:
    rejected = sum(bool(turn.error) for turn in trajectory.turns)
    unknown = sum(call.name not in trajectory.tools for call in trajectory.calls)
    return float(rejected + unknown), float(rejected + len(trajectory.calls))


def _brier(trajectory: Trajectory) -> Ratio:
    confidence = stated_confidence(trajectory)
    return _NOTHING if confidence is None else ((confidence - is_right(trajectory)) ** 2, 1.0)


def _tokens(trajectory: Trajectory) -> Ratio:
    return (float(sum(trajectory.loss_mask)), 1.0) if trajectory.loss_mask else _NOTHING


_COUNTS: dict[str, Callable[[Trajectory], Ratio]] = {
    "calls_per_attempt": lambda t: (float(len(t.calls)), 1.0),
    "productivity": lambda t: (float(is_right(t)), float(len(t.calls))),
    "call_error_rate": _errors,
    "recovery_rate": _recovered,
    "invalid_call_rate": _invalid,
    "abstention_rate": lambda t: (float(abstains(t)), 1.0),
    "brier": _brier,
    "call_seconds_per_attempt": lambda t: (_results(t, "seconds"), 1.0),
    "call_cost_per_attempt": lambda t: (_results(t, "cost"), 1.0),
    "tokens_per_attempt": _tokens,
}


def _bins(attempts: Mapping[str, Sequence[Trajectory]]) -> dict[str, Sums]:
    """By problem: in each bin the sum of confidence - verdict, then how many confidences there are."""
    sums: dict[str, Sums] = {}
    for name, group in attempts.items():
        bins = [0.0] * BINS
        stated = [(confidence, t) for t in group if (confidence := stated_confidence(t)) is not None]
        for confidence, trajectory in stated:
            bins[min(int(confidence * BINS), BINS - 1)] += confidence - is_right(trajectory)
        sums[name] = (*bins, float(len(stated)))
    return sums


def statistic_of(name: str) -> Statistic:
    """How a measure follows from its sums."""
    return binned_error if name == "ece" else share


def _difference(
    name: str, after: Mapping[str, Sums], before: Mapping[str, Sums], how: Mapping[str, Any], *, flips: int
) -> Difference | None:
    found = paired_difference(after, before, **how)
    p = mcnemar(after, before) if name == "greedy" else sign_flip(after, before, **{**how, "resamples": flips})
    return None if found is None or p is None else Difference(**_rounded(found), p=max(LEAST_P, round(p, 6)))


def _rounded(found: Estimate) -> dict[str, float]:
    return {"value": round(found.value, 6), "low": round(found.low, 6), "high": round(found.high, 6)}
