"""What a judge is worth, on paper: judge.json, judge.md and judge.html."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from journeyman.evaluation.judging.measures import JUDGE_MEASURES, Figure, Figures
from journeyman.evaluation.judging.scores import Judged
from journeyman.pages import html
from journeyman.pages.table import Table, as_html, as_markdown
from journeyman.pages.text import code

COLUMNS = ("figure", "value", "95 % interval", "chance", "of", "note")
NOTE = (
    "Items are resampled for the intervals (1000 times); shares of pairs and probes have Wilson's. An item of which any "
    "answer could not be scored is left out and counted. Chance is what a judge gets that knows nothing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """Figures on a judge, measure by measure."""

    judge: str
    """The reward's expression, or the model that compares."""
    source: str
    """What it was tried on."""
    items: int
    unscored: int
    """Items of which an answer could not be scored."""
    measures: Mapping[str, Figures]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge_report(judged: Judged, measures: Sequence[str], *, judge: str, source: str) -> JudgeReport:
    """The measures of those names that have something to say."""
    found = {name: JUDGE_MEASURES[name](judged) for name in measures}
    return JudgeReport(
        judge=judge,
        source=source,
        items=len(judged.scored),
        unscored=sum(one.known() is None for one in judged.scored),
        measures={name: figures for name, figures in found.items() if figures},
    )


def write_judge_report(report: JudgeReport, out: Path) -> None:
    """Write `out/judge.{json,md,html}`."""
    out.mkdir(parents=True, exist_ok=True)
    value = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    (out / "judge.json").write_text(value + "\n", encoding="utf-8")
    (out / "judge.md").write_text(_markdown(report), encoding="utf-8")
    (out / "judge.html").write_text(_page(report), encoding="utf-8")


def figure_table(figures: Figures) -> Table:
    """A line a figure; notes only where there are some."""
    shown = len(COLUMNS) if any(figure.note for figure in figures.values()) else len(COLUMNS) - 1
    rows = tuple((name, *_cells(figure))[:shown] for name, figure in figures.items())
    return Table(columns=COLUMNS[:shown], rows=rows)


def _cells(figure: Figure) -> tuple[str, ...]:
    interval = f"[{figure.low:.3f}, {figure.high:.3f}]"
    chance = "-" if figure.chance is None else f"{figure.chance:.3f}"
    return f"{figure.value:.3f}", interval, chance, str(figure.items), figure.note


def _about(measure: str) -> str:
    return " ".join((inspect.getdoc(JUDGE_MEASURES[measure]) or "").split("\n\n")[0].split())


def _tried(report: JudgeReport) -> str:
    return f"{report.items} items of {report.source}; {report.unscored} could not be scored."


def _markdown(report: JudgeReport) -> str:
    parts = [f"# {code(report.judge)} as a judge", _tried(report), NOTE]
    for name, figures in report.measures.items():
        parts += [f"## {name}", _about(name), as_markdown(figure_table(figures), names=True)]
    return "\n\n".join(parts) + "\n"


def _page(report: JudgeReport) -> str:
    parts = [html.header(f"{report.judge} as a judge", _tried(report))]
    for name, figures in report.measures.items():
        parts.append(html.section(name, f"<p>{escape(_about(name))}</p>{as_html(figure_table(figures))}"))
    parts.append(html.section("How to read this", f"<p>{escape(NOTE)}</p>"))
    return html.document(f"{report.judge} as a judge", parts)
