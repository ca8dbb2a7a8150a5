"""A program that knows only a base URL, in front of the real torch engine: its rows are those of the built-in loop."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from journeyman.environments import tools_named
from journeyman.problem import Problem
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.outside import OutsideAgent
from journeyman.rollout.programs import PythonProgram
from journeyman.rollout.worker import build_sampler
from journeyman.seeds import derive
from journeyman.training.model import load_tokenizer
from journeyman.trajectory import Trajectory
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, make_world

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


async def program(base_url: str, asked: Problem) -> None:
    """Ask, run the calls, ask again; a user who isn't content otherwise."""
    tools = tools_named(asked.family, asked.tools)
    specs: list[Any] = [tool.spec() for tool in tools.values()]
    messages: list[Any] = [{"role": "user", "content": asked.question}]
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        for _ in range(3):
            made = await client.chat.completions.create(model="any", messages=messages, tools=specs)
            message = made.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls or ():
                result = await tools[call.function.name].call(json.loads(call.function.arguments))  # type: ignore[union-attr]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result.output})
            if not message.tool_calls:
                messages.append({"role": "user", "content": "Are you sure?"})


def jobs(problems: Sequence[Problem], **fields: Any) -> list[RolloutJob]:
    return [
        RolloutJob(problem=asked, sample=sample, seed=derive(1, i, sample), **{"max_new_tokens": 12, **fields})
        for i, asked in enumerate(problems)
        for sample in range(3)
    ]


async def both(folder: Path, asked: list[RolloutJob]) -> tuple[list[list[Trajectory]], list[Trajectory]]:
    """(the rows of the program, those of the built-in loop) on one engine, all at once."""
    sampler, chat = build_sampler(folder, COMPUTE, MAX_LENGTH), ChatFormat(load_tokenizer(folder))
    outside = OutsideAgent(sampler, chat, MAX_LENGTH, PythonProgram(program))
    agent = Agent(sampler, chat, MAX_LENGTH)
    try:
        made = await asyncio.gather(*map(outside.threads, asked))
        return made, list(await asyncio.gather(*map(agent.attempt, asked)))
    finally:
        await outside.close()
        await sampler.close()


def test_the_first_turn_is_the_built_in_loops_and_later_ones_are_appended(world: World) -> None:
    asked = jobs(world.train[:4])
    rows, built_in = asyncio.run(both(world.model, asked))
    assert all(len(attempt) == 1 for attempt in rows)
    for (row,), loop in zip(rows, built_in, strict=True):
        # The built-in loop ends with an untrained model's first turn, which is cut off; the program goes on.
        end = loop.turns[0].stop
        assert row.token_ids[:end] == loop.token_ids[:end]
        assert row.logprobs[:end] == pytest.approx(loop.logprobs[:end], abs=1e-4)  # sums in another order
        assert replace(row.turns[0], reply="", results=(), calls=()) == replace(loop.turns[0], results=(), calls=())
        assert (row.id, row.seed, row.sample, row.problem_id) == (loop.id, loop.seed, loop.sample, loop.problem_id)
        assert len(row.turns) == 3 and sum(row.loss_mask) == sum(turn.stop - turn.start for turn in row.turns)


def test_what_is_recorded_is_what_the_model_gives(world: World) -> None:
    """Log-probabilities of the rows, scored anew in one pass over each, are those that were recorded."""

    async def run() -> None:
        asked = jobs(world.train[:2], temperature=1.0)
        rows = [row for attempt in (await both(world.model, asked))[0] for row in attempt]
        sampler = build_sampler(world.model, COMPUTE, MAX_LENGTH)
        scored = await sampler.score([row.token_ids for row in rows])
        await sampler.close()
        for row, again in zip(rows, scored, strict=True):
            learned = [(p, q) for p, q, m in zip(row.logprobs[1:], again, row.loss_mask[1:], strict=True) if m]
            assert len(learned) == sum(row.loss_mask)
            assert max(abs(p - q) for p, q in learned) < 1e-3

    asyncio.run(run())
