"""Calls against accepted calls: BFCL's ground truth passes, every wrong variant of it fails, any JSON gets a verdict."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.cli import app
from journeyman.environments.call_problems import as_call, bfcl_problem
from journeyman.errors import DataError
from journeyman.formats import import_path
from journeyman.graders import Grade, GradeError, grade_calls
from journeyman.graders.calls import _unmatched, read_item
from journeyman.graders.partial import partial_match

TOOLS = [
    {
        "name": "trip",
        "parameters": {
            "type": "dict",
            "properties": {
                "to": {"type": "string"},
                "km": {"type": "float"},
                "days": {"type": "integer"},
                "direct": {"type": "boolean"},
                "stops": {"type": "array", "items": {"type": "string"}},
                "hotel": {"type": "dict", "properties": {"stars": {"type": "integer"}, "name": {"type": "string"}}},
                "any": {"type": "any"},
            },
            "required": ["to"],
        },
    },
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]


def graded(predicted: Any, accepted: Any, tools: Any = None) -> Grade:
    return grade_calls(
        {"id": 1, "tools": TOOLS if tools is None else tools, "predicted": predicted, "accepted": accepted}
    )


def trip(**arguments: Any) -> dict[str, Any]:
    return {"name": "trip", "arguments": arguments}


def right(given: Any, accepted: list[Any], name: str) -> bool:
    return graded([trip(to="Rome", **{name: given})], [trip(to=["Rome"], **{name: accepted})]).correct


@pytest.mark.parametrize(
    ("name", "given", "accepted", "correct"),
    [
        ("to2", "x", ["x"], False),  # the tool has no such parameter
        ("km", 3, [3.0], True),  # an integer for a float
        ("km", 3.0, [3], True),
        ("km", True, [1.0], False),  # True == 1.0 in Python
        ("days", True, [1], False),
        ("days", 1, [True], False),
        ("days", 1.0, [1], False),  # as BFCL
        ("days", "3", [3], False),
        ("days", 10**400, [10**400], True),
        ("km", 10**400, [1e308], False),
        ("km", float("nan"), [float("nan")], False),
        ("km", None, ["", None], True),  # null for a default
        ("direct", False, [False], True),
        ("direct", 0, [False], False),
        ("stops", ["Pisa", "SIENA"], [["pisa", "siena"]], True),
        ("stops", ["SIENA", "Pisa"], [["pisa", "siena"]], False),  # lists have an order
        ("stops", ["SIENA", "Pisa"], [["pisa", "siena"], ["siena", "pisa"]], True),
        ("stops", [], [["pisa"]], False),
        ("stops", "pisa", [["pisa"]], False),
        ("hotel", {"stars": 4, "name": "Villa-Bella"}, [{"stars": [3, 4], "name": ["villa bella"]}], True),
        ("hotel", {"stars": 5, "name": "Villa Bella"}, [{"stars": [3, 4], "name": ["villa bella"]}], False),
        ("hotel", {"stars": 4}, [{"stars": [4], "name": ["villa bella", ""]}], True),
        ("hotel", {"stars": 4}, [{"stars": [4], "name": ["villa bella"]}], False),
        ("hotel", {"stars": 4, "pool": True}, [{"stars": [4]}], False),
        ("any", {"deep": [{"er": 1}]}, [{"deep": [[{"er": [1, 2]}]]}], True),
        ("any", {"deep": [{"er": 3}]}, [{"deep": [[{"er": [1, 2]}]]}], False),
        ("any", "1", [1], False),
    ],
)
def test_a_value_is_one_of_the_accepted(name: str, given: Any, accepted: list[Any], correct: bool) -> None:
    assert right(given, accepted, name) is correct


@pytest.mark.parametrize(
    ("given", "accepted", "correct"),
    [
        ("april 1 2024", "April 1, 2024", True),
        ("it's", 'IT"S', True),  # BFCL makes quotes double
        ("x^2", "x**2", True),
        ("Zu\u0308rich", "Z\u00fcrich", True),
        ("1.5", "15", False),  # BFCL takes them for equal
        ("-5", "5", False),
        ("-", "*", False),
        ("", "-", False),
        ("Rome", "Roma", False),
        ("\ud800", "\ud800", True),
    ],
)
def test_texts_are_equal_in_normal_form(given: str, accepted: str, correct: bool) -> None:
    assert graded([trip(to=given)], [trip(to=[accepted])]).correct is correct


def test_a_parameter_may_be_left_out_where_an_empty_text_is_accepted() -> None:
    assert graded([trip(to="Rome")], [trip(to=["Rome"], days=[3, ""])]).correct
    assert graded([trip()], [trip(to=["Rome", ""])]).correct
    assert graded([trip(to="Rome")], [trip(to=["Rome"], days=[3])]).reason == "trip: parameter 'days' is missing"
    assert not graded([trip(to="Rome", days=4)], [trip(to=["Rome"], days=[3, ""])]).correct


def test_reasons_say_what_is_wrong() -> None:
    gold = [trip(to=["Rome"])]
    assert graded([], gold).reason == "no call is made"
    assert graded([trip(to="Rome")] * 2, gold).reason == "2 calls made where 1 is right"
    assert graded([{"name": "tripp", "arguments": {"to": "Rome"}}], gold).reason == "calls 'tripp', not 'trip'"
    assert graded([trip(to=3)], gold).reason == "trip: 'to' is an integer, not a string"
    assert graded([trip(to="Oslo")], gold).reason == "trip: 'to' is 'Oslo', not 'Rome'"
    assert graded([trip(to="Rome", by="bus")], gold).reason == "trip: 'by' is not a parameter of the right call"
    assert graded([trip(to="Rome")], []).reason == "calls 'trip' where no call is right"
    assert graded([], []).correct
    assert graded("I'd call trip", []).reason == "the prediction is not a list of calls"
    assert (
        graded([{"name": "trip", "arguments": "{"}], gold).reason
        == "predicted[0] (trip): the arguments are not an object"
    )
    assert graded([{"name": "trip", "arguments": '{"to": "rome"}'}], gold).correct  # as on OpenAI's wire
    two = [trip(to=["Rome"]), trip(to=["Oslo"])]
    assert graded([trip(to="Rome"), trip(to="Rome")], two).reason.startswith("no call fits accepted[1] (trip): ")


def test_matching_is_bipartite() -> None:
    """First fit fails here: the first accepted call takes Rome, and the second, which takes Rome alone, has none left."""
    accepted = [trip(to=["Rome", "Oslo"]), trip(to=["Rome"])]
    assert graded([trip(to="Rome"), trip(to="Oslo")], accepted).correct
    assert graded([trip(to="Oslo"), trip(to="Rome")], accepted).correct
    assert not graded([trip(to="Oslo"), trip(to="Oslo")], accepted).correct


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_a_matching_is_found_where_there_is_one(fits: list[list[bool]]) -> None:
    n = len(fits)
    possible = any(all(fits[row][column] for row, column in enumerate(order)) for order in permutations(range(n)))
    assert (_unmatched(fits) is None) is possible


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"tools": [], "predicted": [], "accepted": []}, "no key 'id'"),
        ({"id": True, "tools": [], "predicted": [], "accepted": []}, "the id is neither a text nor a whole number"),
        ({"id": 1, "predicted": [], "accepted": []}, "no key 'tools'"),
        ({"id": 1, "tools": [], "accepted": []}, "no key 'predicted'"),
        ({"id": 1, "tools": {}, "predicted": [], "accepted": []}, "tools is not a list"),
        ({"id": 1, "tools": [{}], "predicted": [], "accepted": []}, "tools[0] has no name"),
        ({"id": 1, "tools": TOOLS, "predicted": [], "accepted": [{"name": "fly"}]}, "accepted[0] calls 'fly'"),
        (
            {"id": 1, "tools": [], "predicted": [], "accepted": [{"name": "f", "arguments": {"a": 1}}]},
            "accepted[0].arguments.a",
        ),
        (
            {"id": 1, "tools": [], "predicted": [], "accepted": [{"name": "f", "arguments": {"a": [{"b": 1}]}}]},
            "accepted[0].arguments.a.b is not a list",
        ),
    ],
)
def test_a_wrong_item_is_a_typed_error(item: dict[str, Any], error: str) -> None:
    with pytest.raises(GradeError) as raised:
        grade_calls(item)
    assert str(raised.value).startswith(error)


NAMES = st.sampled_from(
    ["id", "tools", "predicted", "accepted", "name", "arguments", "parameters", "type", "items", "a"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(JSON, JSON, JSON, JSON)
def test_any_json_gets_a_verdict_or_a_typed_error(name: Any, tools: Any, predicted: Any, accepted: Any) -> None:
    for item in (
        name,
        {"id": name, "tools": tools, "predicted": predicted, "accepted": accepted},
        {
            "id": 1,
            "tools": TOOLS,
            "predicted": [trip(to=predicted, any=tools)],
            "accepted": [trip(to=[accepted], any=[name])],
        },
    ):
        try:
            assert isinstance(grade_calls(item), Grade)
        except GradeError as error:
            assert str(error)


def test_nesting_has_a_limit() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert graded([trip(to="Rome", any=deep)], [trip(to=["Rome"], any=[1])]).reason.endswith("nested deeper than 32")
    with pytest.raises(GradeError, match="nested deeper"):
        graded([], [trip(to=deep)])


def bfcl(shared_data: Path) -> list[Mapping[str, Any]]:
    """Items of every single-turn category: id, tools as BFCL writes them, accepted calls."""
    items = []
    for category in ("simple_python", "multiple", "parallel", "irrelevance"):
        questions = (shared_data / "bfcl" / f"BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines()
        answers = shared_data / "bfcl" / "possible_answer" / f"BFCL_v4_{category}.json"
        truth = {}
        if answers.exists():
            rows = map(json.loads, answers.read_text(encoding="utf-8").splitlines())
            truth = {row["id"]: row["ground_truth"] for row in rows}
        for row in map(json.loads, questions):
            calls = [{"name": n, "arguments": a} for one in truth.get(row["id"], []) for n, a in one.items()]
            items.append({"id": row["id"], "tools": row["function"], "accepted": calls})
    return items


def other(value: Any) -> Any:
    """A value that is surely another."""
    if value is None or isinstance(value, bool):
        return "neither"
    if isinstance(value, int | float):
        return value + 12345
    if isinstance(value, str):
        return f"{value} or not"
    if isinstance(value, list):
        return [*value, *value[-1:], 0] if value else [0]
    return {**value, "more": 1}


def wrong_variants(
    gold: list[dict[str, Any]], accepted: list[dict[str, Any]]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(kind, calls) with one mistake in one place, in every place."""
    yield "none", []
    for n, (call, right) in enumerate(zip(gold, accepted, strict=True)):

        def with_call(kind: str, made: dict[str, Any], n: int = n) -> tuple[str, list[dict[str, Any]]]:
            return kind, [*gold[:n], made, *gold[n + 1 :]]

        yield "doubled", [*gold, call]
        yield with_call("name", {**call, "name": call["name"] + "s"})
        yield with_call("extra", {**call, "arguments": {**call["arguments"], "surplus": 1}})
        for name, value in call["arguments"].items():
            yield with_call("value", {**call, "arguments": {**call["arguments"], name: other(value)}})
            yield with_call("type", {**call, "arguments": {**call["arguments"], name: {"wrong": [value]}}})
            if "" not in right["arguments"][name]:
                rest = {key: given for key, given in call["arguments"].items() if key != name}
                yield with_call("missing", {**call, "arguments": rest})


def test_all_of_bfcls_ground_truth_passes(shared_data: Path) -> None:
    passed = Counter()
    for item in bfcl(shared_data):
        gold = [as_call(one) for one in item["accepted"]]
        for predicted in (gold, gold[::-1]):
            grade = grade_calls({**item, "predicted": predicted})
            assert grade.correct, (item["id"], grade.reason)
        for n, one in enumerate(item["accepted"]):  # each accepted value in its turn
            for name, values in one["arguments"].items():
                for value in values:
                    call = as_call({**one, "arguments": {**one["arguments"], name: [value]}})
                    grade = grade_calls({**item, "predicted": [*gold[:n], call, *gold[n + 1 :]]})
                    assert grade.correct, (item["id"], name, value, grade.reason)
                    passed["values"] += 1
        passed[item["id"].rsplit("_", 1)[0]] += 1
    assert passed == {
        "simple_python": 400,
        "multiple": 200,
        "parallel": 200,
        "irrelevance": 240,
        "values": passed["values"],
    }
    assert passed["values"] > 3_000


def test_every_wrong_variant_of_bfcls_ground_truth_fails(shared_data: Path) -> None:
    failed = Counter()
    for item in bfcl(shared_data):
        if not item["accepted"]:
            for tool in item["tools"]:
                assert not grade_calls({**item, "predicted": [{"name": tool["name"], "arguments": {}}]}).correct
                failed["irrelevant"] += 1
            continue
        gold = [as_call(one) for one in item["accepted"]]
        for kind, predicted in wrong_variants(gold, item["accepted"]):
            grade = grade_calls({**item, "predicted": predicted})
            assert not grade.correct, (item["id"], kind, predicted)
            assert grade.reason
            failed[kind] += 1
    assert failed["none"] == 800
    assert all(failed[kind] >= 800 for kind in ("doubled", "name", "extra", "value", "type", "missing")), failed
    assert failed["irrelevant"] >= 240


def test_bfcls_multi_turn_calls_pass_and_their_wrong_variants_fail(shared_data: Path) -> None:
    turns = Counter()
    for problem in import_path("bfcl", shared_data / "bfcl" / "BFCL_v4_multi_turn_base.json").problems[::4]:
        for turn in problem.data["turns"]:
            gold = [as_call(one) for one in turn["accepted"]]
            item = {"id": problem.id, "tools": problem.data["specs"], "accepted": turn["accepted"]}
            assert grade_calls({**item, "predicted": gold}).correct
            turns["right"] += 1
            if gold:
                for kind, predicted in wrong_variants(gold, turn["accepted"]):
                    assert not grade_calls({**item, "predicted": predicted}).correct, (kind, predicted, turn)
                    turns["wrong"] += 1
    assert turns["right"] > 170
    assert turns["wrong"] > 1_200


def partial(predicted: Any, accepted: Any) -> Any:
    return partial_match(read_item({"id": 1, "tools": TOOLS, "predicted": predicted, "accepted": accepted}))


def test_partial_credit_by_hand() -> None:
    """Gold trip(to, days), stop(). Made: trip(to right, km), of the names 1 of {trip, stop}: Jaccard 1/2.

    Parameters of trip: {to, km} and {to, days}: 1/3; of stop, not made: 0. Values: to. (1/2 + 1/3 + 1) / (1 + 3 + 1).
    """
    accepted = [trip(to=["Rome"], days=[3]), {"name": "stop", "arguments": {}}]
    made = partial([trip(to="rome", km=5)], accepted)
    assert made.name == pytest.approx(1 / 2)
    assert made.parameters == pytest.approx(1 / 3 / 2)
    assert made.values == pytest.approx(1 / 2)
    assert made.score == pytest.approx((1 / 2 + 1 / 3 + 1) / 5)
    assert partial([trip(to="Rome", days=3), {"name": "stop", "arguments": {}}], accepted).score == 1.0
    assert partial([], []).score == 1.0
    assert partial([trip(to="Rome")], []).score == 0.0
    assert partial([], accepted).score == 0.0
    assert partial([trip(to="Rome")], [trip(to=["Rome"], days=[3, ""])]).score == 1.0  # what is left out doesn't count


def test_partial_credit_assigns_calls_as_well_as_can_be() -> None:
    """In order the first accepted call would take Oslo (equal worth) and leave Rome, wrong for the second: 1 + 2 of 4."""
    accepted = [trip(to=["Rome", "Oslo"]), trip(to=["Oslo"])]
    assert partial([trip(to="Oslo"), trip(to="Rome")], accepted).score == 1.0


def test_bfcl_rows_keep_nested_values_as_text_too() -> None:
    row = {
        "id": "x",
        "question": json.dumps([[{"role": "user", "content": "To Rome."}]]),
        "function": json.dumps(TOOLS[:1]),
        "ground_truth": json.dumps([{"trip": {"to": ["Rome"]}}]),
    }
    problem = bfcl_problem(row)
    assert problem.question == "To Rome."
    assert problem.data["turns"][0]["accepted"] == [{"name": "trip", "arguments": {"to": ["Rome"]}}]


def test_the_command_prints_a_verdict_a_line_and_a_summary(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    gold = [trip(to=["Rome"])]
    items = [
        {"id": "a", "tools": TOOLS, "predicted": [trip(to="rome")], "accepted": gold},
        {"id": "b", "tools": TOOLS, "predicted": [], "accepted": gold},
    ]
    file.write_text("\n\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["grade", "calls", str(file)])
    assert done.exit_code == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": "a", "correct": True, "reason": "1 call as accepted"},
        {"id": "b", "correct": False, "reason": "no call is made"},
        {"summary": {"items": 2, "correct": 1, "accuracy": 0.5}},
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [("{", "not JSON"), ("[1]", "not an object"), ('{"id": 1}', "no key 'tools'"), ("\udcff", "not JSON")],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "calls.jsonl"
    good = json.dumps({"id": 1, "tools": [], "predicted": [], "accepted": []})
    file.write_bytes(f"{good}\n{line}\n".encode("utf-8", "surrogateescape"))
    done = CliRunner().invoke(app, ["grade", "calls", str(file)])
    assert isinstance(done.exception, DataError)  # exit code 2 in `main`
    assert str(done.exception).startswith(f"{file}:2: {problem}")
    assert done.stdout == ""
