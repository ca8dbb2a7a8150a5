"""A domain of our own in tau2's form: the desk of a bicycle rental, with a policy that its tools don't enforce."""

import random
from functools import lru_cache
from typing import Any, Literal

from journeyman.environments.tau2.database import Record, Tables
from journeyman.environments.tau2.toolkit import Toolkit, reads, writes
from journeyman.tools.base import ToolError

Kind = Literal["city", "mountain", "cargo", "tandem"]
Frame = Literal["small", "medium", "large"]
KINDS: tuple[Kind, ...] = ("city", "mountain", "cargo", "tandem")
FRAMES: tuple[Frame, ...] = ("small", "medium", "large")
REASONS = ("bad weather", "change of plans")
MAX_DAYS = 14
NAMES = ("Ada", "Bo", "Cem", "Dana", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kaya", "Leo")
CUSTOMERS = len(NAMES)

POLICY = """# Bicycle rental desk

You help customers of a bicycle rental. Before anything else, find the customer by e-mail address.

- Help with rentals of that customer only.
- Before you book, cancel, swap or extend, say what you will do and ask for a yes.
- A rental can be cancelled or given another bicycle only while it is booked. The customer gets all the money back.
- A rental whose bicycle is out can be extended; no rental is longer than 14 days.
- Rentals of a tandem are never cancelled at the desk: hand the customer over to a person.
- Where a customer leaves the choice to you, take the cheapest bicycle that fits.
- When a price changes or money is paid back, tell the customer the amount.
- Hand over to a person what you can't do. Then say that you have done so.
"""


class BicycleDesk(Toolkit):
    """What the desk can do."""

    @reads
    def find_customer(self, email: str) -> Record:
        """Find a customer by e-mail address, with the ids of their rentals.

        Args:
            email: such as 'someone@example.org'.
        """
        for customer in self.database.records("customers"):
            if customer["email"] == email.strip().lower():
                rentals = [r["rental_id"] for r in self.database.records("rentals") if _belongs(r, customer)]
                return {**customer, "rentals": rentals}
        raise ToolError("there is no customer with this address")

    @reads
    def get_rental(self, rental_id: str) -> Record:
        """Show a rental with its bicycle.

        Args:
            rental_id: such as 'R12'.
        """
        rental = self._record("rentals", rental_id)
        return {**rental, "bicycle": self._record("bicycles", rental["bicycle_id"])}

    @reads
    def list_bicycles(self, kind: Kind, frame: Frame) -> list[Record]:
        """List the bicycles that can be had, of a kind and a frame size.

        Args:
            kind: city, mountain, cargo or tandem.
            frame: small, medium or large.
        """
        every = self.database.records("bicycles")
        return [one for one in every if (one["kind"], one["frame"], one["free"]) == (kind, frame, True)]

    @writes
    def book_bicycle(self, customer_id: str, bicycle_id: str, days: int) -> Record:
        """Book a bicycle. Only after the customer has said yes to it.

        Args:
            customer_id: who rents it.
            bicycle_id: which one.
            days: how long, 1 to 14.
        """
        self._record("customers", customer_id)
        price = self._take(bicycle_id)["price_per_day"] * _days(days)
        key = f"R{len(self.database.keys('rentals')) + 1}"
        rental = {"rental_id": key, "customer_id": customer_id, "bicycle_id": bicycle_id}
        return self.database.put("rentals", key, {**rental, "days": days, "total": price, "status": "booked"})

    @writes
    def cancel_rental(self, rental_id: str, reason: Literal["bad weather", "change of plans"]) -> Record:
        """Cancel a booked rental and pay it back. Only after the customer has said yes to it.

        Args:
            rental_id: such as 'R12'.
            reason: why.
        """
        rental = self._booked(rental_id, "cancelled")
        self.database.edit("bicycles", rental["bicycle_id"])["free"] = True
        rental = self.database.edit("rentals", rental_id)
        rental.update(status="cancelled", reason=reason, refund=rental["total"])
        return rental

    @writes
    def swap_bicycle(self, rental_id: str, bicycle_id: str) -> Record:
        """Give a booked rental another bicycle, at that one's price. Only after the customer has said yes to it.

        Args:
            rental_id: such as 'R12'.
            bicycle_id: the new one.
        """
        rental = self._booked(rental_id, "changed")
        price = self._take(bicycle_id)["price_per_day"] * rental["days"]
        self.database.edit("bicycles", rental["bicycle_id"])["free"] = True
        rental = self.database.edit("rentals", rental_id)
        rental.update(bicycle_id=bicycle_id, total=price)
        return rental

    @writes
    def extend_rental(self, rental_id: str, days: int) -> Record:
        """Make a rental longer whose bicycle is out. Only after the customer has said yes to it.

        Args:
            rental_id: such as 'R12'.
            days: how many more.
        """
        rental = self._record("rentals", rental_id)
        if rental["status"] != "out":
            raise ToolError(f"rental {rental_id} is {rental['status']}: only one that is out can be extended")
        longer = _days(rental["days"] + _days(days))
        price = self._record("bicycles", rental["bicycle_id"])["price_per_day"]
        rental = self.database.edit("rentals", rental_id)
        rental.update(days=longer, total=price * longer)
        return rental

    @reads
    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the customer over to a person.

        Args:
            summary: what they want.
        """
        return "Transfer successful"

    def assert_rental(self, rental_id: str, status: str) -> bool:
        """Whether a rental has this status."""
        return self._record("rentals", rental_id)["status"] == status

    def _record(self, table: str, key: str) -> Record:
        record = self.database.get(table, key)
        if record is None:
            raise ToolError(f"there is no {key} among the {table}")
        return record

    def _booked(self, rental_id: str, change: str) -> Record:
        rental = self._record("rentals", rental_id)
        if rental["status"] != "booked":
            raise ToolError(f"rental {rental_id} is {rental['status']}: only a booked one can be {change}")
        return rental

    def _take(self, bicycle_id: str) -> Record:
        if not self._record("bicycles", bicycle_id)["free"]:
            raise ToolError(f"bicycle {bicycle_id} can't be had")
        bicycle = self.database.edit("bicycles", bicycle_id)
        bicycle["free"] = False
        return bicycle


def _belongs(rental: Record, customer: Record) -> bool:
    return rental["customer_id"] == customer["customer_id"]


def _days(days: int) -> int:
    if not 1 <= days <= MAX_DAYS:
        raise ToolError(f"a rental takes 1 to {MAX_DAYS} days")
    return days


@lru_cache(maxsize=256)
def shop(seed: int) -> Tables:
    """The database of a rental: 12 customers, each with a booked rental and one that is out, and 48 bicycles."""
    rng = random.Random(seed)
    customers = {
        f"C{n}": {"customer_id": f"C{n}", "name": name, "email": f"{name.lower()}{rng.randrange(10, 100)}@example.org"}
        for n, name in enumerate(NAMES, start=1)
    }
    bicycles: dict[str, Record] = {}
    for kind in KINDS:
        for frame in FRAMES:
            # Different prices, so that the cheapest is one alone; four, so that of some kind two are always left.
            for price in rng.sample(range(8, 40), 4):
                key = f"B{len(bicycles) + 1}"
                bicycles[key] = {"bicycle_id": key, "kind": kind, "frame": frame, "price_per_day": price, "free": True}
    rentals: dict[str, Record] = {}
    taken = rng.sample(sorted(bicycles), 2 * CUSTOMERS)
    for number, bicycle_id in enumerate(taken, start=1):
        days, customer = rng.randrange(2, 8), f"C{(number - 1) % CUSTOMERS + 1}"
        bicycles[bicycle_id]["free"] = False
        total: Any = bicycles[bicycle_id]["price_per_day"] * days
        rentals[f"R{number}"] = {
            **{"rental_id": f"R{number}", "customer_id": customer, "bicycle_id": bicycle_id},
            **{"days": days, "total": total, "status": "booked" if number <= CUSTOMERS else "out"},
        }
    return {"customers": customers, "bicycles": bicycles, "rentals": rentals}
