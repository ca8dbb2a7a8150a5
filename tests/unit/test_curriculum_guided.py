"""Curricula that help: from the end of demonstrations backwards, and with guidance after a failure."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from journeyman.config.curriculum import GuidedCurriculum, ReverseCurriculum
from journeyman.curriculum.guided import Guided, guidance_for
from journeyman.curriculum.reverse import Reverse, window
from journeyman.environments import environment
from journeyman.errors import DataError
from journeyman.problem import BEGUN, GUIDANCE, Problem, variant
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.synthesis.courses import play
from journeyman.training.fit import misfits
from journeyman.training.rows import by_temperature
from journeyman.trajectory import StopReason, ToolResult, Trajectory, Turn
from tests.unit.fakes import ScriptedSampler, World, problem, some, trajectory
from tests.unit.test_reinforce import attempt, loop, stage

TWO_HOPS = [p for p in some("lookup", 40) if p.min_calls == 2][:4]


def gold(p: Problem) -> Trajectory:
    return asyncio.run(play(p, environment(p.family).courses(p)[0], source="gold", provenance={}))


def rolled(world: World, p: Problem, *texts: str, **job: Any) -> Trajectory:
    sampler = Agent(ScriptedSampler(world.chat, texts), world.chat, 4000)
    return asyncio.run(sampler.attempt(RolloutJob(problem=p, max_new_tokens=200, **job)))


def test_the_window_of_the_last_turns() -> None:
    # 20 steps, a share of .7, 100 stages (#164): 14 + floor(i * 7 / 100).
    assert [window(i, 20, share=0.7, steps=100) for i in (0, 50, 99, 500)] == [14, 17, 20, 20]
    # Of three turns ceil(.9) = 1, then 1 + floor(step * 3 / 30): one more every ten steps.
    assert [window(i, 3, share=0.3, steps=30) for i in (0, 9, 10, 20, 29)] == [1, 1, 2, 3, 3]
    assert window(0, 10, share=0.7, steps=9) == 7, "and not 8, whatever floating point makes of .7 * 10"


def test_reverse_by_hand() -> None:
    reverse = Reverse(TWO_HOPS, 0, ReverseCurriculum(steps=30))
    wrong = replace(gold(TWO_HOPS[0]), correct=False)
    reverse.show([gold(TWO_HOPS[0]), wrong, gold(TWO_HOPS[1]), trajectory(problem_id="elsewhere")], TWO_HOPS)
    # Three turns each: two calls, the answer. One of them is left to the policy at first, all of them at last.
    first, second = reverse.choose(2, step=0), reverse.choose(2, step=10)
    assert {p.id for p in first} == {f"{p.id}~begun2" for p in TWO_HOPS[:2]}, "each comes once before any comes twice"
    for p in first:
        [origin] = [other for other in TWO_HOPS if p.id.startswith(other.id)]
        assert p.data[BEGUN] == [turn.text for turn in gold(origin).turns[:2]]
        assert replace(p, id=origin.id, data=origin.data) == origin
    assert {p.id for p in second} == {f"{p.id}~begun1" for p in TWO_HOPS[:2]}
    assert {p.id for p in reverse.choose(2, step=20)} == {p.id for p in TWO_HOPS[:2]}
    mixed = Reverse(POOL, 0, ReverseCurriculum(pool=0.5, steps=30))
    mixed.show([gold(TWO_HOPS[0])], TWO_HOPS)
    assert [p.family for p in mixed.choose(4, step=0)] == ["lookup", "lookup", "arithmetic", "arithmetic"]


def test_demonstrations_that_lead_nowhere_are_told() -> None:
    with pytest.raises(DataError, match="of 1 demonstrations none"):
        Reverse(POOL, 0, ReverseCurriculum(steps=30)).show([replace(gold(TWO_HOPS[0]), correct=None)], TWO_HOPS)


def test_what_an_attempt_begins_with_is_played_and_not_learned_from(world: World) -> None:
    asked = TWO_HOPS[0]
    shown = gold(asked)
    begun = variant(asked, "begun1", {BEGUN: [shown.turns[0].text]})
    last = [turn.text for turn in shown.turns[1:]]
    made = rolled(world, begun, *last)
    assert (made.stop_reason, made.correct, made.problem_id) == (StopReason.ANSWER, True, f"{asked.id}~begun1")
    assert [turn.text for turn in made.turns] == [turn.text for turn in shown.turns]
    assert made.turns[0].results[0].output == shown.turns[0].results[0].output
    assert [turn.policy for turn in made.turns] == [BEGUN, "", ""]
    first, second, _ = made.turns
    assert sum(made.loss_mask[: second.start]) == 0 == sum(made.logprobs[: second.start]) and first.stop > first.start
    assert all(made.loss_mask[second.start : second.stop])
    # Token for token what an attempt sees that writes the first turn itself.
    own = rolled(world, asked, *[turn.text for turn in shown.turns])
    assert own.token_ids == made.token_ids and own.loss_mask != made.loss_mask


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["<think>"], "format_error"),
        (["<answer>x</answer>"], "answer"),
        (["", "<answer>never asked</answer>"], "answer"),
    ],
)
def test_a_beginning_that_ends_the_attempt_is_no_fault_of_the_policy(world: World, texts: list[str], why: str) -> None:
    made = rolled(world, variant(TWO_HOPS[0], "begun", {BEGUN: texts}))
    assert (made.stop_reason, made.correct) == (StopReason.ENVIRONMENT, None)
    assert made.provenance["failure"] == f"ended by the turns it begins with: {why}"
    assert not any(made.loss_mask)


def test_a_beginning_as_long_as_an_attempt_may_be_is_told(world: World) -> None:
    texts = [turn.text for turn in gold(TWO_HOPS[0]).turns[:2]]
    made = rolled(world, variant(TWO_HOPS[0], "begun2", {BEGUN: texts}), max_turns=2)
    assert (made.stop_reason, made.provenance["failure"]) == (
        StopReason.ENVIRONMENT,
        "ended by the turns it begins with: max_turns",
    )


POOL = some("arithmetic", 6)


def failed(p: Problem, *outputs: str) -> Trajectory:
    results = tuple(ToolResult(name="search", ok=False, output=output) for output in outputs)
    return trajectory(problem_id=p.id, family=p.family, correct=False, turns=(Turn(text="", results=results),))


def test_guided_by_hand() -> None:
    guided = Guided(TWO_HOPS, 0, GuidedCurriculum(share=0.5, tells=["tools"]))
    assert all(GUIDANCE not in p.data for p in guided.choose(4, step=0)), "nothing has failed yet"
    a, b, c, d = TWO_HOPS
    right = trajectory(problem_id=c.id, correct=True)
    unknown = trajectory(problem_id=d.id, correct=None)
    guided.update([failed(a), failed(a), failed(b), failed(c), right, unknown])
    # A whole group of a and of b failed; c was solved once, of d nothing is known. Half of four problems come back.
    back = guided.choose(4, step=1)[:2]
    assert [p.id for p in back] == [f"{a.id}~guidance", f"{b.id}~guidance"]
    assert [p.data[GUIDANCE] for p in back] == ["Tools that help, in order: search, search."] * 2
    guided.update([failed(back[0]), failed(a)])
    assert guided.choose(4, step=2)[:2] == [a, b], "then without, whether the guided attempts failed or not"
    guided.update([failed(a), failed(b)])
    assert guided.state_dict()["waiting"] == [], "once"


def test_what_is_told() -> None:
    asked = next(p for p in TWO_HOPS if p.data["hops"] == ["mayor", "pet"])
    attempts = [failed(asked, "error: no a", "error: no b"), failed(asked, "error: no a", "x" * 300, "error: fourth")]
    assert guidance_for(asked, attempts, ["errors"]) == (
        f"Earlier attempts met these errors:\n- error: no a\n- error: no b\n- {'x' * 200}"
    )
    city = asked.data["entity"]
    [mayor] = [step.call for step in environment("lookup").courses(asked)[0].steps[1:]]
    assert mayor is not None
    assert guidance_for(asked, attempts, ["plan"]) == (
        f"Plan: search(query='mayor of {city}'), then search(query='{mayor.arguments['query']}')."
    )
    assert guidance_for(asked, [failed(asked)], ["errors"]) == "", "and a problem of which nothing can be told stays"


def test_guidance_stands_behind_the_question_and_nowhere_else(world: World) -> None:
    asked = TWO_HOPS[0]
    told = rolled(world, variant(asked, GUIDANCE, {GUIDANCE: "Search twice."}), "<answer>x</answer>")
    plain = rolled(world, asked, "<answer>x</answer>")
    assert [message.content for message in told.opening] == [f"{asked.question}\n\nSearch twice."]
    assert told.question == plain.question and plain.opening == ()
    shown = [str(world.chat.tokenizer.decode(list(t.token_ids))) for t in (told, plain)]
    assert shown[0] == shown[1].replace(asked.question, f"{asked.question}\n\nSearch twice.")


def test_guided_goes_on_from_its_state_and_in_a_block() -> None:
    guided = Guided(TWO_HOPS, 0, GuidedCurriculum(tells=["tools"], share=1.0))
    guided.update([failed(p) for p in TWO_HOPS])
    guided.choose(1, step=0)
    state = json.loads(json.dumps(guided.state_dict()))
    again = Guided(TWO_HOPS, 0, GuidedCurriculum(tells=["tools"], share=1.0))
    again.load_state_dict(state)
    assert [again.choose(3, step=s) for s in range(4)] == [guided.choose(3, step=s) for s in range(4)]
    with pytest.raises(KeyError, match="other problems"):
        Guided(POOL, 0, GuidedCurriculum()).load_state_dict(state)


def test_a_block_gives_its_temperature_with_its_problems(tmp_path: Path) -> None:
    block = {"type": "balance", "temperatures": [0.5, 2.0], "hold": 2}

    def begun():
        # At .5 one of four is right, at 2 two are: the better balance score, (2/8)(2/4) against (1/8)(1/4).
        def make(job: RolloutJob) -> Trajectory:
            right = job.sample < (1 if job.temperature == 0.5 else 2)
            return attempt(job, correct=right, temperature=job.temperature)

        return loop(make, curriculum=block)

    whole, learner, pool = begun()
    for _ in range(3):
        whole.advance()
    asked = [{job.temperature for job in jobs} for jobs in pool.jobs]
    assert asked == [{0.5}, {2.0}, {2.0}]
    assert [{row.temperature for row in rows} for rows in learner.steps] == asked
    assert whole.state_dict()["curriculum"]["scores"] == [1 / 32, 1 / 8]
    whole.save(tmp_path)
    rest, _, again = begun()
    rest.load(tmp_path, {**json.loads(json.dumps(whole.state_dict())), "step": 3})
    for made in (whole, rest):
        made.advance()
    assert {job.temperature for job in again.jobs[0]} == {2.0} == {job.temperature for job in pool.jobs[3]}
    whole.advance()
    assert {job.temperature for job in pool.jobs[4]} == {0.5}, "after two steps the trial begins anew"


def test_rows_are_scored_at_their_own_temperatures_in_their_own_order() -> None:
    asked: list[tuple[float, int]] = []

    def score(ids: Sequence[Sequence[int]], temperature: float) -> list[list[float]]:
        asked.append((temperature, len(ids)))
        return [[temperature + row[0]] for row in ids]

    assert by_temperature([[10], [20], [30]], [0.5, 2.0, 0.5], score) == [[10.5], [22.0], [30.5]]
    assert asked == [(0.5, 2), (2.0, 1)]
    assert by_temperature([], [], score) == []


def test_temperatures_that_would_mix_are_told_at_load() -> None:
    fields: dict[str, Any] = {
        "curriculum": {"type": "balance", "temperatures": [1.0]},
        "process": {},
        "credit": "prime",
    }
    assert list(misfits(stage(**fields).model_dump())) == []
    [(key, fault, _)] = misfits(stage(**fields, asynchrony={"partial": True, "staleness": 1}).model_dump())
    assert key == "process" and "one temperature" in fault


def test_a_run_that_goes_backwards(world: World, tmp_path: Path) -> None:
    from journeyman.actors import InlineWorkers
    from journeyman.curation.stage import curate
    from journeyman.progress import Silent
    from journeyman.training.reinforce import Inputs, run_rl
    from journeyman.trajectory import read_trajectories
    from tests.unit.fakes import COMPUTE, MAX_LENGTH

    curate(world.config, world.synthesized, tmp_path / "curated", Silent())
    block = stage(
        reward="correct", steps=1, problems=2, group=2, max_turns=4, max_new_tokens=8, curriculum={"type": "reverse"}
    )
    assert block.uses_demonstrations and block.uses_taught
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as made:
        run_rl(
            world.config,
            block,
            Inputs(
                policy=world.model,
                problems=world.synthesized,
                demonstrations=tmp_path / "curated",
                taught=world.synthesized,
            ),
            out=tmp_path / "out",
            work=tmp_path / "work",
            workers=made,
            observer=Silent(),
        )
    found = read_trajectories(tmp_path / "out" / "trajectories.parquet")
    assert len(found) == 4 and all("~begun" in t.problem_id and t.turns[0].policy == BEGUN for t in found)
    assert all(t.stop_reason is not StopReason.ENVIRONMENT for t in found)


def test_problems_of_their_own_name_are_left_alone() -> None:
    assert variant(problem(id="a", data={"x": 1}), "m", {"y": 2}) == problem(id="a~m", data={"x": 1, "y": 2})
