"""OpenEnv servers as worlds: the model acts through a tool `act` whose schema the server gives.

One WebSocket session per attempt, as the package's own clients have it: its plain HTTP calls keep no state between
two steps. Their packages are not needed here, only the server's address.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from journeyman.environments.base import Course, Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.errors import ConfigError, InfrastructureError
from journeyman.messages import Fault, Message, ParsedTurn, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

SECONDS = 60.0
"""Longest that a server may take for one answer. Ours."""
SESSIONS = 64
"""Most answers that are waited for at once in a process. Ours."""


class RefusedAction(ValueError):
    """The server says that an action makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a server shows after a reset or a step."""

    text: str
    reward: float
    done: bool


class OpenEnv(Environment):
    """The environment of one OpenEnv server; each problem is a seed for its reset.

    Args:
        url: of the server, `http://host:port`.
        task: what the model is told; none: the server's own description.
        reset: further arguments of every reset.
        show: the field of an observation that the model reads; none: all, as JSON.
        low, high: returns that are scores 0 and 1; what lies beyond is cut.
        success: the return from which an attempt is right; none: `high`.
    """

    name = "openenv"

    def __init__(
        self,
        *,
        url: str = "",
        task: str = "",
        reset: Mapping[str, Any] | None = None,
        show: str = "",
        low: float = 0.0,
        high: float = 1.0,
        success: float | None = None,
    ) -> None:
        if not low < high:
            raise ConfigError(f"low ({low:g}) must be less than high ({high:g})", place="problems.worlds.openenv")
        given = {"url": url, "task": task, "reset": dict(reset or {}), "show": show, "low": low, "high": high}
        defaults = {"url": "", "task": "", "reset": {}, "show": "", "low": 0.0, "high": 1.0}
        self._world = {name: value for name, value in given.items() if value != defaults[name]}
        if success is not None:
            self._world["success"] = success
        self._url, self._task, self.show = url.rstrip("/"), task, show
        self.arguments = dict(reset or {})
        self._low, self._high, self._success = low, high, high if success is None else success

    @property
    def url(self) -> str:
        if not self._url:
            raise ConfigError(
                "there is no OpenEnv server to ask",
                place="problems.worlds.openenv.url",
                remedy="give the address of a server, such as http://127.0.0.1:8000",
            )
        return self._url

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            yield self.problem(rng.getrandbits(31))

    def problem(self, seed: int) -> Problem:
        """The server's task for a seed. Raises `InfrastructureError` where it doesn't answer."""
        task, schema = self._task or _get(self.url, "/metadata")["description"], _action(self.url)
        data = {"key": f"{self.url}:{seed}", "seed": seed, "action": schema}
        return Problem(
            id=problem_id(self.name, task, {"world": self._world, "seed": seed}),
            family=self.name,
            question=f"{task}\nCall act, one action at a time.",
            answer="",
            tools=("act",),
            data=data,
            world=self._world,
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return _Session(self, problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """None: a server tells no solutions."""
        return ()

    def verify(self, problem: Problem, answer: str) -> bool:
        """No words solve a task of a server."""
        return False

    def verdict(self, total: float, steps: int) -> Verdict:
        """The verdict on a return."""
        score = min(1.0, max(0.0, (total - self._low) / (self._high - self._low)))
        return Verdict(correct=total >= self._success, score=score, parts={"return": total, "steps": float(steps)})

    def validate(self) -> None:
        """The server answers, and says what an action is. Raises `ValueError`."""
        if self._url and not self.problem(0).data["action"]["properties"]:
            raise ValueError(f"{self.url}: an action has no fields")


class _Session(Episode):
    sequential = True
    environment: OpenEnv

    def __init__(self, environment: OpenEnv, problem: Problem, context: CallContext) -> None:
        self._socket: ClientConnection | None = None
        self._actions: list[dict[str, Any]] = []
        self.total, self.over = 0.0, False
        self._first = ""
        super().__init__(environment, problem, context)

    async def begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._first = await loop.run_in_executor(_threads(), self._connect)

    def _connect(self) -> str:
        """A session of its own; what is seen first."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        environment = self.environment
        address = "ws" + environment.url.removeprefix("http") + "/ws"
        try:
            self._socket = connect(address, open_timeout=SECONDS, proxy=None)
        except (OSError, WebSocketException) as error:
            raise InfrastructureError(f"no session with {environment.url}: {error}") from error
        seen = self._ask("reset", {"seed": self.problem.data["seed"], **environment.arguments})
        self.over = seen.done
        return seen.text

    def offered(self) -> Mapping[str, Tool]:
        return {"act": _Act(self, self.problem.data["action"])}

    def opening(self) -> tuple[Message, ...]:
        shown = f"{self.problem.question}\n\n{self._first}" if self._first else self.problem.question
        return (Message(role="user", content=shown),)

    async def step(self, turn: ParsedTurn) -> Reaction:
        if not turn.calls:
            return Reaction(done=True)
        before = self.total
        results = await self.run(turn.calls)
        return Reaction(results=results, reward=self.total - before, done=self.over)

    async def act(self, action: Mapping[str, Any]) -> str:
        """Take a step; what is seen then. Raises `RefusedAction`, `InfrastructureError`."""
        if self.over:
            raise RefusedAction("the episode is over")
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(_threads(), self._ask, "step", dict(action))
        self._actions.append(dict(action))
        self.total += seen.reward
        self.over = seen.done
        return seen.text + (f"\nThe episode is over. Return: {self.total:g}" if seen.done else "")

    def _ask(self, kind: str, data: Mapping[str, Any]) -> Seen:
        from websockets.exceptions import WebSocketException

        if self._socket is None:
            raise InfrastructureError("the session is closed")
        try:
            self._socket.send(json.dumps({"type": kind, "data": data}))
            told = json.loads(self._socket.recv(timeout=SECONDS))
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            raise InfrastructureError(f"{self.environment.url} does not answer: {error}") from error
        if told["type"] == "error":
            raise _failure(self.environment.url, told["data"])
        content = told["data"]
        return Seen(text=self._shown(content), reward=float(content.get("reward") or 0.0), done=bool(content["done"]))

    def _shown(self, content: Mapping[str, Any]) -> str:
        observation, show = content["observation"], self.environment.show
        value = observation.get(show, "") if show else observation
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    async def verify(self, answer: str | None) -> Verdict:
        return self.environment.verdict(self.total, len(self._actions))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "actions": list(self._actions)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replay the actions from the seed: for servers that do the same then."""
        super().load_state_dict(state)
        if self._socket is None:
            self._first = self._connect()
        self._actions, self.total = [], 0.0
        for action in state["actions"]:
            seen = self._ask("step", action)
            self._actions.append(dict(action))
            self.total, self.over = self.total + seen.reward, seen.done

    async def close(self) -> None:
        from websockets.exceptions import WebSocketException

        await super().close()
        if self._socket is not None:
            with contextlib.suppress(OSError, WebSocketException):  # it may be gone already
                self._socket.send(json.dumps({"type": "close"}))
            self._socket.close()
            self._socket = None


class _Act(Tool):
    """The steps of one session."""

    name = "act"

    def __init__(self, session: _Session, schema: Mapping[str, Any]) -> None:
        self._session, self._schema = session, dict(schema)

    def spec(self) -> dict[str, Any]:
        function = {"name": self.name, "description": "Take one action.", "parameters": self._schema}
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        started, fault = time.perf_counter(), None
        try:
            output = await self._session.act(arguments)
        except RefusedAction as error:
            output, fault = f"error: {error}", Fault.POLICY
        seconds = time.perf_counter() - started
        return ToolResult(name=self.name, ok=fault is None, output=output, seconds=seconds, fault=fault)


def _failure(url: str, told: Mapping[str, Any]) -> Exception:
    """What an error of the server means: the action, the server, or its environment is at fault."""
    code, message = told.get("code"), str(told.get("message"))
    if code == "VALIDATION_ERROR":
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in told.get("errors", ())]
        return RefusedAction("; ".join(wrong) or message)
    if code in ("CAPACITY_REACHED", "FACTORY_ERROR", "SESSION_ERROR"):
        return InfrastructureError(f"{url}: {message}")
    return RuntimeError(f"{url}: {message}")


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SESSIONS, thread_name_prefix="openenv")


@cache
def _action(url: str) -> dict[str, Any]:
    """JSON Schema of a server's actions, without what is only meant for programs."""
    schema = _get(url, "/schema")["action"]
    properties = {name: _untitled(one) for name, one in schema.get("properties", {}).items() if name != "metadata"}
    kept = {name: schema[name] for name in ("$defs",) if name in schema}
    return {"type": "object", "properties": properties, "required": schema.get("required", []), **kept}


def _untitled(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "title"}


def _get(url: str, path: str) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.get(f"{url}{path}", timeout=SECONDS, trust_env=False)
        answer.raise_for_status()
        return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise InfrastructureError(f"{url} is no OpenEnv server that answers: {error}") from error
