"""The report as one self-contained HTML page: no script, nothing loaded from elsewhere, light and dark."""

from collections.abc import Sequence
from html import escape

from journeyman.evaluation.chart import Bar, BarGroup, bar_chart
from journeyman.evaluation.ladder import Example, Report, StageRow
from journeyman.evaluation.markdown import clipped, verdict
from journeyman.evaluation.style import STYLE
from journeyman.evaluation.tables import Table, count_rows, family_table, figure, percent, percents, table
from journeyman.trajectory import Trajectory


def page(report: Report) -> str:
    """The whole page. Everything that a model wrote is escaped, and shown as text only."""
    title = f"{report.pipeline}, seed {report.seed}"
    parts = [
        f"<header><h1>{escape(report.pipeline)}</h1><p>{escape(_subtitle(report))}</p></header>",
        _headline(report.stages),
        f'<div class="charts">{_accuracy(report.stages)}{_needless(report.stages)}</div>',
        _section("Stage by stage", _table(table(report.stages))),
        _section("By family", "<p>Greedy / sampled accuracy in percent.</p>" + _table(family_table(report.stages))),
        _section("How to read this", "".join(f"<p>{escape(note)}</p>" for note in report.notes)),
    ]
    if report.examples:
        parts.append(_section("Examples", "".join(_example(example) for example in report.examples)))
    if report.counts:
        counts = Table(columns=("what", "count"), rows=tuple(count_rows(report.counts)))
        parts.append(_section("Counts", _table(counts)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing may run or be fetched, whatever slips through.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _subtitle(report: Report) -> str:
    problems = max((stage.problems for stage in report.stages), default=0)
    samples = max((stage.samples for stage in report.stages), default=0)
    return f"Every policy of the ladder on {problems} held-out problems, {samples} samples each · seed {report.seed}"


def _headline(stages: Sequence[StageRow]) -> str:
    """The ladder as large figures."""
    steps = [
        f"<li><span>{escape(stage.name)}</span><b>{percent(stage.accuracy_greedy)}<small> % greedy</small></b>"
        f"<span>{percent(stage.accuracy_sampled)} % sampled</span></li>"
        for stage in stages
    ]
    return f'<ol class="ladder" aria-label="Greedy accuracy, stage by stage">{"".join(steps)}</ol>'


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
    return _figure("Accuracy", legend, picture)


def _bar(style: str, name: str, value: float | None, interval: tuple[float, float] | None) -> Bar:
    title = f"{name}, {style}: {percent(value)} % {percents(interval)}"
    return Bar(value=value, interval=interval, label=percent(value), style=style, title=title)


def _needless(stages: Sequence[StageRow]) -> str:
    ends = [stage.ci95_needless[1] for stage in stages if stage.ci95_needless]
    top = _round_up(max([*ends, *(stage.needless_calls_per_solved or 0 for stage in stages), 0.1]))
    groups = []
    for stage in stages:
        value, interval = stage.needless_calls_per_solved, stage.ci95_needless
        title = f"{stage.name}: {figure(value)} needless calls a solved problem"
        bar = Bar(value=value, interval=interval, label=figure(value), style="needless", title=title)
        groups.append(BarGroup(name=stage.name, bars=(bar,)))
    picture = bar_chart(groups, title="Needless calls per solved problem, by stage", top=top)
    return _figure("Needless calls per solved problem", "fewer is better; - where nothing is solved", picture)


def _round_up(value: float) -> float:
    """The next of 0.1, 0.2, 0.5, 1, 2, 5, ... so that the axis has plain figures."""
    step = 0.1
    while True:
        for factor in (1, 2, 5):
            if value <= step * factor:
                return step * factor
        step *= 10


def _figure(title: str, legend: str, picture: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b><span>{legend}</span></figcaption>{picture}</figure>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(shown: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in shown.columns)
    rows = []
    for first, *others in shown.rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _example(example: Example) -> str:
    attempts = "".join(_attempt(name, trajectory) for name, trajectory in example.attempts)
    return (
        f"<article><h3>{_text(example.question)}</h3>"
        f"<p>{escape(example.family)} · reference answer <code>{_text(example.reference)}</code></p>"
        f'<div class="attempts">{attempts}</div></article>'
    )


def _attempt(name: str, trajectory: Trajectory) -> str:
    style = {True: "right", False: "wrong", None: ""}[trajectory.correct]
    turns = []
    for turn in trajectory.turns:
        turns.append(f"<pre>{_text(turn.text)}</pre>")
        turns += [f'<pre class="{"" if r.ok else "failed "}result">{_text(r.output)}</pre>' for r in turn.results]
        if turn.error:
            turns.append(f'<pre class="failed result">rejected: {_text(turn.error)}</pre>')
    return (
        f'<div><p><b>{escape(name)}</b> <span class="verdict {style}">{escape(verdict(trajectory))}</span></p>'
        f"{''.join(turns)}</div>"
    )


def _text(text: str) -> str:
    return escape(clipped(text))
