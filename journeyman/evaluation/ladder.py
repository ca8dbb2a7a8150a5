"""A run's ladder of policies in figures: one row a policy, from its attempts on the held-out problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from journeyman.config import PipelineConfig
from journeyman.evaluation.measures import ByProblem, Difference, Measure, by_problem, measures, per_problem, values
from journeyman.evaluation.robustness import Robustness, RobustnessRow, robustness
from journeyman.evaluation.statistics import Estimate, Ratio, estimate, paired_difference, pass_at_k, ratio
from journeyman.evaluation.strategies import StrategyRow, strategy_rows
from journeyman.problem import Problem
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
    made: Mapping[str, Sequence[Trajectory]] = field(default_factory=dict)
    """Strategy of inference to what it made, one a problem."""
    under: Mapping[str, Sequence[Trajectory]] = field(default_factory=dict)
    """Condition of `evaluation.robustness` to the attempts under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Against the stage before, on the same problems; None where one of the two has no value."""

    before: str
    accuracy_sampled: Estimate | None
    accuracy_greedy: Estimate | None
    needless_calls_per_solved: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """A part of a row, the problems of one family or of one difficulty; the same meanings."""

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
    difficulties: Mapping[str, FamilyRow] = field(default_factory=dict)
    """By what `evaluate.difficulty` says of the problems, as text."""
    strategies: tuple[StrategyRow, ...] = ()
    """Of inference, at equal tokens; empty where they were not compared."""
    robustness: Robustness = field(default_factory=Robustness)
    """Under harder conditions; empty where none was tried."""


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
    config: PipelineConfig,
    attempts: Sequence[Attempts],
    *,
    counts: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
) -> Report:
    """Rows in the order of `attempts`, each compared with the one before it.

    `problems`: what was attempted, for the measures that go by what is in their `data`.
    """
    settings, by_id = config.evaluate, {problem.id: problem for problem in problems}
    counted = [_counted(policy, settings.k, by_id) for policy in attempts]
    draws = {"resamples": settings.bootstrap, "seed": config.seed}
    stages = [
        replace(
            _row(policy, before, **draws),
            difficulties=_parts(policy, difficulty_of(settings.difficulty, by_id), **draws),
            strategies=strategy_rows(policy.attempts.sampled, policy.attempts.made, settings, seed=config.seed),
            robustness=robustness(policy.attempts.sampled, policy.attempts.under, **draws),
        )
        for policy, before in zip(counted, [None, *counted], strict=False)
    ]
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
    return _row(_counted(policy, ks), before and _counted(before, ks), resamples=resamples, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A policy's attempts as sums, problem by problem; made once, for a policy is compared with both its neighbours."""

    attempts: Attempts
    sampled: Mapping[str, Ratio]
    """(right, with a verdict)."""
    greedy: Mapping[str, Ratio]
    needless: Mapping[str, Ratio]
    """(needless calls, solved attempts)."""
    measures: ByProblem


def _counted(policy: Attempts, ks: Sequence[int], problems: Mapping[str, Problem] = MappingProxyType({})) -> _Counted:
    return _Counted(
        attempts=policy,
        sampled=_right(policy.sampled),
        greedy=_right(policy.greedy),
        needless=_needless(policy.sampled),
        measures=by_problem(policy.sampled, policy.greedy, ks=ks, problems=problems),
    )


def _row(counted: _Counted, before: _Counted | None, *, resamples: int, seed: int) -> StageRow:
    policy, sampled = counted.attempts, counted.sampled
    parts = (sampled, counted.greedy, counted.needless)
    estimates = [estimate(part, resamples=resamples, seed=seed) for part in parts]
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
        families=_parts(counted, lambda trajectory: trajectory.family, resamples=resamples, seed=seed),
        paired=_change(counted, before, resamples=resamples, seed=seed) if before else None,
        measures=measures(counted.measures, before.measures if before else None, resamples=resamples, seed=seed),
    )


def _right(trajectories: Sequence[Trajectory]) -> dict[str, Ratio]:
    return per_problem(trajectories, lambda t: (float(bool(t.correct)), 1))


def _needless(trajectories: Sequence[Trajectory]) -> dict[str, Ratio]:
    return per_problem(trajectories, lambda t: (t.needless_calls, 1) if t.correct else (0, 0))


def _pass(sampled: Mapping[str, Ratio], k: int) -> float | None:
    """Mean over the problems that have all k samples."""
    chances = [pass_at_k(int(n), int(right), k) for right, n in sampled.values() if n == k]
    return _rounded(sum(chances) / len(chances)) if chances else None


def _parts(
    counted: _Counted, part_of: Callable[[Trajectory], str | None], *, resamples: int, seed: int
) -> dict[str, FamilyRow]:
    """A row for each part that some attempt belongs to; None: it belongs to none."""
    parts: dict[str, tuple[list[Trajectory], list[Trajectory]]] = {}
    for place, trajectories in enumerate((counted.attempts.sampled, counted.attempts.greedy)):
        for trajectory in trajectories:
            if (part := part_of(trajectory)) is not None:
                parts.setdefault(part, ([], []))[place].append(trajectory)
    rows = {}
    for part in sorted(parts, key=in_order):
        sampled, greedy = parts[part]
        ids = {t.problem_id for t in (*sampled, *greedy)}
        accuracy = estimate(_right(sampled), resamples=resamples, seed=seed)
        rows[part] = FamilyRow(
            problems=len(ids),
            accuracy_sampled=_value(accuracy),
            accuracy_greedy=_rounded(ratio(_right(greedy))),
            ci95=_ends(accuracy),
            needless_calls_per_solved=_rounded(ratio(_needless(sampled))),
            measures=values(counted.measures, ids),
        )
    return rows


def in_order(part: str) -> tuple[bool, float, str]:
    """Numbers by their value, before all other words."""
    try:
        return False, float(part), part
    except ValueError:
        return True, 0.0, part


def difficulty_of(named: str, problems: Mapping[str, Problem]) -> Callable[[Trajectory], str | None]:
    """What `evaluate.difficulty` says of an attempt's problem; None where its data has no such key."""
    if named == "min_calls":
        return lambda trajectory: str(trajectory.min_calls)
    keys = named.split(".")[1:]

    def value(trajectory: Trajectory) -> str | None:
        found: Any = problems[trajectory.problem_id].data if trajectory.problem_id in problems else None
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return None if found is None else str(found)

    return value


def _change(policy: _Counted, before: _Counted, *, resamples: int, seed: int) -> Change:
    def difference(after: Mapping[str, Ratio], earlier: Mapping[str, Ratio]) -> Estimate | None:
        found = paired_difference(after, earlier, resamples=resamples, seed=seed)
        return found and Estimate(value=round(found.value, 6), low=round(found.low, 6), high=round(found.high, 6))

    return Change(
        before=before.attempts.name,
        accuracy_sampled=difference(policy.sampled, before.sampled),
        accuracy_greedy=difference(policy.greedy, before.greedy),
        needless_calls_per_solved=difference(policy.needless, before.needless),
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
    parts = {name: _parts_from_json(row.get(name, {})) for name in ("families", "difficulties")}
    paired = _change_from_json(row["paired"]) if row["paired"] else None
    made = {name: _measure_from_json(part) for name, part in row.get("measures", {}).items()}
    strategies = tuple(
        StrategyRow(**{**one, "accuracy": _measure_from_json(one["accuracy"])}) for one in row.get("strategies", ())
    )
    hard = _robustness_from_json(row.get("robustness", {}))
    read = {"paired": paired, "measures": made, "strategies": strategies, "robustness": hard}
    return StageRow(**{**row, **pairs, **parts, **read})


def _parts_from_json(rows: Mapping[str, Any]) -> dict[str, FamilyRow]:
    return {name: FamilyRow(**{**part, "ci95": _pair(part["ci95"])}) for name, part in rows.items()}


def _robustness_from_json(value: Mapping[str, Any]) -> Robustness:
    names, found = ("accuracy", "targeted"), value.get("consistency")
    rows = [{**row, **{name: _measure_from_json(row[name]) for name in names}} for row in value.get("rows", ())]
    return Robustness(rows=tuple(RobustnessRow(**row) for row in rows), consistency=found and Estimate(**found))


def _measure_from_json(row: Mapping[str, Any] | None) -> Measure | None:
    if row is None:
        return None
    return Measure(**{**row, "paired": Difference(**row["paired"]) if row["paired"] else None})


def _change_from_json(row: Mapping[str, Any]) -> Change:
    names = ("accuracy_sampled", "accuracy_greedy", "needless_calls_per_solved")
    return Change(before=row["before"], **{name: Estimate(**row[name]) if row[name] else None for name in names})


def _pair(value: Sequence[float] | None) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])
