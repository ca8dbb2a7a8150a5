"""The best policy by attempts at dev problems: which it is, that it is what is written, and that a killed run knows it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from journeyman.actors import InlineWorkers
from journeyman.config import EvaluateConfig, SftConfig
from journeyman.errors import DataError
from journeyman.metrics import known
from journeyman.rollout.job import RolloutJob
from journeyman.training.dev import DevSet
from journeyman.training.handle import LearnerHandle
from journeyman.training.sft import run_sft
from journeyman.trajectory import StopReason, Trajectory, write_trajectories
from tasks.recipes import plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, trajectory
from tests.unit.test_sft import Dying, settings


class Writing:
    """A learner that is its last step's number."""

    def __init__(self) -> None:
        self.number = 0

    def weights(self) -> dict[str, Any]:
        return {}

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        return [[0.0] * (len(row) - 1) for row in rows]

    def sampler_precision(self) -> str:
        return "float32"

    def save_model(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "number").write_text(str(self.number))


class Solving:
    """A pool whose verdicts are given, attempt round after attempt round."""

    def __init__(self, *rounds: Sequence[bool | None]) -> None:
        self._rounds = list(rounds)
        self.jobs: list[RolloutJob] = []
        self.versions: list[int] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.jobs = list(jobs)
        return [
            replace(trajectory(), stop_reason=StopReason.ANSWER, correct=verdict) for verdict in self._rounds.pop(0)
        ]

    def load_weights(self, weights: Mapping[str, Any], version: int) -> None:
        self.versions.append(version)

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * (len(row) - 1) for row in rows]


def dev_set(world: World, folder: Path, pool: Solving, count: int = 4) -> DevSet:
    return DevSet(world.train[:count], {"max_turns": 3}, folder=folder, samplers=pool, probe=[(1, 2, 3)])


def evaluated(dev: DevSet, learner: Any, step: int) -> float:
    learner.number = step
    return dev.evaluate(learner, step=step)["dev/accuracy_greedy"]


def test_of_equals_the_earlier_is_kept_and_what_was_not_verified_does_not_count(world: World, tmp_path: Path) -> None:
    # 1/4, 2/3 (one could not be verified), 2/3 again, 1/4
    rounds = [
        [True, False, False, False],
        [True, True, None, False],
        [True, True, None, False],
        [False, True, False, False],
    ]
    pool, learner = Solving(*rounds), Writing()
    dev = dev_set(world, tmp_path / "best", pool)
    assert [evaluated(dev, learner, step) for step in (5, 10, 15, 20)] == [0.25, 2 / 3, 2 / 3, 0.25]
    assert (dev.best / "number").read_text() == "10"
    assert dev.summary() == {
        "best_step": 10,
        "dev_accuracy_greedy": 2 / 3,
        "dev_curve": {"5": 0.25, "10": 2 / 3, "15": 2 / 3, "20": 0.25},
    }
    assert pool.versions == [5, 10, 15, 20]
    assert {(job.temperature, job.max_turns) for job in pool.jobs} == {(0.0, 3)}
    assert {path.name for path in (tmp_path / "best").iterdir()} == {"step-5", "step-10"}
    dev.forget_others()
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-10"]


def test_a_state_knows_its_best_though_a_later_one_was_found_before_the_crash(world: World, tmp_path: Path) -> None:
    learner = Writing()
    first = dev_set(world, tmp_path, Solving([True, False], [True, True]), 2)
    evaluated(first, learner, 1)
    state = first.state_dict()
    evaluated(first, learner, 2)  # then the process dies: the state of step 2 was never saved
    again = dev_set(world, tmp_path, Solving([True, True], [False, False]), 2)
    again.load_state_dict(state)
    assert (again.best / "number").read_text() == "1"
    evaluated(again, learner, 2)
    evaluated(again, learner, 3)
    assert again.summary() == {**first.summary(), "dev_curve": {"1": 0.5, "2": 1.0, "3": 0.0}}


def test_where_no_attempt_can_be_verified_there_is_no_best(world: World, tmp_path: Path) -> None:
    dev = dev_set(world, tmp_path, Solving([None, None]), 2)
    with pytest.raises(DataError, match="could be verified"):
        evaluated(dev, Writing(), 1)


def test_dev_problems_are_drawn_by_the_seed(world: World, tmp_path: Path) -> None:
    def chosen(count: int, seed: int = 0) -> list[str]:
        sft = SftConfig(evaluate_every=1, dev_problems=count)
        config = world.config.model_copy(update={"sft": sft, "seed": seed})
        path = world.synthesized / "problems" / "dev.parquet"
        made = DevSet.read(path, config, folder=tmp_path, samplers=Solving(), probe=[])
        return [problem.id for problem in made._problems]

    assert chosen(5) == chosen(5) != chosen(5, seed=1)
    assert len(set(chosen(5))) == 5 and len(chosen(999)) == 12


def test_a_killed_run_keeps_the_same_best_policy(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts by step stand in for those of an untrained model, which solves nothing; all else is real."""
    solved = {3: 1, 6: 4, 9: 4, 12: 2, 14: 3}
    config = settings(world, steps=14, checkpoint_every=4, evaluate_every=3, dev_problems=6)
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")
    steps: list[int] = []

    def judged(pool: Any, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        made = pool.rollout(jobs)
        assert len(made) == 6 and all(t.policy_version == steps[-1] and t.temperature == 0 for t in made)
        return [replace(t, correct=i < solved[steps[-1]]) for i, t in enumerate(made)]

    real = DevSet.evaluate

    def noted(self: DevSet, learner: LearnerHandle, *, step: int) -> dict[str, float]:
        steps.append(step)
        return real(self, learner, step=step)

    monkeypatch.setattr("journeyman.training.dev.attempt_all", judged)
    monkeypatch.setattr(DevSet, "evaluate", noted)

    def run(name: str, observer: Dying, out: str = "out") -> dict[str, Any]:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            return run_sft(
                config,
                tmp_path,
                out=tmp_path / name / out,
                work=tmp_path / name / "work",
                workers=workers,
                observer=observer,
                problems=world.synthesized,
            )

    unbroken = Dying()
    summary = run("unbroken", unbroken)
    assert steps == [3, 6, 9, 12, 14]
    assert (summary["best_step"], summary["dev_accuracy_greedy"]) == (6, 4 / 6)
    assert unbroken.seen[9]["dev/accuracy_greedy"] == 4 / 6 and all(known(n) for v in unbroken.seen.values() for n in v)
    with pytest.raises(KeyboardInterrupt):
        run("broken", Dying(step=6), out="first")  # after step 6 was found best, before it was in a checkpoint
    again = run("broken", Dying())
    assert steps[5:] == [3, 6, 6, 9, 12, 14]  # goes on from step 4
    assert again | {"seconds": 0} == summary | {"seconds": 0}
    ours, theirs = (tmp_path / name / "out" / "policy" / "model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()
    # It is not what the whole run ends with.
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        last = config.model_copy(update={"sft": config.sft.model_copy(update={"evaluate_every": None})})
        run_sft(last, tmp_path, out=tmp_path / "last", work=tmp_path / "lastwork", workers=workers, observer=Dying())
    assert (tmp_path / "last" / "policy" / "model.safetensors").read_bytes() != ours.read_bytes()


def test_without_dev_problems_it_is_told(world: World, tmp_path: Path) -> None:
    config = settings(world, evaluate_every=3)
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers, pytest.raises(DataError, match="no dev problems"):
        run_sft(config, tmp_path, out=tmp_path / "o", work=tmp_path / "w", workers=workers, observer=Dying())


def test_only_a_stage_that_evaluates_is_made_from_problems_and_limits(world: World) -> None:
    def planned(limit: int, **sft: Any) -> Any:
        evaluate = EvaluateConfig(max_turns=limit)
        return plan(world.config.model_copy(update={"sft": SftConfig(**sft), "evaluate": evaluate}), "sft", [])

    assert planned(3).inputs == {"curated": "curate"} and planned(3).config == planned(4).config
    assert planned(3, evaluate_every=5).inputs == {"curated": "curate", "problems": "synthesize"}
    assert planned(3, evaluate_every=5).config != planned(4, evaluate_every=5).config
    teacher = planned(3, distill={"teacher": str(world.model)})
    assert teacher.files == {"teacher": world.model}
