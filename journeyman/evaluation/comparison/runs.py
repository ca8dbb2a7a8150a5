"""What a comparison reads of a run: its policies' attempts and its learning curves. What is missing is said, never an error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from journeyman.artifacts import Artifact, ArtifactStore
from journeyman.errors import ArtifactError
from journeyman.problem import Problem
from journeyman.runs import RunRecord, Status
from journeyman.synthesis.problems import read_problems
from journeyman.training.rollout_metrics import rollout_metrics
from journeyman.trajectory import Trajectory, read_trajectories

Series: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""Metric to its (step, value), in the order of the steps."""
Recorded: TypeAlias = Callable[[str, str], Series]
"""(key of an artifact, id of the MLflow run that made it, empty where unknown) -> what was recorded of its steps."""
MADE = (Status.COMPLETED, Status.CACHED)
EVALUATE, SYNTHESIZE = "evaluate", "synthesize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy of a run on the held-out problems."""

    key: str
    """Of the artifact that it is in: runs with the same key have the same policy."""
    sampled: Sequence[Trajectory]
    greedy: Sequence[Trajectory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, as far as it has come."""

    record: RunRecord
    options: Mapping[str, str]
    """The resolved config: dotted key to its value as text."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """By name, in the order of the ladder; empty where the run has no evaluation."""
    problems: Mapping[str, Problem] = field(default_factory=dict)
    """The held-out ones by id."""
    curves: Mapping[str, Series] = field(default_factory=dict)
    """Of the rl stages, in their order."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Stage to the digest of the sources that made it."""
    missing: tuple[str, ...] = ()
    """What can't be compared, and why."""


def read_run(home: Path, record: RunRecord, *, options: Mapping[str, str], recorded: Recorded) -> Run:
    """A run with all that is there of it."""
    made, missing = _artifacts(ArtifactStore(home), record)
    return Run(
        record=record,
        options=options,
        policies=_policies(made),
        problems=_heldout(made),
        curves=_curves(record, made, recorded),
        code={stage: artifact.manifest.recipe.code_version for stage, artifact in made.items()},
        missing=tuple(missing),
    )


def _artifacts(store: ArtifactStore, record: RunRecord) -> tuple[dict[str, Artifact], list[str]]:
    """Stage to artifact, and what is wrong with the others."""
    made, missing = {}, []
    for name, stage in record.stages.items():
        if stage.status not in MADE:
            missing.append(f"stage {name} is {stage.status}")
            continue
        try:
            made[name] = store.require(name, stage.key)
        except ArtifactError as error:
            missing.append(f"stage {name}: {error.message}")
    if EVALUATE not in record.stages:
        missing.append("it has no stage evaluate")
    return made, missing


def _policies(made: Mapping[str, Artifact]) -> dict[str, Policy]:
    path = made[EVALUATE].path / "trajectories.parquet" if EVALUATE in made else None
    if path is None or not path.is_file():
        return {}
    attempts: dict[str, tuple[list[Trajectory], list[Trajectory]]] = {}
    for trajectory in read_trajectories(path):
        name = str(trajectory.provenance.get("policy", ""))
        attempts.setdefault(name, ([], []))[trajectory.temperature == 0].append(trajectory)
    inputs = made[EVALUATE].manifest.recipe.inputs
    keys = {"base": f"base of {inputs.get('sft', '')}", **inputs}
    return {
        name: Policy(key=keys.get(name, ""), sampled=sampled, greedy=greedy)
        for name, (sampled, greedy) in attempts.items()
    }


def _heldout(made: Mapping[str, Artifact]) -> dict[str, Problem]:
    path = made[SYNTHESIZE].path / "problems" / "heldout.parquet" if SYNTHESIZE in made else None
    return {problem.id: problem for problem in read_problems(path)} if path and path.is_file() else {}


def _curves(record: RunRecord, made: Mapping[str, Artifact], recorded: Recorded) -> dict[str, Series]:
    curves = {}
    for name, stage in record.stages.items():
        if name.startswith("rl-") and stage.key:
            artifact = made.get(name)
            run_id = artifact.manifest.made_by.get("mlflow_run_id", "") if artifact else ""
            curves[name] = recorded(stage.key, run_id) or (_from_attempts(artifact) if artifact else {})
    return {name: series for name, series in curves.items() if series}


def _from_attempts(artifact: Artifact) -> Series:
    """What the attempts of an rl stage say of its steps, as many of them each; they lie in the order of the steps."""
    path = artifact.path / "trajectories.parquet"
    found, count = read_trajectories(path) if path.is_file() else [], int(artifact.manifest.summary.get("steps", 0))
    steps: dict[int, list[Trajectory]] = {}
    for place, trajectory in enumerate(found if count else ()):
        steps.setdefault(place * count // len(found) + 1, []).append(trajectory)
    series: dict[str, list[tuple[int, float]]] = {}
    for step, attempts in sorted(steps.items()):
        for name, value in rollout_metrics(attempts).items():
            series.setdefault(name, []).append((step, value))
    return series
