"""Programs that play a trajectory against an endpoint: a Python function, or a command line."""

import asyncio
import contextlib
import importlib
import inspect
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from journeyman.errors import ConfigError
from journeyman.problem import Problem
from journeyman.rollout.openai_wire import MODEL

MAX_OUTPUT = 2**20
"""Bytes of a command's standard output that are read, and as many of its errors. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a program gives back."""

    answer: str | None = None
    """None: what the policy's first thread answered."""
    score: float | None = None
    """In [0, 1]; None: the environment verifies the answer."""

    @classmethod
    def of(cls, value: object) -> "Outcome":
        """From what a function returned or a command printed: a text, `{"answer", "score"}`, or nothing."""
        if isinstance(value, Outcome):
            return value
        if isinstance(value, Mapping) and set(value) <= {"answer", "score"}:
            answer, score = value.get("answer"), value.get("score")
            if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
                raise ProgramError(f"a score is a number in [0, 1], not {score!r}")
            return cls(answer=None if answer is None else str(answer), score=None if score is None else float(score))
        return cls(answer=None if value is None else str(value))


class ProgramError(RuntimeError):
    """The program failed by itself; the attempt is not scored."""


class Program(Protocol):
    """Something that knows only a `base_url`."""

    async def play(self, base_url: str, key: str, problem: Problem) -> Outcome:
        """Work on a problem. It may be cancelled. Raises `ProgramError`, or whatever the program itself raises."""
        ...


class PythonProgram:
    """A function `(base_url, problem) -> answer`, a coroutine or not; the latter runs in a thread."""

    def __init__(self, function: Callable[[str, Problem], Any], *, threads: int = 64) -> None:
        self._function = function
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="outside-agent")

    @classmethod
    def named(cls, path: str) -> "PythonProgram":
        """The function at `module:function`. Raises `ConfigError`."""
        module, _, name = path.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"there is no function {path}: {error}", remedy="write it as module:function") from error
        return cls(function)

    async def play(self, base_url: str, key: str, problem: Problem) -> Outcome:
        if inspect.iscoroutinefunction(self._function):
            made: Awaitable[Any] = self._function(base_url, problem)
            return Outcome.of(await made)
        loop = asyncio.get_running_loop()
        return Outcome.of(await loop.run_in_executor(self._threads, self._function, base_url, problem))


class CommandProgram:
    """A command line that gets the problem as JSON on its standard input, and `OPENAI_BASE_URL`, `OPENAI_API_KEY` and
    `MODEL` in its environment. What it prints last is the answer: a line of text, or `{"answer", "score"}`.

    Of the problem it sees id, family, question and the names of tools; `shares` names further fields, such as `data`.
    """

    def __init__(self, command: Sequence[str], *, shares: Sequence[str] = ()) -> None:
        self._command, self._shares = tuple(command), tuple(shares)

    async def play(self, base_url: str, key: str, problem: Problem) -> Outcome:
        fields = problem.to_json()
        shown = {name: fields[name] for name in ("id", "family", "question", "tools", *self._shares)}
        told = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key, "MODEL": MODEL}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **told},
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"{self._command[0]} can't be run: {error}") from error
        try:
            output, errors = await _talk(process, json.dumps(shown).encode())
        finally:
            _end(process)
        if process.returncode:
            raise ProgramError(f"exit code {process.returncode}: {errors.decode(errors='replace')[-500:].strip()}")
        return _printed(output)


def program_of(text: str | Sequence[str]) -> Program:
    """A program as a config names it: `module:function`, or a command line as a list. Raises `ConfigError`."""
    return PythonProgram.named(text) if isinstance(text, str) else CommandProgram(text)


async def _talk(process: asyncio.subprocess.Process, told: bytes) -> tuple[bytes, bytes]:
    """(standard output, errors) of a process, once it has ended. It is not left to wait for a full pipe."""
    assert process.stdin and process.stdout and process.stderr
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        process.stdin.write(told)
        await process.stdin.drain()
    process.stdin.close()
    output, errors, _ = await asyncio.gather(_read(process.stdout), _read(process.stderr), process.wait())
    return output, errors


async def _read(stream: asyncio.StreamReader) -> bytes:
    """The last of what comes."""
    kept = b""
    while piece := await stream.read(2**16):
        kept = (kept + piece)[-MAX_OUTPUT:]
    return kept


def _end(process: asyncio.subprocess.Process) -> None:
    """End the process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _printed(output: bytes) -> Outcome:
    lines = output.decode(errors="replace").strip().splitlines()
    if not lines:
        return Outcome()
    try:
        value = json.loads(lines[-1])
    except ValueError:
        value = None
    return Outcome.of(value if isinstance(value, dict) else lines[-1].strip())
