"""Worlds that recur: what memory is worth, what each attempt earns, and credit across attempts."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.credit.base import ScoredBatch
from journeyman.credit.readings import turn_rewards_U
from journeyman.credit.turns import recurring, returns
from journeyman.environments import environment
from journeyman.environments.base import validate, walked
from journeyman.environments.recurring import KINDS, RIGHT, WRONG, Conventions, Recurring, price
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.rewards.base import apply_reward
from journeyman.rewards.outcome import world as paid_by_world
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.parse import render_call
from journeyman.synthesis.courses import play
from journeyman.synthesis.written import WrittenAttempt
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, to_row
from tests.unit.credit_batches import Earned, by_turn, scored
from tests.unit.fakes import ScriptedSampler, World

FIRST, SECOND = list(KINDS)[:2]


def problems(count: int, **options: Any) -> list[Problem]:
    made = Recurring(**options)
    offered = tuple(made.tools())
    return [replace(one, tools=offered, world=options) for one in islice(made.generate(random.Random(1)), count)]


def followed(messages: Sequence[Message]) -> list[str]:
    """What a policy writes that takes the first price, and goes by what it has been told so far."""
    kind = FIRST
    for message in messages:
        if message.content.startswith(WRONG):
            kind = {FIRST: SECOND, SECOND: FIRST}[kind]
    asked = next(m.content for m in reversed(messages) if m.role == "user" and "What does the " in m.content)
    article = asked.split("What does the ")[1].split(" cost?")[0]
    call = ToolCall(name=kind, arguments={"article": article})
    return [f"<think>{kind}</think>\n{render_call(call)}", f"<answer>{price(kind, article)}</answer>"]


async def lived(problem: Problem) -> Trajectory:
    """What comes of that policy."""
    attempt = await WrittenAttempt.begin(problem, max_turns=99)
    while attempt.stop_reason is None:
        for text in followed(attempt.messages()):
            await attempt.say(text)
    return await attempt.finish(source="test")


@pytest.mark.parametrize(("memory", "expected"), [(True, 3.5), (False, 2.0)])
def test_recurring_by_hand(memory: bool, expected: float) -> None:
    # Two rules of the same chance: right from the first guess, all 4; else with memory 3, without 0.
    made = problems(40, memory=memory)
    by_rule = {rule: [p for p in made if p.data["rule"] == rule] for rule in (FIRST, SECOND)}
    totals: dict[str, set[float]] = {}
    for rule, own in by_rule.items():
        lives = [asyncio.run(lived(one)) for one in own]
        totals[rule] = {sum(turn.reward for turn in life.turns) for life in lives}
        assert all(life.stop_reason is StopReason.ANSWER for life in lives)
        gain = 1.0 if memory and rule == SECOND else 0.0
        assert {life.score_parts["gain"] for life in lives} == {gain}
        assert {life.score_parts["tools_tried"] for life in lives} == {0.5}
        assert {life.correct for life in lives} == {memory or rule == FIRST}
        assert {len(life.turns[1].restart) for life in lives} == {0 if memory else 1}
    assert totals == {FIRST: {4.0}, SECOND: {3.0 if memory else 0.0}}
    assert (4 + (3 if memory else 0)) / 2 == expected


@pytest.mark.parametrize("inside", [None, "arithmetic", "lookup"])
@pytest.mark.parametrize("memory", [True, False])
def test_gold_courses_are_right_and_mistakes_are_not(inside: str | None, memory: bool) -> None:
    made = Recurring(inside, attempts=3, memory=memory)
    validate(made, islice(made.generate(random.Random(3)), 20))
    Conventions(kinds=4).validate()


def test_later_attempts_ask_something_else_under_the_same_rule() -> None:
    [problem] = problems(1)
    made = Recurring()
    posed = [made.posed(problem, attempt) for attempt in range(4)]
    assert len({one.question for one in posed}) == 4 and len({one.data["rule"] for one in posed}) == 1
    assert posed == [made.posed(problem, attempt) for attempt in range(4)] and problem.min_calls == 4
    sums = Recurring("arithmetic")
    [one] = islice(sums.generate(random.Random(0)), 1)
    assert sums.posed(one, 0) == sums.posed(one, 3) and one.min_calls == 4


def test_a_course_becomes_a_trajectory_that_ends_by_itself() -> None:
    [problem] = problems(1, attempts=2)
    [gold, gives_up, other] = Recurring(attempts=2).courses(problem)
    made = asyncio.run(play(problem, gold, source="test", provenance={}))
    assert made.correct and made.score == 1 and [turn.reward for turn in made.turns] == [0, 1, 0, 1]
    assert made.turns[1].text.endswith(f"<answer>{problem.answer}</answer>")
    assert made.turns[1].reply.startswith(f"{RIGHT}\n\nWhat does the ") and to_row(made)["score"] == 1
    walk = asyncio.run(walked(Recurring(attempts=2), problem, other))
    assert walk.verdict.score == 0 and other.mistake == "means another price" and gives_up.mistake == "gives up"


def test_what_was_not_attempted_is_wrong() -> None:
    async def run() -> None:
        [problem] = problems(1)
        episode = Recurring().reset(problem, CallContext())
        reaction = await episode.step(ParsedTurn(text=problem.answer))
        assert reaction.reward == 1 and reaction.reply and not reaction.done
        verdict = await episode.verify(None)
        assert (verdict.correct, verdict.score) == (False, 0.25)
        assert verdict.parts == {"first": 1, "later": 0, "gain": -1, "tools_tried": 0}

    asyncio.run(run())


def test_an_attempt_goes_on_from_a_stored_state_and_can_fork() -> None:
    async def run() -> None:
        [problem] = problems(1)
        made = Recurring()
        episode = made.reset(problem, CallContext(seed=5))
        gold = made.courses(problem)[0].steps
        for step in gold[:3]:
            await episode.step(step.parsed())
        other = made.reset(problem, CallContext(seed=5))
        other.load_state_dict(json.loads(json.dumps(episode.state_dict())))
        forked = episode.fork(CallContext(seed=6))
        for each in (episode, other, forked):
            reactions = [await each.step(step.parsed()) for step in gold[3:]]
            assert reactions[-1].done and (await each.verify(None)).score == 1
        assert json.dumps(episode.state_dict()) == json.dumps(other.state_dict())

    asyncio.run(run())


@pytest.mark.parametrize("memory", [True, False])
def test_tokens_are_one_context_or_one_for_each_attempt(world: World, memory: bool) -> None:
    [problem] = problems(1, attempts=2, memory=memory)
    texts = [
        text
        for attempt in range(2)
        for posed in [Recurring().posed(problem, attempt)]
        for text in (
            world.chat.calls.render("hm", [ToolCall(name=FIRST, arguments={"article": posed.data["article"]})]),
            f"<answer>{posed.answer}</answer>",
        )
    ]
    sampler = ScriptedSampler(world.chat, texts)
    job = RolloutJob(problem=problem, max_new_tokens=300, max_turns=8)
    made = asyncio.run(Agent(sampler, world.chat, 4096).attempt(job))
    assert made.correct and made.score == 1 and len(made.samples()) == (1 if memory else 2)
    shown = world.chat.decode(sampler.requests[2].prompt_ids)
    assert [RIGHT in shown, problem.question in shown, "You have 2 attempts" in shown] == [memory] * 3
    [paid] = apply_reward(paid_by_world, [made])
    assert paid.turn_rewards == (0, 1, 0, 1)
    # two trajectories of that kind: both get 2 for attempt 1, 1 for attempt 2, and are the same
    batch = ScoredBatch.of([[paid, paid]])
    assert not recurring(batch, turn_rewards_U=turn_rewards_U(batch)).any()


@pytest.mark.parametrize("options", [{"attempts": 0}, {"options": {"kinds": 9}}])
def test_what_makes_no_world_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Recurring(**options)
    assert environment("recurring").name == "recurring"


# ---- credit

CALLS = [1, 0, 1, 0]
"""Two attempts of two turns: a call, then the answer."""


def credited(*group: tuple[float, Sequence[float]], gamma_ep: float) -> list[list[float]]:
    batch, turn_rewards = scored(group, calls=CALLS * len(group))
    return by_turn(batch, recurring(batch, turn_rewards_U=turn_rewards, gamma_ep=gamma_ep))


WRONG_RIGHT, RIGHT_RIGHT, WRONG_WRONG = (1.0, [0, 0, 0, 1]), (2.0, [0, 1, 0, 1]), (0.0, [0, 0, 0, 0])


def test_recurring_credit_by_hand() -> None:
    # attempt 1: R_1 + R_2 = 1, 2, 0, mean 1; attempt 2: 1, 1, 0, mean 2/3. All turns of an attempt get the same.
    both = [[0, 0, 1 / 3, 1 / 3], [1, 1, 1 / 3, 1 / 3], [-1, -1, -2 / 3, -2 / 3]]
    made = credited(WRONG_RIGHT, RIGHT_RIGHT, WRONG_WRONG, gamma_ep=1)
    assert made == [pytest.approx(row) for row in both]
    # gamma 1/2: attempt 1 has .5, 1.5, 0, mean 2/3
    half = credited(WRONG_RIGHT, RIGHT_RIGHT, WRONG_WRONG, gamma_ep=0.5)
    assert [row[0] for row in half] == pytest.approx([-1 / 6, 5 / 6, -2 / 3])
    # what the whole earned counts as earned by the last attempt
    whole = credited((1.0, [0] * 4), (0.0, [0] * 4), gamma_ep=0)
    assert whole == [[0, 0, 0.5, 0.5], [0, 0, -0.5, -0.5]]


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=2, max_size=4))
def test_without_credit_across_attempts_the_first_knows_nothing_of_the_second(later: list[tuple[float, float]]) -> None:
    group: Earned = [(0.5 * i + sum(paid), [0.5 * i, 0.0, *paid]) for i, paid in enumerate(later)]
    plain: Earned = [(0.5 * i, [0.5 * i, 0.0, 0.0, 0.0]) for i in range(len(later))]
    one, other = credited(*group, gamma_ep=0), credited(*plain, gamma_ep=0)
    assert [row[:2] for row in one] == [pytest.approx(row[:2], abs=1e-9) for row in other]


def test_attempts_of_one_turn_are_returns_with_the_mean_as_baseline() -> None:
    group = [(1.0, [0.0, 1.0, 0.5]), (0.0, [1.0, -1.0]), (2.0, [0.0])]
    batch, turn_rewards = scored(group, group[:2])
    for gamma in (1.0, 0.9, 0.0):
        made = recurring(batch, turn_rewards_U=turn_rewards, gamma_ep=gamma)
        assert made == pytest.approx(returns(batch, turn_rewards_U=turn_rewards, gamma=gamma, baseline="mean"))
    empty = ScoredBatch.of([])
    assert len(recurring(empty, turn_rewards_U=np.empty(0))) == 0
