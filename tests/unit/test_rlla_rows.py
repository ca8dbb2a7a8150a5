"""ToolRL's rows as problems of the family `calls` (#4)."""

import json
from pathlib import Path

import pytest

from journeyman.config import DatasetProblems
from journeyman.environments import environment_of, environment_with
from journeyman.environments.rows import RowReader
from journeyman.rewards.reference import reference_calls
from journeyman.synthesis.problems import load_rows

TOOLS = """Use the tools.
1. Name: find
Description: Finds a city.
Parameters: {"city": {"description": "its name", "type": "str", "default": ""}}
2. Name: rain
Description: Tells the rain.
Parameters: {"day": {"description": "which", "type": "int", "default": ""}}
"""


def row(user: str, gold: str) -> dict:
    prompt = [{"role": "system", "content": TOOLS}, {"role": "user", "content": f"<user> {user} </user>"}]
    return {"prompt": prompt, "reward_model": {"ground_truth": gold, "style": "rule"}}


CALL = row("Rain on day 3?", '<tool_call>\n{"name": "rain", "parameters": {"day": 3}}\n</tool_call>')
TALK = row("Hello.", "<response> Hello! </response>")


def test_rows_of_toolrl_become_problems(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in (CALL, TALK, row("What?", "nothing"))))
    config = DatasetProblems(path=str(file), format="calls", worlds={"calls": {"rows": "rlla"}})
    reader = environment_with(config.format, config.worlds)
    assert isinstance(reader, RowReader)
    reading = reader.read(load_rows(config, columns=reader.columns).to_list())
    asks, talks = reading.problems
    assert (asks.question, asks.tools, asks.min_calls) == ("Rain on day 3?", ("find", "rain"), 1)
    assert [(c.name, c.arguments) for c in reference_calls(asks) or ()] == [("rain", {"day": 3})]
    assert (reference_calls(talks), talks.answer) == ((), "Hello!")
    assert [apart.reason for apart in reading.apart] == ["a ground truth with neither a call nor a response"]
    assert len(environment_of(asks).courses(asks)) > 1, "it lives in the family's plain world"


def test_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="one of bfcl, rlla"):
        environment_with("calls", {"calls": {"rows": "xlam"}})


def test_most_of_toolrls_own_rows_can_be_used(shared_data: Path) -> None:
    config = DatasetProblems(path=str(shared_data / "toolrl_rlla_test" / "dataset" / "rlla_4k" / "test.parquet"))
    reader = environment_with("calls", {"calls": {"rows": "rlla"}})
    assert isinstance(reader, RowReader)
    reading = reader.read(load_rows(config, columns=reader.columns).to_list())
    assert len(reading.problems) + len(reading.apart) == 80 and len(reading.problems) > 70
