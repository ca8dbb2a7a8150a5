"""Programs that run once, from their beginning to their end."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence

from journeyman.tools.sandbox import command
from journeyman.tools.sandbox.bounds import USUAL, Bounds, Killed, Outcome, text_of
from journeyman.tools.sandbox.box import POLL, Box, Channels, readable, semaphore
from journeyman.tools.sandbox.capture import Capture

AT_ONCE = 2 * (os.cpu_count() or 1)
"""Programs that run at the same time in an event loop; others wait, and their time hasn't begun."""


async def run_program(
    program: str | Sequence[str],
    files: Mapping[str, str | bytes] | None = None,
    stdin: str = "",
    limits: Bounds = USUAL,
    *,
    packages: Sequence[str] = (),
) -> Outcome:
    """Run a program in a box of its own, which is gone when this returns.

    Args:
        program: Python source, or a command and its arguments. It starts in the scratch folder.
        files: what lies there: path -> content. Python source can import modules from here.
        stdin: what it reads from standard input.
        limits: beyond one of them it is ended; `Outcome.killed` says by which.
        packages: installed distributions that Python source can import, with what they need.

    Raises:
        UserError: boxes can't be used on this machine.
        InfrastructureError: the box couldn't be made.
    """
    async with semaphore("programs", AT_ONCE):
        contents, argv = dict(files or {}), program
        if isinstance(argv, str):
            contents["main.py"] = argv
            argv = [*command.python(packages=packages), "main.py"]
        given, out, err = readable(stdin), Capture(limits.output), Capture(limits.output)
        try:
            box = await Box.start(
                argv,
                bounds=limits,
                files=contents,
                packages=packages,
                channels=Channels(stdin=given, stdout=out.writing, stderr=err.writing),
            )
            out.started()
            err.started()
            return await _finish(box, out, err, limits)
        finally:
            os.close(given)
            out.close()
            err.close()


async def _finish(box: Box, out: Capture, err: Capture, limits: Bounds) -> Outcome:
    killed = Killed.NO
    try:
        while not killed and not box.ended.done():
            await asyncio.wait([box.ended], timeout=POLL)
            killed = _exceeded(box, out, err, limits)
    finally:
        code = await box.stop()
    if killed:
        code = 128 + signal.SIGKILL
    elif code == 128 + signal.SIGXCPU:
        killed = Killed.CPU
    stdout, stderr = text_of(out.take()), text_of(err.take())
    seconds = time.perf_counter() - box.started
    return Outcome(exit_code=code, stdout=stdout, stderr=stderr, seconds=seconds, killed=killed)


def _exceeded(box: Box, out: Capture, err: Capture, limits: Bounds) -> Killed:
    if max(out.total, err.total) > limits.output:
        return Killed.OUTPUT
    if box.ended.done():
        return Killed.NO
    if time.perf_counter() - box.started > limits.seconds:
        return Killed.TIME
    return box.exceeded()
