"""Gymnasium's environments as games in text, against the real package."""

import asyncio
import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest

from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.gymnasium import Gymnasium
from journeyman.errors import ConfigError
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.tools.base import CallContext

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")

STILL = {"is_slippery": False}


class Countdown(gymnasium.Env[str, str]):
    """Text in, text out: say the numbers from three to one, a point each."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = gymnasium.spaces.Text(max_length=5, charset="onetwhr")
    observation_space = gymnasium.spaces.Text(max_length=50)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = ["three", "two", "one"]
        return "Count down.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        right = action == self._left[0]
        self._left = self._left[1:]
        return ("go on" if right else "wrong"), float(right), not self._left or not right, False, {}


gymnasium.register("journeyman/Countdown-v0", entry_point=lambda **options: Countdown())


def start(world: Gymnasium, seed: int = 1) -> Episode:
    return world.reset(world.problem(seed), CallContext())


def act(episode: Episode, *actions: str) -> list[Reaction]:
    """A turn an action."""

    async def all_of_them() -> list[Reaction]:
        calls = [ToolCall(name="act", arguments={"action": action}) for action in actions]
        return [await episode.step(ParsedTurn(calls=(call,))) for call in calls]

    return asyncio.run(all_of_them())


def verdict(episode: Episode) -> Verdict:
    return asyncio.run(episode.verify(None))


def test_a_lake_is_crossed() -> None:
    # The 4x4 map of the package: SFFF FHFH FFFH HFFG. Down, down, right, down, right, right reaches the goal.
    world = Gymnasium(options=STILL)
    episode = start(world)
    assert "left, down, right, up" in episode.problem.question and "[S]FFF" in episode.opening()[-1].content
    *walk, last = act(episode, "down", "down", "right", "down", "right", "right")
    assert [reaction.done for reaction in walk] == [False] * 5 and last.done
    assert [reaction.reward for reaction in (*walk, last)] == [0, 0, 0, 0, 0, 1]
    assert "[G]" in last.results[0].output and "Return: 1" in last.results[0].output
    assert verdict(episode) == Verdict(correct=True, score=1.0, parts={"return": 1.0, "steps": 6.0})
    assert act(episode, "up")[0].results[0].output == "error: the game is over"


def test_a_hole_ends_the_game() -> None:
    episode = start(Gymnasium(options=STILL))
    assert act(episode, "right", "down")[-1].done
    assert verdict(episode) == Verdict(correct=False, score=0.0, parts={"return": 0.0, "steps": 2.0})


def test_what_is_no_action_is_an_observation() -> None:
    episode = start(Gymnasium(options=STILL))
    (reaction,) = act(episode, "jump")
    assert not reaction.done and reaction.results[0].output == "error: an action is one of left, down, right, up"
    wrong = ParsedTurn(calls=(ToolCall(name="act", arguments={"move": "up"}),))
    assert asyncio.run(episode.step(wrong)).results[0].output == "error: act takes action"
    assert verdict(episode).parts["steps"] == 0.0
    assert asyncio.run(episode.step(ParsedTurn(answer="I give up"))).done


def test_rewards_are_graded_between_low_and_high() -> None:
    # Taxi: -1 a step, -10 for a wrong pickup. South, then dropoff where no one is: -11. (-11 + 20) / (20 + 20) = 0.225
    world = Gymnasium(id="Taxi-v4", low=-20, high=20)
    episode = start(world)
    assert "pickup, dropoff" in episode.problem.question
    reactions = act(episode, "south", "dropoff")
    assert [reaction.reward for reaction in reactions] == [-1, -10]
    assert verdict(episode).score == pytest.approx(0.225) and not verdict(episode).correct


def test_observations_without_a_picture_are_shown_as_json() -> None:
    episode = start(Gymnasium(id="Blackjack-v1", low=-1, high=1))
    assert "stick, hit" in episode.problem.question and "observation: [" in episode.opening()[-1].content
    (reaction,) = act(episode, "stick")
    assert reaction.done and reaction.reward in (-1.0, 0.0, 1.0, 1.5)
    assert verdict(episode).score == min(1.0, (reaction.reward + 1) / 2)


def test_text_spaces_with_a_tool_and_with_plain_words() -> None:
    options: dict[str, Any] = {"id": "journeyman/Countdown-v0", "high": 3, "task": "Say it."}
    called = start(Gymnasium(**options))
    assert act(called, "Three!")[0].results[0].output.startswith("error: an action is Text")
    assert [reaction.reward for reaction in act(called, "three", "two", "one")] == [1, 1, 1]
    assert verdict(called).correct

    spoken = start(Gymnasium(**options, plain=True))
    assert spoken.tools == {} and spoken.problem.tools == ()

    async def talk(*words: str) -> list[Reaction]:
        return [await spoken.step(ParsedTurn(text=word)) for word in words]

    first, second = asyncio.run(talk("three", "one"))
    assert first.reply is not None and first.reply.content == "go on" and not first.done
    assert second.done and verdict(spoken).score == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "id", ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "CliffWalking-v1", "journeyman/Countdown-v0"]
)
def test_a_replay_shows_the_same(id: str) -> None:
    Gymnasium(id=id).validate()


def test_a_fork_goes_on_by_itself() -> None:
    world = Gymnasium(options=STILL)
    stem = start(world)
    act(stem, "down", "down")
    fork = stem.fork(CallContext(seed=2))
    assert act(fork, "right", "down", "right", "right")[-1].done and verdict(fork).correct
    assert not act(stem, "right")[-1].done and verdict(stem).parts["steps"] == 3.0


def test_problems_follow_from_the_seed_and_carry_the_world() -> None:
    world = Gymnasium(id="Taxi-v4", low=-20)
    made, again = (list(islice(world.generate(random.Random(3)), 4)) for _ in range(2))
    assert made == again and len({problem.id for problem in made}) == 4
    assert made[0].world == {"id": "Taxi-v4", "low": -20} and Gymnasium(**made[0].world).problem(1) == world.problem(1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"id": "Chess-v9"}, "can't make Chess-v9"),
        ({"options": {"wings": 2}}, "wings"),
        ({"low": 1.0}, "less than high"),
    ],
)
def test_what_cannot_be_made_is_a_users_error(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Gymnasium(**options).problem(1)


@pytest.mark.parametrize("actions", [["w", "s", "a", "d"], []])
def test_actions_can_be_named(actions: Sequence[str]) -> None:
    world = Gymnasium(options=STILL, actions=actions)
    assert start(world).tools["act"].spec()["function"]["parameters"]["properties"]["action"]["enum"] == (
        actions or ["left", "down", "right", "up"]
    )
