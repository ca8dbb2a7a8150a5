"""Gymnasium's environments as games in text: actions are calls of a tool `act`, or plain words."""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.errors import ConfigError, UserError
from journeyman.messages import Fault, Message, ParsedTurn, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool

_COLOURED = re.compile(r"\x1b\[[\d;]*m(.*?)\x1b\[0m", re.DOTALL)
_KNOWN_ACTIONS = {
    "FrozenLake": ("left", "down", "right", "up"),
    "FrozenLake8x8": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pickup", "dropoff"),
    "Blackjack": ("stick", "hit"),
}
"""What the toy games of the package call their numbers, from its documentation."""


class Gymnasium(Environment):
    """One Gymnasium environment whose actions are text or a choice of few; each problem is a seed.

    Args:
        id: as `gymnasium.make` takes it, `module:name` included.
        options: further arguments of `gymnasium.make`.
        task: what the model is told to do; the actions and the first observation follow.
        actions: words for the numbers of a discrete action space; none: known ones, or the numbers.
        plain: whether a turn's words are the action, in place of a tool.
        low, high: returns that are scores 0 and 1; what lies between is graded evenly, what lies beyond is cut.
        success: the return from which an attempt is right; none: the environment's own threshold, or `high`.
    """

    name = "gymnasium"

    def __init__(
        self,
        *,
        id: str = "FrozenLake-v1",
        options: Mapping[str, Any] | None = None,
        task: str = "",
        actions: Sequence[str] = (),
        plain: bool = False,
        low: float = 0.0,
        high: float = 1.0,
        success: float | None = None,
    ) -> None:
        if not low < high:
            raise ConfigError(f"low ({low:g}) must be less than high ({high:g})", place="problems.worlds.gymnasium")
        given = {"id": id, "options": dict(options or {}), "task": task, "actions": list(actions), "plain": plain}
        given |= {"low": low, "high": high, "success": success}
        defaults = {"id": "", "options": {}, "task": "", "actions": [], "plain": False, "low": 0.0, "high": 1.0}
        self._world = {name: value for name, value in given.items() if value != defaults.get(name)}
        self.id, self.options, self.plain = id, dict(options or {}), plain
        self._task, self._actions = task, tuple(actions)
        self._low, self._high, self._success = low, high, success

    def make(self) -> Any:
        """A new game, rendered as text where it can be. Raises `ConfigError`, `UserError`."""
        gymnasium = _package()
        try:
            modes = gymnasium.spec(self.id.rpartition(":")[2]).make(disable_env_checker=True).metadata["render_modes"]
        except (gymnasium.error.Error, KeyError, AttributeError):
            modes = ()
        rendered = {"render_mode": "ansi"} if "ansi" in modes else {}
        try:
            return gymnasium.make(self.id, **{**rendered, "disable_env_checker": True, **self.options})
        except (gymnasium.error.Error, TypeError, ImportError) as error:
            raise ConfigError(f"gymnasium can't make {self.id}: {error}", place="problems.worlds.gymnasium") from error

    def words(self, space: Any) -> tuple[str, ...]:
        """The actions of a discrete space; none for text. Raises `ConfigError` for other spaces."""
        spaces = _package().spaces
        if isinstance(space, spaces.Text):
            return ()
        if not isinstance(space, spaces.Discrete):
            raise ConfigError(f"actions of {self.id} are neither text nor a choice of few: {space}")
        known = self._actions or _KNOWN_ACTIONS.get(self.id.rpartition("/")[2].rpartition("-v")[0], ())
        return known if len(known) == space.n else tuple(str(space.start + n) for n in range(space.n))

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            yield self.problem(rng.getrandbits(31))

    def problem(self, seed: int) -> Problem:
        """The game that begins with a seed."""
        game = self.make()
        words = self.words(game.action_space)
        game.close()
        how = "Write one action a turn" if self.plain else "Call act, one action at a time"
        choice = f": {', '.join(words)}" if words else ""
        question = f"{self._task or f'Play {self.id}.'}\n{how}{choice}."
        data = {"key": f"{self.id}:{seed}", "seed": seed}
        return Problem(
            id=problem_id(self.name, question, {"world": self._world, "seed": seed}),
            family=self.name,
            question=question,
            answer="",
            tools=() if self.plain else ("act",),
            data=data,
            world=self._world,
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return _Game(self, problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """None: the package knows no solutions."""
        return ()

    def verify(self, problem: Problem, answer: str) -> bool:
        """No words win a game."""
        return False

    def verdict(self, total: float, threshold: float | None, steps: int) -> Verdict:
        """The verdict on a return."""
        success = next(value for value in (self._success, threshold, self._high) if value is not None)
        score = min(1.0, max(0.0, (total - self._low) / (self._high - self._low)))
        return Verdict(correct=total >= success, score=score, parts={"return": total, "steps": float(steps)})

    def validate(self) -> None:
        """Random games: a replay from the seed shows the same."""
        rng = random.Random(0)
        for problem in islice(self.generate(rng), 3):
            first, second = (_Game(self, problem, CallContext()) for _ in range(2))
            while not first.over and first.moves < 8:
                first.play(first.sample(rng))
            second.load_state_dict(first.state_dict())
            same = first.seen == second.seen and first.total == second.total
            first.end()
            second.end()
            if not same:
                raise ValueError(f"{self.id}: the same seed and actions do not lead to the same game")


class _Game(Episode):
    sequential = True
    environment: Gymnasium

    def __init__(self, environment: Gymnasium, problem: Problem, context: CallContext) -> None:
        self._game = environment.make()
        self.words = environment.words(self._game.action_space)
        self._begin(problem.data["seed"])
        super().__init__(environment, problem, context)

    def _begin(self, seed: int) -> None:
        observation, _ = self._game.reset(seed=seed)
        self._moves: list[str] = []
        self.total, self.over = 0.0, False
        self.seen = self._shown(observation)

    def offered(self) -> Mapping[str, Tool]:
        return {} if self.environment.plain else {"act": _Act(self)}

    def opening(self) -> tuple[Message, ...]:
        return (Message(role="user", content=f"{self.problem.question}\n\n{self.seen}"),)

    async def step(self, turn: ParsedTurn) -> Reaction:
        """A turn with neither a call nor an action gives the game up."""
        before = self.total
        if turn.calls:
            results = await self.run(turn.calls)
            return Reaction(results=results, reward=self.total - before, done=self.over)
        action = (turn.answer if turn.answer is not None else turn.text).strip()
        if not self.environment.plain or not action:
            return Reaction(done=True)
        complaint = self.complaint(action)
        shown = complaint or self.play(action)
        return Reaction(reply=Message(role="user", content=shown), reward=self.total - before, done=self.over)

    def complaint(self, action: object) -> str:
        """What is wrong with an action; empty where nothing is."""
        if self.over:
            return "error: the game is over"
        if self.words:
            return "" if action in self.words else f"error: an action is one of {', '.join(self.words)}"
        return "" if self._game.action_space.contains(action) else f"error: an action is {self._game.action_space}"

    def play(self, action: str) -> str:
        """Make a move; what is seen then."""
        number = self.words.index(action) + self._game.action_space.start if self.words else action
        observation, reward, terminated, truncated, _ = self._game.step(number)
        self._moves.append(action)
        self.total += float(reward)
        self.over = bool(terminated or truncated)
        self.seen = self._shown(observation) + (f"\nThe game is over. Return: {self.total:g}" if self.over else "")
        return self.seen

    @property
    def moves(self) -> int:
        return len(self._moves)

    def sample(self, rng: random.Random) -> str:
        """Any action."""
        self._game.action_space.seed(rng.getrandbits(31))
        return rng.choice(self.words) if self.words else self._game.action_space.sample()

    def _shown(self, observation: Any) -> str:
        if isinstance(observation, str):
            return observation
        if self._game.render_mode == "ansi":
            return _COLOURED.sub(r"[\1]", self._game.render()).strip()
        return f"observation: {_plain(observation)}"

    async def verify(self, answer: str | None) -> Verdict:
        spec = self._game.spec
        threshold = None if spec is None else spec.reward_threshold
        return self.environment.verdict(self.total, threshold, len(self._moves))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "moves": list(self._moves)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._begin(self.problem.data["seed"])
        for move in state["moves"]:
            self.play(move)

    def end(self) -> None:
        """Free what the game has taken."""
        self._game.close()

    async def close(self) -> None:
        await super().close()
        self.end()


class _Act(Tool):
    """The moves of one game."""

    name = "act"

    def __init__(self, game: _Game) -> None:
        self._game = game

    def spec(self) -> dict[str, Any]:
        action: dict[str, Any] = {"type": "string"}
        if self._game.words:
            action["enum"] = list(self._game.words)
        parameters = {"type": "object", "properties": {"action": action}, "required": ["action"]}
        function = {"name": self.name, "description": "Make a move.", "parameters": parameters}
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        started = time.perf_counter()
        complaint = (
            self._game.complaint(arguments.get("action")) if set(arguments) == {"action"} else "error: act takes action"
        )
        output = complaint or self._game.play(arguments["action"])
        fault = Fault.POLICY if complaint else None
        seconds = time.perf_counter() - started
        return ToolResult(name=self.name, ok=not complaint, output=output, seconds=seconds, fault=fault)


def _plain(observation: Any) -> str:
    """Numbers, tuples and arrays as JSON."""
    return json.dumps(observation, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))


@cache
def _package() -> Any:
    """The package, imported when it is first needed. Raises `UserError`."""
    try:
        import gymnasium
    except ImportError as error:
        raise UserError("gymnasium is not installed", remedy="pip install gymnasium") from error
    return gymnasium
