"""What teachers cost: books, budgets, rates."""

import asyncio
from pathlib import Path

import pytest

from journeyman.config import BudgetConfig, EndpointTeacherConfig
from journeyman.llm import Cached, Reply, Scripted
from journeyman.messages import Message
from journeyman.synthesis.spending import (
    Booked,
    BudgetError,
    Costs,
    Meter,
    Pace,
    Paid,
    book,
    booked,
    costs_of,
    data_cost,
    price_of,
)

ASK = [Message(role="user", content="12345678")]  # two tokens, as estimated
PRICES = EndpointTeacherConfig(
    base_url="http://x/v1", model="m", price_per_million_input_tokens=2, price_per_million_output_tokens=8
)


def test_a_price_is_per_million_tokens_by_hand() -> None:
    reply = Reply(text="", prompt_tokens=1000, completion_tokens=250)
    # 1000 * 2 / 1e6 + 250 * 8 / 1e6
    assert price_of(PRICES)(reply) == pytest.approx(0.004)
    assert costs_of(reply, price_of(PRICES)) == Costs(
        requests=1, prompt_tokens=1000, completion_tokens=250, cost=price_of(PRICES)(reply)
    )
    kept = Reply(text="", prompt_tokens=1000, completion_tokens=250, cached=True, estimated=True)
    assert costs_of(kept, price_of(PRICES)) == Costs(
        requests=1, cached=1, estimated=1, prompt_tokens=1000, completion_tokens=250
    )


def test_books_hold_what_is_asked_inside_them_by_tasks_too() -> None:
    async def work() -> tuple[Costs, Costs, Costs]:
        async def one() -> None:
            book(Costs(requests=1, completion_tokens=3))

        with booked() as outer:
            with booked() as first:
                await asyncio.gather(one(), one())
            with booked() as second:
                book(Costs(requests=1))
        book(Costs(requests=9))
        return outer, first, second

    outer, first, second = asyncio.run(work())
    assert first == Costs(requests=2, completion_tokens=6) and second == Costs(requests=1)
    assert outer == Costs(requests=3, completion_tokens=6)
    assert data_cost(outer) == {"requests": 3, "prompt_tokens": 0, "completion_tokens": 6}


@pytest.mark.parametrize(
    ("budget", "answers"),
    [({"requests": 3}, 3), ({"tokens": 7}, 3), ({"tokens": 6}, 2), ({"cost": 1e-5}, 1), ({"cost": 1.3e-5}, 2)],
)
def test_a_budget_ends_by_requests_tokens_or_cost(budget: dict[str, float], answers: int) -> None:
    # An answer takes 2 + 1 tokens and costs (2 * 2 + 1 * 8) / 1e6 = 1.2e-5.
    chat = Scripted(lambda _: "abcd")
    meter = Meter(BudgetConfig.model_validate(budget))

    async def work() -> None:
        paid = Paid(chat=chat, meter=meter, turns=asyncio.Semaphore(1), price=price_of(PRICES))
        for seed in range(9):
            await paid.complete(ASK, seed=seed)

    [name] = budget
    with pytest.raises(BudgetError, match=rf"budget of .* {name} is spent(.|\n)*raise it and run again") as told:
        asyncio.run(work())
    assert len(chat.asked) == answers == meter.spent.requests
    assert told.value.place == f"synthesize.budget.{name}"


def test_requests_under_way_count() -> None:
    """Ten at once with a budget of four: four are asked."""
    asked: list[int] = []

    class Slow:
        async def complete(self, messages: object, *, seed: int, **limits: object) -> str:
            asked.append(seed)
            await asyncio.sleep(0.01)
            return ""

    async def work() -> list[object]:
        paid = Paid(chat=Slow(), meter=Meter(BudgetConfig(requests=4)), turns=asyncio.Semaphore(10))  # type: ignore[arg-type]
        return list(await asyncio.gather(*(paid.complete(ASK, seed=i) for i in range(10)), return_exceptions=True))

    ends = asyncio.run(work())
    assert asked == [0, 1, 2, 3] and ends[:4] == [""] * 4
    assert all(isinstance(end, BudgetError) for end in ends[4:])


def test_what_was_spent_outlives_a_kill(tmp_path: Path) -> None:
    log = tmp_path / "work" / "spent.jsonl"
    meter = Meter(log=log)
    meter.record(Costs(requests=1, prompt_tokens=5, cost=0.5))
    meter.record(Costs(requests=1, completion_tokens=7))
    with log.open("a") as torn:
        torn.write('{"requests": 1, "pro')
    again = Meter(BudgetConfig(requests=2), log)
    assert again.spent == Costs(requests=2, prompt_tokens=5, completion_tokens=7, cost=0.5)
    with pytest.raises(BudgetError):
        again.check()
    again.record(Costs(requests=1))
    assert Meter(log=log).spent.requests == 3


def test_kept_answers_stand_in_the_books_and_cost_nothing(tmp_path: Path) -> None:
    meter, scripted = Meter(BudgetConfig(requests=1)), Scripted(["abcd"])

    async def work() -> Costs:
        price = price_of(PRICES)
        paid = Paid(chat=scripted, meter=meter, turns=asyncio.Semaphore(1), price=price)
        chat = Booked(chat=Cached(chat=paid, folder=tmp_path, name="m"), price=price)
        with booked() as costs:
            assert [await chat.complete(ASK, seed=1) for _ in range(3)] == ["abcd"] * 3
        return costs

    costs = asyncio.run(work())
    assert costs == Costs(
        requests=3, cached=2, estimated=3, prompt_tokens=6, completion_tokens=3, cost=pytest.approx(1.2e-5)
    )
    assert meter.spent.requests == 1


def test_a_pace_spreads_requests_evenly() -> None:
    """At 6000 a minute one starts every 0.01 s: the fifth not before 0.04 s."""

    async def work() -> list[float]:
        pace, loop = Pace(6000), asyncio.get_running_loop()
        started, at = loop.time(), list[float]()

        async def one() -> None:
            await pace()
            at.append(loop.time() - started)

        await asyncio.gather(*(one() for _ in range(5)))
        return at

    assert all(at >= 0.0099 * number for number, at in enumerate(sorted(asyncio.run(work()))))
