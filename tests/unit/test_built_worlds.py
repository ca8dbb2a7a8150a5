"""Worlds that a model makes: the rewards by hand, the steps with a stand-in that writes a small real scenario."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from journeyman.environments.built import Built, read_world
from journeyman.environments.solve_score import Goal, TurnScore, end_score, shows, solved_goals, turn_score
from journeyman.errors import DataError
from journeyman.llm import Scripted
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.synthesis.worlds import BuildReport, build_world
from journeyman.tools.base import CallContext
from tests.unit.trusted import Trusted


def test_turns_are_paid_as_worked_by_hand() -> None:
    # One call that solves: 2 * 1 / (1 + 1) = 1. Two calls, one solves: 2 / 3. Three calls, two solve: 4 / 4 = 1.
    assert [turn_score(*row) for row in ((1, 1), (1, 2), (2, 3), (0, 4))] == pytest.approx([1, 2 / 3, 1, 0])
    assert [turn_score(2, 4, kind) for kind in TurnScore] == pytest.approx([4 / 5, 1 / 2, 2, 1])
    assert end_score("42", right=True, broken=False, unsolved=0) == 1.0
    assert end_score("42", right=True, broken=False, unsolved=3) == 0.25  # guessed: 1 / (1 + 3)
    assert end_score("no idea", right=False, broken=False, unsolved=0) == 0.5
    assert end_score("no idea", right=False, broken=False, unsolved=1) == 0.0
    assert end_score(" ", right=False, broken=True, unsolved=1) == -0.5
    assert end_score("<tool_call>", right=False, broken=True, unsolved=1) == -0.3


def test_goals_are_solved_once_and_by_their_own_tool() -> None:
    def told(name: str, output: str, ok: bool = True) -> ToolResult:
        return ToolResult(name=name, ok=ok, output=output)

    goals = [Goal(tool="a", answer="4"), Goal(tool="a", answer="4"), Goal(tool="b", answer="1200")]
    assert solved_goals(goals, [], [told("a", "it is 4"), told("a", "4"), told("a", "4")]) == [0, 1]
    assert solved_goals(goals, [0], [told("a", "4"), told("b", "$1,200")]) == [1, 2]
    assert solved_goals(goals, [], [told("b", "4"), told("a", "42"), told("a", "4", ok=False)]) == []


@pytest.mark.parametrize(
    ("text", "answer", "shown"),
    [
        *(("42", "4", False), ("4.5", "4", False), ("4.", "4", True), ("x4", "4", False), ("1,200 m", "1200", True)),
        *(("ROME.", "rome", True), ("-4", "-4", True), ("1.4", "4", False), ("anything", "", False)),
    ],
)
def test_an_answer_stands_as_a_whole(text: str, answer: str, shown: bool) -> None:
    assert shows(text, answer) is shown


def turn(*calls: tuple[str, dict[str, Any]], answer: str | None = None) -> ParsedTurn:
    return ParsedTurn(calls=tuple(ToolCall(name=name, arguments=given) for name, given in calls), answer=answer)


def test_the_sample_world_pays_its_turns() -> None:
    world = Built(runner=Trusted())
    world.validate()

    async def attempt() -> None:
        asked = next(problem for problem in world.problems if "film" in problem.question)
        episode = world.reset(asked, CallContext(trajectory="t"))
        days, fee = (ToolCall(name=call["name"], arguments=call["arguments"]) for call in asked.data["calls"])
        first = await episode.step(turn((days.name, dict(days.arguments)), ("opening_hour", {"day": "Sunday"})))
        assert first.reward == pytest.approx(2 / 3) and [r.output for r in first.results] == ["7", "12"]
        fork = episode.fork(CallContext(trajectory="u"))
        again = await fork.step(turn((days.name, dict(days.arguments))))
        assert again.reward == 0.0, "solved before"
        last = await episode.step(turn((fee.name, dict(fee.arguments)), ("late_fee", {"kind": "film", "days": -1})))
        assert last.reward == pytest.approx(2 / 3) and "days can't be negative" in last.results[1].output
        end = await episode.step(turn(answer=asked.answer))
        assert (end.done, end.reward) == (True, 1.0)
        verdict = await episode.verify(asked.answer)
        assert verdict.correct and verdict.parts == {"precision": 0.5, "completeness": 1.0}  # 2 of 4 calls, 2 of 2
        guessed = await fork.step(turn(answer=asked.answer))
        assert guessed.reward == 0.5

    asyncio.run(attempt())


PRICE = {
    "name": "ticket_price",
    "description": "Price in cents of a ticket for so many zones.",
    "parameters": {"type": "object", "properties": {"zones": {"type": "integer"}}, "required": ["zones"]},
}
ZONES = {
    "name": "zones_between",
    "description": "How many zones lie on the way from one stop to another.",
    "parameters": {
        "type": "object",
        "properties": {"source": {"type": "string"}, "target": {"type": "string"}},
        "required": ["source", "target"],
    },
}
ALSO_ZONES = {**ZONES, "name": "between_zones"}
LINES = {
    "name": "lines_at",
    "description": "Numbers of the bus lines that halt at a stop.",
    "parameters": {"type": "object", "properties": {"stop": {"type": "string"}}, "required": ["stop"]},
}
BAD = {**LINES, "name": "unwritable", "description": "Something that nobody can write down as code, ever."}
STOPS = 'STOPS = {"Mill": 1, "Dock": 3, "Park": 4}\n'
CODES = {
    "ticket_price": '''
def ticket_price(zones: int, reduced: bool = False) -> int:
    """Price in cents of a ticket."""
    price = 150 + 90 * zones
    return price // 2 if reduced else price
# tests
assert ticket_price(2) == 330
assert ticket_price(2, reduced=True) == 165
''',
    "zones_between": STOPS
    + '''
def zones_between(source: str, target: str) -> int:
    """Zones on the way."""
    return abs(STOPS[source] - STOPS[target])
# tests
assert zones_between("Mill", "Park") == 3
''',
    "lines_at": '''
LINES = {"Mill": [4, 7], "Dock": [7]}
def lines_at(stop: str) -> list:
    """Bus lines at a stop."""
    return LINES[stop]
# tests
assert lines_at("Dock") == [7]
''',
}


class Author:
    """Writes a small transport scenario by rule, with mistakes that the checks must catch."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, messages: Sequence[Message]) -> str:
        text = messages[0].content
        for start, reply in (
            ("Think of", self.decompose),
            ("Write documents of tools", self.document),
            ("Make this tool", self.scale),
            ("Write documents of", self.distract),
            ("Write the tool", self.deploy),
            ("Which calls", self.ground),
        ):
            if text.startswith(start):
                self.asked[start] += 1
                return reply(text)
        raise AssertionError(text)

    def decompose(self, text: str) -> str:
        if "refused" not in text:
            return "Sure! Here are some questions."
        rows = [
            ("What does a ticket from Mill to Park cost in cents?", ["How many zones?", "What do they cost?"]),
            ("What does a ticket from Mill to Park cost in cents??", ["The same again"]),
            ("What does a reduced ticket for 2 zones cost in cents?", ["What do 2 zones cost?"]),
            ("How many angels ride the bus?", ["Count them"]),
        ]
        return json.dumps({"questions": [{"question": question, "steps": steps} for question, steps in rows]})

    def document(self, text: str) -> str:
        if "angels" in text:
            return json.dumps({"tools": [BAD]})
        tools = [ZONES, ALSO_ZONES, PRICE] if "How many zones?" in text else [PRICE]
        return json.dumps({"tools": tools})

    def scale(self, text: str) -> str:
        if '"ticket_price"' not in text:
            return json.dumps({**ZONES, "parameters": {"type": "object", "properties": {}}})  # loses its parameters
        more = {**PRICE["parameters"]["properties"], "reduced": {"type": "boolean"}}  # type: ignore[index]
        return json.dumps({**PRICE, "parameters": {**PRICE["parameters"], "properties": more}})  # type: ignore[dict-item]

    def distract(self, text: str) -> str:
        return json.dumps({"tools": [LINES]})

    def deploy(self, text: str) -> str:
        name = next((name for name in CODES if f'"{name}"' in text), "")
        if not name:
            return "```python\nI can't.\n```"
        code = CODES[name]
        if name == "zones_between" and "refused" not in text:
            code = code.replace("== 3", "== 4")  # its own test fails
        if name == "lines_at":
            code = code if "clash" in text or "defined elsewhere" in text else STOPS + code
        return f"Here it is.\n```python\n{code}```"

    def ground(self, text: str) -> str:
        zones = {"name": "zones_between", "arguments": {"source": "Mill", "target": "Park"}}
        if "angels" in text:
            return json.dumps({"calls": [zones], "answer": "7"})
        if "reduced" in text.split("Tools:")[0]:
            calls, answer = [{"name": "ticket_price", "arguments": {"zones": 2, "reduced": True}}], "165"
        else:
            # The first try guesses the number of zones; what the calls return is told, and put right.
            count = 3 if "zones_between returns 3" in text else 2
            calls = [zones, {"name": "ticket_price", "arguments": {"zones": count}}]
            answer = "420"
        return json.dumps({"calls": calls, "answer": answer})


def build(folder: Path) -> tuple[BuildReport, Author]:
    author = Author()
    report = build_world("Buses in a town.", folder, Scripted(author), Trusted(), seed=1, questions=4, distractors=1)
    return report, author


def test_a_world_is_made_from_a_scenario(tmp_path: Path) -> None:
    report, author = build(tmp_path / "buses")
    assert report.tools == ("zones_between", "ticket_price", "lines_at") and report.problems == 2
    assert report.harder == ("ticket_price",)
    assert sorted((dropped.step, dropped.what) for dropped in report.dropped) == [
        ("decompose", "What does a ticket from Mill to Park cost in cents??"),
        ("deploy", "unwritable"),
        ("ground", "How many angels ride the bus?"),
        ("integrate", "between_zones"),
        ("scale", "unwritable"),
        ("scale", "zones_between"),
    ]
    reasons = {dropped.what: dropped.reason for dropped in report.dropped}
    assert "does not show the answer '7'" in reasons["How many angels ride the bus?"]
    assert author.asked["Think of"] == 2 and author.asked["Which calls"] == 2 + 1 + 3


def test_a_made_world_can_be_played_and_validated(tmp_path: Path) -> None:
    build(tmp_path / "buses")
    world = Built(tmp_path / "buses", runner=Trusted())
    world.validate()
    assert [(problem.answer, problem.min_calls) for problem in world.problems] == [("420", 2), ("165", 1)]
    assert all(world.verify(problem, problem.answer) for problem in world.problems)
    gold, wrong = world.courses(world.problems[0])
    assert gold.answer == "420" and wrong.answer == "165" and wrong.mistake
    assert world.problems[0].data["goals"][0] == {"tool": "zones_between", "answer": "3"}
    again = build(tmp_path / "again")[0]
    made, remade = (read_world(tmp_path / name) for name in ("buses", "again"))
    assert made == remade and again.problems == 2
    reading = world.read([*made[1], {"question": "?"}, {**made[1][0], "calls": '[{"name": "none", "arguments": {}}]'}])
    assert reading.problems == world.problems and [apart.row for apart in reading.apart] == [2, 3]


def test_a_world_without_a_problem_is_no_world(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no problem of the world can be used"):
        build_world("Nothing.", tmp_path / "none", Scripted(lambda _: "no"), Trusted(), seed=1)
    assert not (tmp_path / "none").exists()


def test_damaged_worlds_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no world"):
        Built(tmp_path)
    build(tmp_path / "buses")
    code = tmp_path / "buses" / "tools.py"
    code.write_text(code.read_text().replace("150", "0"))
    with pytest.raises(DataError, match="not what the world was made with"):
        Built(tmp_path / "buses")
    (tmp_path / "buses" / "world.json").write_text('{"format": 9}')
    with pytest.raises(DataError, match="format 1"):
        Built(tmp_path / "buses")
