"""Benchmarks by adapter: what rows become, what is refused, and a policy's report on them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from journeyman.config import EvaluateConfig, PipelineConfig
from journeyman.environments import environment as world_of
from journeyman.environments import environment_of
from journeyman.environments.base import walked
from journeyman.environments.maths import Maths
from journeyman.errors import ConfigError, DataError
from journeyman.evaluation.benchmarks import BENCHMARKS, Questions, load
from journeyman.evaluation.benchmarks.adapters import bfcl, environment, gsm8k, math, search_qa, tau2
from journeyman.evaluation.benchmarks.base import drawn
from journeyman.evaluation.benchmarks.run import AT_ONCE, run
from journeyman.messages import ParsedTurn
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rollout.job import RolloutJob, SamplerPool
from journeyman.synthesis.problems import write_problems
from journeyman.tools.base import CallContext
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.trajectory import Trajectory, read_trajectories
from tests.unit.fakes import problem, some, trajectory


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def gold(one: Problem) -> bool:
    """Whether the gold course of a problem is right in its world."""
    world = environment_of(one)
    return bool(asyncio.run(walked(world, one, world.courses(one)[0])).verdict.correct)


CALL = {
    "id": "parallel_0",
    "question": [[{"role": "user", "content": "The weather in Oslo?"}]],
    "function": [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {"type": "dict", "properties": {"town": {"type": "string"}}, "required": ["town"]},
        }
    ],
}


def test_bfcl_by_hand(tmp_path: Path) -> None:
    (tmp_path / "possible_answer").mkdir()
    truth = {"id": "parallel_0", "ground_truth": [{"weather": {"town": ["Oslo"]}}]}
    for folder, row in ((tmp_path, CALL), (tmp_path / "possible_answer", truth)):
        lines(folder / "BFCL_v4_parallel.json", row)
    asked = bfcl(tmp_path)
    [one] = asked.problems
    assert (one.family, one.question, one.min_calls) == ("calls", "The weather in Oslo?", 1)
    assert asked.parts == {one.id: "parallel"} and asked.counts["apart"] == 0 and gold(one)


def test_tau2_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "mock"
    folder.mkdir()
    row = {"task_id": "task_1", "title": "One", "description": "", "status": "pending"}
    users = {"u": {"user_id": "u", "name": "U", "tasks": ["task_1"]}}
    (folder / "db.json").write_text(json.dumps({"tasks": {"task_1": row}, "users": users}))
    (folder / "policy.md").write_text("Be kind.")
    action = {"name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
    task = {
        "id": "7",
        "user_scenario": {"instructions": "You want task_1 done."},
        "evaluation_criteria": {"actions": [{"action_id": "a", **action}]},
    }
    (folder / "tasks.json").write_text(json.dumps([task]))
    asked = tau2(folder)
    [one] = asked.problems
    assert one.family == "desk" and asked.parts == {one.id: "mock"} and one.world["folder"] == str(folder.resolve())
    [judged] = tau2(folder, world={"basis": ["DB"]}).problems
    assert environment_of(judged).basis == ("DB",) and environment_of(one).basis is None  # type: ignore[attr-defined]


def test_gsm8k_by_hand(tmp_path: Path) -> None:
    """A solution that can't be followed (6*7 is not 41) is no reason to leave its question out."""
    file = lines(
        tmp_path / "test.jsonl",
        {"question": "Six times seven?", "answer": "<<6*7=42>>42\n#### 42"},
        {"question": "Once more?", "answer": "<<6*7=41>>41\n#### 1,042"},
        {"question": "No end?", "answer": "none"},
    )
    asked = gsm8k(file)
    assert [(p.question, p.answer, p.min_calls) for p in asked.problems] == [
        ("Six times seven?", "42", 1),
        ("Once more?", "1042", 1),
    ]
    assert asked.counts == {
        "rows": 3,
        "problems": 2,
        "apart": 1,
        "reasons": {"no final number behind ####": 1},
    }
    assert all(world_of("gsm8k").verify(p, f"${p.answer}.00") for p in asked.problems)


def test_math_by_hand(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "math.jsonl",
        {"problem": "A half?", "solution": "So \\boxed{\\frac{1}{2}}.", "level": "Level 1", "type": "Algebra"},
        {"question": "Two and two?", "answer": 4},
        {"problem": "Nothing?", "solution": "who knows"},
    )
    half, four = math(file).problems
    assert (half.answer, half.tools, four.answer) == ("\\frac{1}{2}", ("calculator",), "4")
    assert math(file).parts == {half.id: "Algebra"}
    maths = Maths()
    assert maths.verify(half, "0.5") and maths.verify(half, "$\\frac{2}{4}$") and not maths.verify(half, "0.25")
    assert math(file, python=True).problems[0].tools == ("python",)


def test_an_answer_that_is_marked_in_words_counts_as_one() -> None:
    [four] = Maths().read([{"question": "Two and two?", "answer": 4}]).problems

    async def attempt(said: str, answer: str | None) -> bool | None:
        episode = Maths().reset(four, CallContext())
        await episode.step(ParsedTurn(text=said))
        return (await episode.verify(answer)).correct

    assert asyncio.run(attempt("It is \\boxed{4}.", None))
    assert not asyncio.run(attempt("4 is a nice number", None))  # nothing is marked
    assert not asyncio.run(attempt("\\boxed{4}", "5"))  # the tags go first


def test_search_qa_by_hand(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "qa.jsonl",
        {"question": "Where is Oslo?", "golden_answers": ["Norway", "the Kingdom of Norway"]},
        {"question": "And Bergen?", "answer": "Norway", "corpus": ["Bergen is in Norway."]},
    )
    pages = lines(tmp_path / "pages.jsonl", {"title": "Oslo", "text": "Oslo is in Norway."})
    first, second = search_qa(file, documents=str(pages)).problems
    assert first.answer == "Norway" and first.data["aliases"] == ["the Kingdom of Norway"]
    world = environment_of(first)
    assert world.verify(first, "kingdom of norway") and not world.verify(first, "Oslo, Norway")
    walks = [asyncio.run(walked(world, p, world.courses(p)[0])) for p in (first, second)]
    assert "Oslo is in Norway." in walks[0].outputs[0] and walks[1].outputs[0] == "Bergen is in Norway."
    with pytest.raises(DataError, match="1 questions bring no pages"):
        search_qa(file)


def test_environment_by_hand(tmp_path: Path) -> None:
    made = environment(None, family="arithmetic", count=5, seed=1)
    assert made.problems == environment(None, family="arithmetic", count=5, seed=1).problems
    assert made.problems != environment(None, family="arithmetic", count=5, seed=2).problems
    assert len({p.data["key"] for p in made.problems}) == 5 and made.problems[0].tools == ("calculator",)
    stored = tmp_path / "problems.parquet"
    write_problems(made.problems, stored)
    assert environment(stored).problems == made.problems
    rows = lines(tmp_path / "rows.jsonl", {"question": "6*7?", "answer": "<<6*7=42>>42 #### 42"})
    assert [p.answer for p in environment(rows, family="gsm8k").problems] == ["42"]


@pytest.mark.parametrize(
    ("family", "path", "fault"),
    [("lokup", None, "not a key"), ("gsm8k", None, "no problems by itself"), ("lookup", "rows", "reads no rows")],
)
def test_families_that_can_not_are_refused(family: str, path: str | None, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        environment(Path(path) if path else None, family=family)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_missing_or_broken_is_told_with_its_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        load(BENCHMARKS[name], None, {})
    with pytest.raises(DataError) as error:
        load(BENCHMARKS[name], tmp_path / "nowhere.jsonl", {"family": "gsm8k"} if name == "environment" else {})
    assert str(tmp_path) in error.value.place and error.value.remedy
    broken = lines(tmp_path / "broken.jsonl", "{", {"x": 1})
    if name != "environment":
        with pytest.raises(DataError) as error:
            load(BENCHMARKS[name], broken, {})
        assert error.value.place.startswith(str(broken))


def test_options_come_as_text() -> None:
    made = load(environment, None, {"family": "lookup", "count": "3", "seed": "5", "world": "{}"})
    assert made.problems == environment(None, family="lookup", count=3, seed=5).problems
    for options, fault in (({"cont": "3"}, "not an option"), ({"count": "x"}, "integer"), ({"world": "["}, "dict")):
        with pytest.raises(ConfigError, match=fault):
            load(environment, None, options)


def test_equal_rows_are_asked_once(tmp_path: Path) -> None:
    row = {"question": "Two and two?", "answer": 4}
    asked = load(math, lines(tmp_path / "m.jsonl", row, row), {})
    assert len(asked.problems) == 1 and asked.counts["repeated"] == 1


def test_a_sample_is_seeded_and_keeps_the_order() -> None:
    every = some("arithmetic", 20)
    chosen = drawn(every, 5, seed=3)
    assert chosen == drawn(every, 5, seed=3) and len(chosen) == 5 and chosen != drawn(every, 5, seed=4)
    assert list(chosen) == sorted(chosen, key=every.index)
    assert drawn(every, None, seed=3) == drawn(every, 99, seed=3) == tuple(every)


class Pool:
    """Attempts that are right where they are greedy."""

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        return [
            replace(trajectory(id=job.trajectory_id()), problem_id=job.problem.id, correct=job.temperature == 0)
            for job in jobs
        ]

    def load_weights(self, weights: Mapping[str, Any], version: int) -> None: ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        raise AssertionError("nothing is scored")


class Workers:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        raise AssertionError("nothing is learned")

    def samplers(self, model: Path) -> SamplerPool:
        return Pool()


class Told(Silent):
    def __init__(self) -> None:
        self.shares: list[float] = []

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.shares.append(done / total)


def test_the_report_has_the_parts_of_the_benchmark(tmp_path: Path) -> None:
    problems = tuple(problem(f"{n}?") for n in range(AT_ONCE + 1))
    asked = Questions(problems=problems, counts={"rows": 65}, parts={problems[0].id: "hard"})
    config = PipelineConfig(name="benchmark-x", evaluate=EvaluateConfig(samples=2, k=[1, 2], bootstrap=100))
    told = Told()
    report = run(
        config,
        {"a": tmp_path, "b": tmp_path},
        asked,
        out=tmp_path / "out",
        workers=Workers(),
        observer=told,
        about="About x.",
    )
    a, b = report["stages"]
    assert (a["accuracy_greedy"], a["accuracy_sampled"], a["problems"], b["paired"]["before"]) == (1.0, 0.0, 65, "a")
    assert {name: row["problems"] for name, row in a["families"].items()} == {"arithmetic": 64, "hard": 1}
    assert report["notes"][0] == "About x." and report["counts"] == {"rows": 65} and len(report["notes"]) == 2
    stored = read_trajectories(tmp_path / "out" / "trajectories.parquet")
    assert len(stored) == 2 * 65 * 3 and {t.family for t in stored} == {"arithmetic"}
    # Two policies, each 0, 64 and 65 of its 65 problems.
    assert told.shares == pytest.approx([0, 64 / 130, 0.5, 0.5, 129 / 130, 1])
    assert "About x." in (tmp_path / "out" / "report.html").read_text()


def test_public_files_are_read(shared_data: Path, tmp_path: Path) -> None:
    rows = (shared_data / "gsm8k_train" / "train.jsonl").read_text().splitlines()[:500]
    gsm = gsm8k(lines(tmp_path / "train.jsonl", *rows))
    assert (len(gsm.problems), gsm.counts["apart"]) == (500, 0)
    calls = bfcl(shared_data / "bfcl" / "BFCL_v4_parallel.json")
    assert len(calls.problems) == 200 and set(calls.parts.values()) == {"parallel"}
    assert all(gold(one) for one in calls.problems[::20])
    desks = tau2(shared_data / "tau2_retail_mock" / "mock")
    assert list(desks.parts.values()) == ["mock"] * 10
