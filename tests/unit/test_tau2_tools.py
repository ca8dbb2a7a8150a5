"""The world of a service desk: private databases, what tools check and change, verdicts."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.tau2.database import Database, state_hash
from journeyman.environments.tau2.task import Action, task_of
from journeyman.environments.tau2.verdict import Conduct, judge, was_said
from journeyman.environments.tau2.world import Domain, World
from journeyman.tools.base import ToolError
from tests.unit.small_shop import ANA, CANCEL, HOME, MUG, RETAIL, a_task


@pytest.fixture
def retail() -> World:
    return World(Domain(name="retail", tables=deepcopy(RETAIL), policy="", user_tables={}))


def run(world: World, name: str, **arguments: Any) -> Any:
    text = world.run(Action(name=name, arguments=arguments))
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def balance(world: World) -> float:
    user = world.desk.database.get("users", "ana_1")
    assert user is not None
    return user["payment_methods"]["gift_1"]["balance"]


# -- Databases


def test_the_hash_knows_no_order_of_keys_but_that_of_lists() -> None:
    assert state_hash({"a": 1, "b": {"c": 2, "d": 3}}) == state_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert state_hash({"a": [1, 2]}) != state_hash({"a": [2, 1]})
    assert state_hash({"a": 1}) != state_hash({"a": 2}) != state_hash({"a": "2"})


WRITES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2)), max_size=6)


@given(first=WRITES, second=WRITES)
@settings(max_examples=80)
def test_the_cheap_hash_agrees_with_the_full_one_and_the_base_stays(
    first: list[tuple[str, str, int]], second: list[tuple[str, str, int]]
) -> None:
    base = {"a": {"x": {"n": 0}, "y": {"n": 1}}, "b": {}}
    before = deepcopy(base)
    views = []
    for writes in (first, second):
        view = Database(base)
        for table, key, number in writes:
            view.put(table, key, {"n": number})
        views.append(view)
    one, two = views
    assert (one.hash() == two.hash()) == (one.changes_hash() == two.changes_hash())
    assert base == before
    other = Database(base)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.hash() == one.hash()


def test_a_transaction_that_raises_leaves_nothing() -> None:
    database = Database({"a": {"x": {"n": [1]}}})
    database.edit("a", "x")["n"].append(2)
    with pytest.raises(ToolError), database.transaction():
        database.edit("a", "x")["n"].append(3)
        database.put("a", "y", {"n": []})
        raise ToolError("no")
    assert database.tables() == {"a": {"x": {"n": [1, 2]}}}
    [change] = database.changes()
    assert change.to_json() == {
        **{"table": "a", "record": "x", "path": "a/x"},
        **{"before": {"n": [1]}, "after": {"n": [1, 2]}},
    }


def test_nested_values_are_laid_over_records_and_lists_replaced() -> None:
    database = Database({"users": {"u": {"name": "U", "tasks": ["1"], "at": {"x": 1, "y": 2}}}})
    database.merge({"users": {"u": {"tasks": ["2"], "at": {"y": 3}}}, "tasks": {"2": {"title": "T"}}})
    assert database.get("users", "u") == {"name": "U", "tasks": ["2"], "at": {"x": 1, "y": 3}}
    assert database.get("tasks", "2") == {"title": "T"}


# -- Retail: by hand


def test_reading_changes_nothing(retail: World) -> None:
    assert run(retail, "find_user_id_by_email", email="ANA@example.com") == "ana_1"
    assert run(retail, "find_user_id_by_name_zip", first_name="ana", last_name="RUIZ", zip="80001") == "ana_1"
    assert run(retail, "get_user_details", user_id="ana_1") == ANA
    shown = run(retail, "get_order_details", order_id="#W1")
    assert shown["status"] == "pending" and shown["cancel_reason"] is None
    assert run(retail, "get_product_details", product_id="P1") == MUG
    assert run(retail, "get_item_details", item_id="I2")["price"] == 12.5
    assert run(retail, "list_all_product_types") == {"Mug": "P1"}
    assert run(retail, "calculate", expression="2 * (3.5 + 4) / 7") == 2.14  # 15 / 7 = 2.142...
    assert retail.desk.database.changes() == []


def test_cancelling_pays_a_gift_card_back_at_once(retail: World) -> None:
    made = run(retail, "cancel_pending_order", order_id="#W3", reason="no longer needed")
    assert (made["status"], made["cancel_reason"]) == ("cancelled", "no longer needed")
    assert made["payment_history"][1] == {
        **{"transaction_type": "refund", "amount": 12.5, "payment_method_id": "gift_1"}
    }
    assert balance(retail) == 32.5  # 20 + 12.5


def test_swapping_items_costs_the_difference_and_gives_all_the_last_ones_price(retail: World) -> None:
    made = run(
        retail,
        "modify_pending_order_items",
        order_id="#W1",
        item_ids=["I1", "I1"],
        new_item_ids=["I2", "I2"],
        payment_method_id="gift_1",
    )
    assert made["status"] == "pending (item modified)"
    assert [item["item_id"] for item in made["items"]] == ["I2", "I2"]
    assert made["payment_history"][1]["amount"] == 5.0 and balance(retail) == 15.0  # 2 x (12.5 - 10); 20 - 5
    with pytest.raises(ToolError, match="Non-pending order cannot be modified"):
        run(
            retail,
            "modify_pending_order_items",
            order_id="#W1",
            item_ids=["I2"],
            new_item_ids=["I1"],
            payment_method_id="gift_1",
        )
    # The address of an order whose items were changed may still be changed.
    assert run(retail, "modify_pending_order_address", order_id="#W1", **{**HOME, "city": "There"})["address"][
        "city"
    ] == ("There")


def test_exchanging_asks_for_the_difference_later(retail: World) -> None:
    made = run(
        retail,
        "exchange_delivered_order_items",
        order_id="#W2",
        item_ids=["I2", "I1"],
        new_item_ids=["I1", "I2"],
        payment_method_id="gift_1",
    )
    assert made["status"] == "exchange requested" and made["exchange_price_difference"] == 0.0
    assert made["exchange_items"] == made["exchange_new_items"] == ["I1", "I2"]
    assert balance(retail) == 20.0


def test_returning_to_the_first_payment_method_or_a_gift_card(retail: World) -> None:
    with pytest.raises(ToolError, match="original payment method"):
        run(retail, "return_delivered_order_items", order_id="#W2", item_ids=["I1"], payment_method_id="pal_1")
    made = run(
        retail, "return_delivered_order_items", order_id="#W2", item_ids=["I2", "I1"], payment_method_id="gift_1"
    )
    assert (made["status"], made["return_items"]) == ("return requested", ["I1", "I2"])


def test_another_payment_method_is_charged_and_the_first_paid_back(retail: World) -> None:
    made = run(retail, "modify_pending_order_payment", order_id="#W1", payment_method_id="gift_1")
    kinds = [(p["transaction_type"], p["payment_method_id"]) for p in made["payment_history"]]
    assert kinds == [("payment", "card_1"), ("payment", "gift_1"), ("refund", "card_1")]
    assert balance(retail) == 0.0  # 20 - 20
    run(retail, "modify_user_address", user_id="ana_1", **{**HOME, "zip": "80002"})
    assert run(retail, "get_user_details", user_id="ana_1")["address"]["zip"] == "80002"


SWAP = {"order_id": "#W1", "item_ids": ["I1"], "new_item_ids": ["I2"], "payment_method_id": "card_1"}
REFUSED: Sequence[tuple[str, Mapping[str, Any], str]] = (
    ("get_order_details", {"order_id": "W1"}, "Order not found"),
    ("cancel_pending_order", {"order_id": "#W2", "reason": "no longer needed"}, "Non-pending"),
    ("cancel_pending_order", {"order_id": "#W1", "reason": "bored"}, "Invalid reason"),
    ("modify_pending_order_items", {**SWAP, "new_item_ids": ["I4"]}, "not found or available"),
    ("modify_pending_order_items", {**SWAP, "new_item_ids": ["I9"]}, "Variant not found"),
    ("modify_pending_order_items", {**SWAP, "new_item_ids": ["I1"]}, "should be different"),
    ("modify_pending_order_items", {**SWAP, "new_item_ids": []}, "should match"),
    ("modify_pending_order_items", {**SWAP, "item_ids": ["I2"]}, "not found"),
    ("modify_pending_order_items", {**SWAP, "payment_method_id": "x"}, "Payment method not found"),
    (
        "modify_pending_order_items",
        {**SWAP, "new_item_ids": ["I3"], "payment_method_id": "gift_1"},
        "Insufficient gift card balance",
    ),
    ("exchange_delivered_order_items", SWAP, "Non-delivered"),
    ("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "card_1"}, "should be different"),
    ("modify_pending_order_address", {"order_id": "#W2", **HOME}, "Non-pending"),
    (
        "return_delivered_order_items",
        {"order_id": "#W2", "item_ids": ["I9"], "payment_method_id": "card_1"},
        "not found",
    ),
    ("calculate", {"expression": "__import__('os')"}, "only numbers"),
    ("cancel_pending_order", {"order_id": 7, "reason": "x"}, "order_id must be a string"),
    ("cancel_pending_order", {"order": "#W1"}, "takes order_id, reason"),
    ("drop_table", {}, "no such tool"),
    ("_pay", {"user_id": "ana_1", "method_id": "gift_1", "amount": -100}, "no such tool"),
    ("run", {"name": "x", "arguments": {}}, "no such tool"),
)


@pytest.mark.parametrize(("name", "arguments", "why"), REFUSED)
def test_what_is_refused_says_why_and_changes_nothing(
    retail: World, name: str, arguments: Mapping[str, Any], why: str
) -> None:
    with pytest.raises(ToolError, match=why):
        retail.run(Action(name=name, arguments=dict(arguments)))
    assert retail.desk.database.changes() == []


# -- Verdicts


def test_required_words_are_found_without_commas_and_whatever_the_case() -> None:
    assert was_said("1200", ["total $1,200"]) and was_said("YES", ["Oh yes."]) and was_said("1,200", ["1200"])
    assert not was_said("1200", ["total 1 200", "120"])


def verdict_of(calls: Sequence[Mapping[str, Any]], said: Sequence[str], ended: bool = True, **criteria: Any) -> Any:
    domain = Domain(name="retail", tables=RETAIL, policy="", user_tables={})
    task, world = task_of(a_task(**criteria)), World(domain)
    made = [Action.model_validate(action) for action in calls]
    world.attempt(made)
    return judge(domain, task, world, Conduct(said=list(said), made=made, ended=ended))


def test_all_parts_of_the_basis_have_to_be_met() -> None:
    wanted = {"actions": [CANCEL], "communicate_info": ["12.5"]}
    right = verdict_of([CANCEL], ["You get 12.50 back."], **wanted)
    assert (right.correct, right.score) == (True, 1.0)
    assert right.parts == {"db": 1.0, "communicate": 1.0, "action": 1.0, "ended": 1.0}
    assert verdict_of([CANCEL], ["Done."], **wanted).parts["communicate"] == 0.0
    for wrong in (
        verdict_of([], ["12.5"], **wanted),
        verdict_of([CANCEL], ["Done."], **wanted),
        verdict_of([CANCEL], ["12.5"], ended=False, **wanted),
        verdict_of(
            [CANCEL, {"name": "modify_user_address", "arguments": {"user_id": "ana_1", **HOME, "city": "X"}}],
            ["12.5"],
            **wanted,
        ),
        verdict_of([{**CANCEL, "arguments": {"order_id": "#W1", "reason": "no longer needed"}}], ["12.5"], **wanted),
    ):
        assert (wrong.correct, wrong.score) == (False, 0.0)
    assert verdict_of([CANCEL], ["Done."], **wanted, reward_basis=["DB"]).correct


def test_what_only_a_judge_can_tell_is_left_out_and_said() -> None:
    only = verdict_of([], [], nl_assertions=["The agent was kind"], reward_basis=["NL_ASSERTION"])
    assert (only.correct, only.score, only.parts["unjudged"]) == (None, None, 1.0)
    both = verdict_of([CANCEL], [], actions=[CANCEL], nl_assertions=["a", "b"], reward_basis=["DB", "NL_ASSERTION"])
    assert (both.correct, both.score, both.parts["unjudged"]) == (True, 1.0, 2.0)


def test_no_gold_actions_and_an_empty_list_of_them_differ() -> None:
    assert verdict_of([CANCEL], [], actions=[]).correct is False  # the database had to stay as it was
    assert verdict_of([CANCEL], []).correct is None  # nothing is said of it


def test_an_action_counts_by_the_arguments_that_are_compared() -> None:
    gold = {"name": "transfer_to_human_agents", "arguments": {"summary": "this"}}
    made = {"name": "transfer_to_human_agents", "arguments": {"summary": "that"}}
    assert verdict_of([made], [], actions=[{**gold, "compare_args": []}], reward_basis=["ACTION"]).correct
    assert not verdict_of([made], [], actions=[gold], reward_basis=["ACTION"]).correct
