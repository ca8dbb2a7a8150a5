"""What lies behind the figures of a comparison: options, parts of the problems, curves, attempts that went otherwise."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from journeyman.evaluation.comparison.compare import SEED, Arm, added, given, last_policy, policy_names, right
from journeyman.evaluation.comparison.runs import Policy, Run
from journeyman.evaluation.comparison.words import ABSENT
from journeyman.evaluation.ladder import Example, difficulty_of, in_order
from journeyman.evaluation.statistics import Estimate, estimate
from journeyman.pages.lines import Line
from journeyman.trajectory import Trajectory

WON, LOST = "wrong → right", "right → wrong"
FLIPPED = 3
"""Problems that are shown of each direction."""
POINTS = 160
"""Most points of a curve: beyond, neighbours are averaged."""
Side = tuple[str, Sequence[tuple[Run, Policy]]]
"""What the pictures compare: a name, and a policy of each of its runs."""


def sides(arms: Sequence[Arm]) -> list[Side]:
    """The last policies of all arms; all policies of a single one."""
    if len(arms) == 1:
        return [
            (name, [(run, run.policies[name]) for run in arms[0].runs if name in run.policies])
            for name in policy_names(arms)
        ]
    return [(arm.name, [(run, run.policies[last_policy(run)]) for run in arm.runs if run.policies]) for arm in arms]


def options(arms: Sequence[Arm]) -> list[tuple[str, ...]]:
    """(dotted key, its value in each arm) for those that differ; seeds are those of all runs of an arm."""
    every = [given(arm.runs[0]) for arm in arms]
    rows = []
    for key in dict.fromkeys(key for found in every for key in found):
        values = tuple(found.get(key, ABSENT) for found in every)
        if key == SEED:
            values = tuple(", ".join(sorted({run.options.get(SEED, "") for run in arm.runs})) for arm in arms)
        if len(set(values)) > 1:
            rows.append((key, *values))
    return rows


Parts = list[tuple[str, list[Estimate | None]]]
"""Part of the problems -> sampled accuracy of each side."""


def by_family(compared: Sequence[Side]) -> Parts:
    return _by_part(compared, lambda run: lambda trajectory: trajectory.family)


def by_difficulty(compared: Sequence[Side]) -> Parts:
    """By what `evaluate.difficulty` of each run says."""

    def of(run: Run) -> Callable[[Trajectory], str | None]:
        return difficulty_of(run.options.get("evaluate.difficulty", "min_calls"), run.problems)

    return _by_part(compared, of)


def _by_part(compared: Sequence[Side], part_in: Callable[[Run], Callable[[Trajectory], str | None]]) -> Parts:
    found = [_accuracies(policies, part_in) for _, policies in compared]
    parts = sorted({part for one in found for part in one}, key=in_order)
    return [(part, [one.get(part) for one in found]) for part in parts]


def _accuracies(
    policies: Sequence[tuple[Run, Policy]], part_in: Callable[[Run], Callable[[Trajectory], str | None]]
) -> dict[str, Estimate | None]:
    attempts: dict[str, list[list[Trajectory]]] = defaultdict(list)
    for run, policy in policies:
        part_of, own = part_in(run), defaultdict(list)
        for trajectory in policy.sampled:
            if (part := part_of(trajectory)) is not None:
                own[part].append(trajectory)
        for part, found in own.items():
            attempts[part].append(found)
    return {part: estimate(added([right(one) for one in found])) for part, found in attempts.items()}


def curve(arm: Arm, metric: str, style: str) -> Line:
    """A metric over the steps of an arm's rl stages, one stage behind the other: mean over its seeds, and their range."""
    pieces, bands, begin = [], [], 0
    for stage in dict.fromkeys(stage for run in arm.runs for stage in run.curves):
        steps: dict[int, list[float]] = defaultdict(list)
        for run in arm.runs:
            for step, value in run.curves.get(stage, {}).get(metric, ()):
                steps[step].append(value)
        found = [(begin + step, values) for step, values in sorted(steps.items())]
        pieces.append(tuple(_thinned([(float(x), fmean(values)) for x, values in found])))
        if any(len(values) > 1 for _, values in found):
            bands.append(tuple(_thinned([(float(x), min(values), max(values)) for x, values in found])))
        begin += _length(arm, stage)
    return Line(name=arm.name, style=style, pieces=tuple(pieces), bands=tuple(bands))


def _length(arm: Arm, stage: str) -> int:
    """The last step of a stage, of whichever metric."""
    series = [points for run in arm.runs for points in run.curves.get(stage, {}).values()]
    return max((step for points in series for step, _ in points), default=0)


def _thinned(points: Sequence[tuple[float, ...]]) -> list[tuple]:
    size = -(-len(points) // POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)] if points else []
    return [tuple(map(fmean, zip(*part, strict=True))) for part in parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Greedy attempts of two policies at the same problems."""

    before: str
    after: str
    seeds: str
    """The seed of both, or of one and the other."""
    shared: int
    """Problems that both have a verdict on."""
    won: int
    """Wrong before, right after."""
    lost: int
    examples: Mapping[str, tuple[Example, ...]]
    """`WON` and `LOST`: some of each."""


def flips(compared: Sequence[Side], *, chain: bool) -> list[Flips]:
    """Each side against the first, with the same seed where both have it; `chain`: against the one before."""
    found = []
    for place, (name, policies) in enumerate(compared[1:], 1):
        before, earlier = compared[place - 1 if chain else 0]
        if policies and earlier:
            pairs = [(one, other) for other in policies for one in earlier]
            same = [(one, other) for one, other in pairs if one[0].record.seed == other[0].record.seed]
            found.append(_flips(before, name, *(same or pairs)[0]))
    return found


def _flips(before: str, after: str, first: tuple[Run, Policy], last: tuple[Run, Policy]) -> Flips:
    early, late = ({t.problem_id: t for t in policy.greedy if t.correct is not None} for _, policy in (first, last))
    shared = sorted(early.keys() & late.keys())
    won = [name for name in shared if late[name].correct and not early[name].correct]
    lost = [name for name in shared if early[name].correct and not late[name].correct]

    def examples(names: Sequence[str]) -> tuple[Example, ...]:
        return tuple(_example(before, early[name], after, late[name]) for name in _varied(names, late)[:FLIPPED])

    return Flips(
        before=before,
        after=after,
        seeds=" and ".join(dict.fromkeys(str(run.record.seed) for run, _ in (first, last))),
        shared=len(shared),
        won=len(won),
        lost=len(lost),
        examples={WON: examples(won), LOST: examples(lost)},
    )


def _example(before: str, early: Trajectory, after: str, late: Trajectory) -> Example:
    attempts = ((before, early), (after, late))
    return Example(family=late.family, question=late.question, reference=late.reference, attempts=attempts)


def _varied(names: Sequence[str], attempts: Mapping[str, Trajectory]) -> list[str]:
    """One of each family, then another of each, the short ones first."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=lambda name: (len(attempts[name].turns), name)):
        families[attempts[name].family].append(name)
    ranked = [(rank, family, name) for family, some in families.items() for rank, name in enumerate(some)]
    return [name for *_, name in sorted(ranked)]
