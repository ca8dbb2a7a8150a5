"""Programs that know only a base URL, and what the tests of them share."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from journeyman.environments import tools_named
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.outside import OutsideAgent
from journeyman.rollout.programs import PythonProgram
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.trajectory import Trajectory
from tests.unit.fakes import MAX_LENGTH, ScriptedSampler, World, problem

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
THINKING = f"<think>multiply</think>\n{CALL}"
ANSWER = "<answer>42</answer>"
LENGTH = 4 * MAX_LENGTH


class Answering(ScriptedSampler):
    """A sampler whose texts follow from the prompt, slower ones first."""

    def __init__(self, chat: Any, write: Callable[[str], str]) -> None:
        super().__init__(chat, [])
        self._write = write

    async def generate(self, request: SampleRequest) -> Completion:
        self._texts.append(self._write(self._chat.decode(request.prompt_ids)))
        made = await super().generate(request)
        await asyncio.sleep(0)
        return made


def tools_of(asked: Problem) -> list[Any]:
    return [tool.spec() for tool in tools_named(asked.family, asked.tools).values()]


def client_of(base_url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)


async def loop_of_a_program(base_url: str, asked: Problem, *, stream: bool = False, forget: bool = False) -> str | None:
    """The loop that anyone would write: ask, run the calls, tell what they gave, until there are none."""
    tools = tools_named(asked.family, asked.tools)
    messages: list[Any] = [{"role": "user", "content": asked.question}]
    async with client_of(base_url) as client:
        while True:
            message = await ask(client, messages, tools_of(asked), stream=stream)
            messages.append(as_a_framework_keeps_it(message) if forget else message)
            if not message.get("tool_calls"):
                return message["content"]
            for call in message["tool_calls"]:
                made = await tools[call["function"]["name"]].call(json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": made.output})


async def ask(client: AsyncOpenAI, messages: list[Any], tools: list[Any], *, stream: bool) -> dict[str, Any]:
    if not stream:
        made = await client.chat.completions.create(model="any", messages=messages, tools=tools)
        return made.choices[0].message.model_dump(exclude_none=True)
    async with client.chat.completions.stream(model="any", messages=messages, tools=tools) as events:
        async for _ in events:
            pass
        made = await events.get_final_completion()
    return {
        "role": "assistant",
        "content": made.choices[0].message.content,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in made.choices[0].message.tool_calls or []
        ],
    }


def as_a_framework_keeps_it(message: dict[str, Any]) -> dict[str, Any]:
    """Without thoughts, with other spaces in the arguments, with text parts in place of text."""
    kept = {"role": "assistant", "content": [{"type": "text", "text": f" {message.get('content') or ''}\n"}]}
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": json.dumps(json.loads(call["function"]["arguments"]), indent=2),
                },
            }
            for call in calls
        ]
    return kept


def play(
    world: World,
    program: Callable[[str, Problem], Any],
    texts: list[str] | Callable[[str], str],
    *,
    options: dict[str, Any] | None = None,
    **job: Any,
) -> list[Trajectory]:
    """The rows that a program leaves."""
    sampler = ScriptedSampler(world.chat, texts) if isinstance(texts, list) else Answering(world.chat, texts)

    async def run() -> list[Trajectory]:
        agent = OutsideAgent(sampler, world.chat, LENGTH, PythonProgram(program), **(options or {}))
        try:
            return await agent.threads(RolloutJob(**{"problem": problem(), "seed": 5, "max_new_tokens": 200, **job}))
        finally:
            await agent.close()

    return asyncio.run(run())


def built_in(world: World, texts: list[str], **job: Any) -> Trajectory:
    agent = Agent(ScriptedSampler(world.chat, texts), world.chat, LENGTH)
    fields = {"problem": problem(), "seed": 5, "max_new_tokens": 200, **job}
    return asyncio.run(agent.attempt(RolloutJob(**fields)))


def timeless(trajectory: Trajectory) -> Trajectory:
    """Without what differs between two runs of the same."""
    turns = tuple(
        replace(turn, results=tuple(replace(result, seconds=0.0) for result in turn.results))
        for turn in trajectory.turns
    )
    return replace(trajectory, turns=turns, provenance={})
