"""A run's ladder of policies in figures: one row a policy, from its attempts on the held-out problems."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from journeyman.config import PipelineConfig
from journeyman.evaluation.measures import ByProblem, Difference, Measure, by_problem, measures, per_problem, values
from journeyman.evaluation.statistics import Estimate, Ratio, estimate, paired_difference, pass_at_k, ratio
from journeyman.trajectory import Trajectory

HEADROOM = (
    "Where the headroom comes from: the cold-start demonstrations come from an imperfect, unverified teacher. The "
    "headroom for RL is made on purpose: right and wrong courses are both in the demonstrations, as in the logs of a "
    "real agent, and a reward that can be checked picks the right ones."
)
ANNOTATED = (
    "The cold-start demonstrations are the worked solutions of the data set's own rows, every call really run. They "
    "are right, so what is left to learn is not made on purpose."
)
NEAR_ZERO = (
    "Accuracy is near zero: a small model trained from scratch for a bounded number of steps does not solve these "
    "problems, and the report says so. What the run shows is that every stage works on these data. An interval of "
    "[0, 0] means that no attempt was right; with P problems a true share of up to about 3/P would still fit."
)
NEAR_ZERO_BELOW = 0.05
METRIC = (
    "Sampled: temperature {temperature:g}, {samples} attempts a problem. Brackets are 95 % intervals from resampling "
    "problems; they do not cover that another training seed gives another policy. The gain is that of sampled accuracy "
    "over the stage before, in points, on the same problems. A needless call is one beyond those that the shortest "
    "correct course needs; it is counted in solved attempts only."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What one policy did on the held-out problems."""

    name: str
    """`base`, `sft` or `rl-NAME`."""
    sampled: Sequence[Trajectory]
    """Some attempts a problem at a temperature above 0."""
    greedy: Sequence[Trajectory]
    """One attempt a problem."""
    seconds: float
    """What the stage that made the policy took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Against the stage before, on the same problems; None where one of the two has no value."""

    before: str
    accuracy_sampled: Estimate | None
    accuracy_greedy: Estimate | None
    needless_calls_per_solved: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """A family's part of a row; the same meanings."""

    problems: int
    accuracy_sampled: float | None
    accuracy_greedy: float | None
    ci95: tuple[float, float] | None
    needless_calls_per_solved: float | None
    measures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """A policy of the ladder. A value that could not be had is None, never 0."""

    name: str
    accuracy_sampled: float | None
    """Share of right attempts, temperature above 0, over all attempts that have a verdict."""
    accuracy_greedy: float | None
    ci95: tuple[float, float] | None
    """Of `accuracy_sampled`."""
    ci95_greedy: tuple[float, float] | None
    tool_calls_per_problem: float | None
    """Mean over the sampled attempts."""
    needless_calls_per_solved: float | None
    """Over the sampled attempts that are right; None where none is."""
    ci95_needless: tuple[float, float] | None
    problems: int
    samples: int
    """Most attempts that a problem was sampled."""
    pass_at_samples: float | None
    """pass@k of the sampled attempts for k = `samples`."""
    unscored: int
    """Attempts without a verdict: left out of everything else."""
    seconds: float
    families: Mapping[str, FamilyRow] = field(default_factory=dict)
    paired: Change | None = None
    """None for the first row."""
    measures: Mapping[str, Measure | None] = field(default_factory=dict)
    """By name, as `evaluation.measures` has them; empty in reports from before there were any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One problem and what some policies did with it."""

    family: str
    question: str
    reference: str
    attempts: tuple[tuple[str, Trajectory], ...]
    """(name of the policy, its greedy attempt)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it."""

    pipeline: str
    seed: int
    stages: tuple[StageRow, ...]
    notes: tuple[str, ...] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What the stages before counted: rows read, kept, dropped; possibly nested."""
    examples: tuple[Example, ...] = ()
    """Not in the JSON: they are in trajectories.parquet."""

    def to_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "seed": self.seed,
            "stages": [asdict(stage) for stage in self.stages],
            "notes": list(self.notes),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Report":
        """The inverse of `to_json`."""
        return cls(
            pipeline=value["pipeline"],
            seed=value["seed"],
            stages=tuple(_stage_from_json(row) for row in value["stages"]),
            notes=tuple(value["notes"]),
            counts=value["counts"],
        )


def build_report(
    config: PipelineConfig, attempts: Sequence[Attempts], *, counts: Mapping[str, Any] | None = None
) -> Report:
    """Rows in the order of `attempts`, each compared with the one before it."""
    draws = {"ks": config.evaluate.k, "resamples": config.evaluate.bootstrap, "seed": config.seed}
    stages: list[StageRow] = []
    for number, policy in enumerate(attempts):
        stages.append(stage_row(policy, attempts[number - 1] if number else None, **draws))
    return Report(
        pipeline=config.name,
        seed=config.seed,
        stages=tuple(stages),
        notes=_notes(config, stages),
        counts=dict(counts or {}),
        examples=choose_examples(attempts),
    )


def stage_row(
    policy: Attempts,
    before: Attempts | None = None,
    *,
    ks: Sequence[int] = (1, 4),
    resamples: int = 1000,
    seed: int = 0,
) -> StageRow:
    """One policy's row."""
    problems = by_problem(policy.sampled, policy.greedy, ks=ks)
    earlier = by_problem(before.sampled, before.greedy, ks=ks) if before else None
    sampled, greedy, needless = _right(policy.sampled), _right(policy.greedy), _needless(policy.sampled)
    estimates = [estimate(part, resamples=resamples, seed=seed) for part in (sampled, greedy, needless)]
    every = [*policy.sampled, *policy.greedy]
    most = max((int(attempts) for _, attempts in sampled.values()), default=0)
    return StageRow(
        name=policy.name,
        accuracy_sampled=_value(estimates[0]),
        accuracy_greedy=_value(estimates[1]),
        ci95=_ends(estimates[0]),
        ci95_greedy=_ends(estimates[1]),
        tool_calls_per_problem=_rounded(ratio(per_problem(policy.sampled, lambda t: (len(t.calls), 1)))),
        needless_calls_per_solved=_value(estimates[2]),
        ci95_needless=_ends(estimates[2]),
        problems=len({t.problem_id for t in every}),
        samples=most,
        pass_at_samples=_pass(sampled, most),
        unscored=sum(t.correct is None for t in every),
        seconds=round(policy.seconds, 3),
        families=_families(policy, problems, resamples=resamples, seed=seed),
        paired=_change(policy, before, resamples=resamples, seed=seed) if before else None,
        measures=measures(problems, earlier, resamples=resamples, seed=seed),
    )


def _right(trajectories: Sequence[Trajectory]) -> dict[str, Ratio]:
    return per_problem(trajectories, lambda t: (float(bool(t.correct)), 1))


def _needless(trajectories: Sequence[Trajectory]) -> dict[str, Ratio]:
    return per_problem(trajectories, lambda t: (t.needless_calls, 1) if t.correct else (0, 0))


def _pass(sampled: Mapping[str, Ratio], k: int) -> float | None:
    """Mean over the problems that have all k samples."""
    chances = [pass_at_k(int(n), int(right), k) for right, n in sampled.values() if n == k]
    return _rounded(sum(chances) / len(chances)) if chances else None


def _families(policy: Attempts, problems: ByProblem, *, resamples: int, seed: int) -> dict[str, FamilyRow]:
    rows = {}
    for family in sorted({t.family for t in (*policy.sampled, *policy.greedy)}):
        sampled = [t for t in policy.sampled if t.family == family]
        greedy = [t for t in policy.greedy if t.family == family]
        ids = {t.problem_id for t in (*sampled, *greedy)}
        accuracy = estimate(_right(sampled), resamples=resamples, seed=seed)
        rows[family] = FamilyRow(
            problems=len(ids),
            accuracy_sampled=_value(accuracy),
            accuracy_greedy=_rounded(ratio(_right(greedy))),
            ci95=_ends(accuracy),
            needless_calls_per_solved=_rounded(ratio(_needless(sampled))),
            measures=values(problems, ids),
        )
    return rows


def _change(policy: Attempts, before: Attempts, *, resamples: int, seed: int) -> Change:
    def difference(after: Mapping[str, Ratio], earlier: Mapping[str, Ratio]) -> Estimate | None:
        found = paired_difference(after, earlier, resamples=resamples, seed=seed)
        return found and Estimate(value=round(found.value, 6), low=round(found.low, 6), high=round(found.high, 6))

    return Change(
        before=before.name,
        accuracy_sampled=difference(_right(policy.sampled), _right(before.sampled)),
        accuracy_greedy=difference(_right(policy.greedy), _right(before.greedy)),
        needless_calls_per_solved=difference(_needless(policy.sampled), _needless(before.sampled)),
    )


def _value(found: Estimate | None) -> float | None:
    return None if found is None else round(found.value, 6)


def _ends(found: Estimate | None) -> tuple[float, float] | None:
    return None if found is None else (round(found.low, 6), round(found.high, 6))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _notes(config: PipelineConfig, stages: Sequence[StageRow]) -> tuple[str, ...]:
    notes = []
    teacher = config.synthesize.teacher
    if teacher.type == "annotations":
        notes.append(ANNOTATED)
    elif teacher.type == "scripted" and teacher.mistakes > 0 and "verified" not in config.curate.rules:
        notes.append(HEADROOM)
    if stages and all((stage.accuracy_sampled or 0) < NEAR_ZERO_BELOW for stage in stages):
        notes.append(NEAR_ZERO)
    samples = max((stage.samples for stage in stages), default=0)
    return (*notes, METRIC.format(temperature=config.evaluate.temperature, samples=samples))


def choose_examples(attempts: Sequence[Attempts]) -> tuple[Example, ...]:
    """One problem a family: best one that an earlier policy gets wrong and the last one right."""
    if not attempts:
        return ()
    shown = [attempts[1], attempts[-1]] if len(attempts) > 2 else list(attempts)
    by_policy = [(policy.name, {t.problem_id: t for t in policy.greedy}) for policy in shown]
    examples: dict[str, tuple[int, Example]] = {}
    for problem_id in sorted(set.intersection(*(set(found) for _, found in by_policy))):
        made = [(name, found[problem_id]) for name, found in by_policy]
        last = made[-1][1]
        merit = 2 * bool(last.correct) + (not made[0][1].correct)
        example = Example(family=last.family, question=last.question, reference=last.reference, attempts=tuple(made))
        if merit > examples.get(last.family, (-1, example))[0]:
            examples[last.family] = (merit, example)
    return tuple(example for _, (_, example) in sorted(examples.items()))


def _stage_from_json(row: Mapping[str, Any]) -> StageRow:
    pairs = {name: _pair(row[name]) for name in ("ci95", "ci95_greedy", "ci95_needless")}
    families = {name: FamilyRow(**{**part, "ci95": _pair(part["ci95"])}) for name, part in row["families"].items()}
    paired = _change_from_json(row["paired"]) if row["paired"] else None
    made = {name: _measure_from_json(part) for name, part in row.get("measures", {}).items()}
    return StageRow(**{**row, **pairs, "families": families, "paired": paired, "measures": made})


def _measure_from_json(row: Mapping[str, Any] | None) -> Measure | None:
    if row is None:
        return None
    return Measure(**{**row, "paired": Difference(**row["paired"]) if row["paired"] else None})


def _change_from_json(row: Mapping[str, Any]) -> Change:
    names = ("accuracy_sampled", "accuracy_greedy", "needless_calls_per_solved")
    return Change(before=row["before"], **{name: Estimate(**row[name]) if row[name] else None for name in names})


def _pair(value: Sequence[float] | None) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])
