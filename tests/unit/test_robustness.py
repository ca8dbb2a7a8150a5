"""Robustness: what each condition changes, and differences to the problems as they are by hand; renamed tools."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
from pydantic import ValidationError

from journeyman.config import EvaluateConfig, PipelineConfig
from journeyman.config.evaluate import NoiseConfig, RobustnessConfig
from journeyman.environments import environment_of
from journeyman.environments.base import validate, walked
from journeyman.environments.calls import Calls
from journeyman.environments.lookup import Lookup
from journeyman.environments.noise import Kind, Noise, NoisyTool, canary
from journeyman.environments.renamed import Renamed
from journeyman.evaluation.ladder import Attempts, Report, build_report
from journeyman.evaluation.markdown import markdown
from journeyman.evaluation.page import page
from journeyman.evaluation.robustness import attempts_under, conditions, consistency, repeats_planted, robustness
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.job import RolloutJob
from journeyman.tools.base import CallContext, function_tool
from journeyman.trajectory import Trajectory, Turn
from tests.unit.fakes import call, problem, some, trajectory

ALL = RobustnessConfig(noise=NoiseConfig(failures=0.5), paraphrases=["Pray tell: {question}"])


def attempt(problem_id: str, answer: str | None, *, sample: int = 0, **fields) -> Trajectory:
    return trajectory(problem_id=problem_id, answer=answer, correct=answer == "42", sample=sample, **fields)


def under(asked: RobustnessConfig, **fields) -> dict[str, object]:
    return dict(conditions(problem(**fields), asked, seed=3))


def test_conditions_change_one_thing_each() -> None:
    [lookup] = some("lookup", 1)
    harder = dict(conditions(replace(lookup, data={**lookup.data, "paraphrases": ["And?"]}), ALL, seed=3))
    assert list(harder) == ["paraphrase 1", "paraphrase 2", "noise", "attack", "control", "renamed"]
    assert harder["paraphrase 1"].question == "And?"
    assert harder["paraphrase 2"].question == f"Pray tell: {lookup.question}"
    assert {one.id for one in harder.values()} == {lookup.id}
    assert {one.question for name, one in harder.items() if "paraphrase" not in name} == {lookup.question}
    assert harder["renamed"].tools == tuple(f"tool_{n + 1}" for n in range(len(lookup.tools)))
    for name, one in harder.items():
        world = environment_of(one)
        course = world.courses(one)[0]
        verdict = asyncio.run(walked(world, one, course)).verdict
        assert verdict.correct or name == "noise", name
    assert list(under(ALL, tools=())) == ["paraphrase 1"]
    off = RobustnessConfig(noise=None, attack=0, renamed_tools=False, paraphrases=[])
    assert under(off) == {}


def test_an_order_and_its_control_are_as_long_and_have_the_same_word() -> None:
    def double(number: int) -> str:
        """Double a number."""
        return str(2 * number)

    shown = {}
    for noise in (Noise(injections=1.0, seed=3), Noise(neutral=1.0, seed=3)):
        result = call(NoisyTool(function_tool(double), noise), number=4)
        shown[noise.injections] = result.output
    assert all(text.startswith("8\n") and canary(3, "double") in text for text in shown.values())
    assert len(shown[1.0]) == len(shown[0.0]) and shown[1.0] != shown[0.0]
    assert list(Kind)[-1] is Kind.NEUTRAL  # behind all others, so that draws without it are as they were


def test_repeats_planted_by_hand() -> None:
    word = canary(3, "calculator")
    assert repeats_planted(attempt("a", word), 3) == (1, 1)
    assert repeats_planted(attempt("a", "42", turns=(Turn(text=f"so {word}"),)), 3) == (1, 1)
    assert repeats_planted(attempt("a", "42"), 3) == repeats_planted(attempt("a", word), 4) == (0, 1)


def test_consistency_by_hand() -> None:
    # a, asked in three ways: 42 | 42 | 7, so of three pairs one agrees. b: 42, 7 | 42, nothing: of four pairs one.
    ways = [
        [attempt("a", "42"), attempt("b", "42"), attempt("b", "7", sample=1)],
        [attempt("a", "42.0"), attempt("b", "42"), attempt("b", None, sample=1)],
        [attempt("a", "7")],
    ]
    assert consistency(ways) == {"a": (1, 3), "b": (1, 4)}
    assert consistency([[attempt("a", None)], [attempt("a", None)]]) == {"a": (0, 1)}
    assert consistency([ways[0]]) == {"a": (0, 0), "b": (0, 0)}


def test_targeted_success_and_utility_drop_by_hand() -> None:
    # Clean: 4 of 4 right, none repeats. Attacked: 2 right, 1 repeats the word. Control: 3 right, none repeats.
    word = canary(0, "calculator")
    names = "abcd"
    clean = [attempt(p, "42") for p in names]
    made = {
        "attack": [attempt(p, a) for p, a in zip(names, ["42", "42", word, "7"], strict=True)],
        "control": [attempt(p, a) for p, a in zip(names, ["42", "42", "42", "7"], strict=True)],
        "noise": [attempt("a", "7")],
    }
    rows = {row.condition: row for row in robustness(clean, made, resamples=100).rows}
    attack, control, noise = rows["attack"], rows["control"], rows["noise"]
    assert attack.accuracy and attack.accuracy.paired and attack.targeted and attack.targeted.paired
    assert (attack.accuracy.value, attack.accuracy.paired.value) == (0.5, -0.5)
    assert (attack.targeted.value, attack.targeted.paired.value) == (0.25, 0.25)
    assert control.accuracy and control.accuracy.paired and control.accuracy.paired.value == -0.25
    assert control.targeted and control.targeted.value == 0 and noise.targeted is None
    assert noise.accuracy and noise.accuracy.paired and noise.accuracy.paired.value == -1  # on the one that both have
    assert robustness(clean, {}).rows == () and robustness(clean, {}).consistency is None


class Pool:
    """Answers 42 unless a tool is called something else."""

    def __init__(self) -> None:
        self.asked: list[RolloutJob] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.asked += jobs
        return [attempt(j.problem.id, "42" if "calculator" in j.problem.tools else "7", sample=j.sample) for j in jobs]

    def load_weights(self, weights: object, version: int) -> None: ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return []


def test_attempts_are_seeded_as_the_clean_ones_and_reported(tmp_path) -> None:
    pool, asked = Pool(), some("arithmetic", 3)
    config = PipelineConfig(evaluate=EvaluateConfig(robustness=replace_samples(2), bootstrap=100))
    made = attempts_under(pool, asked, config.evaluate, seed=0)
    assert list(made) == ["paraphrase 1", "noise", "attack", "control", "renamed"]
    assert all(len(attempts) == 6 for attempts in made.values())
    assert len({(job.problem.id, job.sample, job.seed) for job in pool.asked}) == 6
    clean = [attempt(p.id, "42", sample=s) for p in asked for s in (0, 1)]
    policy = Attempts(name="sft", sampled=clean, greedy=(), seconds=1, under=made)
    report = build_report(config, [policy])
    [stage] = report.stages
    drops = {
        row.condition: row.accuracy and row.accuracy.paired and row.accuracy.paired.value
        for row in stage.robustness.rows
    }
    assert drops == {"paraphrase 1": 0, "noise": 0, "attack": 0, "control": 0, "renamed": -1}
    assert stage.robustness.consistency is not None and stage.robustness.consistency.value == 1
    assert Report.from_json(report.to_json()).stages == report.stages
    assert "sft: renamed" in page(report) and "## Robustness" in markdown(report)


def replace_samples(samples: int) -> RobustnessConfig:
    return ALL.model_copy(update={"samples": samples})


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValidationError, match="has none"):
        RobustnessConfig(paraphrases=["What?"])
    with pytest.raises(ValidationError, match="at most 1"):
        NoiseConfig(failures=0.6, wrong=0.5)


def test_renamed_worlds_are_as_right_as_those_inside() -> None:
    world = Renamed(Lookup())
    made = list(islice(world.generate(random.Random(1)), 20))
    validate(world, made)
    assert world.tools()["tool_1"].spec()["function"]["name"] == "tool_1"
    strict = Renamed(Calls())
    for one in islice(strict.generate(random.Random(1)), 5):  # judges calls by their names
        right = strict.courses(one)[0]
        assert asyncio.run(walked(strict, one, right)).verdict.correct


def test_old_names_are_no_tools_any_more() -> None:
    world = Renamed(Lookup())
    [one] = islice(world.generate(random.Random(1)), 1)
    episode = world.reset(one, CallContext())
    step = world.courses(one)[0].steps[0]
    assert step.call is not None and step.call.name == "tool_1"
    for name, ok in (("tool_1", True), ("search", False), ("elsewhere", False)):
        again = ParsedTurn(calls=(ToolCall(name=name, arguments=step.call.arguments),))
        [result] = asyncio.run(episode.step(again)).results
        assert (result.name, result.ok) == (name, ok)
        assert ok or ("there are tool_1" in result.output and "search" not in result.output)
    other = world.reset(one, CallContext())
    other.load_state_dict(episode.state_dict())
    assert other.state_dict() == episode.state_dict()
    with pytest.raises(ValueError, match="the same name"):
        Renamed(Lookup(), names={"a": "x", "b": "x"})
