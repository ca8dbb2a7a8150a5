"""The ladder as tables of text: for a terminal, for Markdown, for a page."""

from collections.abc import Sequence

from journeyman.evaluation.ladder import Change, StageRow
from journeyman.evaluation.measures import Measure
from journeyman.pages.table import Table

MEASURES = (
    "Brackets are 95 % intervals; p is two-sided, of the difference to the stage before on the same problems: McNemar's "
    "test for greedy, else exchanging the two policies problem by problem. Many lines: some p are small by chance."
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
    families = list(dict.fromkeys(family for stage in stages for family in stage.families))
    rows = []
    for family in families:
        found = [stage.families.get(family) for stage in stages]
        problems = max((row.problems for row in found if row), default=0)
        cells = [f"{percent(row.accuracy_greedy)} / {percent(row.accuracy_sampled)}" if row else "-" for row in found]
        rows.append((family, str(problems), *cells))
    return Table(columns=("family", "problems", *(stage.name for stage in stages)), rows=tuple(rows))


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


def _measure(found: Measure | None) -> str:
    if found is None:
        return "-"
    shown = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
    if found.paired is None:
        return shown
    return f"{shown} p {found.paired.p:.2g}" if found.paired.p >= LEAST_SHOWN else f"{shown} p <{LEAST_SHOWN}"


def _gain(change: Change | None) -> str:
    if change is None or change.accuracy_sampled is None:
        return "-"
    gain = change.accuracy_sampled
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
