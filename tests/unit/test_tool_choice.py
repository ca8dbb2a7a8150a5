"""Which tools of a catalogue do a task: gold answers are the only way, wrong ones are told."""

import random
import re
from itertools import islice

import pytest

from journeyman.environments import environment
from journeyman.environments.tool_choice import LEVELS, ToolChoice, named

PROBLEMS = list(islice(ToolChoice().generate(random.Random(1)), 300))
LINE = re.compile(r"(\d+)\. \w+ a (\w+) into a (\w+); (.*)")
TASK = re.compile(r"turn a (\w+) into a (\w+)\?")


def test_the_family_holds_what_it_says() -> None:
    ToolChoice().validate()
    assert environment("tool_choice").name == "tool_choice"


def test_all_levels_come_and_no_question_twice() -> None:
    assert {p.data["tool_set"]["level"] for p in PROBLEMS} == set(LEVELS)
    assert len({p.id for p in PROBLEMS}) == len(PROBLEMS)


def test_the_gold_tools_are_the_only_way_read_from_the_question() -> None:
    for problem in PROBLEMS:
        found = TASK.search(problem.question)
        assert found
        source, target = found.groups()
        ready = [(int(n), a, b) for n, a, b, state in LINE.findall(problem.question) if state == "it is ready"]
        alone = [{n} for n, a, b in ready if (a, b) == (source, target)]
        pairs = [{n, m} for n, a, b in ready for m, c, d in ready if (a, d) == (source, target) and b == c]
        ways = alone or pairs
        assert ways == [set(problem.data["tool_set"]["tools"])]
        assert (len(ways[0]) == 2) == (problem.data["tool_set"]["level"] == "creation")


def test_a_level_of_understanding_has_the_obvious_tool_out_of_order() -> None:
    problem = next(p for p in PROBLEMS if p.data["tool_set"]["level"] == "understanding")
    [obvious] = problem.data["wrong"]["obvious"]
    assert obvious not in problem.data["tool_set"]["tools"]
    line = next(line for line in problem.question.splitlines() if line.startswith(f"{obvious}."))
    assert not line.endswith("it is ready")


def test_an_answer_is_a_set_by_hand() -> None:
    problem = next(p for p in PROBLEMS if len(p.data["tool_set"]["tools"]) == 2)
    first, second = problem.data["tool_set"]["tools"]
    made = ToolChoice()
    for answer in (f"{first}, {second}", f"{second} and {first}", f"numbers {second},{first}."):
        assert made.verify(problem, answer)
    for answer in (f"{first}", f"{first}, {second}, 19", "", "none"):
        assert not made.verify(problem, answer)
    assert named("3, 1") == {1, 3}


@pytest.mark.parametrize("options", [{"entries": 3}, {"entries": 21}, {"levels": []}, {"levels": ["hard"]}])
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(ValueError, match="entries must be from 4 to 20"):
        ToolChoice(**options)
