"""A comparison as one self-contained HTML page: no script, nothing loaded from elsewhere, light and dark."""

import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

from journeyman.evaluation.comparison import details, words
from journeyman.evaluation.comparison.compare import LADDER, Arm, Cell, Column, Comparison, compared
from journeyman.evaluation.comparison.details import Flips, Parts, Side
from journeyman.evaluation.page import example_article
from journeyman.pages import html
from journeyman.pages.chart import Bar, BarGroup, bar_chart
from journeyman.pages.lines import line_chart
from journeyman.pages.style import RUNS
from journeyman.pages.text import clipped

CURVES = {
    "rollout/reward_mean": "Reward",
    "rollout/accuracy": "Accuracy in training",
    "policy/entropy_nats": "Entropy, nats a token",
    "policy/reference_kl_nats": "KL to the reference, nats a token",
    "policy/sampler_kl_nats": "KL of learner to sampler, nats a token",
    "rollout/length_tokens": "Length, tokens",
    "rollout/calls_per_problem": "Calls an attempt",
}
"""Metrics of rl steps that are drawn where they were recorded, and their names."""
LONGEST_OPTION = 160
FEW = 3
"""Options that the verdict names."""
HOW = (
    "Intervals are 95 %, from resampling held-out problems 1,000 times; differences are paired, on the problems that both "
    "have, by their ids. p is two-sided: the exact McNemar test for greedy attempts (a sign test over several seeds), else "
    "from exchanging the two policies problem by problem 10,000 times; it is corrected for all differences on this page "
    "(Holm), so that the chance of even one false alarm is at most 5 %. Seconds depend on the machine: they are not tested."
)
ONE_SEED = (
    "Some of what is compared has one seed only. Intervals and p say whether these very policies differ on such problems. "
    "They do not say that the change of the config did it: another seed gives another policy. Several seeds do, and runs "
    "of one config are taken together."
)
SEEDS = (
    "Runs that differ by their seed alone are one letter. Their attempts are taken together problem by problem; beside it "
    "stand the mean over the seeds, the lowest and the highest. A change counts where every seed that both have agrees."
)


def page(arms: Sequence[Arm]) -> str:
    """The whole page. Everything that a model wrote is escaped, and shown as text only."""
    return render(arms, compared(arms))


def render(arms: Sequence[Arm], comparisons: Sequence[Comparison]) -> str:
    """The same with the figures given."""
    sides, single = details.sides(arms), len(arms) == 1
    names = " and ".join(dict.fromkeys(run.record.pipeline for arm in arms for run in arm.runs))
    title = f"{names}, stage by stage" if single else f"Comparison of {names}"
    parts = [
        html.header(title, "What changed, and was it real?"),
        html.section("Runs", _runs(arms)),
        *([html.section("Verdict", _verdicts(comparisons[0], arms))] if comparisons else []),
        *([] if single else [html.section("What differs in the config", _options(arms))]),
        _learning(arms),
        _pictures(sides, arms),
        *(html.section(_title(one), _figures(one, arms)) for one in comparisons[:1]),
        _earlier(comparisons[1:], arms),
        *(
            html.section(f"Flipped: {one.before} → {one.after}", _flipped(one))
            for one in details.flips(sides, chain=single)
        ),
        html.section("How to read this", "".join(f"<p>{escape(note)}</p>" for note in _notes(arms))),
    ]
    return html.document(title, parts)


def _runs(arms: Sequence[Arm]) -> str:
    first = arms[0].runs[0].code
    rows = []
    for place, arm in enumerate(arms):
        for run in arm.runs:
            record = run.record
            when, took = record.started[:16].replace("T", " "), words.duration(record.seconds)
            cells = (record.id, when, str(record.seed), str(record.status), took, _code(run.code, first))
            rows.append((_named(place, arm.name), *map(escape, cells)))
    table = _table(("", "run", "began (UTC)", "seed", "status", "took", "code"), rows, left={1: "name", 6: "words"})
    missing = [f"{arm.name}, {run.record.id}: {what}" for arm in arms for run in arm.runs for what in run.missing]
    items = "".join(f"<li>{escape(what)}</li>" for what in missing)
    return table + (f'<p>Not there, and so not compared:</p><ul class="note">{items}</ul>' if items else "")


def _code(code: Mapping[str, str], first: Mapping[str, str]) -> str:
    """A short name for the sources of all stages, and where they are not those of the first run."""
    short = hashlib.sha256(
        "".join(f"{stage}{version}" for stage, version in sorted(code.items())).encode()
    ).hexdigest()[:8]
    other = [stage for stage, version in code.items() if first.get(stage, version) != version]
    other = ["all stages"] if len(code) > 1 and len(other) == len(code) else other
    return (short if code else words.ABSENT) + (f", other in {', '.join(other)}" if other else "")


def _verdicts(comparison: Comparison, arms: Sequence[Arm]) -> str:
    """A list for each column that is compared, a line a measure."""
    parts = []
    for column in comparison.columns:
        if column.against:
            what = "" if comparison.name == LADDER else f", policy <b>{escape(comparison.name)}</b>"
            parts.append(f"<h3>{escape(column.name)} against {escape(column.against)}{what}</h3>")
            parts.append(f'<p class="note">{escape(_shared(column))}</p>' if _shared(column) else "")
            parts.append(_verdict_list(column))
    about = "" if comparison.name == LADDER else f"<p>{escape(_differing(arms))}</p>"
    return about + "".join(parts)


def _verdict_list(column: Column) -> str:
    if column.same:
        return "<p>The same policy: every figure is the same.</p>"
    lines = []
    for name in words.headlines(column):
        found = words.verdict(name, column.cells[name])
        size = f'<span class="size {found.style}">{escape(found.size)}</span>'
        lines.append(f"<li><b>{escape(words.label(name))}</b>{size}<span>{escape(found.text)}</span></li>")
    return f'<ul class="verdicts">{"".join(lines)}</ul>' if lines else "<p>Nothing was measured in both.</p>"


def _shared(column: Column) -> str:
    if column.shared == column.problems:
        return f"The same {column.shared} held-out problems."
    return f"Of its {column.problems} held-out problems {column.shared} are the other's too: differences go by those alone."


def _differing(arms: Sequence[Arm]) -> str:
    rows = details.options(arms)
    if not rows:
        return "The configs are the same."
    named = [row[0] for row in rows[:FEW]]
    return f"What differs in the config: {', '.join(named)}{f' and {len(rows) - FEW} more' if len(rows) > FEW else ''}."


def _options(arms: Sequence[Arm]) -> str:
    rows = details.options(arms)
    if not rows:
        return "<p>Nothing: the configs are the same.</p>"
    head = ("option", *(arm.name for arm in arms))
    cells = [tuple(f"<code>{escape(clipped(cell[:LONGEST_OPTION]))}</code>" for cell in row) for row in rows]
    same = len(set(arms[0].runs[0].options) - {key for key, *_ in rows})
    return (
        _table(head, cells, left=dict.fromkeys(range(len(head)), "values"))
        + f'<p class="note">The {same} other options are the same.</p>'
    )


def _title(comparison: Comparison) -> str:
    return "Measures, stage by stage" if comparison.name == LADDER else f"Measures of {comparison.name}"


def _earlier(comparisons: Sequence[Comparison], arms: Sequence[Arm]) -> str:
    """The tables of earlier policies, folded."""
    folded = [
        f"<details><summary>{escape(_title(one))}</summary>{_figures(one, arms)}</details>" for one in comparisons
    ]
    return html.section("Earlier policies", "".join(folded)) if folded else ""


def _figures(comparison: Comparison, arms: Sequence[Arm]) -> str:
    """A line a measure, a column an arm or a policy."""
    if all(column.same for column in comparison.columns[1:]):
        return "<p>The same policy in all: every figure is the same.</p>"
    places = {arm.name: place for place, arm in enumerate(arms)} if comparison.name != LADDER else {}
    head = ["measure"]
    for column in comparison.columns:
        head += [column.name, f"{column.name} − {column.against}"] if column.against else [column.name]
    rows = []
    for name in comparison.measured():
        row = [escape(words.label(name))]
        for column in comparison.columns:
            cell = column.cells.get(name)
            row.append(_value(cell))
            row += [_difference(name, cell, column)] if column.against else []
        rows.append(tuple(row))
    return _table(head, rows, colours=places)


def _value(cell: Cell | None) -> str:
    if cell is None:
        return words.ABSENT
    shown, seeds = cell.found, cell.seeds
    spread = (
        f"<small>seeds: {_figure(fmean(seeds))} ({_figure(min(seeds))} to {_figure(max(seeds))})</small>"
        if seeds and min(seeds) < max(seeds)
        else ""
    )
    return f"{_figure(shown.value)}<small>[{_figure(shown.low)}, {_figure(shown.high)}]</small>{spread}"


def _figure(value: float) -> str:
    return escape(words.number(value))


def _difference(name: str, cell: Cell | None, column: Column) -> str:
    if column.same:
        return "the same"
    if cell is None or cell.found.paired is None or cell.p is None:
        return words.ABSENT
    paired, found = cell.found.paired, words.verdict(name, cell)
    if words.unchanged(paired):
        return "the same"
    ends = f"[{words.signed(paired.low)}, {words.signed(paired.high)}]"
    style = f' class="{found.style}"' if found.style in ("better", "worse") else ""
    agreeing = f", {cell.agreeing[0]} of {cell.agreeing[1]} seeds" if cell.agreeing else ""
    return f"<b{style}>{found.size}</b><small>{ends} {escape(words.p_value(cell.p))}{agreeing}</small>"


def _pictures(sides: Sequence[Side], arms: Sequence[Arm]) -> str:
    legend = _legend([name for name, _ in sides])
    found = (
        ("Accuracy by family, sampled", details.by_family(sides)),
        ("Accuracy by difficulty, sampled", details.by_difficulty(sides)),
    )
    figures = [html.figure(title, legend, _bars(title, parts, sides)) for title, parts in found if len(parts) > 1]
    last = "Of every policy." if len(arms) == 1 else "Of the last policy of each run."
    return html.section("Where", f'<p>{last}</p><div class="charts">{"".join(figures)}</div>') if figures else ""


def _bars(title: str, parts: Parts, sides: Sequence[Side]) -> str:
    groups = []
    for part, estimates in parts:
        bars = []
        for place, (found, (name, _)) in enumerate(zip(estimates, sides, strict=True)):
            told = f"{part}, {name}: {words.with_interval(found) if found else 'no attempt'}"
            ends = (found.low, found.high) if found else None
            value = found.value if found else None
            label = f"{100 * found.value:.0f}" if found else ""
            bars.append(Bar(value=value, interval=ends, label=label, style=_style(place), title=told))
        groups.append(BarGroup(name=part, bars=tuple(bars)))
    return bar_chart(groups, title=title, top=1, unit=" %", scale=100)


def _learning(arms: Sequence[Arm]) -> str:
    figures = []
    legend = _legend([arm.name for arm in arms])
    for metric, title in CURVES.items():
        lines = [details.curve(arm, metric, _style(place)) for place, arm in enumerate(arms)]
        if picture := line_chart(lines, title=title, below="step of rl"):
            figures.append(html.figure(title, legend, picture))
    if not figures:
        return ""
    told = "Steps of the rl stages, one stage behind the other, with a gap between them."
    if any(len(arm.runs) > 1 for arm in arms):
        told += " The mean over the seeds, and from the lowest to the highest."
    return html.section("Learning", f'<p>{told}</p><div class="charts">{"".join(figures)}</div>')


def _flipped(flips: Flips) -> str:
    same = flips.shared - flips.won - flips.lost
    told = (
        f"Greedy attempts at {flips.shared} problems that both have, seed {flips.seeds}: {flips.won} went from wrong to right, "
        f"{flips.lost} from right to wrong, {same} stayed what they were."
    )
    parts = [f"<p>{told}</p>"]
    for way, examples in flips.examples.items():
        shown = "".join(map(example_article, examples))
        count = flips.won if way == details.WON else flips.lost
        if shown:
            parts.append(f"<details open><summary>{way}: {len(examples)} of {count}</summary>{shown}</details>")
    return "".join(parts)


def _notes(arms: Sequence[Arm]) -> list[str]:
    grouped = any(len(arm.runs) > 1 for arm in arms)
    alone = any(len(arm.runs) == 1 for arm in arms)
    return [HOW, *([SEEDS] if grouped else []), *([ONE_SEED] if alone else [])]


def _legend(names: Sequence[str]) -> str:
    keys = [f"{_named(place, name)}" for place, name in enumerate(names)]
    return f'<span class="legend">{"".join(keys)}</span>'


def _named(place: int, name: str) -> str:
    return f'<span class="key {_style(place)}"></span>{escape(name)}'


def _style(place: int) -> str:
    return f"run-{place % RUNS}"


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    colours: Mapping[str, int] | None = None,
    left: Mapping[int, str] | None = None,
) -> str:
    """A table of HTML cells; heads are text.

    Args:
        colours: heads that carry a run's colour.
        left: columns of words, and their class.
    """
    places, marks = colours or {}, left or {}
    classes = [f' class="{marks[at]}"' if at in marks else "" for at in range(len(head))]
    heads = [_named(places[name], name) if name in places else escape(name) for name in head]
    top = "".join(f'<th scope="col"{mark}>{name}</th>' for name, mark in zip(heads, classes, strict=True))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(others, classes[1:], strict=True))
        lines.append(f'<tr><th scope="row"{classes[0]}>{first}</th>{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
