"""Formats in and out: small rows by hand, the real data sets, the round trip, and nothing lost."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.cli import app
from journeyman.environments.calls import Calls
from journeyman.errors import UserError
from journeyman.formats import FORMATS, counts, import_path, read_row, write_openai
from journeyman.formats.base import BadRow, Made, Row
from journeyman.formats.openai import read_openai
from journeyman.graders import grade_calls
from journeyman.messages import Fault, Image, Message, ToolCall, ToolResult
from journeyman.synthesis.problems import read_problems
from journeyman.trajectory import Span, StopReason, Trajectory, Turn, read_trajectories

CONVERSATION = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather in Bergen?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": "Bye."},
    ],
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    ],
}


def row(value: Any) -> Row:
    return Row(file=Path("rows.jsonl"), line=3, value=value)


def one(made: Made) -> Trajectory:
    [trajectory] = made.trajectories
    return trajectory


def test_openai_messages_become_turns() -> None:
    made = one(read_openai(row(CONVERSATION)))
    assert made.question == "Weather in Bergen?"
    assert [message.role for message in made.opening] == ["system", "user"]
    assert made.tools == ("weather",)
    first, second, third = made.turns
    assert first.calls == (ToolCall(name="weather", arguments={"city": "Bergen"}),)
    assert first.text == '<tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call>'
    assert first.results == (ToolResult(name="weather", ok=True, output="rain"),)
    assert (second.text, second.reply, third.text) == ("It rains.", "Thanks.", "Bye.")
    assert made.stop_reason is StopReason.ANSWER
    assert made.provenance == {"format": "openai", "file": "rows.jsonl", "line": 3}


def test_what_was_imported_is_exported_as_the_same_messages() -> None:
    made = one(read_openai(row(CONVERSATION)))
    back = write_openai(made, made.specs)
    assert [message["role"] for message in back["messages"]] == [
        "system",
        *(m["role"] for m in CONVERSATION["messages"][1:]),
    ]
    call = back["messages"][2]["tool_calls"][0]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Bergen"}'}
    assert back["messages"][3] == {"role": "tool", "tool_call_id": call["id"], "name": "weather", "content": "rain"}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The conversation with one thing changed."""
    value = json.loads(json.dumps(CONVERSATION))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "not an object"),
        ({}, "no messages"),
        (changed("messages", 1, to=7), "a message that is no object"),
        (changed("messages", 1, "role", to="god"), "a role that is unknown"),
        (changed("messages", 1, "content", to=5), "a message's content that is neither text nor parts"),
        (changed("messages", 2, "tool_calls", 0, "function", "arguments", to="{"), "arguments that are not JSON"),
        (changed("messages", 2, "tool_calls", 0, "function", "arguments", to="[]"), "arguments that are no object"),
        (changed("messages", 2, "tool_calls", 0, "function", to={}), "a call without a name"),
        (changed("messages", 2, "tool_calls", to=None), "calls and results that don't match"),
        (changed("messages", 4, "role", to="system"), "a system message amid the conversation"),
        (changed("messages", 4, "role", to="user"), "two messages of the user in a row"),
        (changed("tools", to=[{}]), "a tool without a name"),
        (changed("tools", to="{"), "tools that are not JSON"),
        (changed("messages", to=CONVERSATION["messages"][:2]), "no message of the assistant"),
        (changed("messages", to=CONVERSATION["messages"][4:5]), "no message of the user before the assistant's first"),
    ],
)
def test_broken_rows_have_a_reason(value: Any, reason: str) -> None:
    with pytest.raises(BadRow) as raised:
        read_openai(row(value))
    assert raised.value.reason == reason


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["<tool_call>", "</tool_call>\n", "\n", "<think>x</think>\n<answer>1</answer>", "error: no"]
)
ARGUMENTS = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-9, 9) | TEXT | st.lists(TEXT, max_size=2), max_size=3
)
CALLS = st.builds(ToolCall, name=TEXT, arguments=ARGUMENTS)
IMAGES = st.lists(st.builds(Image, data=st.binary(max_size=4)), max_size=2).map(tuple)
NUMBERS = st.floats(-9, 9)
RESULTS = st.builds(
    ToolResult,
    name=TEXT,
    ok=st.booleans(),
    output=TEXT,
    seconds=NUMBERS,
    cost=NUMBERS,
    images=IMAGES,
    fault=st.none() | st.sampled_from(Fault),
)
TURNS = st.builds(
    Turn,
    text=TEXT,
    calls=st.lists(CALLS, max_size=2).map(tuple),
    results=st.lists(RESULTS, max_size=2).map(tuple),
    reply=TEXT,
    reward=NUMBERS,
    error=TEXT,
)
MESSAGES = st.one_of(
    st.builds(Message, role=st.sampled_from(["system", "user"]), content=TEXT, images=IMAGES),
    st.builds(Message, role=st.just("assistant"), content=TEXT, calls=st.lists(CALLS, max_size=2).map(tuple)),
    st.builds(Message, role=st.just("tool"), content=TEXT, name=TEXT, images=IMAGES),
)
TRAJECTORIES = st.builds(
    Trajectory,
    id=TEXT,
    problem_id=TEXT,
    family=TEXT,
    question=TEXT,
    reference=TEXT,
    tools=st.lists(TEXT, max_size=2).map(tuple),
    min_calls=st.integers(0, 3),
    turns=st.lists(TURNS, max_size=3).map(tuple),
    stop_reason=st.sampled_from(StopReason),
    answer=st.none() | TEXT,
    source=TEXT,
    seed=st.integers(0, 2**62),
    temperature=NUMBERS,
    opening=st.lists(MESSAGES, max_size=3).map(tuple),
    specs=st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=2).map(tuple),
    correct=st.none() | st.booleans(),
    score=st.none() | NUMBERS,
    score_parts=st.dictionaries(TEXT, NUMBERS, max_size=2),
    reward=st.none() | NUMBERS,
    reward_parts=st.dictionaries(TEXT, NUMBERS, max_size=2),
    turn_rewards=st.lists(NUMBERS, max_size=2).map(tuple),
    turn_parts=st.dictionaries(TEXT, st.lists(NUMBERS, max_size=2).map(tuple), max_size=2),
    reward_spans=st.lists(
        st.builds(Span, turn=st.integers(0, 3), start=st.integers(0, 9), stop=st.integers(0, 9), reward=NUMBERS),
        max_size=2,
    ).map(tuple),
    reward_channels=st.dictionaries(TEXT, st.none() | NUMBERS, max_size=2),
    provenance=st.dictionaries(TEXT, TEXT, max_size=2),
)


@settings(max_examples=100)
@given(TRAJECTORIES)
def test_a_trajectory_comes_back_as_it_was(trajectory: Trajectory) -> None:
    line = json.dumps(write_openai(trajectory, trajectory.specs), ensure_ascii=False)
    assert one(read_openai(row(json.loads(line)))) == trajectory


KEYS = (
    *(
        "messages",
        "role",
        "content",
        "conversations",
        "from",
        "value",
        "tools",
        "query",
        "calling",
        "id",
        "api",
        "parameters",
    ),
    *(
        "question",
        "answer",
        "function",
        "ground_truth",
        "prompt",
        "reward_model",
        "chosen",
        "reject",
        "instruction",
        "input",
    ),
)
ROWS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_any_rows_are_made_or_kept_apart(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "tool.jsonl").write_text("")
    for name in FORMATS.keys() - {"tau2"}:
        imported = import_path(name, folder / "rows.jsonl")
        assert imported.rows == len(rows)
        made = {p.data.get("source", {}).get("line") for p in imported.problems if "source" in p.data}
        made |= {t.provenance["line"] for t in imported.trajectories if t.provenance}
        apart = [one.row.line for one in imported.apart]
        assert not made & set(apart)


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    float("nan"),
    "",
    "x",
    [],
    {},
    [[]],
    {"a": 1},
    "\ud800",
    "{",
    10**30,
    {"name": "x"},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((*path, key), *places(one, (*path, key)))]


def spoilt(value: Any, rng: random.Random) -> Any:
    """A row with junk in one place, or that place gone, or a text torn."""
    value = json.loads(json.dumps(value))
    *path, last = rng.choice(places(value))
    inner = value
    for key in path:
        inner = inner[key]
    old = inner[last]
    if isinstance(old, str) and rng.random() < 0.5:
        cut = rng.randrange(len(old) + 1)
        inner[last] = old[:cut] + rng.choice(("'", '"', "<obs>", "}", "API-Request: ", "[(")) + old[cut + 1 :]
    elif rng.random() < 0.3:
        del inner[last]
    else:
        inner[last] = rng.choice(JUNK)
    return value


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("api-bank", "api_bank_level1"),
        ("bfcl", "bfcl"),
        ("glaive", "glaive_toolcall_demo"),
        ("gsm8k", "gsm8k_train"),
        ("plan-rewardbench", "plan_rewardbench_easy"),
        ("rlla", "toolrl_rlla_test"),
        ("seal-tools", "seal_tools_dev"),
        ("tau2", "tau2_retail_mock/mock"),
    ],
)
def test_spoilt_rows_are_made_or_have_a_reason(shared_data: Path, name: str, path: str) -> None:
    rows, read = FORMATS[name].open(shared_data / path)
    rows, rng, outcomes = list(rows), random.Random(0), Counter()
    for _ in range(100):
        real = rng.choice(rows)
        try:
            read_row(replace(real, value=spoilt(real.value, rng)), read)
            outcomes["made"] += 1
        except BadRow as bad:
            assert bad.reason
            outcomes["apart"] += 1
    assert outcomes["made"] > 5
    assert outcomes["apart"] > 5


@pytest.mark.parametrize(
    ("text", "lines", "broken"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [1, 3], []),
        ('[\n{"a": 1},\n{"a":\n 2}\n]', [2, 3], []),
        ('[{"a": 1},\n{"a": 2', [1, 2], [2]),
        ('{"a": 1}\n{"a"\n[1]\n', [1, 2, 3], [2]),
        ('{\n"a": 1\n}\n', [1], []),
        ("[1]\n[2]\n", [1, 2], []),
        ("", [], []),
    ],
)
def test_every_row_has_its_line(tmp_path: Path, text: str, lines: list[int], broken: list[int]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text)
    imported = import_path("openai", file)
    assert imported.rows == len(lines)
    assert [apart.row.line for apart in imported.apart] == lines
    assert [apart.row.line for apart in imported.apart if apart.reason == "not JSON"] == broken


def test_import_writes_what_it_made_and_what_it_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(CONVERSATION) + '\n{"messages": []}\nnonsense\n')
    done = CliRunner().invoke(app, ["import", "openai", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "3 rows: 0 problems, 1 trajectories" in done.stdout
    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == {
        "rows": 3,
        "problems": 0,
        "trajectories": 1,
        "apart": 2,
        "reasons": {"no messages": 1, "not JSON": 1},
    }
    apart = [json.loads(line) for line in (tmp_path / "out" / "apart.jsonl").read_text().splitlines()]
    assert [(a["line"], a["reason"], a["row"]) for a in apart] == [
        (2, "no messages", {"messages": []}),
        (3, "not JSON", "nonsense"),
    ]
    assert not (tmp_path / "out" / "problems.parquet").exists()

    done = CliRunner().invoke(app, ["export", str(tmp_path / "out"), "--out", str(tmp_path / "back.jsonl")])
    assert done.exit_code == 0
    again = import_path("openai", tmp_path / "back.jsonl")
    assert list(again.trajectories) == read_trajectories(tmp_path / "out" / "trajectories.parquet")


@pytest.mark.parametrize(
    "arguments", [["nothing", "."], ["openai", "no/such/file"], ["tau2", "no/such/file"], ["seal-tools", "."]]
)
def test_a_wrong_path_or_format_is_the_users_error(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    arguments = [str(tmp_path) if part == "." else part for part in arguments]
    done = CliRunner().invoke(app, ["import", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError)  # exit code 2 in `main`


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        (
            "api-bank",
            "api_bank_level1",
            {"rows": 399, "problems": 391, "reasons": {"a parameter that the tool doesn't have": 8}},
        ),
        ("bfcl", "bfcl", {"rows": 1240, "problems": 1240}),
        ("glaive", "glaive_toolcall_demo", {"rows": 300, "trajectories": 300}),
        ("plan-rewardbench", "plan_rewardbench_easy", {"rows": 144, "trajectories": 288}),
        (
            "rlla",
            "toolrl_rlla_test",
            {"rows": 80, "problems": 79, "reasons": {"a call of a tool that is not on offer": 1}},
        ),
        (
            "seal-tools",
            "seal_tools_dev",
            {"rows": 700, "problems": 673, "reasons": {"a value that is another call's result": 27}},
        ),
        ("tau2", "tau2_retail_mock", {"rows": 124, "problems": 124}),
    ],
)
def test_real_data_is_read(shared_data: Path, name: str, folder: str, expected: dict[str, Any]) -> None:
    imported = import_path(name, shared_data / folder)
    base = {"problems": 0, "trajectories": 0, "apart": sum(expected.get("reasons", {}).values()), "reasons": {}}
    assert counts(imported) == base | expected
    for problem in imported.problems:
        assert problem.question
        if problem.family == Calls.name:
            for turn in problem.data["turns"]:
                item = {"id": 0, "tools": problem.data["specs"], "accepted": turn["accepted"]}
                assert not turn["accepted"] or not grade_calls({**item, "predicted": []}).correct
    for trajectory in imported.trajectories:
        assert one(read_openai(row(write_openai(trajectory, trajectory.specs)))) == trajectory


def test_gsm8k_is_read_by_its_world(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "gsm8k_train" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    imported = import_path("gsm8k", tmp_path)
    assert (imported.rows, len(imported.problems)) == (200, 200 - len(imported.apart))
    assert {apart.reason for apart in imported.apart} == {"no calculator annotation"}


def test_problems_come_back_from_their_file(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "bfcl" / "BFCL_v4_multi_turn_base.json"
    done = CliRunner().invoke(app, ["import", "bfcl", str(source), "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert read_problems(tmp_path / "problems.parquet") == list(import_path("bfcl", source).problems)


def test_a_call_of_api_bank_with_quotes_in_its_values(tmp_path: Path) -> None:
    document = {
        "name": "Add",
        "description": "Add a meeting.",
        "input_parameters": {"topic": {"type": "str"}, "who": {"type": "list(str)"}, "room": {"type": "int"}},
    }
    value = {
        "file": "f",
        "id": 0,
        "instruction": f"...API descriptions:\n{json.dumps(document)}",
        "input": "User: Hi\nthere\nAI: Yes?\nAPI-Request: [Add(topic='x')]->{'a': 'b'}\nAI: Done.\nUser: More.\n"
        "Generate API Request:\n",
        "expected_output": "API-Request: [Add(topic='it's, well', who='['A B', 'C']', room='5')]",
    }
    (tmp_path / "rows.json").write_text(json.dumps([value]))
    [problem] = import_path("api-bank", tmp_path / "rows.json").problems
    accepted = problem.data["turns"][0]["accepted"]
    assert accepted == [{"name": "Add", "arguments": {"topic": ["it's, well"], "who": [["A B", "C"]], "room": [5]}}]
    assert [message["role"] for message in problem.data["opening"]] == [
        "system",
        "user",
        "assistant",
        "assistant",
        "tool",
        *["assistant", "user"],
    ]
    assert problem.data["opening"][1]["content"] == "Hi\nthere"
    assert problem.data["opening"][3]["calls"] == [{"name": "Add", "arguments": {"topic": "x"}}]
    assert problem.question == "More."
