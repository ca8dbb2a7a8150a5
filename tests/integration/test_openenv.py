"""OpenEnv servers as worlds, against a server made with the real package."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("openenv.core.env_server", reason="openenv-core is not installed")

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.openenv import OpenEnv
from journeyman.errors import ConfigError, InfrastructureError
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.tools.base import CallContext

pytestmark = pytest.mark.integration


class Guess(Action):
    number: int = Field(description="Your guess, 0 to 9")


class Hint(Observation):
    hint: str


class Guessing(Environment):
    """A hidden number; each guess is told to be too low or too high. The right one pays a point, others nothing."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: object) -> Hint:
        self._hidden, self._steps = (seed or 0) % 10, 0
        return Hint(hint="Guess!", done=False)

    def step(self, action: Guess, timeout_s: float | None = None, **options: object) -> Hint:  # type: ignore[override]
        self._steps += 1
        if action.number == self._hidden:
            return Hint(hint="right", done=True, reward=1.0)
        return Hint(hint="too low" if action.number < self._hidden else "too high", done=self._steps >= 5, reward=0.0)

    @property
    def state(self) -> State:
        return State(step_count=self._steps)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = create_fastapi_app(Guessing, Guess, Hint, max_concurrent_envs=8)
    config = uvicorn.Config(app, port=0, log_level="critical", ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


async def guess(episode: Episode, *numbers: object) -> list[Reaction]:
    calls = [ToolCall(name="act", arguments={"number": number}) for number in numbers]
    return [await episode.step(ParsedTurn(calls=(call,))) for call in calls]


async def start(world: OpenEnv, problem: Problem) -> Episode:
    episode = world.reset(problem, CallContext())
    await episode.begin()
    return episode


def test_a_session_from_the_first_observation_to_the_verdict(url: str) -> None:
    world = OpenEnv(url=url, show="hint", task="Find the number.")
    world.validate()
    problem = world.problem(47)  # 47 % 10 = 7 is hidden
    assert problem.world == {"url": url, "show": "hint", "task": "Find the number."}

    async def play() -> tuple[list[Reaction], Verdict]:
        episode = await start(world, problem)
        assert episode.opening()[0].content == "Find the number.\nCall act, one action at a time.\n\nGuess!"
        parameters = episode.tools["act"].spec()["function"]["parameters"]
        assert parameters["properties"]["number"] == {"description": "Your guess, 0 to 9", "type": "integer"}
        assert parameters["required"] == ["number"]
        reactions = await guess(episode, 5, "nine", 9, 7, 7)
        verdict = await episode.verify(None)
        await episode.close()
        return reactions, verdict

    (low, wrong, high, right, after), verdict = asyncio.run(play())
    assert [one.results[0].output for one in (low, high)] == ["too low", "too high"]
    assert not wrong.results[0].ok and wrong.results[0].output.startswith("error: ")
    assert (right.reward, right.done) == (1.0, True) and right.results[0].output.startswith("right\n")
    assert after.results[0].output == "error: the episode is over"
    assert verdict == Verdict(correct=True, score=1.0, parts={"return": 1.0, "steps": 3.0})


def test_sessions_are_apart_and_can_be_forked(url: str) -> None:
    world = OpenEnv(url=url)

    async def play() -> None:
        episodes = [await start(world, world.problem(seed)) for seed in (1, 2, 3)]
        told = await asyncio.gather(*(guess(episode, 2) for episode in episodes))
        outputs = [reactions[0].results[0].output.split("\n")[0] for reactions in told]
        assert outputs == ['{"hint": "too high"}', '{"hint": "right"}', '{"hint": "too low"}']
        fork = episodes[2].fork(CallContext(seed=5))
        assert (await guess(fork, 3))[0].done and (await fork.verify(None)).parts["steps"] == 2.0
        assert (await episodes[2].verify(None)).correct is False
        for episode in (*episodes, fork):
            await episode.close()

    asyncio.run(play())


def test_a_server_that_is_gone_is_an_infrastructure_failure(url: str) -> None:
    problem = OpenEnv(url=url).problem(1)
    gone = OpenEnv(url="http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="no OpenEnv server"):
        gone.problem(1)

    async def play() -> None:
        with pytest.raises(InfrastructureError, match="no session"):
            await start(gone, replace(problem, world={"url": "http://127.0.0.1:9"}))

    asyncio.run(play())
    with pytest.raises(ConfigError, match="no OpenEnv server to ask"):
        OpenEnv().problem(1)
