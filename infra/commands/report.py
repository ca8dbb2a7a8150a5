"""`journeyman report`: a run's ladder, and runs beside each other."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journeyman.errors import DataError

if TYPE_CHECKING:
    from journeyman.evaluation.comparison.compare import Arm, Comparison
    from journeyman.evaluation.comparison.runs import Series
    from journeyman.runs import RunRecord
    from journeyman.tracking.server import Server

FOLDER = "comparison"
"""Of the runs' artifacts in MLflow, where the page is kept."""


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Ids, pipelines' names (their latest runs), or latest. [the latest with a report]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the page goes. [comparisons/ in the home folder]")] = None,
    group: Annotated[
        bool, typer.Option("--group/--no-group", help="Take runs together that differ by their seed alone.")
    ] = True,
) -> None:
    """A run's results, stage by stage; of several runs what differs and whether it was real, as an HTML page."""
    from infra.tables import find_report, report_table
    from journeyman.artifacts import home

    words = runs or [""]
    if len(words) == 1:
        path = find_report(home(), words[0])
        if as_json:
            print(path.read_text(encoding="utf-8"), end="")
            return
        report_table(path)
        if not runs:
            return
    _compare(home(), words, as_json=as_json, out=out, group=group)


def _compare(home: Path, words: Sequence[str], *, as_json: bool, out: Path | None, group: bool) -> None:
    from journeyman.artifacts import write_atomically
    from journeyman.evaluation.comparison.compare import arms, compared
    from journeyman.evaluation.comparison.page import render
    from journeyman.evaluation.comparison.runs import read_run
    from journeyman.runs import RunStore
    from journeyman.tracking.tracker import flatten

    store = RunStore(home)
    records = list({record.id: record for record in map(store.find, words)}.values())
    if out is not None and out.is_dir():
        raise DataError("a folder, not a file", place=str(out), remedy="name the file: --out comparison.html")
    server, page_server = _servers(home)
    recorded = _Recorded(home, server)
    found = [read_run(home, record, options=flatten(record.config), recorded=recorded.of) for record in records]
    if not any(run.policies or run.curves for run in found):
        places = ", ".join(record.id for record in records)
        raise DataError("nothing to compare yet", place=places, remedy="let one of the runs reach a stage of rl")
    grouped = arms(found, group=group)
    figures = compared(grouped)
    if as_json:
        print(json.dumps(_as_json(grouped, figures), indent=1, ensure_ascii=False))
        return
    path = out or home / "comparisons" / f"{'--'.join(record.id for record in records)[:180]}.html"
    write_atomically(path, render(grouped, figures))
    _print_verdicts(figures)
    for run in found:
        for what in run.missing:
            print(f"not compared: {run.record.id}: {what}")
    print(f"page: {path}")
    _keep(path, records, page_server)


def _servers(home: Path) -> "tuple[Server | None, Server | None]":
    """Where metrics are read, which needs no server where the store is a file of ours; and the one that is up."""
    from infra.definitions import MLFLOW
    from infra.services import Services
    from journeyman.tracking.server import Server
    from journeyman.tracking.tracker import EXPERIMENT

    up = Services(home).up()
    running = Server(up[MLFLOW].address, EXPERIMENT) if MLFLOW in up else None
    stored = home / "mlflow" / "mlflow.db"
    return running or (Server(f"sqlite:///{stored}", EXPERIMENT) if stored.is_file() else None), running


class _Recorded:
    """The metrics of rl steps: of an unfinished stage those beside its checkpoints, else MLflow's."""

    def __init__(self, home: Path, server: "Server | None") -> None:
        self._home, self._server = home, server

    def of(self, key: str, run_id: str) -> "Series":
        """Empty where nothing was recorded or the store can't be read."""
        from journeyman.artifacts import ArtifactStore
        from journeyman.evaluation.comparison.page import CURVES
        from journeyman.tracking.lines import read_lines
        from journeyman.tracking.server import Refused, Unreachable

        series: dict[str, dict[int, float]] = {}
        for line in read_lines(ArtifactStore(self._home).work(key) / "metrics.jsonl"):
            for name, value in line.value["values"].items():
                series.setdefault(name, {})[line.value["step"]] = value
        if series or not run_id or self._server is None:
            return {name: sorted(points.items()) for name, points in series.items() if name in CURVES}
        try:
            return self._server.series(run_id, CURVES)
        except (Refused, Unreachable) as error:
            print(f"journeyman: MLflow has no curves of {run_id}: {error}", file=sys.stderr)
            return {}


def _as_json(arms: "Sequence[Arm]", figures: "Sequence[Comparison]") -> dict:
    from dataclasses import asdict

    from journeyman.evaluation.comparison.details import options

    return {
        "arms": {arm.name: [run.record.id for run in arm.runs] for arm in arms},
        "missing": {run.record.id: list(run.missing) for arm in arms for run in arm.runs if run.missing},
        "options": {key: dict(zip([arm.name for arm in arms], values, strict=True)) for key, *values in options(arms)},
        "comparisons": [asdict(one) for one in figures],
    }


def _print_verdicts(figures: "Sequence[Comparison]") -> None:
    """Those of the first comparison."""
    from journeyman.evaluation.comparison import words

    for column in figures[0].columns if figures else ():
        if not column.against:
            continue
        print(f"\n{column.name} against {column.against}, {column.shared} problems")
        for name in () if column.same else words.headlines(column):
            print(f"  {words.label(name):32} {words.verdict(name, column.cells[name]).text}")
        if column.same:
            print("  the same policy")
    print()


def _keep(page: Path, records: "Sequence[RunRecord]", server: "Server | None") -> None:
    """The page among the artifacts of the runs in MLflow."""
    from journeyman.tracking.server import Refused, Unreachable

    if server is None:
        print("not in MLflow: its server is not up (journeyman up)")
        return
    for record in records:
        if not record.mlflow_run_id:
            continue
        try:
            server.attach(record.mlflow_run_id, page, FOLDER)
        except (Refused, Unreachable) as error:
            print(f"journeyman: not in MLflow's run of {record.id}: {error}", file=sys.stderr)
            continue
        if record.mlflow_url:
            print(f"MLflow: {record.mlflow_url}/artifacts/{FOLDER}/{page.name}")
