"""Runs as columns, measures as rows, each difference with its interval and its p.

Runs that differ by their seed alone are one arm: their attempts are taken together problem by problem, so an interval is
about the problems, and each seed's value is kept, for the spread between seeds. Differences are paired: the same problems
in both, by their ids. p is corrected for all differences of the comparison (Holm). What is NOT covered: with one seed an
arm, that another seed would have given another policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from journeyman.evaluation.comparison.runs import Policy, Run
from journeyman.evaluation.measures import (
    ByProblem,
    Difference,
    Measure,
    by_problem,
    is_right,
    measures,
    per_problem,
    statistic_of,
)
from journeyman.evaluation.statistics import Ratio, Sums, holm, total
from journeyman.trajectory import Trajectory

RESAMPLES = 1000
FLIPS = 10_000
"""Exchanges that p goes by: the smallest p, 1/10,001, outlives the correction for some hundred differences."""
ONCE = ("pass@1", "pass^1", "maj@1")
"""Measures that are left out, as is avg@n: they say what `accuracy_sampled` says."""
CLOCKED = ("call_seconds_per_attempt",)
"""Measures that are shown but not tested: they say how busy the machine was."""
LADDER = "stage by stage"
"""Name of the comparison of one arm's own policies."""
SEED = "seed"
"""The option that runs of one arm may differ in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Runs of one config."""

    name: str
    """A letter."""
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A measure of one column."""

    found: Measure
    """With the difference to the column's reference, and its p before the correction."""
    p: float | None = None
    """After it; None without a difference."""
    seeds: tuple[float, ...] = ()
    """The measure by seed; empty for a single one."""
    agreeing: tuple[int, int] | None = None
    """(seeds whose own difference has the same sign, seeds that both have); None for a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An arm's policy."""

    name: str
    against: str
    """Name of the column that it is compared with; empty: with none."""
    cells: Mapping[str, Cell]
    """By measure; without those that it has no value of."""
    problems: int
    shared: int
    """Problems that it has in common with the column it is compared with."""
    same: bool = False
    """Every sum is the same there: the same policy, with nothing to test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One policy of all arms, or all policies of one arm."""

    name: str
    columns: tuple[Column, ...]

    def measured(self) -> list[str]:
        """The measures that some column has; the last one has most of them, and so their order."""
        return list(dict.fromkeys(name for column in reversed(self.columns) for name in column.cells))


def arms(runs: Sequence[Run], *, group: bool = True) -> list[Arm]:
    """Runs with the same options but their seed are one arm, in the order in which they were first given."""
    parts: dict[Any, list[Run]] = {}
    for place, run in enumerate(runs):
        options = tuple(sorted((key, value) for key, value in given(run).items() if key != SEED))
        parts.setdefault(options if group else place, []).append(run)
    return [Arm(name=letter(place), runs=tuple(part)) for place, part in enumerate(parts.values())]


def given(run: Run) -> dict[str, str]:
    """The options that are not None: one that is None is as good as one that there was not yet."""
    return {key: value for key, value in run.options.items() if value != "None"}


def letter(place: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def compared(arms: Sequence[Arm]) -> list[Comparison]:
    """The last policies first, then those of each name; for one arm all of its policies, each against the one before it."""
    sums = {
        run.record.id: {name: policy_sums(run, policy) for name, policy in run.policies.items()}
        for arm in arms
        for run in arm.runs
    }
    if len(arms) == 1:
        names = policy_names(arms)
        sides = [_Side.of(name, _seeds(arms[0], sums, dict.fromkeys(sums, name))) for name in names]
        found = [(LADDER, list(zip(sides, [None, *sides], strict=False)))]
    else:
        found = [(name, _beside(arms, sums, chosen)) for name, chosen in _chosen(arms)]
    return _corrected(
        [
            Comparison(name=name, columns=tuple(_column(*pair) for pair in pairs))
            for name, pairs in found
            if len(pairs) > 1
        ]
    )


def last_policy(run: Run) -> str:
    """The end of a run's ladder; empty where it has none."""
    return [*run.policies][-1] if run.policies else ""


def policy_names(arms: Sequence[Arm]) -> list[str]:
    """Of all policies, in the order of the ladders."""
    return list(dict.fromkeys(name for arm in arms for run in arm.runs for name in run.policies))


def policy_sums(run: Run, policy: Policy) -> ByProblem:
    """All measures of a policy, problem by problem."""
    evaluated: Mapping[str, Any] = run.record.config.get("evaluate", {})
    found = by_problem(policy.sampled, policy.greedy, ks=evaluated.get("k", ()), problems=run.problems)
    return {
        "accuracy_sampled": right(policy.sampled),
        "greedy": found["greedy"],
        "needless_calls_per_solved": per_problem(
            policy.sampled, lambda t: (t.needless_calls, 1) if t.correct else (0, 0)
        ),
        **{name: sums for name, sums in found.items() if name not in ONCE and not name.startswith("avg@")},
    }


def right(attempts: Sequence[Trajectory]) -> dict[str, Ratio]:
    """By problem (right attempts, attempts with a verdict)."""
    return per_problem(attempts, lambda t: (float(is_right(t)), 1.0))


def added(parts: Sequence[Mapping[str, Sums]]) -> dict[str, Sums]:
    """Sums by problem over all parts that have it."""
    whole: dict[str, Sums] = {}
    for part in parts:
        for problem, sums in part.items():
            whole[problem] = tuple(map(sum, zip(whole[problem], sums, strict=True))) if problem in whole else sums
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What is compared: a policy of an arm, or of each of its seeds."""

    name: str
    seeds: Mapping[int, ByProblem]
    whole: ByProblem
    """The sums of all seeds."""

    @classmethod
    def of(cls, name: str, seeds: Mapping[int, ByProblem]) -> "_Side":
        measured = dict.fromkeys(measure for sums in seeds.values() for measure in sums)
        whole = {measure: added([sums.get(measure, {}) for sums in seeds.values()]) for measure in measured}
        return cls(name=name, seeds=seeds, whole=whole)

    @property
    def problems(self) -> set[str]:
        return {problem for sums in self.whole.values() for problem in sums}


def _seeds(arm: Arm, sums: Mapping[str, Mapping[str, ByProblem]], chosen: Mapping[str, str]) -> dict[int, ByProblem]:
    """Seed to the sums of each run's chosen policy; of runs with one seed the last."""
    return {
        run.record.seed: sums[run.record.id][chosen[run.record.id]]
        for run in arm.runs
        if chosen[run.record.id] in run.policies
    }


def _chosen(arms: Sequence[Arm]) -> Iterator[tuple[str, dict[str, str]]]:
    """(name of a comparison, run to its policy): the ladders' ends, then every name."""
    runs = [run for arm in arms for run in arm.runs]
    ends = {run.record.id: last_policy(run) for run in runs}
    last = set(ends.values()) - {""}
    title = last.pop() if len(last) == 1 else "last policy"
    yield title, ends
    for name in reversed(policy_names(arms)):
        if name != title:
            yield name, {run.record.id: name for run in runs}


def _beside(
    arms: Sequence[Arm], sums: Mapping[str, Mapping[str, ByProblem]], chosen: Mapping[str, str]
) -> list[tuple[_Side, "_Side | None"]]:
    """A policy of all arms that have it, each with the first."""
    sides = [_Side.of(arm.name, seeds) for arm in arms if (seeds := _seeds(arm, sums, chosen))]
    return [(side, sides[0] if place else None) for place, side in enumerate(sides)]


def _column(side: _Side, before: _Side | None) -> Column:
    earlier = _tested(before.whole) if before else {}
    found = measures(side.whole, earlier, resamples=RESAMPLES, flips=FLIPS)
    same = before is not None and _tested(side.whole) == earlier
    return Column(
        name=side.name,
        against=before.name if before else "",
        cells={
            name: Cell(
                found=replace(measure, paired=None) if same else measure,
                seeds=_values(side, name),
                agreeing=_agreeing(side, before, name, measure.paired) if before else None,
            )
            for name, measure in found.items()
            if measure is not None
        },
        problems=len(side.problems),
        shared=len(side.problems & before.problems) if before else 0,
        same=same,
    )


def _tested(whole: ByProblem) -> ByProblem:
    return {name: sums for name, sums in whole.items() if name not in CLOCKED}


def _values(side: _Side, name: str) -> tuple[float, ...]:
    """The measure by seed; nothing for a single one."""
    found = [_total(sums.get(name, {}), name) for sums in side.seeds.values()] if len(side.seeds) > 1 else []
    return tuple(value for value in found if value is not None)


def _agreeing(side: _Side, before: _Side, name: str, paired: Difference | None) -> tuple[int, int] | None:
    """(seeds whose own difference has the sign of the whole, seeds that both have); None for a single one."""
    common = side.seeds.keys() & before.seeds.keys()
    gaps = [_gap(side.seeds[seed].get(name, {}), before.seeds[seed].get(name, {}), name) for seed in common]
    found = [gap for gap in gaps if gap is not None]
    if paired is None or len(found) < 2:
        return None
    return sum(gap * paired.value > 0 for gap in found), len(found)


def _gap(after: Mapping[str, Sums], before: Mapping[str, Sums], name: str) -> float | None:
    shared = after.keys() & before.keys()
    late, early = (_total({one: part[one] for one in shared}, name) for part in (after, before))
    return None if late is None or early is None else late - early


def _total(sums: Mapping[str, Sums], name: str) -> float | None:
    return total(sums, statistic=statistic_of(name))


def _corrected(made: Sequence[Comparison]) -> list[Comparison]:
    """With every p corrected for how many there are."""
    found = [c.found.paired for one in made for column in one.columns for c in column.cells.values()]
    ps = iter(holm([paired.p for paired in found if paired is not None]))

    def cell(one: Cell) -> Cell:
        return replace(one, p=next(ps)) if one.found.paired is not None else one

    def column(one: Column) -> Column:
        return replace(one, cells={name: cell(part) for name, part in one.cells.items()})

    return [replace(one, columns=tuple(map(column, one.columns))) for one in made]
