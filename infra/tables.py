"""What the command line prints: tables of runs, parts and results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from infra.display import clock
from journeyman.artifacts import ArtifactStore
from journeyman.catalog import Entry, catalog
from journeyman.curation.engine import Funnel
from journeyman.errors import DataError, UserError, nearest
from journeyman.runs import RunRecord, RunStore, Status

if TYPE_CHECKING:
    from journeyman.evaluation.judging.measures import Figures

WIDE = 160
"""Columns where the output is no terminal, and has no width of its own."""
ROOMY = 105
"""Columns from which on the whole report fits."""
OMITTED = ("sampled gain",)
"""What a narrow terminal goes without; the report's files have it."""
HAS_REPORT = (Status.COMPLETED, Status.CACHED)


def find_report(home: Path, word: str = "") -> Path:
    """The report.json of a run; of the latest run that has one where none is named. Raises `UserError`."""
    runs = RunStore(home)
    records = [runs.find(word)] if word else runs.all()
    for record in records:
        made = record.stages.get("evaluate")
        if made is not None and made.status in HAS_REPORT:
            return ArtifactStore(home).require("evaluate", made.key).path / "report.json"
    message = f"run {records[0].id} has no report" if word else "no run has a report yet"
    remedy = "let it run to the end of stage evaluate: journeyman run, or journeyman stage evaluate"
    raise DataError(message, place=str(home / "runs"), remedy=remedy)


def report_table(path: Path) -> None:
    """The ladder of a report, a line a policy."""
    from journeyman.evaluation.report import report_table as read_table

    content, out = read_table(path), console()
    shown = [number for number, name in enumerate(content.columns) if out.width >= ROOMY or name not in OMITTED]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for number in shown:
        name = "\n".join(content.columns[number].replace("/", "/ ").rsplit(" ", 1))
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in content.rows:
        table.add_row(*(row[number] for number in shown))
    out.print(table)


def summary(home: Path, run: str) -> None:
    """What came of a run and where to look."""
    record = RunStore(home).load(run)
    made = record.stages.get("evaluate")
    places = [("run", record.id), ("Prefect", record.prefect_url), ("MLflow", record.mlflow_url)]
    if made is not None and made.status in HAS_REPORT:
        report = find_report(home, run)
        report_table(report)
        places.append(("report", str(report.with_suffix(".html"))))
    print()
    for line in early_ends(home, record):
        print(f"  {line}")
    for name, place in places:
        if place:
            print(f"  {name:8} {place}")
    print("the servers stay up until `make down` (or `journeyman down`)")


def early_ends(home: Path, record: RunRecord) -> list[str]:
    """A line for each rl stage of a run that ended before its steps were done: why."""
    lines, store = [], ArtifactStore(home)
    for stage, made in record.stages.items():
        found = store.peek(stage, made.key) if stage.startswith("rl-") and made.key else None
        told = found.manifest.summary if found else {}
        if why := told.get("ended") or told.get("stopped"):
            lines.append(f"{stage} ended after {told['steps']} steps: {why}")
    return lines


def runs_table(records: Sequence[RunRecord]) -> None:
    """A line a run."""
    if not records:
        print("no runs yet: journeyman run quickstart")
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "pipeline", "status", "seed", "time", "stages", "from run"):
        table.add_column(name, no_wrap=name != "stages")
    for record in records:
        stages = ", ".join(f"{name} {stage.status}" for name, stage in record.stages.items() if not stage.inherited)
        time = clock(record.seconds) if record.seconds else ""
        table.add_row(record.id, record.pipeline, record.status, str(record.seed), time, stages, record.from_run)
    console().print(table)


def funnel_table(funnel: Funnel) -> None:
    """A line a rule: what it was given, what it dropped and why."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("rule", "rows in", "dropped", "reasons"):
        number = name in ("rows in", "dropped")
        table.add_column(name, justify="right" if number else "left", no_wrap=name != "reasons")
    for rule in funnel.rules:
        reasons = "; ".join(f"{reason}: {rows}" for reason, rows in rule.reasons.items())
        table.add_row(rule.rule, str(rule.rows_in), str(rule.dropped), reasons)
    out = console()
    out.print(table)
    out.print(f"{funnel.rows_kept} of {funnel.rows_in} rows kept")


def figures_table(measures: "Mapping[str, Figures]") -> None:
    """A table for each measure of a judge, a line a figure."""
    from journeyman.evaluation.judging.report import figure_table

    out = console()
    for name, figures in measures.items():
        content = figure_table(figures)
        table = Table(box=None, title=name, title_style="bold", title_justify="left", header_style="dim")
        for column in content.columns:
            table.add_column(column, justify="left" if column in ("figure", "note") else "right")
        for row in content.rows:
            table.add_row(*row)
        out.print(table)
        out.print()


def entries_of(kind: str) -> list[Entry]:
    """The parts of a kind, and what combines them; of all kinds where none is named. Raises `UserError`."""
    entries = catalog()
    kinds = list(dict.fromkeys(entry.kind for entry in entries))
    if kind and kind not in kinds:
        raise UserError(f"there is no kind `{kind}`", place="--kind", remedy=nearest(kind, kinds))
    return [entry for entry in entries if not kind or entry.kind in (kind, f"{kind} combinator")]


def catalog_json(entries: Sequence[Entry]) -> str:
    """A list of objects, one a part."""
    return json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False)


def catalog_tables(entries: Sequence[Entry]) -> None:
    """A table for each kind of part."""
    out = console()
    for kind, parts in groupby(entries, key=lambda entry: entry.kind):
        table = Table(box=None, title=kind, title_style="bold", title_justify="left", header_style="dim", expand=True)
        for name, ratio in (("name", 2), ("what it is", 6), ("papers", 2), ("options", 4), ("test", 4)):
            table.add_column(name, ratio=ratio, overflow="fold")
        for part in parts:
            papers = [f"{paper} {part.source.get(paper, '')}".strip() for paper in part.papers]
            asked = [*part.options, *(f"needs {need}" for need in part.needs)]
            tests = [part.test] if part.test else part.tested
            cells = (part.name, part.doc, "\n".join(papers), "\n".join(asked), "\n".join(tests))
            table.add_row(*cells)
        out.print(table)
        out.print()


def console() -> Console:
    made = Console(highlight=False, markup=False)
    return made if made.is_terminal else Console(highlight=False, markup=False, width=WIDE)
