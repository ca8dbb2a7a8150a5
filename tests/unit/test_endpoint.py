"""Agents from outside: what a program asks through OpenAI's client is recorded as the built-in loop would."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import product
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from journeyman.environments import tools_named
from journeyman.errors import InfrastructureError
from journeyman.problem import Problem
from journeyman.rollout.endpoint import MAX_BODY, Endpoint
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.outside import OutsideAgent
from journeyman.rollout.programs import CommandProgram, Outcome, PythonProgram
from journeyman.rollout.recorder import Budget, Recorder
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.trajectory import StopReason, Trajectory
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
            return await agent.attempt(RolloutJob(**{"problem": problem(), "seed": 5, "max_new_tokens": 200, **job}))
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


@pytest.mark.parametrize(
    "texts",
    [
        [ANSWER],
        ["I give up."],
        [THINKING, ANSWER],
        [f"{THINKING}\n{CALL.replace('6*7', '6*')}", CALL, "<think>now I know</think>\n<answer>43</answer>"],
        [CALL, "<tool_call>nonsense"],
    ],
)
def test_a_programs_row_is_the_built_in_loops(world: World, texts: list[str]) -> None:
    """Streamed or not, with a history that is repeated as it was or as frameworks keep it."""

    async def run() -> list[Trajectory]:
        rows = []
        sampler = ScriptedSampler(world.chat, [])
        agent = OutsideAgent(sampler, world.chat, LENGTH, PythonProgram(program))
        for stream, forget in product([False, True], repeat=2):
            way["stream"], way["forget"] = stream, forget
            sampler._texts, sampler.requests = list(texts), []
            rows += await agent.attempt(RolloutJob(problem=problem(), seed=5, max_new_tokens=200))
        await agent.close()
        return rows

    async def program(base_url: str, asked: Problem) -> None:
        await loop_of_a_program(base_url, asked, **way)

    way: dict[str, bool] = {}
    rows, expected = asyncio.run(run()), timeless(built_in(world, texts))
    assert [timeless(row) for row in rows] == [expected] * 4
    assert rows[0].provenance == {"agent": "outside", "thread": 0, "threads": 1}


def test_what_the_program_answers_is_verified_and_what_it_scores_is_believed(world: World) -> None:
    async def answering(base_url: str, asked: Problem) -> str:
        await loop_of_a_program(base_url, asked)
        return "42"

    async def scoring(base_url: str, asked: Problem) -> dict[str, Any]:
        await loop_of_a_program(base_url, asked)
        return {"score": 0.25}

    async def reporting(base_url: str, asked: Problem) -> None:
        await loop_of_a_program(base_url, asked)
        async with httpx.AsyncClient() as client:
            address = base_url.removesuffix("/v1") + "/result"
            told = await client.post(address, json={"score": 1.0, "answer": "forty-two"})
            refused = await client.post(address, json={"score": 2})
        assert (told.status_code, refused.status_code) == (200, 400)

    rows = [play(world, program, ["No idea."])[0] for program in (answering, scoring, reporting)]
    assert [(row.answer, row.correct, row.score) for row in rows] == [
        ("42", True, 1.0),
        (None, False, 0.25),
        ("forty-two", True, 1.0),
    ]


def test_sub_agents_have_rows_of_their_own(world: World) -> None:
    """A planner asks two helpers at once, each with its own system message and two turns, then says the answer."""

    async def helper(client: AsyncOpenAI, name: str) -> str:
        messages: list[Any] = [{"role": "system", "content": f"You are {name}."}, {"role": "user", "content": "Help."}]
        for words in ("More?", None):
            made = await client.chat.completions.create(model="any", messages=messages)
            messages.append({"role": "assistant", "content": made.choices[0].message.content})
            messages.append({"role": "user", "content": words})
        return messages[-2]["content"]

    async def program(base_url: str, asked: Problem) -> str:
        async with client_of(base_url) as client:
            messages: list[Any] = [{"role": "user", "content": asked.question}]
            plan = await client.chat.completions.create(model="any", messages=messages)
            helped = await asyncio.gather(helper(client, "anna"), helper(client, "bert"))
            messages += [{"role": "assistant", "content": plan.choices[0].message.content}]
            messages += [{"role": "user", "content": " ".join(helped)}]
            made = await client.chat.completions.create(model="any", messages=messages)
        return str(made.choices[0].message.content)

    def write(prompt: str) -> str:
        if "anna" in prompt and "bert" in prompt:
            return ANSWER
        who = next((name for name in ("anna", "bert") if name in prompt), "planner")
        return f"{who} {prompt.count('assistant')}"

    rows = play(world, program, write)
    assert [row.provenance["thread"] for row in rows] == [0, 1, 2] and {row.provenance["threads"] for row in rows} == {
        3
    }
    assert [turn.text for turn in rows[0].turns] == ["planner 1", ANSWER]
    assert {row.turns[1].text for row in rows[1:]} == {"anna 2", "bert 2"}
    assert rows[0].turns[0].reply in ("anna 2 bert 2", "bert 2 anna 2") and rows[1].turns[0].reply == "More?"
    assert {row.correct for row in rows} == {True} and len({row.id for row in rows}) == 3
    assert [row.opening[0].role for row in rows[1:]] == ["system", "system"]
    for row in rows:
        for turn in row.turns:
            assert list(row.token_ids[turn.start : turn.stop]) == world.chat.turn(turn.text)
            assert set(row.loss_mask[turn.start : turn.stop]) == {1}


def test_a_conversation_that_is_taken_up_earlier_is_forked_and_edited_history_is_a_new_row(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        async with client_of(base_url) as client:

            async def say(*messages: str) -> str:
                roles = ("user", "assistant")
                told: list[Any] = [{"role": roles[n % 2], "content": text} for n, text in enumerate(messages)]
                made = await client.chat.completions.create(model="any", messages=told)
                return str(made.choices[0].message.content)

            first = await say("q")
            await say("q", first, "left")
            await say("q", first, "right")
            await say("q", "something else", "right")

    texts = ["<think>hm</think>\nyes", "one", "two", "three"]
    rows = play(world, program, texts)
    assert [[turn.text for turn in row.turns] for row in rows] == [texts[:2], [texts[0], "two"], ["three"]]
    stem, fork, other = rows
    shared = stem.turns[0].stop
    assert fork.token_ids[:shared] == stem.token_ids[:shared]  # with the thought that the program never sent back
    assert fork.loss_mask[:shared] == (0,) * shared and sum(fork.loss_mask) == len(world.chat.turn("two"))
    assert fork.provenance["forked_from"] == stem.id and fork.provenance["forked_at_turn"] == 1
    assert [message.content for message in other.opening] == ["q", "something else", "right"]
    assert "forked_from" not in other.provenance


def test_parallel_requests_for_the_same_prompt_are_rows_with_seeds_of_their_own(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        async with client_of(base_url) as client:
            told: list[Any] = [{"role": "user", "content": asked.question}]
            await asyncio.gather(*(client.chat.completions.create(model="any", messages=told) for _ in range(5)))

    sampler = ScriptedSampler(world.chat, [f"{n}" for n in range(5)])

    async def run() -> list[Trajectory]:
        agent = OutsideAgent(sampler, world.chat, LENGTH, PythonProgram(program))
        rows = await agent.attempt(RolloutJob(problem=problem(), seed=5))
        await agent.close()
        return rows

    rows = asyncio.run(run())
    assert sorted(row.turns[0].text for row in rows) == ["0", "1", "2", "3", "4"]
    assert len({request.seed for request in sampler.requests}) == 5
    assert len({request.prompt_ids for request in sampler.requests}) == 1


def test_calls_answered_out_of_order_are_shown_in_the_order_of_the_calls(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        async with client_of(base_url) as client:
            messages: list[Any] = [{"role": "user", "content": asked.question}]
            message = await ask(client, messages, tools_of(asked), stream=False)
            ids = [call["id"] for call in message["tool_calls"]]
            messages += [message, *({"role": "tool", "tool_call_id": i, "content": f"of {i}"} for i in reversed(ids))]
            messages += [{"role": "user", "content": "Go on."}]
            message = await ask(client, messages, tools_of(asked), stream=False)
            await ask(client, [*messages, message, {"role": "user", "content": "And?"}], tools_of(asked), stream=False)

    (row,) = play(world, program, [f"{CALL}\n{CALL}", "well", ANSWER])
    assert [result.output for result in row.turns[0].results] == ["of call_0_1_0", "of call_0_1_1"]
    assert [turn.reply for turn in row.turns] == ["Go on.", "And?", ""]


def test_stop_texts_limits_and_what_is_told_of_them(world: World) -> None:
    told: dict[str, Any] = {}

    async def program(base_url: str, asked: Problem) -> None:
        async with client_of(base_url) as client:
            create = client.chat.completions.create
            messages: list[Any] = [{"role": "user", "content": "q"}]
            told["stop"] = await create(model="any", messages=messages, stop=["END", "zzz"], logprobs=True)
            messages += [{"role": "assistant", "content": "before"}, {"role": "user", "content": "more"}]
            told["short"] = await create(model="any", messages=messages, max_completion_tokens=3)

    (row,) = play(world, program, ["before END after", "one two three four five"])
    stop, short = told["stop"], told["short"]
    assert (stop.choices[0].message.content, stop.choices[0].finish_reason) == ("before", "stop")
    assert row.turns[0].text.endswith("END") and "after" not in row.turns[0].text
    first, second = row.turns
    learned = row.token_ids[first.start : first.stop]
    assert [token.logprob for token in stop.choices[0].logprobs.content] == list(row.logprobs[first.start : first.stop])
    assert "".join(token.token for token in stop.choices[0].logprobs.content) == world.chat.decode(learned)
    assert stop.usage.completion_tokens == len(learned) and stop.usage.prompt_tokens == first.start
    # The turn has no end of its own: one is put there, and nothing is learned from it.
    assert (row.token_ids[first.stop], row.loss_mask[first.stop]) == (world.chat.end_id, 0)
    assert short.choices[0].finish_reason == "length" and second.stop - second.start == 3
    assert row.stop_reason is StopReason.MAX_TOKENS


def test_a_program_that_wants_no_calls_gets_text(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> str:
        async with client_of(base_url) as client:
            told: list[Any] = [{"role": "user", "content": "q"}]
            made = await client.chat.completions.create(
                model="any", messages=told, tools=tools_of(asked), tool_choice="none"
            )
        assert made.choices[0].message.tool_calls is None
        return str(made.choices[0].message.content)

    (row,) = play(world, program, [CALL])
    assert row.answer == CALL and row.calls == () and row.specs == ()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "last message"),
    ({"n": 2}, "n must be 1"),
    ({"tool_choice": "required"}, "can't be forced"),
    ({"response_format": {"type": "json_object"}}, "only text"),
    ({"temperature": -1}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"tools": [{"type": "function"}]}, "tools"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        "data URL",
    ),
    ({"messages": [{"role": "user", "content": "word " * 2000}]}, "tokens"),
]


def test_what_cannot_be_done_is_an_error_that_clients_understand(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> str:
        async with client_of(base_url) as client:
            for fields, complaint in REFUSED:
                body = {"model": "any", "messages": [{"role": "user", "content": "q"}], **fields}
                with pytest.raises(openai.BadRequestError, match=complaint) as caught:
                    await client.post("/chat/completions", body=body, cast_to=object)
                assert caught.value.type == "invalid_request_error"
        return "42"

    (row,) = play(world, program, [])
    assert (row.stop_reason, row.correct, row.token_ids) == (StopReason.ENVIRONMENT, None, ())


def test_unknown_keys_paths_and_bodies_without_end_are_refused(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        async with httpx.AsyncClient() as client:
            told: dict[str, Any] = {"messages": [{"role": "user", "content": "q"}]}
            wrong = base_url.replace("/t/", "/t/x")
            refused = [
                await client.post(f"{wrong}/chat/completions", json=told),
                await client.get(f"{wrong}/models"),
                await client.post(f"{base_url}/embeddings", json=told),
                await client.get(f"{base_url}/chat/completions"),
                await client.post(f"{base_url}/chat/completions", content=b" " * (MAX_BODY + 1)),
                await client.post(f"{base_url}/chat/completions", content=b"\xff{"),
            ]
            listed = await client.get(f"{base_url}/models")
        assert [answer.status_code for answer in refused] == [404, 404, 404, 405, 413, 400]
        assert all(answer.json()["error"]["message"] for answer in refused)
        assert listed.json()["data"][0]["id"] == "policy"

    play(world, program, [])


async def insistent(base_url: str, asked: Problem) -> None:
    """Asks without end."""
    messages: list[Any] = [{"role": "user", "content": asked.question}]
    async with client_of(base_url) as client:
        while True:
            made = await client.chat.completions.create(model="any", messages=messages)
            messages += [{"role": "assistant", "content": made.choices[0].message.content}]
            messages += [{"role": "user", "content": "And?"}]


@pytest.mark.parametrize(
    ("budget", "job", "reason", "turns"),
    [
        (Budget(requests=3), {"max_turns": 9}, StopReason.MAX_TURNS, 3),
        (Budget(), {"max_turns": 2}, StopReason.MAX_TURNS, 2),
        (Budget(tokens=1), {}, StopReason.MAX_TOKENS, 1),
        (Budget(seconds=0.0), {}, StopReason.MAX_SECONDS, 0),
    ],
)
def test_budgets_end_a_trajectory_and_it_is_judged(
    world: World, budget: Budget, job: dict[str, Any], reason: StopReason, turns: int
) -> None:
    (row,) = play(world, insistent, [ANSWER] * 9, options={"budget": budget}, **job)
    if not turns:
        assert (row.stop_reason, row.correct) == (StopReason.ENVIRONMENT, None)  # the policy never had a say
        return
    assert (row.stop_reason, len(row.turns), row.correct) == (reason, turns, False)
    assert "budget is used up" in row.provenance["failure"]


def test_a_program_that_breaks_is_recorded_and_not_scored(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        await loop_of_a_program(base_url, asked)
        raise RuntimeError("out of ideas")

    (row,) = play(world, program, [ANSWER])
    assert (row.stop_reason, row.correct, row.score) == (StopReason.ENVIRONMENT, None, None)
    assert row.provenance["failure"] == "RuntimeError: out of ideas" and sum(row.loss_mask) > 0


def test_a_sampler_that_fails_is_raised_whatever_the_program_makes_of_it(world: World) -> None:
    class Broken(ScriptedSampler):
        async def generate(self, request: SampleRequest) -> Completion:
            raise InfrastructureError("no electricity")

    async def program(base_url: str, asked: Problem) -> str:
        with pytest.raises(openai.InternalServerError):
            await loop_of_a_program(base_url, asked)
        return "42"

    async def run() -> None:
        agent = OutsideAgent(Broken(world.chat, []), world.chat, LENGTH, PythonProgram(program))
        try:
            with pytest.raises(InfrastructureError, match="no electricity"):
                await agent.attempt(RolloutJob(problem=problem()))
        finally:
            await agent.close()

    asyncio.run(run())


def test_turns_that_new_weights_interrupt_go_on_with_the_version_of_each_token(world: World) -> None:
    class Interrupted(ScriptedSampler):
        async def generate(self, request: SampleRequest) -> Completion:
            made = await super().generate(request)
            if len(self.requests) == 1:
                half = len(made.token_ids) // 2
                self._texts.insert(0, self._chat.decode(made.token_ids[half:]))
                cut = made.token_ids[:half], made.logprobs[:half]
                return replace(made, token_ids=cut[0], logprobs=cut[1], stopped=False, interrupted=True)
            return made

    async def run() -> list[Trajectory]:
        agent = OutsideAgent(Interrupted(world.chat, [ANSWER]), world.chat, LENGTH, PythonProgram(loop_of_a_program))
        rows = await agent.attempt(RolloutJob(problem=problem()))
        await agent.close()
        return rows

    (row,) = asyncio.run(run())
    assert row.turns[0].text == ANSWER and row.correct
    assert {version for version, learned in zip(row.policy_versions, row.loss_mask, strict=True) if learned} == {9, 8}


def test_the_jobs_temperature_holds_unless_the_program_may_choose(world: World) -> None:
    async def program(base_url: str, asked: Problem) -> None:
        async with client_of(base_url) as client:
            told: list[Any] = [{"role": "user", "content": "q"}]
            await client.chat.completions.create(model="any", messages=told, temperature=0.3, top_p=0.5)

    assert play(world, program, [ANSWER], temperature=0.9)[0].temperature == 0.9
    chosen = play(world, program, [ANSWER], temperature=0.9, options={"own_temperature": True})
    assert chosen[0].temperature == 0.3


PROGRAM = """
import json, os, sys, urllib.request
asked = json.load(sys.stdin)
assert "answer" not in asked and "data" not in asked, asked
body = json.dumps({"model": os.environ["MODEL"], "messages": [{"role": "user", "content": asked["question"]}]})
address = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
request = urllib.request.Request(address, body.encode(), {"Authorization": os.environ["OPENAI_API_KEY"]})
said = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
print("thinking about it")
print(said)
sys.exit(int(said) - 42)
"""


@pytest.mark.parametrize(("text", "reason"), [(ANSWER, StopReason.ANSWER), ("43", StopReason.ENVIRONMENT)])
def test_a_command_line_that_knows_only_a_base_url(world: World, text: str, reason: StopReason) -> None:
    async def run() -> list[Trajectory]:
        program = CommandProgram([sys.executable, "-c", PROGRAM])
        agent = OutsideAgent(ScriptedSampler(world.chat, [text]), world.chat, LENGTH, program)
        rows = await agent.attempt(RolloutJob(problem=problem()))
        await agent.close()
        return rows

    (row,) = asyncio.run(run())
    assert (row.stop_reason, row.correct) == (reason, True if reason is StopReason.ANSWER else None)
    assert row.turns[0].text == text


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(world: World) -> None:
    sleeping = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"

    async def run() -> list[Trajectory]:
        agent = OutsideAgent(
            ScriptedSampler(world.chat, []),
            world.chat,
            LENGTH,
            CommandProgram([sys.executable, "-c", sleeping]),
            budget=Budget(seconds=0.3),
        )
        rows = await agent.attempt(RolloutJob(problem=problem()))
        await agent.close()
        return rows

    (row,) = asyncio.run(run())
    assert row.stop_reason is StopReason.ENVIRONMENT and row.provenance["threads"] == 0


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, Outcome()),
        (42, Outcome(answer="42")),
        ({"answer": 1, "score": 1}, Outcome(answer="1", score=1.0)),
        ({"other": 1}, Outcome(answer="{'other': 1}")),
    ],
)
def test_what_a_program_may_give_back(value: object, outcome: Outcome) -> None:
    assert Outcome.of(value) == outcome


def test_many_trajectories_at_once_stay_apart(world: World) -> None:
    def write(prompt: str) -> str:
        asked = prompt.rsplit("What is ", 1)[1].split(" ")[0]
        return f"<answer>{asked}</answer>" if "6*7" in prompt else CALL

    async def run() -> list[list[Trajectory]]:
        program: Callable[[str, Problem], Awaitable[Any]] = loop_of_a_program
        agent = OutsideAgent(Answering(world.chat, write), world.chat, LENGTH, PythonProgram(program), programs=8)
        jobs = [RolloutJob(problem=problem(f"What is {n} times 1?", str(n)), max_new_tokens=200) for n in range(24)]
        try:
            return list(await asyncio.gather(*map(agent.attempt, jobs)))
        finally:
            await agent.close()

    rows = asyncio.run(run())
    assert [[row.answer for row in attempt] for attempt in rows] == [[str(n)] for n in range(24)]
    assert all(row.correct for attempt in rows for row in attempt)


def test_only_this_machine_is_listened_to(world: World) -> None:
    async def run() -> None:
        async with Endpoint() as endpoint:
            recorder = Recorder(
                ScriptedSampler(world.chat, []), world.chat, RolloutJob(problem=problem()), max_length=9
            )
            keys = {endpoint.open(recorder) for _ in range(50)}
            assert len(keys) == 50 and min(map(len, keys)) >= 32
            assert endpoint.base_url("k").startswith("http://127.0.0.1:")

    asyncio.run(run())
