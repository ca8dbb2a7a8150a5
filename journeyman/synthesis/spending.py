"""What teachers and writers cost: books of every lesson, a budget for the stage, a rate for its requests."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from journeyman.artifacts import write_atomically
from journeyman.config import BudgetConfig, EndpointTeacherConfig
from journeyman.errors import UserError
from journeyman.llm import Chat, Reply, reply_of
from journeyman.messages import Message


@dataclass(slots=True, kw_only=True)
class Costs:
    """A sum of requests and what they took."""

    requests: int = 0
    """Answers, those that were kept from earlier included."""
    cached: int = 0
    """Of them: kept from earlier."""
    estimated: int = 0
    """Of them: with tokens that no server has counted."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """By the endpoint's prices, of answers that were not kept from earlier."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: "Costs") -> None:
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def told(self) -> str:
        """In words."""
        cost = f", cost {self.cost:.4g}" if self.cost else ""
        return f"{self.requests - self.cached} requests, {self.tokens} tokens{cost}"


_FIELDS = [field.name for field in fields(Costs)]
_BOOKS: ContextVar[tuple[Costs, ...]] = ContextVar("books", default=())
"""Those that are open where the code runs; tasks that are started inside write into the same."""


@contextmanager
def booked() -> Iterator[Costs]:
    """Books of what is asked inside the block, by tasks that it starts, too; outer books get it as well."""
    mine = Costs()
    token = _BOOKS.set((*_BOOKS.get(), mine))
    try:
        yield mine
    finally:
        _BOOKS.reset(token)


def book(costs: Costs) -> None:
    """Write into all open books."""
    for one in _BOOKS.get():
        one.add(costs)


def data_cost(costs: Costs) -> dict[str, int]:
    """What of a cost is the same whenever the same data is made: fit for a trajectory's provenance."""
    return {name: getattr(costs, name) for name in ("requests", "prompt_tokens", "completion_tokens")}


class BudgetError(UserError):
    """The budget is spent."""


class Meter:
    """What a stage has really spent, over all tries to make it, and its budget.

    Args:
        log: a file that keeps count, a line a request; None: the count begins anew with every try.
    """

    def __init__(self, budget: BudgetConfig | None = None, log: Path | None = None) -> None:
        self._budget, self._log = budget or BudgetConfig(), log
        self.spent = Costs()
        self._begun = 0
        if log is not None and log.exists():
            for row in _lines(log):
                self.spent.add(Costs(**row))
            write_atomically(log, f"{json.dumps(asdict(self.spent))}\n")

    def check(self) -> None:
        """Raise `BudgetError` where another request would go over the budget."""
        spent = {"requests": self.spent.requests + self._begun, "tokens": self.spent.tokens, "cost": self.spent.cost}
        for name, value in spent.items():
            limit = getattr(self._budget, name)
            if limit is not None and value >= limit:
                raise BudgetError(
                    f"the budget of {limit:g} {name} is spent: {self.spent.told()}. All finished lessons are kept",
                    place=f"synthesize.budget.{name}",
                    remedy="raise it and run again: it goes on from there, and what was answered is not asked again",
                )

    @contextmanager
    def request(self) -> Iterator[None]:
        """One more request; those under way count as made, so that their budget is never overdrawn."""
        self.check()
        self._begun += 1
        try:
            yield
        finally:
            self._begun -= 1

    def record(self, costs: Costs) -> None:
        self.spent.add(costs)
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as lines:
                lines.write(f"{json.dumps(asdict(costs))}\n")


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    """Its rows; a line that a kill has cut short is none."""
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """A chat whose answers are paid for: within the budget, so many at once."""

    chat: Chat
    meter: Meter
    turns: asyncio.Semaphore
    price: Callable[[Reply], float] = lambda reply: 0.0

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        return (await self.reply(messages, seed=seed, temperature=temperature, max_tokens=max_tokens)).text

    async def reply(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> Reply:
        async with self.turns:
            with self.meter.request():
                made = await reply_of(self.chat, messages, seed=seed, temperature=temperature, max_tokens=max_tokens)
            self.meter.record(costs_of(made, self.price))
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A chat whose answers, kept ones too, stand in the books."""

    chat: Chat
    price: Callable[[Reply], float] = lambda reply: 0.0
    max_tokens: int = 0
    """Who asks for shorter texts gets as much: one limit for all that a stage writes."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        most = max(max_tokens, self.max_tokens)
        made = await reply_of(self.chat, messages, seed=seed, temperature=temperature, max_tokens=most)
        book(costs_of(made, self.price))
        return made.text


def costs_of(reply: Reply, price: Callable[[Reply], float]) -> Costs:
    return Costs(
        requests=1,
        cached=int(reply.cached),
        estimated=int(reply.estimated),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost=0.0 if reply.cached else price(reply),
    )


def price_of(config: EndpointTeacherConfig) -> Callable[[Reply], float]:
    """What a reply costs by the endpoint's prices."""
    read, written = config.price_per_million_input_tokens, config.price_per_million_output_tokens
    return lambda reply: (reply.prompt_tokens * read + reply.completion_tokens * written) / 1e6


class Pace:
    """At most so many requests a minute, evenly: wait for `pace()` before each."""

    def __init__(self, per_minute: float) -> None:
        self._seconds, self._next = 60.0 / per_minute, 0.0

    async def __call__(self) -> None:
        now = asyncio.get_running_loop().time()
        at, self._next = max(now, self._next), max(now, self._next) + self._seconds
        await asyncio.sleep(at - now)
