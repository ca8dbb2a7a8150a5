"""The report as one self-contained HTML page: no script, nothing loaded from elsewhere, light and dark."""

from collections.abc import Sequence
from html import escape

from journeyman.evaluation.ladder import Example, Report, StageRow
from journeyman.evaluation.markdown import verdict
from journeyman.evaluation.tables import (
    MEASURES,
    family_table,
    figure,
    further_tables,
    measure_table,
    percent,
    percents,
    table,
)
from journeyman.pages import html
from journeyman.pages.chart import Bar, BarGroup, bar_chart, rounded_up
from journeyman.pages.table import Table, as_html, count_rows
from journeyman.pages.text import clipped
from journeyman.trajectory import Trajectory

MOST_TURNS = 12
"""Of an attempt that is shown."""


def page(report: Report) -> str:
    """The whole page. Everything that a model wrote is escaped, and shown as text only."""
    title = f"{report.pipeline}, seed {report.seed}"
    parts = [
        html.header(report.pipeline, _subtitle(report)),
        _headline(report.stages),
        f'<div class="charts">{_accuracy(report.stages)}{_needless(report.stages)}</div>',
        html.section("Stage by stage", as_html(table(report.stages))),
        html.section(
            "By family", "<p>Greedy / sampled accuracy in percent.</p>" + as_html(family_table(report.stages))
        ),
        html.section("How to read this", "".join(f"<p>{escape(note)}</p>" for note in report.notes)),
    ]
    if (measured := measure_table(report.stages)).rows:
        parts.append(html.section("Measures", f"<p>{escape(MEASURES)}</p>{as_html(measured)}"))
    for name, note, further in further_tables(report.stages):
        parts.append(html.section(name, f"<p>{escape(note)}</p>{as_html(further)}"))
    if report.examples:
        parts.append(html.section("Examples", "".join(example_article(example) for example in report.examples)))
    if report.counts:
        counts = Table(columns=("what", "count"), rows=tuple(count_rows(report.counts)))
        parts.append(html.section("Counts", as_html(counts)))
    return html.document(title, parts)


def _subtitle(report: Report) -> str:
    problems = max((stage.problems for stage in report.stages), default=0)
    samples = max((stage.samples for stage in report.stages), default=0)
    return f"Every policy of the ladder on {problems} held-out problems, {samples} samples each · seed {report.seed}"


def _headline(stages: Sequence[StageRow]) -> str:
    """The ladder as large figures."""
    steps = [
        (
            stage.name,
            f"{percent(stage.accuracy_greedy)}<small> % greedy</small>",
            f"{percent(stage.accuracy_sampled)} % sampled",
        )
        for stage in stages
    ]
    return html.large_figures(steps, label="Greedy accuracy, stage by stage")


def _accuracy(stages: Sequence[StageRow]) -> str:
    groups = []
    for stage in stages:
        bars = [
            _bar("greedy", stage.name, stage.accuracy_greedy, stage.ci95_greedy),
            _bar("sampled", stage.name, stage.accuracy_sampled, stage.ci95),
        ]
        groups.append(BarGroup(name=stage.name, bars=tuple(bars)))
    picture = bar_chart(groups, title="Accuracy on held-out problems, by stage", top=1, unit=" %", scale=100)
    legend = '<span class="key greedy"></span>greedy<span class="key sampled"></span>sampled'
    return html.figure("Accuracy", legend, picture)


def _bar(style: str, name: str, value: float | None, interval: tuple[float, float] | None) -> Bar:
    title = f"{name}, {style}: {percent(value)} % {percents(interval)}"
    return Bar(value=value, interval=interval, label=percent(value), style=style, title=title)


def _needless(stages: Sequence[StageRow]) -> str:
    ends = [stage.ci95_needless[1] for stage in stages if stage.ci95_needless]
    top = rounded_up(max([*ends, *(stage.needless_calls_per_solved or 0 for stage in stages), 0.1]))
    groups = []
    for stage in stages:
        value, interval = stage.needless_calls_per_solved, stage.ci95_needless
        title = f"{stage.name}: {figure(value)} needless calls a solved problem"
        bar = Bar(value=value, interval=interval, label=figure(value), style="needless", title=title)
        groups.append(BarGroup(name=stage.name, bars=(bar,)))
    picture = bar_chart(groups, title="Needless calls per solved problem, by stage", top=top)
    return html.figure("Needless calls per solved problem", "fewer is better; - where nothing is solved", picture)


def example_article(example: Example) -> str:
    """A problem and what policies did with it, side by side."""
    attempts = "".join(_attempt(name, trajectory) for name, trajectory in example.attempts)
    return (
        f"<article><h3>{_text(example.question)}</h3>"
        f"<p>{escape(example.family)} · reference answer <code>{_text(example.reference)}</code></p>"
        f'<div class="attempts">{attempts}</div></article>'
    )


def _attempt(name: str, trajectory: Trajectory) -> str:
    style = {True: "right", False: "wrong", None: ""}[trajectory.correct]
    turns = []
    for turn in trajectory.turns[:MOST_TURNS]:
        turns.append(f"<pre>{_text(turn.text)}</pre>")
        turns += [f'<pre class="{"" if r.ok else "failed "}result">{_text(r.output)}</pre>' for r in turn.results]
        if turn.error:
            turns.append(f'<pre class="failed result">rejected: {_text(turn.error)}</pre>')
    if (more := len(trajectory.turns) - MOST_TURNS) > 0:
        turns.append(f"<p>… and {more} more turn{'s' if more > 1 else ''}</p>")
    return (
        f'<div><p><b>{escape(name)}</b> <span class="verdict {style}">{escape(verdict(trajectory))}</span></p>'
        f"{''.join(turns)}</div>"
    )


def _text(text: str) -> str:
    return escape(clipped(text))
