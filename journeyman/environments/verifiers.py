"""Environments of the package `verifiers` (its classic interface: SingleTurnEnv, MultiTurnEnv, ToolEnv and their heirs).

Two ways to train on one: `Verifiers` is a family whose episodes ask the environment after each turn of the built-in
loop; `play` is a program for agents from outside that runs the environment's own rollout loop.
"""

import importlib
import json
import random
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

from journeyman.environments.base import Course, Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.errors import ConfigError, InfrastructureError, UserError
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool

_building = threading.Lock()


class Verifiers(Environment):
    """One environment of `verifiers`; each row of its data set is a problem.

    Args:
        env: an installed environment's id as `verifiers.load_environment` takes it, or `module:function`, a function
            that makes one; none: sums, made on the spot.
        args: arguments for its making.
        split: `train` or `eval`.
        correct_at: the reward from which an attempt is right.
        answer_tags: whether its rubric is shown `<answer>` tags; none: where its parser looks for them.
    """

    name = "verifiers"

    def __init__(
        self,
        *,
        env: str = "",
        args: Mapping[str, Any] | None = None,
        split: str = "train",
        correct_at: float = 1.0,
        answer_tags: bool | None = None,
    ) -> None:
        if split not in ("train", "eval"):
            raise ConfigError(f"split is train or eval, not {split!r}", place="problems.worlds.verifiers.split")
        self._id, self._args, self._split = env, dict(args or {}), split
        self.correct_at, self._answer_tags = correct_at, answer_tags
        self._world: dict[str, Any] = {"env": env} if env else {}
        self._world |= {"args": self._args} if args else {}
        self._world |= {"split": split} if split != "train" else {}
        self._world |= {"correct_at": correct_at} if correct_at != 1.0 else {}
        self._world |= {} if answer_tags is None else {"answer_tags": answer_tags}

    @cached_property
    def inner(self) -> Any:
        """The environment itself. Raises `ConfigError`, `UserError`."""
        if not self._id:
            with _handlers_kept():
                return _sums()
        return _load(self._id, self._args)

    @cached_property
    def rows(self) -> Any:
        """The data set, with columns `prompt`, `example_id` and, where it has them, `answer`, `info` and `task`."""
        return self.inner.get_dataset() if self._split == "train" else self.inner.get_eval_dataset()

    @property
    def answer_tags(self) -> bool:
        if self._answer_tags is not None:
            return self._answer_tags
        parser = self.inner.parser
        return isinstance(parser, _package().XMLParser) and "answer" in parser.get_fields()

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """Rows in random order, again and again."""
        while True:
            yield from map(self.problem, rng.sample(range(len(self.rows)), len(self.rows)))

    def problem(self, row: int) -> Problem:
        """The problem of a row."""
        content = self.rows[row]
        prompt = _messages(content["prompt"])
        question = next((message.content for message in reversed(prompt) if message.role == "user"), "")
        data = {"key": f"{self._id}:{self._split}:{row}", "row": row}
        return Problem(
            id=problem_id(self.name, question, {"world": self._world, "row": row}),
            family=self.name,
            question=question,
            answer=str(content.get("answer") or ""),
            tools=tuple(spec["function"]["name"] for spec in self.specs(content)),
            data=data,
            world=self._world,
        )

    def specs(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The tools on offer in a row."""
        info = row.get("info")
        info = json.loads(info) if isinstance(info, str) and info else info
        return (info or {}).get("oai_tools") or self.inner.oai_tools or []

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return _Rollout(self, problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """None: the package knows no worked solutions."""
        return ()

    def verify(self, problem: Problem, answer: str) -> bool:
        """An episode's verdict counts: rubrics look at whole conversations."""
        return False

    def verdict(self, state: Mapping[str, Any]) -> Verdict:
        """What the rubric has written into a rollout's state."""
        reward = float(state["reward"])
        parts = {name: float(value) for name, value in (state["metrics"] or {}).items()}
        score = min(1.0, max(0.0, reward))
        return Verdict(correct=reward >= self.correct_at, score=score, parts={**parts, "reward": reward})

    def validate(self) -> None:
        """The environment loads and its first row is a problem."""
        if not self.problem(0).question:
            raise ValueError(f"{self._id}: the first row asks nothing")


class _Rollout(Episode):
    sequential = True
    environment: Verifiers

    def __init__(self, environment: Verifiers, problem: Problem, context: CallContext) -> None:
        self._row = environment.rows[problem.data["row"]]
        self._state: Any = None
        self._said: list[Any] = []
        self._turns: list[ParsedTurn] = []
        self._behind: list[ParsedTurn] = []
        super().__init__(environment, problem, context)

    def offered(self) -> Mapping[str, Tool]:
        return {spec["function"]["name"]: _Offered(spec) for spec in self.environment.specs(self._row)}

    def opening(self) -> tuple[Message, ...]:
        return _messages(self._row["prompt"])

    async def step(self, turn: ParsedTurn) -> Reaction:
        await self._ready()
        return await self._step(turn)

    async def _ready(self) -> None:
        """Begin, and make up for the turns of the attempt that this one goes on from."""
        if self._state is not None:
            return
        inner = self.environment.inner
        self._state = await inner.init_state(dict(self._row), None, "policy")
        self._state = await inner.setup_state(self._state)
        self._said = _listed(self._state["prompt"])
        for turn in self._behind:
            await self._step(turn)

    async def _step(self, turn: ParsedTurn) -> Reaction:
        inner, state = self.environment.inner, self._state
        self._turns.append(turn)
        message, ids = self._assistant(turn)
        await inner.add_trajectory_step(state, _trajectory_step(state, self._said, message))
        if await inner.is_completed(state):
            return Reaction(results=_unknown(turn), done=True)
        before = [*self._said, message]
        try:
            self._said = _listed(await inner.get_prompt_messages(state))
        except _package().InfraError as error:
            raise InfrastructureError(str(error)) from error
        if self._said[: len(before)] != before:
            raise RuntimeError("the environment rewrites the conversation: run it as an agent from outside")
        done = state.get("final_env_response") is not None and await inner.is_completed(state)
        return _reaction(turn, ids, self._said[len(before) :], done=done)

    def _assistant(self, turn: ParsedTurn) -> tuple[dict[str, Any], list[str]]:
        """(a turn as the package has it, ids of its calls)."""
        answer = turn.answer
        if answer is not None and self.environment.answer_tags:
            answer = f"<answer>{answer}</answer>"
        message: dict[str, Any] = {"role": "assistant", "content": "\n".join(filter(None, (turn.text, answer)))}
        ids = [f"call_{len(self._turns)}_{number}" for number in range(len(turn.calls))]
        if turn.calls:
            message["tool_calls"] = [_call(call, ids[number]) for number, call in enumerate(turn.calls)]
        return message, ids

    async def verify(self, answer: str | None) -> Verdict:
        await self._ready()
        await self.environment.inner.render_completion(self._state)
        await self.environment.inner.rubric.score_rollout(self._state)
        return self.environment.verdict(self._state)

    def state_dict(self) -> dict[str, Any]:
        turns = [
            {
                "text": turn.text,
                "answer": turn.answer,
                "calls": [[call.name, dict(call.arguments)] for call in turn.calls],
            }
            for turn in self._turns or self._behind
        ]
        return {**super().state_dict(), "turns": turns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The turns are told to the environment anew, before the next one."""
        super().load_state_dict(state)
        self._behind = [
            ParsedTurn(
                text=turn["text"],
                answer=turn["answer"],
                calls=tuple(ToolCall(name=name, arguments=arguments) for name, arguments in turn["calls"]),
            )
            for turn in state["turns"]
        ]

    async def close(self) -> None:
        await super().close()
        if self._state is not None and not self._state["is_completed"]:
            await self.environment.inner._cleanup(self._state)
        self._state = None


class _Offered(Tool):
    """A tool of the environment: it is called by the environment, with the whole turn."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.name, self._spec = spec["function"]["name"], dict(spec)

    def spec(self) -> dict[str, Any]:
        return self._spec

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        raise InfrastructureError(f"{self.name} can only be called in an episode of its environment")


async def play(base_url: str, problem: Problem) -> dict[str, Any]:
    """The program for agents from outside: the environment's own rollout of a problem, scored by its rubric."""
    from openai import AsyncOpenAI

    world = Verifiers(**problem.world)
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        state = await world.inner.rollout(dict(world.rows[problem.data["row"]]), client, "policy", {})
    await world.inner.rubric.score_rollout(state)
    return {"score": world.verdict(state).score}


def _trajectory_step(state: Any, prompt: list[Any], message: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": list(prompt),
        "completion": [message],
        "response": None,
        "tokens": None,
        "reward": None,
        "advantage": None,
        "is_truncated": False,
        "trajectory_id": state["trajectory_id"],
        "extras": {},
    }


def _reaction(turn: ParsedTurn, ids: Sequence[str], new: Sequence[Any], *, done: bool) -> Reaction:
    """What the environment has said, as results of the calls and a reply of the user."""
    told = {message["tool_call_id"]: _text(message["content"]) for message in new if message["role"] == "tool"}
    results = tuple(
        ToolResult(name=call.name, ok=True, output=told.get(call_id, ""))
        for call, call_id in zip(turn.calls, ids, strict=True)
    )
    words = "\n".join(_text(message["content"]) for message in new if message["role"] == "user")
    return Reaction(results=results, reply=Message(role="user", content=words) if words else None, done=done)


def _unknown(turn: ParsedTurn) -> tuple[ToolResult, ...]:
    """Results of calls that the environment does not run, because it is over with them."""
    return tuple(ToolResult(name=call.name, ok=True, output="") for call in turn.calls)


def _call(call: ToolCall, call_id: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
    return {"id": call_id, "type": "function", "function": function}


def _listed(prompt: Any) -> list[Any]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _messages(prompt: Any) -> tuple[Message, ...]:
    return tuple(Message(role=one["role"], content=_text(one["content"])) for one in _listed(prompt))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _sums() -> Any:
    """A small environment of the package's own kind."""
    from datasets import Dataset

    package = _package()
    parser = package.XMLParser(["answer"])

    def right(completion: Any, answer: str) -> float:
        return float(parser.parse_answer(completion) == answer)

    rows = [{"question": f"What is {a} plus {b}?", "answer": str(a + b)} for a in range(10, 20) for b in range(3, 9)]
    rubric = package.Rubric(funcs=[right], parser=parser)
    return package.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=rubric, parser=parser)


def _load(id: str, args: Mapping[str, Any]) -> Any:
    package = _package()
    module, _, function = id.partition(":")
    with _handlers_kept():
        try:
            made = getattr(importlib.import_module(module), function)(**args) if function else None
            return made or package.load_environment(id, **args)
        except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"verifiers can't load {id}: {error}", place="problems.worlds.verifiers.env", remedy="install it first"
            ) from error


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """The package takes over SIGINT and SIGTERM with every environment that is made, and fails where it can't.

    They belong to whoever started this process, and this may not be its main thread.
    """
    with _building:
        real = signal.signal
        signal.signal = lambda number, handler: signal.getsignal(number)  # type: ignore[assignment]
        try:
            yield
        finally:
            signal.signal = real


@cache
def _package() -> Any:
    """The package, imported when it is first needed. Raises `UserError`."""
    try:
        import verifiers
    except ImportError as error:
        raise UserError("verifiers is not installed", remedy="pip install 'verifiers<0.2'") from error
    if not hasattr(verifiers, "MultiTurnEnv"):
        raise UserError("this version of verifiers has another interface", remedy="pip install 'verifiers<0.2'")
    return verifiers
