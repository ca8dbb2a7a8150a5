"""What the loop makes of worlds: dialogues, budgets, failures, forks, interrupted turns."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from journeyman.environments import ENVIRONMENTS, environment
from journeyman.environments.base import Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.errors import InfrastructureError
from journeyman.messages import Fault, Message, ParsedTurn
from journeyman.rollout.attempt import Attempt
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob, attempt_all
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.tools.base import CallContext, FunctionTool, Limits, ToolOutput
from journeyman.training.rows import rows_of
from journeyman.trajectory import StopReason, Trajectory, read_trajectories, write_trajectories
from tests.unit.fakes import ScriptedSampler, World, problem


class Counter(FunctionTool):
    """Counts its calls, attempt by attempt."""

    name = "counter"
    limits = Limits(cost=2.0)

    def __init__(self) -> None:
        self.count, self.closed = 0, False

    def open(self, context: CallContext) -> "Counter":
        return Counter()

    async def run(self, by: int = 1) -> ToolOutput:
        """Count on."""
        self.count += by
        return ToolOutput(text=str(self.count), cost=0.5)

    async def close(self) -> None:
        self.closed = True

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class Broken(FunctionTool):
    name = "broken"

    async def run(self, how: str) -> str:
        """Break."""
        if how == "bug":
            raise KeyError("nothing there")
        if how == "unplugged":
            raise InfrastructureError("no electricity")
        await asyncio.sleep(30)
        return "awake"


class TalkEpisode(Episode):
    """A user who wants to hear a number that only the tool knows, and says goodbye then."""

    heard = ""

    def opening(self) -> tuple[Message, ...]:
        policy = Message(role="system", content="Be polite.")
        return (policy, Message(role="user", content=self.problem.question))

    async def step(self, turn: ParsedTurn) -> Reaction:
        if turn.calls:
            return Reaction(results=await self.run(turn.calls), reward=0.25)
        if "crash" in turn.text:
            raise ZeroDivisionError("the world ends")
        self.heard = turn.text
        over = self.problem.answer in turn.text
        return Reaction(reply=Message(role="user", content="Thanks." if over else "Which number?"), done=over)

    async def verify(self, answer: str | None) -> Verdict:
        if self.problem.answer == "unverifiable":
            raise RuntimeError("no verdict")
        return Verdict(correct=self.problem.answer in self.heard, score=0.5, parts={"politeness": 0.1})


class Talk(Environment):
    name = "talk"

    def __init__(self) -> None:
        self._tools = {"counter": Counter(), "broken": Broken()}

    def tools(self) -> Mapping[str, Any]:
        return self._tools

    def reset(self, problem: Any, context: CallContext) -> Episode:
        return TalkEpisode(self, problem, context)


@pytest.fixture(autouse=True)
def _talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "talk", Talk)
    environment.cache_clear()


def call(tool: str, **arguments: Any) -> str:
    import json

    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call>"


LENGTH = 4000
TALK = problem("Count for me.", "2", family="talk", tools=("counter", "broken"))


def agent(world: World, texts: Sequence[str]) -> Agent:
    return Agent(ScriptedSampler(world.chat, texts), world.chat, LENGTH)


def attempt(world: World, *texts: str, **job: Any) -> Trajectory:
    asked = RolloutJob(**{"problem": TALK, "max_new_tokens": 200, **job})
    return asyncio.run(agent(world, texts).attempt(asked))


def test_a_dialogue_with_a_user(world: World, tmp_path: Any) -> None:
    made = attempt(world, call("counter"), "<think>one</think>One!", call("counter"), "It is 2.")
    assert (made.stop_reason, made.answer, made.correct, made.score) == (StopReason.DONE, None, True, 0.5)
    assert [turn.reply for turn in made.turns] == ["", "Which number?", "", "Thanks."]
    assert [turn.reward for turn in made.turns] == [0.25, 0, 0.25, 0]
    assert [r.output for turn in made.turns for r in turn.results] == ["1", "2"]
    assert dict(made.score_parts) == {"politeness": 0.1}
    assert [message.role for message in made.opening] == ["system", "user"]
    shown = world.chat.tokenizer.decode(list(made.token_ids))
    assert shown.startswith("<|im_start|>system\nBe polite.\n\nThink in <think>")
    assert "One!<|im_end|>\n<|im_start|>user\nWhich number?<|im_end|>\n<|im_start|>assistant\n" in shown
    assert shown.endswith("It is 2.<|im_end|>")  # nobody reads the user's last words
    specs = [tool.spec() for tool in environment("talk").tools().values()]
    [(ids, mask)] = world.chat.encode(made, specs)
    assert (tuple(ids), tuple(mask)) == (made.token_ids, made.loss_mask)
    write_trajectories([made], tmp_path / "t.parquet")
    [read] = read_trajectories(tmp_path / "t.parquet")
    assert replace(read, logprobs=made.logprobs) == made


def test_what_calls_may_cost(world: World) -> None:
    texts = [call("counter")] * 9
    assert attempt(world, *texts, max_cost=6.0, max_turns=9).stop_reason is StopReason.MAX_COST
    assert len(attempt(world, *texts, max_cost=6.0, max_turns=9).calls) == 3  # 2 + 0.5 each: 7.5 is the first above
    dear = attempt(world, *texts, max_calls=2, max_turns=9)
    assert (dear.stop_reason, len(dear.calls), len(dear.turns)) == (StopReason.MAX_CALLS, 2, 3)
    both = attempt(world, "\n".join([call("counter")] * 2), max_calls=1)
    assert (both.stop_reason, both.calls) == (StopReason.MAX_CALLS, ())  # what is not allowed is not run
    slow = attempt(world, call("broken", how="slow"), max_seconds=0.05)
    assert (slow.stop_reason, slow.correct) == (StopReason.MAX_SECONDS, False)
    assert slow.turns[0].results[0].output == "not run: time is up"


@pytest.mark.parametrize(
    ("text", "reason", "fault", "why"),
    [
        (call("broken", how="bug"), StopReason.TOOL, Fault.TOOL, "broken: KeyError: 'nothing there'"),
        (call("broken", how="unplugged"), StopReason.INFRASTRUCTURE, Fault.INFRASTRUCTURE, "no electricity"),
        ("crash", StopReason.ENVIRONMENT, Fault.ENVIRONMENT, "ZeroDivisionError: the world ends"),
        ("<think>", StopReason.FORMAT_ERROR, Fault.POLICY, None),
    ],
)
def test_whose_fault_it_is(world: World, text: str, reason: StopReason, fault: Fault, why: str | None) -> None:
    made = attempt(world, "Hello?", text)
    assert (made.stop_reason, made.stop_reason.fault) == (reason, fault)
    assert made.provenance.get("failure") == why
    assert (made.correct is None) == (fault is not Fault.POLICY)  # what the model did wrong is scored, nothing else
    assert all(result.fault is fault for turn in made.turns for result in turn.results)


def test_a_verdict_that_fails_is_no_verdict(world: World) -> None:
    made = attempt(world, "unverifiable", problem=replace(TALK, answer="unverifiable"))
    assert (made.stop_reason, made.correct, made.score) == (StopReason.ENVIRONMENT, None, None)
    assert made.provenance["failure"] == "RuntimeError: no verdict"


def test_a_step_in_which_every_tool_broke_stops_the_run(world: World) -> None:
    class Pool:
        def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
            return [attempt(world, call("broken", how="bug")) for _ in jobs]

    with pytest.raises(InfrastructureError, match="all 2 attempts failed: tool: broken: KeyError"):
        attempt_all(Pool(), [RolloutJob(problem=TALK)] * 2)  # type: ignore[arg-type]


def test_forks_share_a_past_and_nothing_else(world: World) -> None:
    async def tree() -> list[Trajectory]:
        tree_agent = agent(world, [call("counter"), call("counter", by=5), call("counter"), "It is 6.", "It is 2."])
        trunk = await tree_agent.start(RolloutJob(problem=TALK, max_new_tokens=200, max_turns=3))
        await tree_agent.step(trunk)
        branches = [trunk, trunk.fork(sample=1, seed=11)]
        for branch in branches:
            await tree_agent.step(branch)
        return [await tree_agent.complete(branch) for branch in branches]

    trunk, branch = asyncio.run(tree())
    assert [r.output for turn in trunk.turns for r in turn.results] == ["1", "6"]
    assert [r.output for turn in branch.turns for r in turn.results] == ["1", "2"]
    assert (trunk.correct, branch.correct) == (False, True)
    assert trunk.id != branch.id and branch.provenance == {"forked_from": trunk.id, "forked_at_turn": 1}
    shared = branch.turns[1].start
    assert trunk.token_ids[:shared] == branch.token_ids[:shared] and trunk.turns[0] == branch.turns[0]
    assert trunk.logprobs[:shared] == branch.logprobs[:shared]


class ForgetfulEpisode(Episode):
    """Begins anew after each call, with a note of what it gave."""

    async def step(self, turn: ParsedTurn) -> Reaction:
        if not turn.calls:
            return Reaction(done=True)
        results = await self.run(turn.calls)
        note = Message(role="user", content=f"{self.problem.question} So far: {results[0].output}")
        return Reaction(results=results, restart=(note,))


def test_a_context_that_begins_anew_is_a_sample_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Talk, "reset", lambda self, asked, context: ForgetfulEpisode(self, asked, context))
    monkeypatch.setattr(Talk, "verify", lambda self, asked, answer: answer == asked.answer)
    sampler = ScriptedSampler(world.chat, [call("counter"), call("counter"), "<answer>2</answer>"])
    made = asyncio.run(Agent(sampler, world.chat, LENGTH).attempt(RolloutJob(problem=TALK, max_new_tokens=200)))
    assert made.correct and len(made.samples()) == 3
    specs = [tool.spec() for tool in environment("talk").tools().values()]
    openings = ["Count for me.", "Count for me. So far: 1", "Count for me. So far: 2"]
    for sample, turn, opening, request in zip(made.samples(), made.turns, openings, sampler.requests, strict=True):
        prompt = tuple(world.chat.prompt(opening, specs))
        assert made.token_ids[sample][: len(prompt)] == prompt == request.prompt_ids
        assert sample.start + len(prompt) == turn.start and turn.stop == sample.stop
        assert made.loss_mask[sample] == (0,) * len(prompt) + (1,) * (turn.stop - turn.start)
    contexts = world.chat.encode(made, specs)  # as a teacher's trajectory with the same turns would be
    assert [(tuple(ids), tuple(mask)) for ids, mask in contexts] == [
        (made.token_ids[sample], made.loss_mask[sample]) for sample in made.samples()
    ]
    rows = rows_of(made, np.arange(len(made.token_ids), dtype=float), 0)
    assert [row.token_ids for row in rows] == [made.token_ids[sample] for sample in made.samples()]
    assert [row.advantages[0] for row in rows] == [float(sample.start) for sample in made.samples()]


class Interrupting:
    """Hands back two tokens at a time under ever newer weights, until the scripted turn is out."""

    def __init__(self, world: World, text: str) -> None:
        self._ids, self.requests = world.chat.turn(text), list[SampleRequest]()

    async def generate(self, request: SampleRequest) -> Completion:
        self.requests.append(request)
        ids, self._ids = tuple(self._ids[:2]), self._ids[2:]
        return Completion(
            token_ids=ids,
            logprobs=(-0.5,) * len(ids),
            stopped=not self._ids,
            policy_version=len(self.requests),
            interrupted=bool(self._ids),
        )


def test_a_turn_goes_on_under_newer_weights_and_says_so_token_by_token(world: World) -> None:
    sampler = Interrupting(world, "<answer>42</answer>")
    asked = RolloutJob(problem=problem(tools=("calculator",)), max_new_tokens=50, seed=4)
    made = asyncio.run(Agent(sampler, world.chat, LENGTH).attempt(asked))  # type: ignore[arg-type]
    [turn] = made.turns
    assert (turn.text, made.correct, made.stop_reason) == ("<answer>42</answer>", True, StopReason.ANSWER)
    versions = made.policy_versions[turn.start : turn.stop]
    assert versions == tuple(1 + i // 2 for i in range(len(versions)))
    assert set(made.policy_versions[: turn.start]) == {0} and made.policy_version == 1
    for number, request in enumerate(sampler.requests):
        assert request.prompt_ids == made.token_ids[: turn.start + 2 * number]
        assert request.max_new_tokens == 50 - 2 * number
    assert len({request.seed for request in sampler.requests}) == len(sampler.requests)


def test_each_attempt_has_tools_of_its_own_and_closes_them(world: World) -> None:
    opened: list[Counter] = []

    class Watched(Counter):
        def open(self, context: CallContext) -> Counter:
            opened.append(Counter())
            return opened[-1]

    environment("talk").tools()["counter"] = Watched()  # type: ignore[index]
    for _ in range(2):
        attempt(world, call("counter"), "It is 2.")
    assert [(one.count, one.closed) for one in opened] == [(1, True), (1, True)]

    class Unwritable(ChatFormat):
        def prompt(self, *messages: object) -> list[int]:  # type: ignore[override]
            raise ValueError("no template")

    with pytest.raises(ValueError, match="no template"):
        asyncio.run(Attempt.begin(RolloutJob(problem=TALK), Unwritable(world.chat.tokenizer), LENGTH))
    assert opened[-1].closed and len(opened) == 3
