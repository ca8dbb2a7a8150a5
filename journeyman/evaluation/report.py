"""The report of a pipeline run: report.json, report.md and report.html from the attempts of every policy."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.config import PipelineConfig
from journeyman.evaluation.ladder import Attempts, Report, build_report
from journeyman.evaluation.markdown import markdown
from journeyman.evaluation.page import page
from journeyman.evaluation.tables import table
from journeyman.pages.table import Table
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """What a report can have besides."""

    problems: Sequence[Problem] = ()
    """What was attempted, for the measures that go by what is in their `data`."""
    made: Mapping[str, Mapping[str, Sequence[Trajectory]]] = field(default_factory=dict)
    """Policy -> strategy of inference -> what it made."""
    under: Mapping[str, Mapping[str, Sequence[Trajectory]]] = field(default_factory=dict)
    """Policy -> condition of `evaluation.robustness` -> attempts."""


def write_report(
    config: PipelineConfig,
    *,
    sampled: Mapping[str, Sequence[Trajectory]],
    greedy: Mapping[str, Sequence[Trajectory]],
    seconds: Mapping[str, float],
    out: Path,
    counts: Mapping[str, Any] | None = None,
    more: More = More(),
) -> dict[str, Any]:
    """Write `out/report.{json,md,html}`; returns what is in the JSON file.

    Args:
        sampled: policy to attempts at a temperature above 0, in the order of the ladder.
        greedy: policy to one attempt a problem.
        seconds: policy to how long its stage took.
        counts: what the stages before counted, possibly nested: rows read, kept apart, dropped.
        more: what else was attempted.
    """
    ladder = [
        Attempts(
            name=name,
            sampled=made,
            greedy=greedy.get(name, ()),
            seconds=seconds.get(name, 0.0),
            made=more.made.get(name, {}),
            under=more.under.get(name, {}),
        )
        for name, made in sampled.items()
    ]
    return write_files(build_report(config, ladder, counts=counts, problems=more.problems), out)


def write_files(report: Report, out: Path) -> dict[str, Any]:
    """Write a report's `out/report.{json,md,html}`; returns what is in the JSON file."""
    out.mkdir(parents=True, exist_ok=True)
    value = report.to_json()
    (out / "report.json").write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    (out / "report.html").write_text(page(report), encoding="utf-8")
    return value


def read_report(path: Path) -> Report:
    """What `write_report` put into report.json."""
    return Report.from_json(json.loads(path.read_text(encoding="utf-8")))


def report_table(path: Path) -> Table:
    """The ladder of a report.json as text, a line a policy: for a terminal."""
    return table(read_report(path).stages)
