"""Agents from outside: what a program asks through OpenAI's client is recorded as the built-in loop would."""

import asyncio
from itertools import product
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.rollout.endpoint import MAX_BODY
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.openai_wire import ChatRequest, Said
from journeyman.rollout.outside import OutsideAgent
from journeyman.rollout.programs import PythonProgram
from journeyman.rollout.recorder import Recorder
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import ScriptedSampler, World, problem
from tests.unit.outside_programs import (
    ANSWER,
    CALL,
    LENGTH,
    THINKING,
    ask,
    built_in,
    client_of,
    loop_of_a_program,
    play,
    timeless,
    tools_of,
)


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
            rows += await agent.threads(RolloutJob(problem=problem(), seed=5, max_new_tokens=200))
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
        rows = await agent.threads(RolloutJob(problem=problem(), seed=5))
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


def test_a_request_that_is_let_go_late_does_not_free_its_thread_for_two(world: World) -> None:
    """A stream may end after the next request of its thread has begun."""

    async def run() -> list[int]:
        sampler = ScriptedSampler(world.chat, ["one", "two", "three"])
        recorder = Recorder(sampler, world.chat, RolloutJob(problem=problem()), max_length=LENGTH)
        asked = [Said(message=Message(role="user", content="q"))]
        first = recorder.prepare(ChatRequest(said=tuple(asked)))
        reply = recorder.commit(first, await recorder.sample(first))
        asked += [reply.said(), Said(message=Message(role="user", content="go on"))]
        second = recorder.prepare(ChatRequest(said=tuple(asked)))
        recorder.release(first)
        third = recorder.prepare(ChatRequest(said=tuple(asked)))
        for slot in (second, third):
            recorder.commit(slot, await recorder.sample(slot))
        return [len(thread.turns) for thread in recorder.threads]

    assert asyncio.run(run()) == [2, 2]  # the third request has forked the thread
