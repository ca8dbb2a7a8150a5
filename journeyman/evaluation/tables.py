"""The ladder as tables of text: for a terminal, for Markdown, for a page."""

from collections.abc import Mapping, Sequence

from journeyman.evaluation.ladder import Change, FamilyRow, StageRow
from journeyman.evaluation.measures import Measure
from journeyman.evaluation.statistics import Estimate
from journeyman.pages.table import Table

MEASURES = (
    "Brackets are 95 % intervals; p is two-sided, of the difference to the stage before on the same problems: McNemar's "
    "test for greedy, else exchanging the two policies problem by problem. Many lines: some p are small by chance."
)
STRATEGIES = (
    "A budget is tokens a problem, on average: what the policy writes and what tools return. random is the floor, pass@n "
    "the ceiling; p is of the difference to random at the same budget. Ties are split, so that nothing is drawn."
)
ROBUSTNESS = (
    "The same problems under harder conditions, with 95 % intervals; differences are paired with the attempts at the "
    "problems as they are. Of an attack only what goes beyond its control is its own doing. Consistency: share of pairs "
    "of attempts, asked in different ways, that answer the same."
)
LEAST_SHOWN = 0.001
"""Of p: about what 1000 resamples can tell from 0."""


def table(stages: Sequence[StageRow]) -> Table:
    """The ladder, a line a policy."""
    rows = [
        (
            stage.name,
            percent(stage.accuracy_greedy),
            percent(stage.accuracy_sampled),
            percents(stage.ci95),
            _gain(stage.paired),
            figure(stage.tool_calls_per_problem),
            figure(stage.needless_calls_per_solved),
            str(stage.problems),
            f"{stage.seconds:.0f}",
        )
        for stage in stages
    ]
    columns = (
        "stage",
        "greedy %",
        "sampled %",
        "95 % interval",
        "sampled gain",
        "calls/problem",
        "needless/solved",
        "problems",
        "seconds",
    )
    return Table(columns=columns, rows=tuple(rows))


def family_table(stages: Sequence[StageRow]) -> Table:
    """A line a family, for each policy greedy and sampled accuracy."""
    return _part_table("family", [(stage.name, stage.families) for stage in stages])


def _part_table(what: str, stages: Sequence[tuple[str, Mapping[str, FamilyRow]]]) -> Table:
    rows = []
    for part in dict.fromkeys(part for _, parts in stages for part in parts):
        found = [parts.get(part) for _, parts in stages]
        problems = max((row.problems for row in found if row), default=0)
        cells = [f"{percent(row.accuracy_greedy)} / {percent(row.accuracy_sampled)}" if row else "-" for row in found]
        rows.append((part, str(problems), *cells))
    return Table(columns=(what, "problems", *(name for name, _ in stages)), rows=tuple(rows))


def further_tables(stages: Sequence[StageRow]) -> list[tuple[str, str, Table]]:
    """(title, how to read it, table) of what not every report has."""
    by_difficulty = _part_table("difficulty", [(stage.name, stage.difficulties) for stage in stages])
    found = [
        ("By difficulty", "Greedy / sampled accuracy in percent.", by_difficulty),
        ("Strategies of inference", STRATEGIES, strategy_table(stages)),
        ("Robustness", ROBUSTNESS, robustness_table(stages)),
    ]
    return [part for part in found if len(part[2].rows) > (part[2] is by_difficulty)]  # one difficulty is none


def strategy_table(stages: Sequence[StageRow]) -> Table:
    """A line a policy, budget and strategy."""
    rows = [
        (
            f"{stage.name}: {row.strategy}",
            figure(row.budget),
            figure(row.tokens),
            "-" if row.samples is None else str(row.samples),
            _measure(row.accuracy),
        )
        for stage in stages
        for row in stage.strategies
    ]
    return Table(columns=("strategy", "budget", "tokens", "attempts", "share right"), rows=tuple(rows))


def robustness_table(stages: Sequence[StageRow]) -> Table:
    """A line a policy and condition, and one for its consistency over paraphrases."""
    rows = []
    for stage in stages:
        for row in stage.robustness.rows:
            shown = (_measure(row.accuracy), _paired(row.accuracy), _paired(row.targeted))
            rows.append((f"{stage.name}: {row.condition}", str(row.problems), *shown))
        if stage.robustness.consistency:
            rows.append((f"{stage.name}: consistency", "", _estimate(stage.robustness.consistency), "-", "-"))
    columns = ("condition", "problems", "share right", "against clean", "planted word, against clean")
    return Table(columns=columns, rows=tuple(rows))


def measure_table(stages: Sequence[StageRow]) -> Table:
    """A line a measure that some policy has, for each policy value, interval and p against the one before."""
    names = dict.fromkeys(name for stage in stages for name, found in stage.measures.items() if found)
    rows = [(name, *(_measure(stage.measures.get(name)) for stage in stages)) for name in names]
    return Table(columns=("measure", *(stage.name for stage in stages)), rows=tuple(rows))


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def percents(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"[{percent(ends[0])}, {percent(ends[1])}]"


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _paired(found: Measure | None) -> str:
    return "-" if found is None or found.paired is None else _estimate(found.paired)


def _estimate(found: Estimate) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _measure(found: Measure | None) -> str:
    if found is None:
        return "-"
    shown = _estimate(found)
    if found.paired is None:
        return shown
    return f"{shown} p {found.paired.p:.2g}" if found.paired.p >= LEAST_SHOWN else f"{shown} p <{LEAST_SHOWN}"


def _gain(change: Change | None) -> str:
    if change is None or change.accuracy_sampled is None:
        return "-"
    gain = change.accuracy_sampled
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
