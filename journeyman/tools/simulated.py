"""Tools that a model plays from their schemas and from what it has said before (#113, #120, #130)."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.messages import Fault, Message, ToolResult
from journeyman.seeds import derive
from journeyman.tools.arguments import arguments_error, schema_error
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.consistency import LoggedCall, Score, choose

if TYPE_CHECKING:
    from journeyman.llm import Chat

CANDIDATES = 8
"""Outputs drawn for a call (ours)."""
SHOWN = 20
"""Most earlier calls that the model is reminded of; the latest."""
MAX_OUTPUT = 4000
TEMPERATURE = 1.0


class Inconsistent(RuntimeError):
    """No simulated output is good enough: the attempt ends unscored, as with a tool that breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSpec:
    """A tool to be played."""

    spec: Mapping[str, Any]
    output: Mapping[str, Any] | None = None
    """JSON Schema of what it returns; None: any text."""
    examples: tuple[LoggedCall, ...] = ()
    """Real calls, shown to the model; the same call has the same output."""


class Simulator:
    """Plays a set of tools with one model; shared by every attempt."""

    def __init__(
        self,
        specs: Sequence[SimulatedSpec],
        chat: "Chat",
        *,
        score: Score | None = None,
        candidates: int = CANDIDATES,
        facts: str = "",
        common: bool = False,
    ) -> None:
        """`score` chooses among candidates; without it the first valid one is taken. `facts` is what all tools know.

        With `common` the draws depend on the call and not on the attempt: attempts that make the same calls in the same
        order see the same world.
        """
        self.specs = {made.spec["function"]["name"]: made for made in specs}
        self._chat, self._score, self._facts, self._common = chat, score, facts, common
        self._candidates = candidates if score is not None else 1

    def open(self, context: CallContext) -> dict[str, Tool]:
        """The tools for one attempt: they remember each other's answers."""
        records: list[LoggedCall] = []
        return {name: SimulatedTool(self, name, records) for name in self.specs}

    async def answer(self, name: str, arguments: Mapping[str, Any], records: Sequence[LoggedCall], seed: int) -> str:
        """An output for a call that is new. Raises `Inconsistent` where none is valid, or good enough."""
        made = self.specs[name]
        start = derive("common", name, _key(arguments), len(records)) if self._common else seed
        messages = self._messages(made, arguments, records)
        drawn = await asyncio.gather(
            *(
                self._chat.complete(messages, seed=derive(start, number), temperature=TEMPERATURE, max_tokens=1024)
                for number in range(self._candidates)
            )
        )
        valid = [text for reply in drawn if (text := _output(reply, made.output)) is not None]
        if not valid:
            raise Inconsistent(f"{name}: no output fits its schema")
        if self._score is None:
            return valid[0]
        scores = self._score([LoggedCall(tool=name, arguments=arguments, output=text) for text in valid])
        chosen = choose(scores, random.Random(derive(start, "choice")))
        if chosen is None:
            raise Inconsistent(f"{name}: the best output scores {max(scores):.2f}")
        return valid[chosen]

    def _messages(
        self, made: SimulatedSpec, arguments: Mapping[str, Any], records: Sequence[LoggedCall]
    ) -> list[Message]:
        schema = f"\nIt returns JSON of this schema: {json.dumps(made.output)}" if made.output else ""
        shown = [*made.examples[:SHOWN], *records[-SHOWN:]]
        before = "\n".join(f"{call.tool}({_key(call.arguments)}) -> {call.output}" for call in shown)
        system = _SYSTEM.format(
            spec=json.dumps(made.spec["function"], ensure_ascii=False),
            schema=schema,
            facts=self._facts or "nothing",
            before=before or "none",
        )
        asked = f"{made.spec['function']['name']}({_key(arguments)})"
        return [Message(role="system", content=system), Message(role="user", content=asked)]


class SimulatedTool(Tool):
    """One tool of a simulator, in one attempt."""

    def __init__(self, simulator: Simulator, name: str, records: list[LoggedCall] | None = None) -> None:
        """`records` are shared with the other tools of the attempt; None: not opened for one yet."""
        self.name, self._simulator, self._records = name, simulator, records

    def spec(self) -> dict[str, Any]:
        return dict(self._simulator.specs[self.name].spec)

    def open(self, context: CallContext) -> "SimulatedTool":
        return self if self._records is not None else SimulatedTool(self._simulator, self.name, [])

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        if error := arguments_error(self.spec(), arguments):
            return ToolResult(name=self.name, ok=False, output=f"error: {error}", fault=Fault.POLICY)
        records = [] if self._records is None else self._records
        known = self._known(arguments, records)
        if known is None:
            known = await self._simulator.answer(self.name, arguments, records, context.seed)
            records.append(LoggedCall(tool=self.name, arguments=dict(arguments), output=known))
        return ToolResult(name=self.name, ok=not known.startswith("error: "), output=known, fault=_fault(known))

    def _known(self, arguments: Mapping[str, Any], records: Sequence[LoggedCall]) -> str | None:
        """What the same call has had for an answer."""
        seen = [*self._simulator.specs[self.name].examples, *records]
        same = (call for call in seen if call.tool == self.name and _key(call.arguments) == _key(arguments))
        return next((call.output for call in same), None)

    def state_dict(self) -> dict[str, Any]:
        """All records of the attempt: the tools share them."""
        return {"records": [[call.tool, dict(call.arguments), call.output] for call in self._records or ()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._records is None:
            raise ValueError(f"{self.name} is not opened for an attempt")
        self._records[:] = [LoggedCall(tool=t, arguments=a, output=o) for t, a, o in state["records"]]


def _fault(output: str) -> Fault | None:
    return Fault.POLICY if output.startswith("error: ") else None


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), sort_keys=True, ensure_ascii=False)


def _output(reply: str, schema: Mapping[str, Any] | None) -> str | None:
    """The output in a reply, in one form; None where it doesn't fit the schema."""
    text = reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()[:MAX_OUTPUT]
    if text.startswith("error: "):
        return text
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None if schema is not None else text or None
    if schema is not None and schema_error(schema, value):
        return None
    return json.dumps(value, ensure_ascii=False)


_SYSTEM = """You are a tool, not an assistant. Reply with what the tool returns, and nothing else.
The tool: {spec}{schema}
Known of the world: {facts}
Calls so far, which your output must agree with:
{before}
Where the call makes no sense for this world, reply with one line that starts with "error: "."""
