"""How a model is led to make tools: propose, try, mend (#22); create, decide, execute, rectify (#75)."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from journeyman.messages import Message
from journeyman.seeds import derive
from journeyman.tools.base import ToolError
from journeyman.tools.made import Asserts, Example, MadeTool, check_tests
from journeyman.tools.maker import TRIES, Workshop

if TYPE_CHECKING:
    from journeyman.llm import Chat
    from journeyman.trajectory import Trajectory

Value = TypeVar("Value")
RECTIFICATIONS = 3
"""Rewrites after a failed run; the fourth failure is the end (#75)."""
TEMPERATURE = 0.3
"""Of the maker (#22, #75)."""
_FENCE = re.compile(r"```(?:python|json)?\s*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried(Generic[Value]):
    """How often something was tried, and what came of it."""

    value: Value | None
    """None: every try failed."""
    tries: int
    errors: tuple[str, ...] = ()
    """One for each failed try."""


async def until_accepted(
    write: Callable[[Sequence[str]], Awaitable[str]], check: Callable[[str], Awaitable[Value]], tries: int
) -> Tried[Value]:
    """Write, check, and write again knowing all errors so far. `check` raises `ToolError` for what it refuses."""
    errors: list[str] = []
    while len(errors) < tries:
        try:
            return Tried(value=await check(await write(errors)), tries=len(errors) + 1, errors=tuple(errors))
        except ToolError as error:
            errors.append(str(error))
    return Tried(value=None, tries=tries, errors=tuple(errors))


def fenced(text: str) -> str:
    """The longest code block of a reply, or the whole where there is none."""
    return max(_FENCE.findall(text), key=len, default=text).strip()


class Maker:
    """A model that makes tools from solved examples, away from any attempt (#22)."""

    def __init__(self, chat: "Chat", workshop: Workshop, tries: int = TRIES) -> None:
        self._chat, self._workshop, self._tries = chat, workshop, tries

    async def make(
        self, name: str, shown: Sequence[Example], held_out: Sequence[Example], seed: int
    ) -> MadeTool | None:
        """A verified tool, or None where it did not get there.

        Three examples are shown when the function is written, three others when its tests are; a failed run asks for the
        function again, a failed test for the tests again, as published. The release goes on to the tests with code that
        never ran; here that is the end (ours), and the examples held out are tried outside of the tests too (ours).
        """
        runs = await until_accepted(
            lambda errors: self._ask(_WRITE.format(name=name, examples=_shown(name, shown)), errors, seed),
            lambda code: self._workshop.executable(MadeTool(name=name, code=fenced(code), asserts=())),
            self._tries,
        )
        if runs.value is None:
            return None
        tool, request = runs.value, _TEST.format(name=name, code=runs.value.code, examples=_shown(name, held_out))

        async def check(tests: str) -> MadeTool:
            check_tests(name, fenced(tests), [example.expected for example in held_out])
            tested = replace(tool, asserts=(Asserts(name=name, source=fenced(tests)),))
            return await self._workshop.verified(tested, held_out)

        tested = await until_accepted(
            lambda errors: self._ask(request, errors, derive(seed, "tests")), check, self._tries
        )
        if tested.value is None:
            return None
        return replace(tested.value, provenance={"tries": runs.tries, "test_tries": tested.tries, "seed": seed})

    async def _ask(self, request: str, errors: Sequence[str], seed: int) -> str:
        told = "".join(f"\n\nAn earlier try failed: {error}" for error in errors)
        messages = [Message(role="user", content=request + told)]
        return await self._chat.complete(
            messages, seed=derive(seed, len(errors)), temperature=TEMPERATURE, max_tokens=1024
        )


_WRITE = """Write one Python function `{name}` that solves every problem of this kind.
Give its parameters types, and a docstring that says what it does. No number of an example may stand in it.
{examples}
Reply with a Python code block only."""
_TEST = """Here is a Python function.
```python
{code}
```
Write one `assert` for each of these examples that calls `{name}` and compares what it returns.
{examples}
Reply with a Python code block only."""


def _shown(name: str, examples: Sequence[Example]) -> str:
    return "\n".join(
        f"{name}(**{json.dumps(dict(example.arguments))}) must return {json.dumps(example.expected)}"
        for example in examples
    )


async def create_reward(workshop: Workshop, tool: MadeTool, sibling: Example) -> float:
    """1 where a tool made for one problem also solves its sibling, the same with other numbers; else 0 (#75, ours).

    A tool with its problem's numbers written into it solves that problem and fails here.
    """
    return float(not await workshop.wrong(tool, [sibling]))


def split_credit(trajectory: "Trajectory", create: float, decide: float) -> tuple[float, ...]:
    """A reward for each turn: `create` for those that make tools, `decide` for the others (#75, split ours)."""
    return tuple(
        create if any(call.name == "make_tool" for call in turn.calls) else decide for turn in trajectory.turns
    )
