"""A Python interpreter for the model (#2): it keeps its variables over the turns of an attempt, in a box of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.seeds import derive
from journeyman.tools.base import CallContext, FunctionTool, ToolError
from journeyman.tools.sandbox import Answer, Bounds, Interpreter, Killed

MAX_CODE = 20_000
"""Most characters of a call's code."""
MAX_SHOWN = 4_000
"""Most characters of an observation; the middle of a longer one is left out."""
BUDGET = 60.0
"""Seconds that all calls of an attempt may take together."""
BOUNDS = Bounds(seconds=10.0, cpu_seconds=90)


class Python(FunctionTool):
    """Runs code and shows what it prints and the value of a last expression, as at a prompt.

    What `open` gives keeps variables, functions and files from call to call. An instance that wasn't opened keeps
    nothing: each call has a fresh interpreter. A call that runs out of time, memory or output ends the interpreter, and
    the observation says so. States are replayed: `load_state_dict` runs the earlier cells again before the next one,
    with the same seed; what a cell took from the clock may differ.

    Args:
        bounds: of one interpreter; `seconds` is for each call.
        budget: seconds that all calls of an attempt may take together.
        packages: installed distributions that the code can import; without them, the standard library alone.
    """

    name = "python"

    def __init__(self, bounds: Bounds = BOUNDS, *, budget: float = BUDGET, packages: Sequence[str] = ()) -> None:
        self._bounds, self._budget, self._packages = bounds, budget, tuple(packages)
        self._opened = False
        self._seed, self._used = 0, 0.0
        self._cells: list[str] = []
        self._interpreter: Interpreter | None = None
        self._turn = asyncio.Lock()

    def open(self, context: CallContext) -> "Python":
        made = Python(self._bounds, budget=self._budget, packages=self._packages)
        made._opened, made._seed = True, derive(context.seed, "python")
        return made

    async def run(self, code: str) -> str:
        """Run Python code. Variables are kept for later calls; the value of a last expression is shown.

        Args:
            code: Python source of any number of lines.
        """
        if len(code) > MAX_CODE:
            raise ToolError(f"the code has more than {MAX_CODE} characters")
        async with self._turn:
            left = self._budget - self._used
            if left <= 0:
                raise ToolError(f"the {self._budget:g} seconds for all calls together are used up")
            try:
                answer = await (await self._ready()).run(code, seconds=left)
                self._used += answer.seconds if self._opened else 0.0
                return self._observation(code, answer)
            finally:
                if not self._opened:
                    await self.close()

    async def close(self) -> None:
        if self._interpreter is not None:
            await self._interpreter.close()
            self._interpreter = None

    def state_dict(self) -> dict[str, Any]:
        return {"cells": list(self._cells), "seed": self._seed, "used_seconds": self._used} if self._opened else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not self._opened:
            super().load_state_dict(state)
            return
        if self._interpreter is not None:
            raise ValueError("an interpreter that has run code takes no other state; open a new one")
        self._cells, self._seed, self._used = list(state["cells"]), state["seed"], state["used_seconds"]

    async def _ready(self) -> Interpreter:
        """The interpreter in its present state: made now, and brought there, where there is none."""
        if self._interpreter is not None and self._interpreter.alive:
            return self._interpreter
        await self.close()
        self._interpreter = await Interpreter.start(self._bounds, seed=self._seed, packages=self._packages)
        for cell in self._cells:
            answer = await self._interpreter.run(cell)
            if not answer.alive:
                self._cells.clear()
                raise ToolError("the earlier code could not be run again: all variables are lost")
        return self._interpreter

    def _observation(self, code: str, answer: Answer) -> str:
        output = shorten(answer.output, MAX_SHOWN)
        if not answer.alive:
            self._cells.clear()
            raise ToolError(f"{self._why(answer.killed)}: all variables are lost\n{output}".rstrip())
        if self._opened:
            self._cells.append(code)
        if not answer.ok:
            raise ToolError(f"the code raised an exception\n{output}".rstrip())
        return output.rstrip("\n") or "no output"

    def _why(self, killed: str) -> str:
        match killed:
            case Killed.TIME:
                return f"the code took longer than {min(self._bounds.seconds, self._budget):g} seconds and was stopped"
            case Killed.MEMORY:
                return f"the code took more than {self._bounds.memory >> 20} MiB of memory and was stopped"
            case Killed.OUTPUT:
                return f"the code wrote more than {self._bounds.output >> 10} KiB and was stopped"
            case Killed.CPU:
                return f"the code took more than {self._bounds.cpu_seconds} seconds of processor time and was stopped"
            case Killed.FILES:
                return f"the code made more than {self._bounds.files} files and was stopped"
        return "the interpreter has ended"


def shorten(text: str, most: int) -> str:
    """Text of about so many characters at most: the middle of a longer one gives way to a marker."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
