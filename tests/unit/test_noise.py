"""Noise: what it does to calls, that it follows its seed, and what the verdict says of it."""

import asyncio
import json
import random
from collections.abc import Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments import Generator, environment
from journeyman.environments.episode import Verdict
from journeyman.environments.fictional import Fictional
from journeyman.environments.gsm8k import Gsm8k
from journeyman.environments.lookup import Lookup
from journeyman.environments.noise import Noise, Noisy, NoisyTool, garbled, heavy_tailed, recovered
from journeyman.errors import UserError
from journeyman.messages import Fault, ParsedTurn, ToolCall, ToolResult
from journeyman.tools.base import CallContext, Limits, function_tool
from journeyman.tools.calls import run_call

MADE: list[int] = []


def double(number: int) -> str:
    """Double a number.

    Args:
        number: any.
    """
    MADE.append(number)
    return f"{number} doubled is {2 * number}"


def results(noise: Noise, count: int = 1, trajectory: str = "t") -> list[ToolResult]:
    """What so many calls of `double` in one attempt lead to."""
    tool = NoisyTool(function_tool(double), noise).open(CallContext(trajectory=trajectory))

    async def run() -> list[ToolResult]:
        contexts = [CallContext(trajectory=trajectory, seed=seed) for seed in range(count)]
        return [await run_call(tool, {"number": 21}, context) for context in contexts]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("noise", "ok", "output", "made"),
    [
        (Noise(failures=1.0), False, "error: double is not available right now; try again", 0),
        (Noise(timeouts=1.0), False, "error: double did not answer in time", 1),
        (Noise(empty=1.0), True, "", 1),
        (Noise(truncated=1.0), True, "21 doubl", 1),  # "21 doubled is 42" has 16 characters, the half of it 8
    ],
)
def test_what_each_kind_does(noise: Noise, ok: bool, output: str, made: int) -> None:
    MADE.clear()
    [result] = results(noise)
    assert (result.ok, result.output) == (ok, output)
    assert len(MADE) == made and (result.fault is Fault.TOOL) == (not ok)


def test_wrong_results_look_like_right_ones_and_orders_stand_behind_them() -> None:
    [wrong] = results(Noise(wrong=1.0))
    assert wrong.ok and wrong.output != "21 doubled is 42"
    assert [c for c in wrong.output if not c.isdecimal()] == [c for c in "21 doubled is 42" if not c.isdecimal()]
    [planted] = results(Noise(injections=1.0))
    canary = NoisyTool(function_tool(double), Noise(injections=1.0)).canary
    assert planted.output.startswith("21 doubled is 42\n") and canary in planted.output


@settings(max_examples=50)
@given(st.text(min_size=1), st.integers())
def test_garbling_keeps_the_shape(text: str, seed: int) -> None:
    made = garbled(text, random.Random(seed))
    digits = [c for c in text if c.isdecimal()]
    if digits:
        assert len(made) == len(text) and sum(c.isdecimal() for c in made) == len(digits) and made != text
    else:
        assert sorted(made.split()) == sorted(text.split())


def test_noise_follows_its_seed_and_its_rates() -> None:
    rates = Noise(failures=0.2, empty=0.1, seed=3)
    outputs = [result.output for result in results(rates, 400)]
    assert outputs == [result.output for result in results(rates, 400)]
    assert outputs != [result.output for result in results(rates, 400, trajectory="another")]
    failed, empty = sum(o.startswith("error") for o in outputs), outputs.count("")
    assert 50 < failed < 110 and 20 < empty < 60  # 80 and 40 expected, standard deviations 8 and 6
    assert outputs.count("21 doubled is 42") == 400 - failed - empty


def test_shares_add_up_to_one_at_most() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        Noise(failures=0.7, wrong=0.4)
    with pytest.raises(ValueError, match="not negative"):
        Noise(empty=-0.1)


def test_a_tools_mistake_stays_the_models() -> None:
    tool = NoisyTool(function_tool(double), Noise(wrong=1.0)).open(CallContext())
    result = asyncio.run(run_call(tool, {"number": "many"}))
    assert not result.ok and result.fault is Fault.POLICY and tool.log == ["refused"]


def test_the_first_call_of_an_attempt_fails_and_no_other() -> None:
    noise = Noise(first=frozenset({"double"}))
    assert [result.ok for result in results(noise, 3)] == [False, True, True]
    assert [result.ok for result in results(noise, 2, trajectory="next")] == [False, True]


def test_a_slow_tool_runs_into_its_own_time_limit() -> None:
    slow = function_tool(double, limits=Limits(seconds=0.02))
    result = asyncio.run(run_call(NoisyTool(slow, Noise(latency=5.0)), {"number": 1}))
    assert not result.ok and "took longer than 0.02 seconds" in result.output
    draw, rng = heavy_tailed(0.1, 1.5), random.Random(0)
    waits = sorted(draw(rng) for _ in range(4001))
    assert 0.09 < waits[2000] < 0.11 and waits[-1] > 2  # the median is 0.1; the longest of 4,000 far above


@pytest.mark.parametrize(
    ("log", "counts"),
    [
        (["failure", "done"], (1, 1)),
        (["failure"], (0, 1)),
        (["done", "failure"], (0, 1)),
        (["failure", "failure", "done"], (2, 2)),
        (["timeout", "refused"], (0, 1)),
        (["done", "empty"], (0, 0)),
    ],
)
def test_a_failure_is_made_good_by_a_later_call(log: Sequence[str], counts: tuple[int, int]) -> None:
    assert recovered(log) == counts


def attempt(world: Noisy, retry: bool) -> tuple[Verdict, list[str]]:
    """The gold course of a first problem, calls that fail repeated or not."""
    [problem] = islice(world.generate(random.Random(5)), 1)
    gold = world.courses(problem)[0]
    episode, outputs = world.reset(problem, CallContext(trajectory="a", seed=1)), []

    async def run() -> Verdict:
        for step in gold.steps:
            for _ in range(20 if retry else 1):
                [result] = (await episode.step(step.parsed())).results
                outputs.append(result.output)
                if result.ok:
                    break
        return await episode.verify(gold.answer)

    return asyncio.run(run()), outputs


def test_the_verdict_tells_who_tried_again() -> None:
    world = Noisy(Lookup(), first=["search"])
    assert world.name == "noisy" and world.tools().keys() == {"search"}
    again, outputs = attempt(world, retry=True)
    assert again.parts == {"noise": 1.0, "recovered": 1.0} and outputs[0].startswith("error: search is not")
    once, _ = attempt(Noisy(Lookup(), failures=1.0), retry=False)
    assert once.parts["recovered"] == 0.0


def test_following_a_planted_order_is_seen() -> None:
    world = Noisy(Lookup(), noise=Noise(injections=1.0))
    verdict, outputs = attempt(world, retry=False)
    assert verdict.correct and verdict.parts["obeyed"] == 0.0
    [problem] = islice(world.generate(random.Random(5)), 1)
    canary = outputs[0].rstrip(".").rsplit(" ", 1)[1]

    async def obey(text: str, query: str, answer: str | None) -> float:
        episode = world.reset(problem, CallContext(trajectory="a", seed=1))
        await episode.step(ParsedTurn(calls=(ToolCall(name="search", arguments={"query": "pet of Babel"}),)))
        call = ToolCall(name="search", arguments={"query": query})
        fork = episode.fork(CallContext(trajectory="b", seed=2))
        await fork.step(ParsedTurn(calls=(call,), text=text))
        return (await fork.verify(answer)).parts["obeyed"]

    assert asyncio.run(obey("", "mayor", canary)) == 1.0
    assert asyncio.run(obey("", canary, None)) == 1.0
    assert asyncio.run(obey(f"It is {canary}", "mayor", None)) == 1.0
    assert asyncio.run(obey("", "mayor", "a cat")) == 0.0


def test_a_family_can_be_named() -> None:
    options = {"environment": "fictional", "options": {"world": 5}, "failures": 1.0, "first": ["search"]}
    made = environment("noisy", json.dumps(options))
    [problem] = islice(made.generate(random.Random(0)), 1) if isinstance(made, Generator) else []
    assert problem.family == "noisy" and problem.id != next(Fictional(world=5).generate(random.Random(0))).id
    assert made.verify(problem, problem.answer) and len(made.courses(problem)) > 2


def test_what_the_world_inside_cannot_do_is_said() -> None:
    rows = Noisy(Gsm8k(), failures=0.1)
    assert rows.columns == ("question", "answer")
    with pytest.raises(UserError, match="gsm8k makes no problems"):
        rows.generate(random.Random(0))
    assert {p.family for p in rows.read([{"question": "1+1?", "answer": "<<1+1=2>>\n#### 2"}]).problems} == {"noisy"}
    with pytest.raises(UserError, match="lookup reads no rows"):
        Noisy(Lookup()).read([])
    Noisy(Lookup(), failures=1.0).validate()
