"""Compression: actions stay, old observations go, each turn is a sample of its own, in every template."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments import Generator, environment
from journeyman.environments.compressed import Compressed, compressed
from journeyman.environments.folding import Folding
from journeyman.environments.lookup import Lookup
from journeyman.environments.noise import Noisy
from journeyman.messages import Image, Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import ScriptedSampler, World, some
from tests.unit.test_templates import CHATS, SIX, SPEC

FICTIONAL = {"environment": "fictional", "options": {"results": 1}}


def asked(**options: Any) -> Problem:
    """A question of three searches, inside `compressed`."""
    world = {**FICTIONAL, **options}
    made = environment("compressed", json.dumps(world))
    assert isinstance(made, Generator)
    return next(
        replace(problem, tools=tuple(made.tools()), world=world)
        for problem in made.generate(random.Random(3))
        if problem.min_calls == 3
    )


def attempt(world: World, problem: Problem, **limits: Any) -> tuple[Trajectory, list[str]]:
    """The three searches and the answer, and the prompt of each turn."""
    calls = [ToolCall(name="search", arguments={"query": step["query"]}) for step in problem.data["steps"]]
    written = [world.chat.calls.render(f"thought {i}", [call]) for i, call in enumerate(calls, 1)]
    sampler = ScriptedSampler(world.chat, [*written, f"<answer>{problem.answer}</answer>"])
    job = RolloutJob(problem=problem, max_new_tokens=400, max_turns=8, **limits)
    made = asyncio.run(Agent(sampler, world.chat, 4096).attempt(job))
    return made, [world.chat.decode(request.prompt_ids) for request in sampler.requests]


@pytest.mark.parametrize(
    ("keep", "shown"),
    [
        # #193 counts an observation to the row that it is there for: o_1 stands in full in the row of the turn after
        # it alone, and the actions 1..t-1 in the row of turn t.
        (1, [[], [1], [2], [3]]),
        (2, [[], [1], [1, 2], [2, 3]]),
        (9, [[], [1], [1, 2], [1, 2, 3]]),
    ],
)
def test_each_row_has_all_actions_and_the_last_observations(world: World, keep: int, shown: list[list[int]]) -> None:
    made, prompts = attempt(world, asked(keep=keep))
    assert made.stop_reason is StopReason.ANSWER and made.correct
    seen = [turn.results[0].output for turn in made.turns[:3]]
    assert [[k for k, output in enumerate(seen, 1) if output in prompt] for prompt in prompts] == shown
    for row, prompt in enumerate(prompts):
        omitted = [k for k in range(1, row + 1) if k not in shown[row]]
        assert [k for k in range(1, 4) if f"[observation {k} omitted]" in prompt] == omitted
        queries = [json.dumps(call.arguments["query"]) for call in made.calls]
        assert [query in prompt for query in queries] == [k < row for k in range(3)]
        assert "<think>thought" not in prompt
    # One sample for each turn, and of each sample the turn alone is learned.
    assert len(made.samples()) == len(made.turns) == 4
    for sample, turn in zip(made.samples(), made.turns, strict=True):
        assert turn.stop == sample.stop and sum(made.loss_mask[sample]) == turn.stop - turn.start


def test_thoughts_stay_where_they_should(world: World) -> None:
    made, prompts = attempt(world, asked(thoughts=True))
    assert made.correct
    for row, prompt in enumerate(prompts):
        assert [f"<think>thought {k}</think>" in prompt for k in (1, 2, 3)] == [k <= row for k in (1, 2, 3)]
        for k, one in enumerate(made.turns[:3]):  # as it was written, and once
            assert prompt.count(one.text) == (k < row)
        assert prompt.count('"search", "arguments"') == row


def test_what_is_too_long_is_short_in_a_context_that_begins_anew_too(world: World) -> None:
    made, prompts = attempt(world, asked(keep=2), max_observation_tokens=20)
    for row, prompt in enumerate(prompts[1:], 1):
        shown = made.turns[row - 1].results[0].output
        assert shown in prompt and len(world.chat.outside(shown)) <= 20


def turn(number: int, observations: int = 1, reply: str = "") -> Turn:
    results = tuple(ToolResult(name="calculator", ok=True, output=f"{number}.{k}") for k in range(observations))
    return Turn(text=f"act {number}", calls=(SIX,) * observations, results=results, reply=reply)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8), st.integers(1, 4))
def test_what_stays_by_a_naive_count(shape: list[tuple[int, bool]], keep: int) -> None:
    turns = [turn(i, count, "yes" if replied else "") for i, (count, replied) in enumerate(shape)]
    made = compressed((Message(role="user", content="Q"),), turns, keep)
    assert [m.content for m in made if m.role == "assistant"] == [t.text for t in turns]
    assert sum(m.content == "yes" for m in made) == sum(replied for _, replied in shape)
    kept = [t for t in turns if t.results][-keep:]
    full = [m.content for m in made if m.role == "tool" and "omitted" not in m.content]
    assert full == [result.output for t in kept for result in t.results]
    assert sum(m.role == "tool" for m in made) == sum(count for count, _ in shape)


@pytest.mark.parametrize("family", CHATS)
def test_every_template_shows_a_past_as_it_was_written(family: str) -> None:
    """A context built anew has, but for thoughts, the tokens of one that has grown."""
    chat = CHATS[family]
    seen = ToolResult(name="calculator", ok=True, output='42 "sharp"')
    past = [Turn(text="", calls=(SIX,), results=(seen,)) for _ in range(2)]
    anew = chat.prompt(compressed((Message(role="user", content="Q?"),), past, keep=2), [SPEC])
    grown = chat.prompt("Q?", [SPEC])
    for one in past:
        grown += chat.turn(chat.calls.render("", [SIX])) + chat.observation(one.results)
    said, other = (str(chat.tokenizer.decode(ids)) for ids in (anew, grown))
    if family == "qwen3-thinking":  # its template opens a thought in the prompt, and takes past ones out again
        other = other.replace("<think>\n\n</think>\n\n", "").replace("<think>\n\n</think>\n", "")
    assert said == other


def test_a_compressed_attempt_goes_on_from_a_stored_state() -> None:
    world, picture = Compressed(Lookup(), keep=1), Image(data=b"png")
    [problem] = some("lookup", 1)

    async def run() -> None:
        episode = world.reset(problem, CallContext())
        await episode.step(ParsedTurn(calls=(ToolCall(name="search", arguments={"query": "pet"}),), text="so"))
        stored = json.loads(json.dumps(episode.state_dict()))
        other = world.reset(problem, CallContext())
        other.load_state_dict(stored)
        again = ParsedTurn(calls=(ToolCall(name="search", arguments={"query": "mayor"}),))
        one, two = (await episode.step(again), await other.step(again))
        assert one.restart == two.restart and one.restart is not None and len(one.restart) == 5
        assert (await episode.step(ParsedTurn(answer="x"))).restart is None, "the end is the end"

    asyncio.run(run())
    row = replace(turn(1), results=(ToolResult(name="look", ok=True, output="", images=(picture,)),))
    assert compressed((), [row], keep=1)[1].images == (picture,)
    assert all(not message.images for message in compressed((), [row, turn(2)], keep=1))


def test_a_fold_inside_is_where_compression_goes_on() -> None:
    world = Compressed(Folding(Lookup()))
    [problem] = some("lookup", 1)
    assert world.tools().keys() == {"search", "fold_memory"}
    fold = ToolCall(name="fold_memory", arguments={"progress": "half", "events": []})
    find = ToolCall(name="search", arguments={"query": "pet"})

    async def run() -> None:
        episode = world.reset(problem, CallContext())
        first = await episode.step(ParsedTurn(calls=(find,)))
        assert first.restart is not None and len(first.restart) == 3
        folded = await episode.step(ParsedTurn(calls=(fold,)))
        assert folded.restart is not None and len(folded.restart) == 1
        last = await episode.step(ParsedTurn(calls=(find,)))
        assert last.restart is not None and last.restart[0] == folded.restart[0] and len(last.restart) == 3

    asyncio.run(run())


def test_noise_reaches_the_tools_of_worlds_around_worlds() -> None:
    world = Noisy(Compressed(Lookup()), failures=1.0)
    [problem] = some("lookup", 1)
    step = world.courses(problem)[0].steps[0]

    async def run() -> str:
        episode = world.reset(problem, CallContext())
        reaction = await episode.step(step.parsed())
        assert reaction.restart is not None and reaction.restart[-1].content == reaction.results[0].output
        return reaction.results[0].output

    assert asyncio.run(run()).startswith("error: search is not available")


def test_what_was_just_asked_for_is_always_shown() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Compressed(keep=0)
    Compressed().validate()
