"""Tasks for the bicycle desk, made by seed, each with its gold course and typical mistakes."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from journeyman.environments.tau2.bicycles import CUSTOMERS, FRAMES, KINDS, REASONS, shop
from journeyman.environments.tau2.database import Record, Tables
from journeyman.environments.tau2.task import Basis
from journeyman.seeds import derive

SHOPS = 100_000
"""Different databases (ours)."""
TWO_REQUESTS = 0.3
"""Share of the tasks with a second request (ours)."""
HAND_OVER = "transfer_to_human_agents"
Call = dict[str, Any]
Line = dict[str, Any]
"""`{"say": words}` or a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing that a customer wants."""

    says: str
    """The customer's words."""
    asks: str
    """What the desk has to ask to know the rest; empty where it knows."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """What the customer answers, by keyword."""
    looks: Sequence[Call]
    """Calls that read."""
    acts: Sequence[Call]
    """Calls that do what is wanted."""
    plan: str
    """What the desk says it will do."""
    tells: str
    """What the desk says when it is done."""
    amount: str = ""
    """What the customer must be told; empty where there is nothing."""
    wrong: tuple[str, Sequence[Call]]
    """A typical mistake, and the calls made instead of `acts`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Who calls, and what there is of them in the database."""

    branch: int
    """Seed of the shop."""
    tables: Tables
    record: Record
    booked: Record
    out: Record

    def bicycle(self, rental: Record) -> Record:
        return self.tables["bicycles"][rental["bicycle_id"]]

    def free(self, kind: str, frame: str) -> list[Record]:
        """Bicycles that can be had, the cheapest first."""
        every = self.tables["bicycles"].values()
        fits = [one for one in every if (one["kind"], one["frame"], one["free"]) == (kind, frame, True)]
        return sorted(fits, key=lambda one: one["price_per_day"])


def draw_task(rng: random.Random) -> tuple[int, Record, dict[str, list[Line]]]:
    """(shop's seed, task in tau2's form, courses by mistake: the gold one, under the empty name, first).

    All of a task follows from what its customer says first, so tasks that begin alike are the same.
    """
    seed, number, kind = rng.randrange(1, SHOPS), rng.randrange(1, CUSTOMERS + 1), rng.randrange(len(KINDS_OF_REQUEST))
    own = random.Random(derive("bicycle task", seed, number, kind))
    customer = _customer(seed, number)
    requests = [KINDS_OF_REQUEST[kind](customer, own)]
    if requests[0].acts[0]["name"] not in ("extend_rental", HAND_OVER) and own.random() < TWO_REQUESTS:
        requests.append(_extend(customer, own))
    return seed, _task(customer, requests), _courses(customer, requests)


def _customer(seed: int, number: int) -> Customer:
    tables = shop(seed)
    booked, out = tables["rentals"][f"R{number}"], tables["rentals"][f"R{number + CUSTOMERS}"]
    return Customer(branch=seed, tables=tables, record=tables["customers"][f"C{number}"], booked=booked, out=out)


def _call(name: str, **arguments: Any) -> Call:
    return {"name": name, "arguments": arguments}


def _look(rental: Record) -> Call:
    return _call("get_rental", rental_id=rental["rental_id"])


def _cancel(customer: Customer, rng: random.Random) -> Request:
    rental, reason = customer.booked, rng.choice(REASONS)
    key, total = rental["rental_id"], str(rental["total"])
    cancel = _call("cancel_rental", rental_id=key, reason=reason)
    handed_over = customer.bicycle(rental)["kind"] == "tandem"
    shared = {
        "says": f"I would like to cancel my rental {key}.",
        "asks": "Why do you want to cancel?",
        "slots": {"why|reason": f"Because of {reason}." if reason == "bad weather" else "A change of plans."},
        "looks": [_look(rental)],
    }
    if handed_over:
        summary = f"wants to cancel {key}, a tandem"
        return Request(
            **shared,
            acts=[_call(HAND_OVER, summary=summary)],
            plan="I can't cancel a tandem, so I will hand you over to a person.",
            tells="You are being handed over to a person.",
            wrong=("does what the policy forbids", [cancel]),
        )
    other = next(r for r in customer.tables["rentals"].values() if r["status"] == "booked" and r is not rental)
    return Request(
        **shared,
        acts=[cancel],
        plan=f"I will cancel {key} and pay back {total}.",
        tells=f"{key} is cancelled, you get {total} back.",
        amount=total,
        wrong=("changes the wrong record", [_call("cancel_rental", rental_id=other["rental_id"], reason=reason)]),
    )


def _swap(customer: Customer, rng: random.Random) -> Request:
    rental = customer.booked
    kind, frame, found = _wish(customer, rng)
    key, total = rental["rental_id"], str(found[0]["price_per_day"] * rental["days"])
    first, second = ([_call("swap_bicycle", rental_id=key, bicycle_id=one["bicycle_id"])] for one in found[:2])
    return Request(
        says=f"I would like another bicycle for my rental {key}, a {kind} one, whichever is cheapest.",
        asks="Which frame size?",
        slots={"frame|size": f"A {frame} frame."},
        looks=[_look(rental), _call("list_bicycles", kind=kind, frame=frame)],
        acts=first,
        plan=f"I will give {key} the bicycle {found[0]['bicycle_id']}, for {total} in all.",
        tells=f"{key} has the new bicycle now and costs {total}.",
        amount=total,
        wrong=("takes the wrong item", second),
    )


def _book(customer: Customer, rng: random.Random) -> Request:
    kind, frame, found = _wish(customer, rng)
    days, who = rng.randrange(1, 11), customer.record["customer_id"]
    total = str(found[0]["price_per_day"] * days)
    first, second = (
        [_call("book_bicycle", customer_id=who, bicycle_id=one["bicycle_id"], days=days)] for one in found[:2]
    )
    return Request(
        says=f"I would like to rent a {kind} bicycle, the cheapest you have.",
        asks="Which frame size, and for how many days?",
        slots={"frame|size": f"A {frame} frame.", "days|long": f"For {days} days."},
        looks=[_call("list_bicycles", kind=kind, frame=frame)],
        acts=first,
        plan=f"I will book {found[0]['bicycle_id']} for {total} in all.",
        tells=f"It is booked, for {total}.",
        amount=total,
        wrong=("takes the wrong item", second),
    )


def _extend(customer: Customer, rng: random.Random) -> Request:
    rental, days = customer.out, rng.randrange(1, 4)
    key = rental["rental_id"]
    total = str(customer.bicycle(rental)["price_per_day"] * (rental["days"] + days))
    return Request(
        says=f"I would like to keep the bicycle of rental {key} for {days} more days.",
        asks="",
        looks=[_look(rental)],
        acts=[_call("extend_rental", rental_id=key, days=days)],
        plan=f"I will extend {key}, for {total} in all.",
        tells=f"{key} is extended and costs {total}.",
        amount=total,
        wrong=("changes it by the wrong amount", [_call("extend_rental", rental_id=key, days=days + 1)]),
    )


def _wish(customer: Customer, rng: random.Random) -> tuple[str, str, list[Record]]:
    """A kind and a frame size of which two bicycles or more can be had."""
    every = [(kind, frame, customer.free(kind, frame)) for kind in KINDS for frame in FRAMES]
    return rng.choice([wish for wish in every if len(wish[2]) > 1])


KINDS_OF_REQUEST = (_cancel, _swap, _book, _extend)


def _find(customer: Customer) -> Call:
    return _call("find_customer", email=customer.record["email"])


def _task(customer: Customer, requests: Sequence[Request]) -> Record:
    """The task as tau2 writes it, with our script for the user."""
    slots = {"e-mail|email": f"It is {customer.record['email']}."}
    for request in requests:
        slots.update(request.slots)
    hello = f"Hello, this is {customer.record['name']}, at branch {customer.branch}."
    says = [request.says for request in requests]
    return {
        "id": "",
        "user_scenario": {
            "instructions": {
                "reason_for_call": " Then: ".join(says),
                "known_info": f"{customer.record['name']}. {' '.join(slots.values())}",
                "task_instructions": "Make one request after the other. Agree to what fits your request.",
            },
            "script": {"parts": [f"{hello} {says[0]}", *says[1:]], "slots": slots},
        },
        "evaluation_criteria": _criteria(customer, requests),
    }


def _criteria(customer: Customer, requests: Sequence[Request]) -> dict[str, Any]:
    if requests[0].acts[0]["name"] == HAND_OVER:
        actions = [{**call, "compare_args": []} for call in requests[0].acts]
        return {"actions": actions, "reward_basis": [Basis.DB.value, Basis.ACTION.value]}
    reads = [_find(customer), *(call for request in requests for call in request.looks)]
    return {
        "actions": [*reads, *(call for request in requests for call in request.acts)],
        "communicate_info": [request.amount for request in requests],
        "reward_basis": [Basis.DB.value, Basis.COMMUNICATE.value],
    }


def _courses(customer: Customer, requests: Sequence[Request]) -> dict[str, list[Line]]:
    last = requests[-1]
    mistake, instead = last.wrong
    courses = {
        "": _course(customer, requests, acts=lambda request: request.acts),
        "changes nothing": _course(customer, requests, acts=lambda request: ()),
        mistake: _course(customer, requests, acts=lambda request: instead if request is last else request.acts),
        "changes more than was asked": _course(
            customer, requests, acts=lambda request: (*request.acts, *_extra(customer, requests))
        ),
    }
    if last.amount:
        courses["never says the amount"] = _course(customer, requests, acts=lambda request: request.acts, quiet=True)
    return courses


def _extra(customer: Customer, requests: Sequence[Request]) -> Sequence[Call]:
    """A booking that nobody asked for, of a bicycle that no request is about."""
    named = {call["arguments"].get("bicycle_id") for request in requests for call in (*request.acts, *request.wrong[1])}
    free = next(one for one in customer.tables["bicycles"].values() if one["free"] and one["bicycle_id"] not in named)
    who = customer.record["customer_id"]
    return [_call("book_bicycle", customer_id=who, bicycle_id=free["bicycle_id"], days=1)]


def _course(
    customer: Customer,
    requests: Sequence[Request],
    *,
    acts: Callable[[Request], Sequence[Call]],
    quiet: bool = False,
) -> list[Line]:
    """The dialogue, from the desk's side; `quiet`: without any amount."""
    lines: list[Line] = [{"say": f"What is your e-mail address? {requests[0].asks}".strip()}, _find(customer)]
    for request in requests:
        plan, told = ("I will do that.", "It is done.") if quiet else (request.plan, request.tells)
        lines += [*request.looks, {"say": f"{plan} Shall I go ahead?"}, *acts(request)]
        lines.append({"say": f"{told} Is there anything else?"})
    return lines
