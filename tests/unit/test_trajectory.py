"""Data that crosses boundaries: nothing is lost on the way to disk and back; ids and seeds are stable."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.trajectory import (
    Span,
    StopReason,
    ToolCall,
    ToolResult,
    Trajectory,
    Turn,
    from_row,
    read_trajectories,
    schema,
    to_row,
    write_trajectories,
)
from tests.unit.fakes import problem, trajectory

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
MAPPINGS = st.dictionaries(TEXT, JSON, max_size=3)
COUNTS = st.integers(0, 2**31 - 1)
TURNS = st.builds(
    Turn,
    text=TEXT,
    calls=st.lists(st.builds(ToolCall, name=TEXT, arguments=MAPPINGS), max_size=2).map(tuple),
    results=st.lists(
        st.builds(ToolResult, name=TEXT, ok=st.booleans(), output=TEXT, seconds=st.floats(0, 1e6)), max_size=2
    ).map(tuple),
    start=COUNTS,
    stop=COUNTS,
    error=TEXT,
)
TRAJECTORIES = st.builds(
    Trajectory,
    **dict.fromkeys(("id", "problem_id", "family", "question", "reference", "source"), TEXT),
    tools=st.lists(TEXT, max_size=3).map(tuple),
    min_calls=COUNTS,
    turns=st.lists(TURNS, max_size=3).map(tuple),
    stop_reason=st.sampled_from(StopReason),
    answer=st.none() | TEXT,
    seed=st.integers(0, 2**63 - 1),
    sample=COUNTS,
    temperature=st.floats(0, 10),
    policy_version=COUNTS,
    token_ids=st.lists(COUNTS, max_size=5).map(tuple),
    loss_mask=st.lists(st.integers(0, 1), max_size=5).map(tuple),
    logprobs=st.lists(st.floats(-100, 0, width=32), max_size=5).map(tuple),
    correct=st.none() | st.booleans(),
    reward=st.none() | st.floats(-1e9, 1e9),
    reward_parts=st.dictionaries(TEXT, st.floats(-1e9, 1e9), max_size=3),
    turn_rewards=st.lists(st.floats(-9, 9), max_size=3).map(tuple),
    turn_parts=st.dictionaries(TEXT, st.lists(st.floats(-9, 9), max_size=2).map(tuple), max_size=2),
    reward_spans=st.lists(
        st.builds(Span, turn=COUNTS, start=COUNTS, stop=COUNTS, reward=st.floats(-9, 9), kind=TEXT), max_size=2
    ).map(tuple),
    reward_channels=st.dictionaries(TEXT, st.none() | st.floats(-9, 9), max_size=2),
    provenance=MAPPINGS,
)


@given(trajectories=st.lists(TRAJECTORIES, max_size=4))
@settings(max_examples=30)
def test_trajectories_come_back_from_parquet_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, trajectories: list[Trajectory]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "trip.parquet"
    assert write_trajectories(trajectories, path) == len(trajectories)
    assert read_trajectories(path) == trajectories


@given(TRAJECTORIES)
def test_a_row_is_the_same_trajectory(made: Trajectory) -> None:
    assert from_row(to_row(made)) == made
    assert list(to_row(made)) == schema().names


def test_every_field_of_a_trajectory_is_stored() -> None:
    assert schema().names == list(Trajectory.__dataclass_fields__)


def test_the_table_can_be_asked_with_sql(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_trajectories(
        [
            replace(trajectory(calls=2), temperature=0.7, provenance={"mistake": "wrong operator"}).scored(
                0.5, {"a": 1.0}
            ),
            trajectory(correct=None),
        ],
        path,
    )
    query = """
        SELECT id, len(turns), turns[1].calls[1].arguments ->> 'expression', provenance ->> 'mistake', temperature = 0.7
        FROM read_parquet(?) WHERE reward IS NOT NULL
    """
    assert duckdb.execute(query, [str(path)]).fetchall() == [("t", 3, "6*7", "wrong operator", True)]


def test_columns_that_others_added_are_passed_over(tmp_path: Path) -> None:
    write_trajectories([trajectory()], tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    pq.write_table(table.append_column("rule", [["format"]]), tmp_path / "more.parquet")
    assert read_trajectories(tmp_path / "more.parquet") == [trajectory()]


def test_calls_and_needless_calls() -> None:
    assert [len(trajectory(calls=n).calls) for n in range(4)] == [0, 1, 2, 3]
    assert [trajectory(calls=n, min_calls=2).needless_calls for n in range(5)] == [0, 0, 0, 1, 2]


def test_a_trajectory_is_frozen_and_pickles() -> None:
    made = trajectory(calls=2).scored(1.0, {"correct": 1.0})
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.reward = 2.0  # type: ignore[misc]


@given(MAPPINGS, st.lists(TEXT, max_size=3).map(tuple), TEXT, TEXT)
def test_a_problem_comes_back_from_json(data, tools: tuple[str, ...], question: str, answer: str) -> None:
    made = problem(question, answer, tools=tools, data=data)
    assert Problem.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_problem_ids_follow_family_question_and_data_alone() -> None:
    base = problem_id("arithmetic", "What is 6 times 7?", {"a": 1, "b": [2]})
    assert base == problem_id("arithmetic", "What is 6 times 7?", {"b": [2], "a": 1})
    assert len(base) == 16 and int(base, 16) >= 0
    others = {
        problem_id("lookup", "What is 6 times 7?", {"a": 1, "b": [2]}),
        problem_id("arithmetic", "What is 6 times 8?", {"a": 1, "b": [2]}),
        problem_id("arithmetic", "What is 6 times 7?", {"a": 2, "b": [2]}),
        problem_id("arithmetic", "What is 6 times 7?"),
    }
    assert len(others | {base}) == 5
    # sha256sum of `["f", "q", {}]`: ids stay the same between versions.
    assert problem_id("f", "q") == problem_id("f", "q", {}) == "18bfcc5c8d58eabc"


PARTS = st.lists(st.integers() | st.text("a1:-é", max_size=5), max_size=4)


@given(PARTS, PARTS)
def test_different_parts_give_different_seeds(one: list[int | str], other: list[int | str]) -> None:
    assert (derive(*one) == derive(*other)) is ([(type(p), p) for p in one] == [(type(p), p) for p in other])
    assert 0 <= derive(*one) < 2**63


def test_a_number_is_not_its_digits_and_parts_do_not_run_together() -> None:
    assert len({derive(1), derive("1"), derive(1, 1), derive(11), derive("1", 1), derive()}) == 6
