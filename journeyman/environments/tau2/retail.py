"""tau2's domain `retail`: orders of an online shop are cancelled, changed, exchanged and sent back.

What each tool takes, checks and changes is tau2-bench's, so that final states can be compared with it.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from journeyman.environments.tau2.database import Record
from journeyman.environments.tau2.toolkit import Toolkit, reads, writes
from journeyman.tools import calculator
from journeyman.tools.base import ToolError

CANCEL_REASONS = ("no longer needed", "ordered by mistake")
LATER = (
    *("cancel_reason", "exchange_items", "exchange_new_items", "exchange_payment_method_id"),
    *("exchange_price_difference", "return_items", "return_payment_method_id"),
)
"""Fields that an order gets only by being changed; shown as null before."""


class RetailDesk(Toolkit):
    """What the desk can do."""

    @reads
    def calculate(self, expression: str) -> str:
        """Compute an arithmetic expression, rounded to cents.

        Args:
            expression: numbers, + - * / and parentheses, such as '2 * (3.5 + 4)'.
        """
        return str(round(float(calculator.calculate(expression)), 2))

    @reads
    def find_user_id_by_email(self, email: str) -> str:
        """Find a user's id by e-mail address.

        Args:
            email: such as 'someone@example.com'.
        """
        for user in self.database.records("users"):
            if user["email"].lower() == email.lower():
                return user["user_id"]
        raise ToolError("User not found")

    @reads
    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        """Find a user's id by name and postal code, for users who can't be found by e-mail.

        Args:
            first_name: such as 'Ana'.
            last_name: such as 'Ruiz'.
            zip: postal code of five digits.
        """
        for user in self.database.records("users"):
            name = user["name"]["first_name"].lower(), user["name"]["last_name"].lower()
            if name == (first_name.lower(), last_name.lower()) and user["address"]["zip"] == zip:
                return user["user_id"]
        raise ToolError("User not found")

    @reads
    def get_user_details(self, user_id: str) -> Record:
        """Show a user: name, address, e-mail, payment methods, order ids.

        Args:
            user_id: such as 'ana_ruiz_1234'.
        """
        return self._user(user_id)

    @reads
    def get_order_details(self, order_id: str) -> Record:
        """Show an order: status, items, address, payments.

        Args:
            order_id: such as '#W1234567', with the '#'.
        """
        return _whole(self._order(order_id))

    @reads
    def get_product_details(self, product_id: str) -> Record:
        """Show a product with all its variants, their options, prices and availability.

        Args:
            product_id: of the product, which is not an item id.
        """
        return self._product(product_id)

    @reads
    def get_item_details(self, item_id: str) -> Record:
        """Show one variant of a product: its options, price and availability.

        Args:
            item_id: of the variant, which is not a product id.
        """
        for product in self.database.records("products"):
            if item_id in product["variants"]:
                return product["variants"][item_id]
        raise ToolError("Item not found")

    @reads
    def list_all_product_types(self) -> str:
        """List the names of all products with their product ids."""
        names = {product["name"]: product["product_id"] for product in self.database.records("products")}
        return json.dumps(names, sort_keys=True)

    @reads
    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the user over to a person: where they ask for one, or where policy and tools leave no other way.

        Args:
            summary: what the user wants.
        """
        return "Transfer successful"

    @writes
    def cancel_pending_order(self, order_id: str, reason: str) -> Record:
        """Cancel an order that is still pending and pay it back. Only after the user has said yes to it.

        Args:
            order_id: such as '#W1234567', with the '#'.
            reason: 'no longer needed' or 'ordered by mistake'.
        """
        if self._order(order_id)["status"] != "pending":
            raise ToolError("Non-pending order cannot be cancelled")
        if reason not in CANCEL_REASONS:
            raise ToolError("Invalid reason")
        order = self.database.edit("orders", order_id)
        refunds = []
        for payment in order["payment_history"]:
            self._pay(order["user_id"], payment["payment_method_id"], -payment["amount"])
            refunds.append(_payment("refund", payment["amount"], payment["payment_method_id"]))
        order["status"], order["cancel_reason"] = "cancelled", reason
        order["payment_history"] += refunds
        return _whole(order)

    @writes
    def exchange_delivered_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Record:
        """Exchange items of a delivered order for others of the same product, once. Only after the user's yes.

        Args:
            order_id: such as '#W1234567', with the '#'.
            item_ids: what goes back; an item ordered twice may stand there twice.
            new_item_ids: what comes instead, each in the place of the old one.
            payment_method_id: by which the difference is paid or paid back.
        """
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise ToolError("Non-delivered order cannot be exchanged")
        _check_ordered(order, item_ids, "Number of {item} not found.")
        difference = round(
            sum(new["price"] - old["price"] for old, new in self._pairs(order, item_ids, new_item_ids)), 2
        )
        self._check_balance(order["user_id"], payment_method_id, difference, "pay for the price difference")
        order = self.database.edit("orders", order_id)
        order["status"] = "exchange requested"
        order["exchange_items"], order["exchange_new_items"] = sorted(item_ids), sorted(new_item_ids)
        order["exchange_payment_method_id"], order["exchange_price_difference"] = payment_method_id, difference
        return _whole(order)

    @writes
    def return_delivered_order_items(self, order_id: str, item_ids: list[str], payment_method_id: str) -> Record:
        """Take back items of a delivered order. Only after the user has said yes to it.

        Args:
            order_id: such as '#W1234567', with the '#'.
            item_ids: what goes back; an item ordered twice may stand there twice.
            payment_method_id: by which it is paid back: the one it was paid with, or a gift card.
        """
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise ToolError("Non-delivered order cannot be returned")
        method = self._payment_method(order["user_id"], payment_method_id)
        if not _is_gift_card(method) and payment_method_id != order["payment_history"][0]["payment_method_id"]:
            raise ToolError("Payment method should be the original payment method")
        _check_ordered(order, item_ids, "Some item not found")
        order = self.database.edit("orders", order_id)
        order["status"], order["return_items"] = "return requested", sorted(item_ids)
        order["return_payment_method_id"] = payment_method_id
        return _whole(order)

    @writes
    def modify_pending_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Record:
        """Swap items of a pending order for others of the same product, once. Only after the user's yes.

        Args:
            order_id: such as '#W1234567', with the '#'.
            item_ids: what is taken out; an item ordered twice may stand there twice.
            new_item_ids: what comes instead, each in the place of the old one.
            payment_method_id: by which the difference is paid or paid back.
        """
        order = self._order(order_id)
        if order["status"] != "pending":
            raise ToolError("Non-pending order cannot be modified")
        _check_ordered(order, item_ids, "{item} not found")
        pairs = list(self._pairs(order, item_ids, new_item_ids))
        if any(old["item_id"] == new["item_id"] for old, new in pairs):
            raise ToolError("The new item id should be different from the old item id")
        difference = sum((new["price"] - old["price"] for old, new in pairs), 0.0)
        self._check_balance(order["user_id"], payment_method_id, difference, "pay for the new item")
        self._pay(order["user_id"], payment_method_id, difference)
        order = self.database.edit("orders", order_id)
        kind = "payment" if difference > 0 else "refund"
        order["payment_history"].append(_payment(kind, abs(difference), payment_method_id))
        for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old_id)
            # tau2-bench gives every new item the last one's price and options: kept, for states are compared with it.
            last = pairs[-1][1]
            item["item_id"], item["price"], item["options"] = new_id, last["price"], dict(last["options"])
        order["status"] = "pending (item modified)"
        return _whole(order)

    @writes
    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> Record:
        """Let a pending order be paid in another way. Only after the user has said yes to it.

        Args:
            order_id: such as '#W1234567', with the '#'.
            payment_method_id: the new one.
        """
        order = self._pending(order_id)
        self._payment_method(order["user_id"], payment_method_id)
        payments = order["payment_history"]
        if len(payments) != 1 or payments[0]["transaction_type"] != "payment":
            raise ToolError("There should be exactly one payment for a pending order")
        old_id, amount = payments[0]["payment_method_id"], payments[0]["amount"]
        if old_id == payment_method_id:
            raise ToolError("The new payment method should be different from the current one")
        self._check_balance(order["user_id"], payment_method_id, amount, "pay for the order")
        self._pay(order["user_id"], payment_method_id, amount)
        self._pay(order["user_id"], old_id, -amount)
        order = self.database.edit("orders", order_id)
        order["payment_history"] += [_payment("payment", amount, payment_method_id), _payment("refund", amount, old_id)]
        return _whole(order)

    @writes
    def modify_pending_order_address(
        self, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> Record:
        """Send a pending order to another address. Only after the user has said yes to it.

        Args:
            order_id: such as '#W1234567', with the '#'.
            address1: street and number.
            address2: flat or suite; may be empty.
            city: such as 'Denver'.
            state: two letters, such as 'CO'.
            country: such as 'USA'.
            zip: postal code of five digits.
        """
        self._pending(order_id)
        order = self.database.edit("orders", order_id)
        order["address"] = _address(address1, address2, city, state, country, zip)
        return _whole(order)

    @writes
    def modify_user_address(
        self, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> Record:
        """Change a user's default address. Only after the user has said yes to it.

        Args:
            user_id: such as 'ana_ruiz_1234'.
            address1: street and number.
            address2: flat or suite; may be empty.
            city: such as 'Denver'.
            state: two letters, such as 'CO'.
            country: such as 'USA'.
            zip: postal code of five digits.
        """
        self._user(user_id)
        user = self.database.edit("users", user_id)
        user["address"] = _address(address1, address2, city, state, country, zip)
        return user

    def _user(self, user_id: str) -> Record:
        return self._record("users", user_id, "User")

    def _order(self, order_id: str) -> Record:
        return self._record("orders", order_id, "Order")

    def _product(self, product_id: str) -> Record:
        return self._record("products", product_id, "Product")

    def _record(self, table: str, key: str, what: str) -> Record:
        record = self.database.get(table, key)
        if record is None:
            raise ToolError(f"{what} not found")
        return record

    def _pending(self, order_id: str) -> Record:
        """An order that may still get another address or payment, one with changed items too."""
        order = self._order(order_id)
        if "pending" not in order["status"]:
            raise ToolError("Non-pending order cannot be modified")
        return order

    def _payment_method(self, user_id: str, method_id: str) -> Record:
        methods = self._user(user_id)["payment_methods"]
        if method_id not in methods:
            raise ToolError("Payment method not found")
        return methods[method_id]

    def _check_balance(self, user_id: str, method_id: str, amount: float, purpose: str) -> None:
        method = self._payment_method(user_id, method_id)
        if _is_gift_card(method) and method["balance"] < amount:
            raise ToolError(f"Insufficient gift card balance to {purpose}")

    def _pay(self, user_id: str, method_id: str, amount: float) -> None:
        """Take an amount from a gift card, or give a negative one back; other methods settle it elsewhere."""
        if _is_gift_card(self._payment_method(user_id, method_id)):
            card = self.database.edit("users", user_id)["payment_methods"][method_id]
            card["balance"] = round(card["balance"] - amount, 2)

    def _pairs(self, order: Record, item_ids: Sequence[str], new_ids: Sequence[str]) -> Iterator[tuple[Record, Record]]:
        """(ordered item, variant that comes instead), each of the same product and to be had."""
        if len(item_ids) != len(new_ids):
            raise ToolError("The number of items to be exchanged should match.")
        for old_id, new_id in zip(item_ids, new_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old_id)
            variants = self._product(item["product_id"])["variants"]
            if new_id not in variants:
                raise ToolError("Variant not found")
            if not variants[new_id]["available"]:
                raise ToolError(f"New item {new_id} not found or available")
            yield item, variants[new_id]


def _check_ordered(order: Record, item_ids: Sequence[str], message: str) -> None:
    """Each item must have been ordered at least as often as it is named."""
    ordered = [item["item_id"] for item in order["items"]]
    for item_id in item_ids:
        if item_ids.count(item_id) > ordered.count(item_id):
            raise ToolError(message.format(item=item_id))


def _is_gift_card(method: Record) -> bool:
    return method["source"] == "gift_card"


def _payment(kind: str, amount: float, method_id: str) -> Record:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method_id}


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> Record:
    return {
        **{"address1": address1, "address2": address2, "city": city},
        **{"country": country, "state": state, "zip": zip},
    }


def _whole(order: Record) -> dict[str, Any]:
    """An order as it is shown: with the fields that it may get later."""
    return {**order, **{name: order.get(name) for name in LATER}}
