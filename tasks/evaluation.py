"""The task of the stage that measures, and where its figures go."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journeyman.artifacts import Artifact
from tasks.pages import link, table
from tasks.run import Run
from tasks.stage import Desk, Summary, stage_task

HEADLINES = ("accuracy_sampled", "accuracy_greedy", "tool_calls_per_problem", "needless_calls_per_solved")


@stage_task
def evaluate_policies(desk: Desk) -> Summary:
    """Every policy of the ladder on the same held-out problems."""
    from journeyman.evaluation.stage import evaluate

    data = {role: desk.inputs[role] for role in ("problems", "curated")}
    made = {name: artifact for name, artifact in desk.inputs.items() if name not in data}
    policies: dict[str, Path] = {"base": desk.inputs["sft"].path / "base"}
    policies |= {name: artifact.path / "policy" for name, artifact in made.items()}
    seconds = {"base": 0.0, **{name: artifact.manifest.seconds for name, artifact in made.items()}}
    with desk.workers() as workers:
        return evaluate(
            desk.config,
            policies,
            problems=desk.inputs["problems"].path,
            out=desk.out,
            workers=workers,
            observer=desk.observer,
            seconds=seconds,
            counts={artifact.manifest.recipe.stage: artifact.manifest.summary for artifact in data.values()},
        )


def publish(run: Run, evaluation: Artifact) -> None:
    """The report's figures on the run's MLflow parent, where runs are compared, and on the Prefect page."""
    rows = json.loads((evaluation.path / "report.json").read_text(encoding="utf-8"))["stages"]
    run.tracked.headline(headlines(rows))
    columns = ("name", *HEADLINES, "ci95", "problems", "seconds")
    table("report", [{column: _shown(row.get(column)) for column in columns} for row in rows], _WHERE)
    page = evaluation.manifest.made_by.get("mlflow_url", "")
    link("report-page", page and f"{page}/artifacts/report.html", "Report in MLflow", _PAGE)


def headlines(rows: list[Mapping[str, Any]]) -> dict[str, float]:
    """`eval/accuracy_sampled/<stage>` of each policy, and `eval/accuracy_sampled` of the last; what is None is left."""
    values: dict[str, float] = {}
    for row in rows:
        for name in HEADLINES:
            if row[name] is not None:
                values[f"eval/{name}/{row['name']}"] = values[f"eval/{name}"] = row[name]
    return values


_PAGE = "The ladder with its pictures. Beside other runs: journeyman report RUN RUN..."
_WHERE = "Held-out problems, stage by stage. The whole report is `report.html` in the artifact and in MLflow."


def _shown(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return " to ".join(f"{item:.3f}" for item in value)
    return round(value, 4) if isinstance(value, float) else ("" if value is None else value)
