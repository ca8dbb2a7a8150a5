"""Problems that are made during training: what is proposed, what is taken in, and that a resume keeps it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from journeyman.actors import InlineWorkers
from journeyman.config import PipelineConfig
from journeyman.config.proposals import ConjecturedProposals, MutatedProposals, ProposedProposals
from journeyman.curriculum.rated import Bands
from journeyman.errors import ConfigError
from journeyman.metrics import known
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.training.fit import misfits
from journeyman.training.inheritance import hand_on, take_over
from journeyman.training.proposing import Conjectured, ForProposals, Mutated, Proposed
from journeyman.training.reinforce import Inputs, ReinforceLoop, run_rl
from journeyman.trajectory import StopReason, ToolResult, Trajectory, Turn
from tasks.recipes import plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, problem, some, trajectory
from tests.unit.test_reinforce import Dying, NotingLearner, ScriptedPool, attempt, stage

LOOKUPS = some("lookup", 12)
ONE_HOP, TWO_HOPS = ([p for p in LOOKUPS if p.min_calls == calls] for calls in (1, 2))
ARITHMETIC = some("arithmetic", 4)


class ScriptedWriter:
    """A judge that a function answers for."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self._say = say
        self.asked: list[str] = []

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        self.asked += questions
        return [[self._say(question)] * samples for question in questions]


def said(text: str) -> str:
    """A writer that has one task in mind, and finds that everything can be done."""
    return "YES" if "YES or NO" in text else "Sure. <task>What is 2 plus 2?</task>"


def answering(*answers: str | None, calls: int = 1) -> list[Trajectory]:
    return [
        trajectory(calls=calls, answer=answer, stop_reason=StopReason.ANSWER if answer else StopReason.MAX_TURNS)
        for answer in answers
    ]


def test_mutated_by_hand() -> None:
    def write(text: str) -> str:
        if "YES or NO" in text:
            return "No, never." if "bad" in text else "yes"
        return "<task>a bad one</task>" if ARITHMETIC[1].question in text else "<task>What is 2 plus 2?</task>"

    writer = ScriptedWriter(write)
    source = Mutated(MutatedProposals(), ARITHMETIC, 0, writer)
    assert source.candidates(4, step=1) == [] and writer.asked == [], "nothing has failed"
    first, second, third, _ = ARITHMETIC
    source.update([trajectory(problem_id=p.id, correct=False) for p in (first, second, third) for _ in range(2)])
    source.update([trajectory(problem_id=third.id, correct=True), trajectory(problem_id="else", correct=False)])
    [made] = source.candidates(4, step=2)
    assert (made.question, made.answer, made.family, made.tools) == (
        "What is 2 plus 2?",
        "",
        "arithmetic",
        first.tools,
    )
    assert made.data["proposed_from"] == first.id and made.id not in {p.id for p in ARITHMETIC}
    assert sum("Task: " + second.question in text for text in writer.asked) == 1, "and what can't be done is left out"
    # Two of four say 4, as numbers; one ran out of turns: 2/4.
    settled, rate = source.settled(made, [*answering("4", "5", None), *answering("4.0", calls=2)])
    assert (settled.answer, settled.min_calls, rate) == ("4", 1, 0.5)
    assert settled.data["reference_calls"] == [{"name": "calculator", "arguments": {"expression": "6*7"}}]
    assert source.settled(made, answering("4", "5", "6", None))[1] == 0, "no two agree"
    assert [source.wants(rate) for rate in (0.0, 0.05, 0.75, 0.8)] == [False, True, True, False]
    again = Mutated(MutatedProposals(), ARITHMETIC, 0, writer)
    again.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert again.candidates(4, step=2) == [made]


def test_proposed_by_hand() -> None:
    def write(text: str) -> str:
        if "solve the task, judged" in text:
            return "YES" if "Answer: 4" in text else "NO"
        return said(text)

    writer = ScriptedWriter(write)
    source = Proposed(ProposedProposals(), ARITHMETIC, 0, writer)
    made = source.candidates(1, step=1)[0]
    assert "Tools: calculator\n" in writer.asked[0] and writer.asked[0].count("\n- ") == 3
    assert writer.asked[0].count("- What is") == 3, "three questions of the family"
    # The evaluator believes the two that say 4, though three say 5.
    settled, rate = source.settled(made, answering("5", "4", "5", "4", "5"))
    assert (settled.answer, rate) == ("4", 0.4)


def test_a_world_that_needs_more_than_a_question_takes_no_written_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from journeyman.environments import environment

    def verify(self: Any, asked: Problem, answer: str) -> bool:
        return bool(asked.data["a"])

    monkeypatch.setattr(type(environment("arithmetic")), "verify", verify)
    source = Mutated(MutatedProposals(), ARITHMETIC, 0, ScriptedWriter(said))
    asked = replace(ARITHMETIC[0], data={"key": "k"})
    assert source.settled(asked, answering("4", "4"))[1] == 0


def test_conjectured_by_hand() -> None:
    source = Conjectured(ConjecturedProposals(), LOOKUPS, 0)
    assert source.weights(["lookup:1", "lookup:2"]) == {"lookup:1": 0.5, "lookup:2": 0.5}
    for accepted in (True, True, False):
        source.pay(TWO_HOPS[0], accepted=accepted)
    source.pay(ONE_HOP[0], accepted=False)
    # (2 + 1) / (3 + 2) and (0 + 1) / (1 + 2).
    assert source.weights(["lookup:1", "lookup:2"]) == pytest.approx({"lookup:1": 1 / 3, "lookup:2": 3 / 5})
    source.update([trajectory(problem_id=TWO_HOPS[0].id, correct=False)])
    source.update([trajectory(problem_id=TWO_HOPS[1].id, correct=verdict) for verdict in (False, True)])
    source.update([trajectory(problem_id=ONE_HOP[0].id, correct=True)])
    # Of two attempted ones of two hops one was never solved: times 1.5. Those of one hop all were.
    assert source.weights(["lookup:1", "lookup:2"]) == pytest.approx({"lookup:1": 1 / 3, "lookup:2": 9 / 10})
    assert [source.wants(rate) for rate in (0.0, 0.25, 0.26)] == [False, True, False]
    made = source.candidates(40, step=1)
    assert made == source.candidates(40, step=1) != source.candidates(40, step=2)
    assert {(p.family, p.tools) for p in made} == {("lookup", LOOKUPS[0].tools)}
    assert sum(p.min_calls == 2 for p in made) > sum(p.min_calls == 1 for p in made)
    assert source.settled(made[0], [trajectory(correct=c) for c in (True, False, None)]) == (made[0], 0.5)


def test_families_that_generate_nothing_are_told() -> None:
    with pytest.raises(ConfigError, match="no family"):
        Conjectured(ConjecturedProposals(), [problem(family="maths")], 0)


BLOCK: dict[str, Any] = {
    "problems": 2,
    "steps": 8,
    "curriculum": {"type": "bands", "unseen": 1.0},
    "proposals": {"type": "conjectured", "every": 2, "count": 4, "attempts": 4, "most": 6},
}


def begun(
    problems: Sequence[Problem] = tuple(LOOKUPS), apart: Sequence[Problem] = (), **fields: Any
) -> tuple[ReinforceLoop, ScriptedPool]:
    # Of proposals with two hops one of four attempts is right, of others all are.
    def make(job: RolloutJob) -> Trajectory:
        return attempt(job, correct=job.sample == 0 or job.problem.min_calls == 1)

    pool = ScriptedPool(make)
    supplies = ForProposals(apart=apart, writer=ScriptedWriter(said))
    made = ReinforceLoop(
        stage(**{**BLOCK, **fields}),
        problems,
        learner=NotingLearner(),
        samplers=pool,
        seed=0,
        for_proposals=supplies,
    )
    return made, pool


def ran(made: ReinforceLoop, steps: int) -> list[Mapping[str, float]]:
    return [made.advance() for _ in range(steps)]


def asked(pool: ScriptedPool) -> list[list[str]]:
    return [[job.problem.id for job in jobs] for jobs in pool.jobs]


def test_a_block_proposes_takes_in_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    whole, pool = begun()
    metrics = ran(whole, 8)
    rounds = [m for m in metrics if "proposals/tried" in m]
    assert [i for i, m in enumerate(metrics, 1) if "proposals/tried" in m][:2] == [2, 4]
    assert all(known(name) for m in rounds for name in m)
    assert {p.min_calls for p in whole.proposing.added} == {2}, "barely solvable ones alone"
    assert rounds[-1]["proposals/added"] == len(whole.proposing.added) <= 6
    assert sum(m["proposals/accepted"] for m in rounds) == len(whole.proposing.added) > 0
    trained = {job.problem.id for jobs in pool.jobs for job in jobs if job.source == "policy"}
    assert trained & {p.id for p in whole.proposing.added}, "they are learned from"
    first, _ = begun()
    ran(first, 3)
    first.save(tmp_path)
    rest, again = begun()
    rest.load(tmp_path, {**json.loads(json.dumps(first.state_dict())), "step": 3})
    ran(rest, 5)
    assert asked(again) == asked(pool)[-len(again.jobs) :]
    assert rest.state_dict()["proposing"] == whole.state_dict()["proposing"]
    assert rest.state_dict()["curriculum"] == whole.state_dict()["curriculum"]


def test_what_is_evaluated_on_is_never_proposed() -> None:
    free, _ = begun()
    ran(free, 2)
    apart = [replace(p, id="other", question=p.question.replace("What is", "Tell me")) for p in free.proposing.added]
    assert apart
    kept, pool = begun(apart=apart)
    ran(kept, 2)
    evaluated = {p.data["key"] for p in apart}
    assert evaluated.isdisjoint(job.problem.data["key"] for jobs in pool.jobs for job in jobs if job.source != "policy")


def test_a_critic_decides_where_there_is_one() -> None:
    values = {"level": 0.5}

    class Valuing(NotingLearner):
        def values(self, rows: Any, heads: Any = ("value",), *, slow: bool = False) -> dict[str, list[list[float]]]:
            return {name: [[0.0] * len(row) + [values["level"]] for row in rows] for name in heads}

    def make(job: RolloutJob) -> Trajectory:
        return attempt(job, correct=False, answer="4")

    fields = {"critic": {}, "credit": "gae", "proposals": {"type": "mutated", "every": 1, "count": 1}}
    for level, taken in ((0.5, 1), (0.9, 0)):
        values["level"] = level
        made = ReinforceLoop(
            stage(**{**BLOCK, **fields}),
            ARITHMETIC,
            learner=Valuing(),
            samplers=ScriptedPool(make),
            seed=0,
            for_proposals=ForProposals(writer=ScriptedWriter(said)),
        )
        # All four attempts agree, a pass rate of 1: beyond .75, but it is the critic's word that counts.
        ran(made, 1)
        assert [p.answer for p in made.proposing.added] == ["4"] * taken


def test_the_next_block_has_what_was_added(tmp_path: Path) -> None:
    first, _ = begun()
    ran(first, 2)
    added = first.proposing.added
    hand_on(first, tmp_path / "on", ["curriculum"])
    second, _ = begun(proposals=None)
    take_over(second, tmp_path / "on", ["curriculum"])
    assert second.proposing.added == added and second.curriculum.state_dict() == first.curriculum.state_dict()
    assert isinstance(second.curriculum, Bands)
    ran(second, 1)
    third, _ = begun(proposals=None)
    third.load_state_dict({**second.state_dict(), "step": 1})
    assert third.proposing.added == added


def test_what_can_take_no_problems_in_is_told_at_load() -> None:
    def told(**fields: Any) -> str:
        return " ".join(" ".join(one) for one in misfits(stage(**{**BLOCK, **fields}).model_dump()))

    assert told() == ""
    assert "the curriculum `uniform` takes no problems in" in told(curriculum={"type": "uniform"})
    assert "between two steps" in told(asynchrony={"partial": True})


def test_observations_are_what_the_evaluator_sees() -> None:
    writer = ScriptedWriter(lambda text: "YES")
    source = Proposed(ProposedProposals(), ARITHMETIC, 0, writer)
    results = (ToolResult(name="calculator", ok=True, output="it is 4"),)
    source.settled(ARITHMETIC[0], [trajectory(turns=(Turn(text="", results=results), Turn(text="")), answer="4")])
    assert "The tools said:\nit is 4\nAnswer: 4" in writer.asked[0]


@pytest.mark.parametrize("kind", ["conjectured", "mutated"])
def test_a_run_that_proposes(world: World, tmp_path: Path, kind: str) -> None:
    proposals = {"type": kind, "every": 1, "count": 2, "attempts": 2}
    block = stage(
        **{**BLOCK, "steps": 1, "group": 2, "max_turns": 2, "max_new_tokens": 6, "proposals": proposals},
    )
    assert block.uses_taught and not block.uses_demonstrations
    noted = Dying()
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as made:
        run_rl(
            world.config,
            block,
            Inputs(policy=world.model, problems=world.synthesized, taught=world.synthesized),
            out=tmp_path / "out",
            work=tmp_path / "work",
            workers=made,
            observer=noted,
        )
    assert noted.seen[1]["proposals/tried"] == (2 if kind == "conjectured" else 0), "an untrained model writes nothing"


def test_the_stage_reads_what_is_evaluated_on() -> None:
    config = PipelineConfig.model_validate({"rl": [stage(**BLOCK).model_dump(), {"name": "plain"}]})
    assert plan(config, "rl-test", []).inputs["taught"] == "synthesize"
    assert "taught" not in plan(config, "rl-plain", []).inputs
