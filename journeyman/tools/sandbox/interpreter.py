"""A Python interpreter in a box, which keeps its state from call to call and stands still between them."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from journeyman.errors import InfrastructureError
from journeyman.tools.sandbox import command
from journeyman.tools.sandbox.bounds import USUAL, Bounds, Killed, text_of
from journeyman.tools.sandbox.box import POLL, Box, Channels, semaphore
from journeyman.tools.sandbox.capture import Capture

MOST_ALIVE = 128
"""Interpreters alive at once in an event loop, whoever holds them; more wait until one is closed."""
MOST_BUSY = 2 * (os.cpu_count() or 1)
"""Those that compute at once; a call's time begins when it is its turn."""
MOST_REPLY = 2**20
"""Bytes of a reply: a longer one is no reply."""
SHOWN = 2**14
"""Bytes of output that are kept of a call; what is written beyond is counted, up to `Bounds.output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call of an interpreter led to."""

    ok: bool
    """Whether the code came to its end without an exception."""
    output: str
    """What it wrote to standard output and error, in its order, tracebacks included; the middle of a long one left out."""
    seconds: float
    value: Any = None
    """JSON: what a called function gave back. The code can make this anything; it is never more than data."""
    killed: str = ""
    """A `Killed`: which bound ended the interpreter."""
    alive: bool = True
    """Whether there is still an interpreter; it may have been killed, or have ended itself."""


class Interpreter:
    """One interpreter. `start` makes it; whoever has it must `close` it. One call at a time."""

    def __init__(self, box: Box, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, output: Capture) -> None:
        self._box, self._reader, self._writer, self._output = box, reader, writer, output
        self._number = 0
        self._bounds = USUAL
        self._alive = True
        self._exit_code: int | None = None
        self._room: asyncio.Semaphore | None = None

    @classmethod
    async def start(
        cls,
        bounds: Bounds = USUAL,
        *,
        seed: int = 0,
        packages: Sequence[str] = (),
        pool: str = "interpreters",
    ) -> Self:
        """A fresh interpreter, once there is room for one.

        Args:
            bounds: `seconds` and `output` hold for each call, the others for its life.
            seed: of Python's module `random` in it.
            packages: installed distributions that it can import, with what they need.
            pool: those of another pool don't wait for this one's.

        Raises:
            UserError: boxes can't be used on this machine.
            InfrastructureError: the box couldn't be made.
        """
        room = semaphore(pool, MOST_ALIVE)
        await room.acquire()
        try:
            made = await cls._make(bounds, packages)
        except BaseException:  # cancelled too: the room is given back
            room.release()
            raise
        made._room = room
        answer = await made._ask({"do": "seed", "seed": seed}, bounds.seconds)
        if not answer.ok:
            await made.close()
            raise InfrastructureError(f"an interpreter in a box doesn't come up: {answer.output or answer.killed}")
        return made

    @classmethod
    async def _make(cls, bounds: Bounds, packages: Sequence[str]) -> Self:
        ours, theirs = socket.socketpair()
        output = Capture(SHOWN)
        try:
            argv = [*command.python(packages=packages), "-c", _worker()]
            box = await Box.start(
                argv,
                bounds=bounds,
                packages=packages,
                channels=Channels(stdin=theirs.fileno(), stdout=output.writing, stderr=output.writing),
            )
        except BaseException:  # cancelled too
            ours.close()
            output.close()
            raise
        finally:
            theirs.close()
        output.started()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MOST_REPLY)
        made = cls(box, reader, writer, output)
        made._bounds = bounds
        return made

    @property
    def alive(self) -> bool:
        return self._alive

    async def run(self, code: str, seconds: float | None = None) -> Answer:
        """Run a cell: statements, and an expression at the end whose value is shown."""
        return await self._ask({"do": "cell", "code": code}, self._limit(seconds))

    async def call(self, function: str, arguments: Sequence[Any], seconds: float | None = None) -> Answer:
        """Call a function that the code has defined with JSON arguments; its result comes back as JSON."""
        request = {"do": "call", "function": function, "arguments": json.dumps(list(arguments))}
        return await self._ask(request, self._limit(seconds))

    async def close(self) -> None:
        """End it, with all that it has started."""
        self._alive = False
        room, self._room = self._room, None
        if room is None:
            return
        try:
            self._writer.close()
            self._exit_code = await self._box.stop()
        finally:
            self._output.close()
            room.release()

    def _limit(self, seconds: float | None) -> float:
        return self._bounds.seconds if seconds is None else min(seconds, self._bounds.seconds)

    async def _ask(self, request: Mapping[str, str | int], seconds: float) -> Answer:
        assert self._alive, "a closed interpreter takes no calls"
        self._number += 1
        line = ascii({"id": self._number, **request}).encode() + b"\n"  # a Python literal
        async with semaphore("busy", MOST_BUSY):
            started = time.perf_counter()
            try:
                reply, killed = await self._exchange(line, started + seconds)
            except BaseException:  # cancelled: what it would say later must not answer another call
                await self.close()
                raise
            used = time.perf_counter() - started
            if reply is None or not self._box.freeze():
                self._alive = False
        output = text_of(self._output.take())
        if not self._alive:
            await self.close()
            if self._exit_code == 128 + signal.SIGXCPU:
                killed = Killed.CPU
        well = reply is not None and reply.get("ok") is True
        value = reply.get("value") if reply is not None else None
        return Answer(ok=well, output=output, seconds=used, value=value, killed=killed, alive=self._alive)

    async def _exchange(self, line: bytes, deadline: float) -> tuple[dict[str, Any] | None, Killed]:
        """(its reply, None where there is none, and what it must be killed for)."""
        self._output.take()
        self._box.thaw()
        self._writer.write(line)
        reading = asyncio.create_task(self._read())
        try:
            while True:
                await asyncio.wait([reading], timeout=POLL)
                if self._output.total > self._bounds.output:
                    return None, Killed.OUTPUT
                if reading.done():
                    return reading.result(), Killed.NO
                if time.perf_counter() > deadline:
                    return None, Killed.TIME
                if exceeded := self._box.exceeded():
                    return None, exceeded
        finally:
            reading.cancel()

    async def _read(self) -> dict[str, Any] | None:
        """The reply to the last request; None for anything else, the end included."""
        try:
            reply = json.loads(await self._reader.readline())
        except (ValueError, RecursionError, OSError):  # too long, no JSON, nested too deep, broken off
            return None
        return reply if isinstance(reply, dict) and reply.get("id") == self._number else None


@cache
def _worker() -> str:
    return Path(__file__).with_name("worker.py").read_text()
