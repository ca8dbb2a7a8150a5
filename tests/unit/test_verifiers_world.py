"""Environments of the package verifiers, against the real package."""

import asyncio
import signal
import threading
from typing import Any

import pytest

from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.verifiers import Verifiers, play
from journeyman.errors import ConfigError
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.outside import OutsideAgent
from journeyman.rollout.programs import PythonProgram
from journeyman.tools.base import CallContext
from tests.unit.fakes import ScriptedSampler, World

vf = pytest.importorskip("verifiers", reason="verifiers is not installed, or not the classic interface")
if not hasattr(vf, "MultiTurnEnv"):
    pytest.skip("this version of verifiers has another interface", allow_module_level=True)

HERE = "tests.unit.test_verifiers_world"


def rows(*questions: str, answer: str) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"question": question, "answer": answer} for question in questions])


def single(answer: str = "4") -> Any:
    """One question, one answer, graded by its parser."""
    parser = vf.XMLParser(["answer"])

    async def right(completion: list[Any], answer: str) -> float:
        return float(parser.parse_answer(completion) == answer)

    async def short(completion: list[Any]) -> float:
        return 1.0 if len(completion[-1]["content"]) < 40 else 0.0

    rubric = vf.Rubric(funcs=[right, short], weights=[0.8, 0.2], parser=parser)
    data = rows("What is 2+2?", "And 3+1?", answer=answer)
    return vf.SingleTurnEnv(dataset=data, rubric=rubric, parser=parser, system_prompt="Be short.")


def talkative() -> Any:
    """A user who says no twice and then goes."""

    class Talk(vf.MultiTurnEnv):
        async def env_response(self, messages: list[Any], state: Any, **kwargs: Any) -> list[Any]:
            asked = sum(message["role"] == "assistant" for message in messages)
            reply = [{"role": "user", "content": f"no, {state['answer']} {asked}"}]
            if asked == 2:
                state["final_env_response"] = reply
            return reply

    async def turns(state: Any) -> float:
        return len(state["trajectory"]) / 2

    return Talk(dataset=rows("Yes?", answer="never"), rubric=vf.Rubric(funcs=[turns]), max_turns=5)


def double(x: int) -> int:
    """Twice a number.

    Args:
        x: the number
    """
    return 2 * x


def called(completion: list[Any], answer: str) -> float:
    return float(completion[-1]["content"] == answer and completion[1]["role"] == "tool")


def tools() -> Any:
    return vf.ToolEnv(tools=[double], dataset=rows("Twice 21?", answer="42"), rubric=vf.Rubric(funcs=[called]))


def stateful() -> Any:
    """A tool that the environment gives a number of its own."""

    class Counting(vf.StatefulToolEnv):
        async def setup_state(self, state: Any, **kwargs: Any) -> Any:
            state["count"] = 40
            return state

        def update_tool_args(self, tool_name: str, tool_args: Any, messages: Any, state: Any, **kwargs: Any) -> Any:
            state["count"] += 1
            return {**tool_args, "count": state["count"]}

    async def add(x: int, count: int) -> int:
        """Add to the count."""
        return x + count

    made = Counting(dataset=rows("Count", answer="42"), rubric=vf.Rubric(funcs=[called]), max_turns=5)
    made.add_tool(add, args_to_skip=["count"])
    return made


def world_of(name: str, **options: Any) -> Verifiers:
    return Verifiers(env=f"{HERE}:{name}", **options)


def take(world: Verifiers, *turns: ParsedTurn) -> tuple[list[Reaction], Verdict]:
    async def all_of_them() -> tuple[list[Reaction], Verdict]:
        episode = start(world)
        reactions = [await episode.step(turn) for turn in turns]
        verdict = await episode.verify(turns[-1].answer)
        await episode.close()
        return reactions, verdict

    return asyncio.run(all_of_them())


def start(world: Verifiers) -> Episode:
    return world.reset(world.problem(0), CallContext())


def calling(name: str, **arguments: Any) -> ParsedTurn:
    return ParsedTurn(calls=(ToolCall(name=name, arguments=arguments),))


def test_rows_are_problems_with_the_system_prompt_in_front() -> None:
    world = world_of("single", args={"answer": "4"})
    problem = world.problem(1)
    assert (problem.question, problem.answer, problem.tools) == ("And 3+1?", "4", ())
    assert problem.world == {"env": f"{HERE}:single", "args": {"answer": "4"}}
    assert Verifiers(**problem.world).problem(1) == problem
    assert [message.role for message in start(world).opening()] == ["system", "user"]
    world.validate()


def test_one_turn_is_scored_by_the_rubric() -> None:
    # 0.8 for a right answer in its tags, 0.2 for less than forty characters.
    (reaction,), verdict = take(world_of("single"), ParsedTurn(answer="4"))
    assert reaction == Reaction(done=True)
    assert (verdict.correct, verdict.score) == (True, 1.0)
    assert {name: verdict.parts[name] for name in ("right", "short", "reward")} == {"right": 1, "short": 1, "reward": 1}
    _, wrong = take(world_of("single"), ParsedTurn(answer="5", text="x" * 50))
    assert (wrong.correct, wrong.score) == (False, 0.0)
    _, part = take(world_of("single"), ParsedTurn(answer="5"))
    assert part.score == pytest.approx(0.2) and not part.correct


def test_a_dialogue_ends_when_the_environment_says_so() -> None:
    (first, last), verdict = take(world_of("talkative"), ParsedTurn(text="Yes."), ParsedTurn(text="Yes!"))
    assert first.reply is not None and first.reply.content == "no, never 1" and not first.done
    assert last.reply is not None and last.reply.content == "no, never 2" and last.done
    assert verdict.score == 1.0


def test_tools_are_called_by_the_environment() -> None:
    world = world_of("tools")
    spec = start(world).tools["double"].spec()["function"]
    assert spec["parameters"]["properties"]["x"]["type"] == "integer" and world.problem(0).tools == ("double",)
    turns = (calling("double", x=21), ParsedTurn(answer="42"))
    (first, last), verdict = take(world, *turns)
    assert [(result.name, result.output) for result in first.results] == [("double", "42")] and last.done
    assert verdict.correct and verdict.parts["total_tool_calls"] == 1
    (broken, _), verdict = take(world, calling("double", y=1), ParsedTurn(answer="42"))
    assert "unexpected keyword argument" in broken.results[0].output and verdict.correct


def test_tools_with_state_see_only_their_own_episode() -> None:
    world = world_of("stateful")
    properties = start(world).tools["add"].spec()["function"]["parameters"]["properties"]
    assert list(properties) == ["x"]
    for _ in range(2):  # 1 + 41, then 1 + 42
        reactions, _ = take(world, calling("add", x=1), calling("add", x=1))
        assert [reaction.results[0].output for reaction in reactions] == ["42", "43"]


def test_a_fork_has_the_turns_behind_it() -> None:
    async def run() -> list[str]:
        stem = start(world_of("stateful"))
        await stem.step(calling("add", x=0))
        fork = stem.fork(CallContext(seed=1))
        outputs = [(await episode.step(calling("add", x=0))).results[0].output for episode in (fork, stem, fork)]
        await stem.close()
        await fork.close()
        return outputs

    assert asyncio.run(run()) == ["42", "42", "43"]


def test_the_packages_own_loop_runs_as_an_agent_from_outside(world: World) -> None:
    texts = ['<tool_call>\n{"name": "double", "arguments": {"x": 21}}\n</tool_call>', "<answer>42</answer>"]
    sampler = ScriptedSampler(world.chat, texts)

    async def run() -> Any:
        agent = OutsideAgent(sampler, world.chat, 2000, PythonProgram(play))
        try:
            return await agent.threads(RolloutJob(problem=world_of("tools").problem(0), max_new_tokens=200))
        finally:
            await agent.close()

    (row,) = asyncio.run(run())
    assert (row.score, row.correct) == (1.0, True)
    assert [turn.text for turn in row.turns] == texts and row.turns[0].results[0].output == "42"


def test_the_process_keeps_its_signal_handlers_and_any_thread_may_load() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.signal
    made: list[str] = []
    thread = threading.Thread(target=lambda: made.append(world_of("single").problem(0).question))
    thread.start()
    thread.join()
    assert made == ["What is 2+2?"]
    assert world_of("talkative").problem(0).question == "Yes?"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.signal) == before


def test_without_an_environment_there_are_sums() -> None:
    world = Verifiers()
    world.validate()
    assert (world.problem(0).question, world.problem(0).answer) == ("What is 10 plus 3?", "13")
    assert take(world, ParsedTurn(answer="13"))[1].correct and not take(world, ParsedTurn(answer="14"))[1].correct


def test_what_cannot_be_loaded_is_a_users_error() -> None:
    for env, complaint in (("no-such", "can't load no-such"), (f"{HERE}:nothing", "can't load tests")):
        with pytest.raises(ConfigError, match=complaint):
            Verifiers(env=env).problem(0)
    with pytest.raises(ConfigError, match="train or eval"):
        Verifiers(split="test")
