"""The scripted teacher: right where it is right, wrong in the ways that it says, and the same for the same seed."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from journeyman.config import GeneratedProblems, PipelineConfig, ScriptedTeacherConfig, SynthesizeConfig
from journeyman.environments import Course, environment
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.courses import play
from journeyman.synthesis.problems import read_problems
from journeyman.synthesis.scripted import ScriptedTeacher
from journeyman.synthesis.sources import problems_of
from journeyman.synthesis.stage import synthesize
from journeyman.trajectory import StopReason, Trajectory, read_trajectories
from tests.unit.fakes import some

PERFECT = {"mistakes": 0.0, "repeats": 0.0, "broken": 0.0}


def script(**teacher: float) -> ScriptedTeacherConfig:
    return ScriptedTeacherConfig.model_validate({**PERFECT, **teacher})


def logged(problem: Problem, config: ScriptedTeacherConfig, *, seed: int, leaked: Sequence[Problem] = ()) -> Any:
    return asyncio.run(ScriptedTeacher(config, seed=seed, leaked=leaked).logged(problem))


def config(*, seed: int = 0, demonstrations: int = 90, **teacher: float) -> PipelineConfig:
    return PipelineConfig(
        seed=seed,
        problems=GeneratedProblems(train=30, dev=12, heldout=15),
        synthesize=SynthesizeConfig(demonstrations=demonstrations, teacher=script(**teacher)),
    )


def made_by(settings: PipelineConfig, folder: Path) -> tuple[list[Trajectory], dict[str, Any]]:
    summary = synthesize(settings, folder, Silent())
    return read_trajectories(folder / "demonstrations.parquet"), summary


def test_the_stage_writes_problems_and_demonstrations(tmp_path: Path) -> None:
    made, summary = made_by(config(), tmp_path)
    splits = {name: read_problems(tmp_path / "problems" / f"{name}.parquet") for name in ("train", "dev", "heldout")}
    assert {name: len(problems) for name, problems in splits.items()} == {"train": 30, "dev": 12, "heldout": 15}
    assert summary["problems"] == {"train": 30, "dev": 12, "heldout": 15}
    assert (summary["demonstrations"], summary["demonstrations_correct"]) == (len(made), 90) == (90, 90)
    assert summary["mistakes"] == {"none": 90}
    assert Counter(t.family for t in made) == {"arithmetic": 30, "lookup": 30, "tables": 30}
    apart = {p.question for name in ("dev", "heldout") for p in splits[name]}
    assert not apart & {t.question for t in made}


def test_the_log_is_the_one_that_the_quickstart_is_tuned_on() -> None:
    """Its recipe holds for these texts: if they change on purpose, `python bench/ladder.py` has to be run again."""
    settings = PipelineConfig(
        problems=GeneratedProblems(train=30, dev=12, heldout=15),
        synthesize=SynthesizeConfig(demonstrations=210, teacher=ScriptedTeacherConfig(broken=0.2)),
    )
    sources = problems_of(settings, Silent())
    teacher = settings.synthesize.teacher
    assert isinstance(teacher, ScriptedTeacherConfig)
    rows = [t for p in sources.taught for t in logged(p, teacher, seed=0, leaked=sources.splits["heldout"])]
    told = [[t.id, t.question, t.correct, *(turn.text for turn in t.turns)] for t in rows[:200]]
    assert hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] == "09b858497250eb1b"


def test_a_perfect_teachers_work_is_right_economical_and_well_formed(tmp_path: Path) -> None:
    made, _ = made_by(config(), tmp_path)
    for one in made:
        assert (one.correct, one.needless_calls, len(one.calls)) == (True, 0, one.min_calls)
        assert (one.stop_reason, one.source, one.token_ids, one.reward) == (StopReason.ANSWER, "scripted", (), None)
        assert one.provenance == {
            **{"mistake": "", "slip": "", "seed": 0, "teacher": "scripted"},
            **{"strategies": ["plain"], "verified": "environment", "from": []},
        }
        *called, last = one.turns
        for turn in called:
            parsed = parse_turn(turn.text)
            assert (parsed.calls, parsed.error) == (turn.calls, "") and all(r.ok for r in turn.results)
            assert len(turn.results) == len(turn.calls) == 1
        assert parse_turn(last.text).answer == one.answer
        assert environment(one.family).verify(
            replace(PROBLEM, family=one.family, answer=one.reference), one.answer or ""
        )


PROBLEM = Problem(id="", family="arithmetic", question="", answer="")


def test_the_same_seed_writes_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    noisy = {"mistakes": 0.5, "repeats": 0.5, "broken": 0.2}
    one, again, other = (
        made_by(config(seed=seed, demonstrations=30, **noisy), tmp_path / str(i))[0] for i, seed in enumerate((1, 1, 2))
    )
    without_times = [[replace(turn, results=()) for turn in t.turns] for t in one]
    assert without_times == [[replace(turn, results=()) for turn in t.turns] for t in again]
    assert [(t.id, t.question, t.provenance) for t in one] == [(t.id, t.question, t.provenance) for t in again]
    assert {t.question for t in one} != {t.question for t in other}


def test_mistakes_are_wrong_but_for_chance_and_are_named(tmp_path: Path) -> None:
    made, summary = made_by(config(mistakes=1.0), tmp_path)
    assert set(summary["mistakes"]) == {
        *("wrong operator", "wrong aggregate", "stops after the first hop", "looks up the wrong thing")
    }
    right_by_chance = [t for t in made if t.correct]
    assert len(right_by_chance) < 15
    assert all(t.answer == t.reference for t in right_by_chance)
    assert all(t.stop_reason is StopReason.ANSWER and all(r.ok for u in t.turns for r in u.results) for t in made)
    early = [t for t in made if t.provenance["mistake"] == "stops after the first hop"]
    assert early and all((len(t.calls), t.min_calls) == (1, 2) for t in early)


def test_repeats_are_right_with_one_needless_call(tmp_path: Path) -> None:
    made, _ = made_by(config(repeats=1.0), tmp_path)
    for one in made:
        assert one.correct and one.needless_calls == 1
        calls = list(one.calls)
        assert sum(a == b for a, b in pairwise(calls)) == 1


def test_shares_come_out_about_as_asked_for(tmp_path: Path) -> None:
    made, _ = made_by(config(demonstrations=600, mistakes=0.5, repeats=0.5), tmp_path)
    mistaken = [t for t in made if t.provenance["mistake"]]
    repeated = [t for t in made if not t.provenance["mistake"] and t.needless_calls]
    # Standard deviations: sqrt(600 / 4) = 12 of 300, and about 11 of 150.
    assert abs(len(mistaken) - 300) < 50 and abs(len(repeated) - 150) < 45


def test_every_slip_is_what_it_says() -> None:
    problems = some("lookup", 60)
    leaked = problems[50:]
    by_slip: dict[str, list[list[Trajectory]]] = {}
    for problem in problems[:50]:
        rows = logged(problem, script(broken=1.0), seed=0, leaked=leaked)
        by_slip.setdefault(rows[0].provenance["slip"], []).append(rows)
    assert set(by_slip) == {"format", "tool error", "duplicate", "leak"}
    for [broken] in by_slip["format"]:
        assert parse_turn(broken.turns[0].text).error and broken.provenance["verified"] == "none"
    for [failed] in by_slip["tool error"]:
        first, second = failed.turns[:2]
        assert not first.results[0].ok and first.calls[0].arguments == {"query": ""} and second.results[0].ok
        assert failed.correct
    for one, other in by_slip["duplicate"]:
        assert one.turns == other.turns and one.id != other.id
    for [leak] in by_slip["leak"]:
        assert leak.question in {p.question for p in leaked}


def test_without_anything_to_leak_the_slip_is_none() -> None:
    [problem] = some("lookup", 1)
    for seed in range(12):
        assert logged(problem, script(broken=1.0), seed=seed)[0].question == problem.question


def test_a_course_without_an_answer_gives_the_last_observation() -> None:
    [problem] = some("arithmetic", 1)
    gold, wrong = environment("arithmetic").courses(problem)
    made = asyncio.run(play(problem, gold, source="test", provenance={"a": 1}))
    assert (made.answer, made.correct, made.provenance) == (problem.answer, True, {"a": 1})
    assert made.turns[-1].text == f"<answer>{problem.answer}</answer>"
    assert not asyncio.run(play(problem, wrong, source="test", provenance={})).correct
    guessed = asyncio.run(play(problem, Course(steps=(), answer=problem.answer), source="test", provenance={}))
    assert guessed.correct and guessed.calls == ()
    assert len({made.id, guessed.id}) == 2


@pytest.mark.parametrize("seed", range(3))
def test_demonstrations_do_not_depend_on_each_other(seed: int) -> None:
    """A problem's rows follow from the seed and the problem, not from what was demonstrated before."""
    problems = some("tables", 6, seed)

    def texts(order: list[Problem]) -> dict[str, list[str]]:
        return {
            p.id: [turn.text for t in logged(p, ScriptedTeacherConfig(), seed=seed) for turn in t.turns] for p in order
        }

    assert texts(problems) == texts(problems[::-1])


@pytest.mark.parametrize("slip", [{"repeats": 1.0}, {"broken": 1.0}, {"mistakes": 1.0, "broken": 1.0}])
@pytest.mark.parametrize("family", ["ordering", "masking", "segments"])
def test_courses_without_steps_are_demonstrated_too(family: str, slip: dict[str, float]) -> None:
    [problem] = some(family, 1)
    assert not environment(family).courses(problem)[0].steps
    for seed in range(12):  # every slip comes up
        for made in logged(problem, script(**slip), seed=seed):
            assert len(made.turns) == 1 and made.calls == ()


def test_words_beside_a_call_are_written_before_it() -> None:
    [problem] = some("arithmetic", 1)
    gold = environment("arithmetic").courses(problem)[0]
    steps = tuple(replace(step, say="<judge>good</judge>") for step in gold.steps)
    made = asyncio.run(play(problem, replace(gold, steps=steps), source="test", provenance={}))
    plain = asyncio.run(play(problem, gold, source="test", provenance={}))
    for step, said, silent in zip(steps, made.turns, plain.turns, strict=False):
        assert said.text == silent.text.replace("</think>\n", "</think>\n<judge>good</judge>\n")
        parsed = parse_turn(said.text)
        assert (parsed.calls, parsed.text, parsed.error) == ((step.call,), "<judge>good</judge>", "")
