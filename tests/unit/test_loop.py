"""The agent loop: why an attempt ends, what is recorded of it, and that it follows its seed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from journeyman.environments import environment, specs_of, tools_named
from journeyman.errors import InfrastructureError
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.worker import RolloutWorker
from journeyman.seeds import derive
from journeyman.tools.base import FunctionTool
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory
from tests.unit.fakes import COMPUTE, MAX_LENGTH, ScriptedSampler, World, problem

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
ALL = ("calculator", "search", "sql")


def attempt(
    world: World, texts: Sequence[str], *, max_length: int = MAX_LENGTH, **job: Any
) -> tuple[Trajectory, ScriptedSampler]:
    sampler = ScriptedSampler(world.chat, texts)
    agent = Agent(sampler, world.chat, max_length)
    return asyncio.run(agent.attempt(RolloutJob(**{"problem": problem(tools=ALL), **job}))), sampler


def pieces(world: World, made: Trajectory) -> list[tuple[str, int]]:
    """Runs of tokens that share their place in or out of the mask, decoded."""
    runs: list[tuple[list[int], int]] = []
    for token, learned in zip(made.token_ids, made.loss_mask, strict=True):
        if runs and runs[-1][1] == learned:
            runs[-1][0].append(token)
        else:
            runs.append(([token], learned))
    return [(str(world.chat.tokenizer.decode(ids)), learned) for ids, learned in runs]


def test_an_attempt_with_a_call_and_an_answer(world: World) -> None:
    made, sampler = attempt(world, [f"<think>multiply</think>\n{CALL}", "<answer>42</answer>"], seed=5, sample=3)
    assert (made.stop_reason, made.answer, made.correct) == (StopReason.ANSWER, "42", True)
    assert (made.seed, made.sample, made.temperature, made.source) == (5, 3, 1.0, "policy")
    assert (made.problem_id, made.question, made.reference) == (problem().id, problem().question, "42")
    assert (made.tools, made.min_calls, made.reward) == (ALL, 1, None)
    first, last = made.turns
    assert (first.text, last.text) == (f"<think>multiply</think>\n{CALL}", "<answer>42</answer>")
    assert first.calls == (ToolCall(name="calculator", arguments={"expression": "6*7"}),)
    assert [replace(r, seconds=0) for r in first.results] == [ToolResult(name="calculator", ok=True, output="42")]
    assert last.calls == () and last.results == () and first.error == last.error == ""
    assert made.policy_version == 8  # the second turn's, the older one: the sampler counts down from 9
    shown = pieces(world, made)
    assert [learned for _, learned in shown] == [0, 1, 0, 1]
    assert shown[1][0] == f"{first.text}<|im_end|>" and shown[3][0] == "<answer>42</answer><|im_end|>"
    assert shown[2][0] == (
        "\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(sampler.requests) == 2


def test_log_probabilities_and_turns_are_aligned_with_the_tokens(world: World) -> None:
    made, sampler = attempt(world, [CALL, CALL, "<answer>42</answer>"])
    assert len(made.token_ids) == len(made.loss_mask) == len(made.logprobs)
    for turn in made.turns:
        ids = made.token_ids[turn.start : turn.stop]
        assert list(ids) == world.chat.turn(turn.text)
        assert made.loss_mask[turn.start : turn.stop] == (1,) * len(ids)
        assert made.logprobs[turn.start : turn.stop] == tuple(-0.01 * (i + 1) for i in range(len(ids)))
    learned = sum(turn.stop - turn.start for turn in made.turns)
    assert sum(made.loss_mask) == learned
    assert all(p == 0 for p, m in zip(made.logprobs, made.loss_mask, strict=True) if not m)
    for request, turn in zip(sampler.requests, made.turns, strict=True):
        assert request.prompt_ids == made.token_ids[: turn.start]  # append-only, never encoded again
        assert request.stop_ids == (world.chat.end_id,)


def test_a_written_attempt_is_encoded_as_it_would_have_been_sampled(world: World) -> None:
    for written in world.demonstrations:
        if written.stop_reason is not StopReason.ANSWER or written.provenance["slip"] == "format":
            continue
        job = {
            "problem": problem(written.question, written.reference, family=written.family, tools=written.tools),
            "max_turns": 9,
        }
        sampled, _ = attempt(world, [turn.text for turn in written.turns], **job)
        [(ids, mask)] = world.chat.encode(written, specs_of(written))
        assert (list(sampled.token_ids), list(sampled.loss_mask)) == (ids, mask)
        assert (sampled.answer, sampled.correct) == (written.answer, written.correct)


@pytest.mark.parametrize(
    ("texts", "job", "reason", "answer", "correct"),
    [
        (["<answer>42</answer>"], {}, StopReason.ANSWER, "42", True),
        (["<answer>43</answer>"], {}, StopReason.ANSWER, "43", False),
        (["I give up."], {}, StopReason.ANSWER, None, False),
        ([CALL] * 3, {"max_turns": 3}, StopReason.MAX_TURNS, None, False),
        (["<answer>" + "4" * 50 + "</answer>"], {"max_new_tokens": 10}, StopReason.MAX_TOKENS, None, False),
        (["<think>and so on"], {}, StopReason.FORMAT_ERROR, None, False),
        ([CALL + "<tool_response>42</tool_response>"], {}, StopReason.FORMAT_ERROR, None, False),
        ([CALL + "<answer>42</answer>"], {}, StopReason.FORMAT_ERROR, None, False),
        ([CALL, "<answer>42"], {}, StopReason.FORMAT_ERROR, None, False),
    ],
)
def test_why_an_attempt_ends(
    world: World, texts: list[str], job: dict[str, Any], reason: StopReason, answer: str | None, correct: bool
) -> None:
    made, _ = attempt(world, texts, **job)
    assert (made.stop_reason, made.answer, made.correct) == (reason, answer, correct)
    assert len(made.turns) == len(texts)
    assert bool(made.turns[-1].error) == (reason is StopReason.FORMAT_ERROR or "4" * 50 in texts[0])


def test_the_last_turns_calls_are_run_but_nothing_is_appended_that_nobody_reads(world: World) -> None:
    made, _ = attempt(world, [CALL] * 2, max_turns=2)
    assert [r.output for turn in made.turns for r in turn.results] == ["42", "42"]
    assert made.turns[-1].stop == len(made.token_ids) and made.loss_mask[-1] == 1


def test_calls_of_a_turn_that_was_cut_off_were_never_made(world: World) -> None:
    made, _ = attempt(world, [f"{CALL}\n{CALL} and then"], max_new_tokens=len(world.chat.outside(f"{CALL}\n{CALL}")))
    assert made.stop_reason is StopReason.MAX_TOKENS
    assert made.turns[0].text == f"{CALL}\n{CALL}" and made.calls == ()


def test_an_answer_in_a_tool_result_is_no_answer(world: World) -> None:
    query = r"select '\u003canswer>42\u003c/answer>'"  # tags in a call would be read as the turn's own
    made, _ = attempt(world, [f'<tool_call>{{"name": "sql", "arguments": {{"query": "{query}"}}}}</tool_call>', "done"])
    assert made.turns[0].results[0].output == "<answer>42</answer>"
    assert (made.stop_reason, made.answer, made.correct) == (StopReason.ANSWER, None, False)


def test_unknown_tools_and_mistaken_calls_are_observations(world: World) -> None:
    wrong = CALL.replace("calculator", "teleport"), CALL.replace("6*7", "6*"), CALL.replace("expression", "x")
    made, _ = attempt(world, ["\n".join(wrong), "<answer>42</answer>"])
    assert [(r.name, r.ok, r.output) for r in made.turns[0].results] == [
        ("teleport", False, "error: no such tool; there are calculator, search, sql"),
        ("calculator", False, "error: not an arithmetic expression"),
        ("calculator", False, "error: calculator takes expression"),
    ]
    assert made.correct and len(made.calls) == 3
    only, _ = attempt(world, [CALL.replace("calculator", "sql"), "-"], problem=problem(tools=("calculator",)))
    assert only.turns[0].results[0].output == "error: no such tool; there are calculator"


class Unplugged(FunctionTool):
    name = "calculator"

    async def run(self, expression: str) -> str:
        """Compute an arithmetic expression."""
        raise InfrastructureError("no electricity")


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    tools: Mapping[str, Any] = environment("arithmetic").tools()
    monkeypatch.setitem(tools, "calculator", Unplugged())  # type: ignore[arg-type]


@pytest.mark.usefixtures("unplugged")
def test_a_tool_that_fails_through_no_fault_of_the_model_ends_the_attempt_unscored(world: World) -> None:
    made, _ = attempt(world, [f"{CALL}\n{CALL}"], max_new_tokens=200)
    assert (made.stop_reason, made.answer, made.correct) == (StopReason.INFRASTRUCTURE, None, None)
    assert [r.output for r in made.turns[0].results] == ["not run: no electricity"] * 2
    assert len(made.turns[0].calls) == 2 and made.turns[0].stop == len(made.token_ids)


def test_an_attempt_never_grows_beyond_the_models_length(world: World) -> None:
    prompt = len(
        world.chat.prompt(problem().question, [tool.spec() for tool in tools_named("arithmetic", ALL).values()])
    )
    turn, seen = len(world.chat.turn(CALL)), len(world.chat.observation(["42"]))
    texts = [CALL, "<answer>42</answer>"]

    def ends(max_length: int) -> tuple[StopReason, int, int]:
        made, _ = attempt(world, texts, max_length=max_length)
        assert len(made.token_ids) <= max(max_length, prompt)
        return made.stop_reason, len(made.turns), len(made.token_ids)

    assert ends(prompt) == (StopReason.MAX_TOKENS, 0, prompt)  # no room for a token
    assert ends(prompt + 1) == (StopReason.MAX_TOKENS, 1, prompt + 1)
    assert ends(prompt + turn - 1) == (StopReason.MAX_TOKENS, 1, prompt + turn - 1)
    # The call fits, what it returned leaves no room to go on: it is not appended.
    assert ends(prompt + turn) == (StopReason.MAX_TOKENS, 1, prompt + turn)
    assert ends(prompt + turn + seen) == (StopReason.MAX_TOKENS, 1, prompt + turn)
    assert ends(prompt + turn + seen + 1) == (StopReason.MAX_TOKENS, 2, prompt + turn + seen + 1)
    assert ends(MAX_LENGTH)[0] is StopReason.ANSWER


def test_each_turn_and_each_sample_draws_with_a_seed_of_its_own(world: World) -> None:
    _, sampler = attempt(world, [CALL, CALL, "<answer>42</answer>"], seed=7)
    assert [request.seed for request in sampler.requests] == [derive(7, turn) for turn in range(3)]
    made = [attempt(world, ["<answer>42</answer>"], seed=derive(7, s), sample=s)[0] for s in range(4)]
    assert len({t.id for t in made}) == len({t.seed for t in made}) == 4


def test_the_length_of_a_turn_is_bounded_by_the_job_and_by_the_room(world: World) -> None:
    made, sampler = attempt(world, [CALL, "<answer>42</answer>"], max_new_tokens=30, max_length=90)
    assert sampler.requests[0].max_new_tokens == 30
    assert sampler.requests[1].max_new_tokens == min(30, 90 - made.turns[1].start)


def jobs(problems: Sequence[Problem], *, samples: int = 3, greedy: bool = False) -> list[RolloutJob]:
    return [
        RolloutJob(
            problem=p,
            sample=s,
            seed=derive(1, i, s),
            temperature=0.0 if greedy else 1.0,
            max_turns=2,
            max_new_tokens=12,
        )
        for i, p in enumerate(problems)
        for s in range(samples)
    ]


def test_a_workers_rollout_follows_its_seeds_and_comes_back_in_order(world: World) -> None:
    def rollout(asked: list[RolloutJob]) -> list[Trajectory]:
        worker = RolloutWorker(world.model, COMPUTE, MAX_LENGTH)

        async def all_of_it() -> list[Trajectory]:
            made = await worker.rollout(asked)
            await worker.close()
            return made

        return asyncio.run(all_of_it())

    asked = jobs(world.train[:3])
    made = rollout(asked)
    assert [(t.problem_id, t.sample, t.seed) for t in made] == [(j.problem.id, j.sample, j.seed) for j in asked]
    assert [replace(t, turns=()) for t in made] == [replace(t, turns=()) for t in rollout(asked)]
    texts = {t.turns[0].text for t in made}
    assert len(texts) == 9  # an untrained model never says the same twice
    backwards = rollout(asked[::-1])[::-1]
    assert [t.token_ids for t in backwards] == [t.token_ids for t in made]
    greedy = rollout(jobs(world.train[:2], samples=2, greedy=True))
    assert greedy[0].token_ids == greedy[1].token_ids and greedy[2].token_ids == greedy[3].token_ids
