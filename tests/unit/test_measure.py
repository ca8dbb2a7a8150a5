"""Measuring a policy for curation: what is attempted, what is kept of it, and that a killed try goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import duckdb
import pytest

from journeyman.actors import InlineWorkers
from journeyman.config import CurateConfig, MeasureConfig, PipelineConfig, PretrainedModel
from journeyman.curation.measure import attempts_sql
from journeyman.errors import ConfigError, DataError
from journeyman.evaluation.measure import CHUNK, jobs, measured, policy_folder, problems_to_measure
from journeyman.progress import Silent
from journeyman.rollout.job import RolloutJob, SamplerPool
from journeyman.synthesis.problems import write_problems
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.training.model import load_tokenizer
from journeyman.trajectory import StopReason, Trajectory, read_trajectories, write_trajectories
from tasks.recipes import WORKERS, plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, SMALL, World, problem, trajectory
from tests.unit.test_curation import Recorder

PROBLEMS = [problem(f"{n}?") for n in range(CHUNK + 3)]


class Pool:
    """Attempts that are right with tools, and fail on the machine for the first problem."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.asked.append(len(jobs))
        return [self._attempt(job) for job in jobs]

    def load_weights(self, weights: Mapping[str, Any], version: int) -> None: ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        raise AssertionError("nothing is scored")

    def _attempt(self, job: RolloutJob) -> Trajectory:
        made = trajectory(
            id=job.trajectory_id(), problem_id=job.problem.id, tools=job.problem.tools, correct=bool(job.problem.tools)
        )
        if job.problem.id == PROBLEMS[0].id:
            return replace(made, stop_reason=StopReason.INFRASTRUCTURE, correct=None)
        return made


class Workers:
    """A pool that is given, and with which models it was started."""

    def __init__(self, pool: SamplerPool) -> None:
        self.pool, self.models = pool, list[Path]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        raise AssertionError("nothing is learned")

    def samplers(self, model: Path) -> SamplerPool:
        self.models.append(model)
        return self.pool


def artifact(folder: Path) -> Path:
    """A synthesize artifact: all problems but the last are demonstrated; that one is to train on, as is the first."""
    write_problems(PROBLEMS[:-1], folder / "problems" / "taught.parquet")
    write_problems([PROBLEMS[0], PROBLEMS[-1]], folder / "problems" / "train.parquet")
    write_problems([problem("held out?")], folder / "problems" / "heldout.parquet")
    rows = [trajectory(id=p.id, problem_id=p.id) for p in PROBLEMS[:-1]]
    write_trajectories(rows, folder / "demonstrations.parquet")
    return folder


def config(model: Path, **options: object) -> PipelineConfig:
    measure = MeasureConfig.model_validate({"policy": str(model), "samples": 2, **options})
    return PipelineConfig(model=SMALL, compute=COMPUTE, curate=CurateConfig(measure=measure))


def test_the_table_of_attempts_by_hand(tmp_path: Path) -> None:
    rows = [
        # the prompt's token is not the policy's: (-1 - 2 - 3) / 3 = -2
        trajectory(problem_id="a", tokens=4, logprobs=(0.0, -1.0, -2.0, -3.0), correct=True, score=0.5),
        trajectory(problem_id="b", tools=(), tokens=2, loss_mask=(0, 0), correct=False, score=0.0),
        trajectory(problem_id="c", correct=None),
        *(trajectory(problem_id=reason, stop_reason=reason) for reason in StopReason if not reason.scorable),
    ]
    write_trajectories(rows, tmp_path / "[1].parquet")
    found = duckdb.execute(attempts_sql(tmp_path / "[1].parquet"))
    assert [name for name, *_ in found.description or ()] == ["problem_id", "tools", "correct", "score", "confidence"]
    assert found.fetchall() == [
        ("a", True, True, 0.5, -2.0),
        ("b", False, False, 0.0, None),
        ("c", True, None, None, -1.0),
    ]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("demonstrated", PROBLEMS[:-1]), ("train", [PROBLEMS[0], PROBLEMS[-1]]), ("both", PROBLEMS)],
)
def test_which_problems_are_measured(tmp_path: Path, which: str, expected: list) -> None:
    found = problems_to_measure(config(tmp_path, problems=which), artifact(tmp_path / "in"))
    assert found == expected


def test_some_of_the_problems_by_seed(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "in")
    some = problems_to_measure(config(tmp_path, most=5), folder)
    assert len(some) == 5 and some == problems_to_measure(config(tmp_path, most=5), folder)
    assert [p.id for p in some] == [p.id for p in PROBLEMS if p in some], "in their order"
    other = config(tmp_path, most=5).model_copy(update={"seed": 1})
    assert some != problems_to_measure(other, folder)
    assert len(problems_to_measure(config(tmp_path, most=500), folder)) == len(PROBLEMS) - 1


def test_no_problem_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "in")
    (folder / "problems" / "taught.parquet").unlink()
    write_problems([PROBLEMS[-1]], folder / "problems" / "train.parquet")
    with pytest.raises(DataError) as error:
        problems_to_measure(config(tmp_path), folder)
    assert "curate.measure.problems=train" in error.value.remedy


def test_jobs_with_tools_and_without() -> None:
    settings = MeasureConfig(policy="x", samples=2, without_tools=True, max_turns=3, temperature=0.5)
    made = jobs([PROBLEMS[0], replace(PROBLEMS[1], tools=())], settings, seed=7)
    assert [(job.problem.id, job.problem.tools, job.sample) for job in made] == [
        *((PROBLEMS[0].id, ("calculator",), sample) for sample in (0, 1)),
        *((PROBLEMS[0].id, (), sample) for sample in (0, 1)),
        *((PROBLEMS[1].id, (), sample) for sample in (0, 1)),  # it has none to take away
    ]
    assert len({job.seed for job in made}) == len({job.trajectory_id() for job in made}) == 6
    assert {(job.max_turns, job.temperature) for job in made} == {(3, 0.5)}
    assert made == jobs([PROBLEMS[0], replace(PROBLEMS[1], tools=())], settings, seed=7)


def test_measuring_and_resuming(tmp_path: Path) -> None:
    folder, recorder = artifact(tmp_path / "in"), Recorder()
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    asked = config(tmp_path / "policy", without_tools=True)

    def measure(work: str, workers: Workers) -> Path:
        out = tmp_path / f"out of {work} {len(workers.models)}"
        return measured(asked, folder, out=out, work=tmp_path / work, workers=workers, observer=recorder)

    whole = Workers(Pool())
    first = measure("a", whole)
    assert first.name == "attempts.parquet" and whole.models == [tmp_path / "policy"]
    rows = read_trajectories(first)
    assert len(rows) == 4 * (len(PROBLEMS) - 1)
    # the first problem's four failed; of the others as many are right as wrong
    assert recorder.values == {"rollout/unscored": 4, "rollout/accuracy": 0.5}
    assert duckdb.execute(f"SELECT count(*) FROM ({attempts_sql(first)})").fetchall() == [(len(rows) - 4,)]

    again = Workers(Pool())
    assert measure("a", again).read_bytes() == first.read_bytes()
    assert again.models == [], "nothing is sampled again"
    last = sorted((tmp_path / "a" / "attempts").iterdir())[-1]
    last.unlink()
    killed = Workers(pool := Pool())
    assert measure("a", killed).read_bytes() == first.read_bytes()
    assert pool.asked == [4 * 2]  # two problems stood in the last chunk


def test_a_model_from_scratch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"curate\.measure: a model from scratch"):
        PipelineConfig(model=SMALL, curate=CurateConfig(measure=MeasureConfig()))
    own = PipelineConfig(model=PretrainedModel(path="a/b"), curate=CurateConfig(measure=MeasureConfig()))
    assert own.curate.measure is not None
    with pytest.raises(ConfigError, match="from scratch"):
        policy_folder(own.model_copy(update={"model": SMALL}), tmp_path)


def test_the_stage_is_made_from_the_policy_only_where_it_is_measured(tmp_path: Path) -> None:
    plain = plan(PipelineConfig(), "curate", ["synthesize"])
    assert not set(WORKERS) & set(plain.modules) and "model" not in plain.config and not plain.files
    measuring = plan(config(tmp_path), "curate", ["synthesize"])
    assert set(WORKERS) < set(measuring.modules) and measuring.files == {"policy": tmp_path}
    assert measuring.config["compute"]["device"] == "cpu"


def test_a_real_policy_is_measured_with_its_tools_and_without(world: World, tmp_path: Path) -> None:
    asked = world.config.model_copy(
        update={
            "curate": CurateConfig(
                measure=MeasureConfig(
                    policy=str(world.model),
                    most=3,
                    without_tools=True,
                    samples=2,
                    max_turns=1,
                    max_new_tokens=8,
                )
            )
        }
    )
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        made = measured(
            asked, world.synthesized, out=tmp_path / "out", work=tmp_path / "work", workers=workers, observer=Silent()
        )
    table = duckdb.execute(f"SELECT tools, count(*), bool_and(confidence < 0) FROM ({attempts_sql(made)}) GROUP BY ALL")
    assert sorted(table.fetchall()) == [(False, 6, True), (True, 6, True)]
    tokenizer = load_tokenizer(world.model)
    for row in read_trajectories(made):
        assert ("calculator" in tokenizer.decode(list(row.token_ids[: row.loss_mask.index(1)]))) == bool(row.tools)
