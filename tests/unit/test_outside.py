"""Agents from outside: budgets, failures, command lines, many at once."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import openai
import pytest

from journeyman.errors import ConfigError, InfrastructureError
from journeyman.problem import Problem
from journeyman.rollout.endpoint import Endpoint
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.outside import OutsideAgent, joined
from journeyman.rollout.programs import CommandProgram, Outcome, PythonProgram, program_of
from journeyman.rollout.recorder import Budget, Recorder
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.worker import RolloutWorker
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import COMPUTE, MAX_LENGTH, ScriptedSampler, World, problem, trajectory
from tests.unit.outside_programs import (
    ANSWER,
    CALL,
    LENGTH,
    Answering,
    client_of,
    loop_of_a_program,
    play,
)


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
                await agent.threads(RolloutJob(problem=problem()))
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
        rows = await agent.threads(RolloutJob(problem=problem()))
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
        rows = await agent.threads(RolloutJob(problem=problem()))
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
        rows = await agent.threads(RolloutJob(problem=problem()))
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
            return list(await asyncio.gather(*map(agent.threads, jobs)))
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


def test_a_config_names_a_function_or_a_command_line() -> None:
    assert isinstance(program_of("tests.unit.outside_programs:loop_of_a_program"), PythonProgram)
    assert isinstance(program_of(["python", "agent.py"]), CommandProgram)
    with pytest.raises(ConfigError, match="no function nowhere:solve"):
        program_of("nowhere:solve")


def test_an_attempts_threads_are_one_trajectory_with_cuts(world: World) -> None:
    first, second = (
        trajectory(
            turns=(Turn(text="a", start=2, stop=4),),
            token_ids=(1, 2, 3, number),
            loss_mask=(0, 0, 1, 1),
            logprobs=(0.0, 0.0, -0.1, -0.2),
            policy_versions=(0, 0, number, number),
            policy_version=number,
        )
        for number in (5, 4)
    )
    made = joined([first, second])
    assert made.token_ids == (1, 2, 3, 5, 1, 2, 3, 4) and made.cuts == (4,)
    assert [(turn.start, turn.stop) for turn in made.turns] == [(2, 4), (6, 8)]
    assert [made.token_ids[sample] for sample in made.samples()] == [first.token_ids, second.token_ids]
    assert (made.loss_mask, made.policy_version, made.id) == ((0, 0, 1, 1) * 2, 4, first.id)
    assert joined([first]) == first


def test_a_worker_plays_a_job_with_the_program_that_it_names(world: World) -> None:
    program = [sys.executable, "-c", "import json, sys; print(json.dumps({'answer': '42'}))"]

    async def played() -> list[Trajectory]:
        worker = RolloutWorker(world.model, COMPUTE, MAX_LENGTH)
        made = await worker.rollout([RolloutJob(problem=problem(), program=program)])
        await worker.close()
        return made

    [made] = asyncio.run(played())  # it never asked the model: recorded, not scored
    assert (made.stop_reason, made.provenance["agent"]) == (StopReason.ENVIRONMENT, "outside")
