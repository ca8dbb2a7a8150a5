"""A shop of one product, one customer and three orders, in the form of tau2's domain `retail`."""

from typing import Any

MUG = {
    "name": "Mug",
    "product_id": "P1",
    "variants": {
        "I1": {"item_id": "I1", "options": {"colour": "red"}, "available": True, "price": 10.0},
        "I2": {"item_id": "I2", "options": {"colour": "blue"}, "available": True, "price": 12.5},
        "I3": {"item_id": "I3", "options": {"colour": "gold"}, "available": True, "price": 99.0},
        "I4": {"item_id": "I4", "options": {"colour": "grey"}, "available": False, "price": 10.0},
    },
}
HOME = {"address1": "1 Elm", "address2": "", "city": "Here", "country": "USA", "state": "CO", "zip": "80001"}


def order(key: str, status: str, *items: str, paid: str = "card_1") -> dict[str, Any]:
    variants = [MUG["variants"][item] for item in items]
    return {
        **{"order_id": key, "user_id": "ana_1", "address": HOME, "status": status, "fulfillments": []},
        "items": [
            {"name": "Mug", "product_id": "P1", **{k: v[k] for k in ("item_id", "price", "options")}} for v in variants
        ],
        "payment_history": [
            {"transaction_type": "payment", "amount": sum(v["price"] for v in variants), "payment_method_id": paid}
        ],
    }


ANA = {
    "user_id": "ana_1",
    "name": {"first_name": "Ana", "last_name": "Ruiz"},
    "address": HOME,
    "email": "ana@example.com",
    "payment_methods": {
        "card_1": {"source": "credit_card", "id": "card_1", "brand": "visa", "last_four": "1111"},
        "gift_1": {"source": "gift_card", "id": "gift_1", "balance": 20.0},
        "pal_1": {"source": "paypal", "id": "pal_1"},
    },
    "orders": ["#W1", "#W2", "#W3"],
}
RETAIL = {
    "products": {"P1": MUG},
    "users": {"ana_1": ANA},
    "orders": {
        "#W1": order("#W1", "pending", "I1", "I1"),
        "#W2": order("#W2", "delivered", "I1", "I2"),
        "#W3": order("#W3", "pending", "I2", paid="gift_1"),
    },
}


def a_task(**criteria: Any) -> dict[str, Any]:
    user = {"instructions": "You want to cancel your order #W3.", "script": {"parts": ["Cancel #W3!"], "slots": {}}}
    return {"id": "t", "user_scenario": user, "evaluation_criteria": criteria}


CANCEL = {"name": "cancel_pending_order", "arguments": {"order_id": "#W3", "reason": "no longer needed"}}
