"""Retrieval over many tools: worked by hand, and on real collections where they are there."""

import asyncio
import json
import os
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.gateway import Conversions, ToolMode, gold_tools
from journeyman.llm import Scripted
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.tools.distractors import MOST, distractors
from journeyman.tools.similarity import bleu, cosine, hashed, stem, words
from journeyman.tools.tool_index import ToolIndex, fuse, pick, recall, shorten, sub_questions
from journeyman.tools.tool_queries import Planned, PlannedSearch, write_questions
from journeyman.tools.toolbox import SearchTools, episode_recall, oracle_gap
from tests.unit.fakes import call


def spec(name: str, description: str = "", **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": value} for key, value in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


SPECS = [
    spec("getWeather", "Weather forecast of a city", city="Name of the city"),
    spec("book_flight", "Book a flight between two airports", source="Airport", target="Airport"),
    spec("send_mail", "Send an electronic letter", to="Who gets it", body="What it says"),
    spec("stock_price", "Price of a share", ticker="Symbol"),
]


def test_ranked_lists_are_fused_as_worked_by_hand() -> None:
    # A 1/61 = .01639; B 1/62 + 1/61 = .03252; C 1/63 = .01587; D 1/62 = .01613
    scores = fuse([["A", "B", "C"], ["B", "D"]])
    assert list(scores) == ["B", "A", "D", "C"]
    assert [round(score, 5) for score in scores.values()] == [0.03252, 0.01639, 0.01613, 0.01587]
    assert recall(list(scores)[:2], {"A", "D"}) == 0.5  # B, A
    assert recall(list(scores)[:3], {"A", "D"}) == 1.0  # B, A, D


def test_every_sub_question_has_a_place() -> None:
    # The second sub-question found D alone: without its quota A, with 1/61 as well and seen first, would be second.
    assert pick([[["A", "B", "C"], ["B"]], [["D"]]], 2) == ["B", "D"]
    assert pick([[["A", "B", "C"], ["B"]], [["D"]]], 3) == ["B", "A", "D"]
    assert pick([[["A"]], [["B"]], [["A", "B"]]], 1) == ["A"]
    assert pick([[], [[]]], 3) == []


NAMES = st.lists(st.sampled_from("ABCDEFGH"), unique=True, max_size=6)


@given(st.lists(st.lists(NAMES, max_size=3), max_size=4), st.integers(1, 8))
@settings(max_examples=100)
def test_a_pick_has_no_doubles_and_holds_every_first_there_is_room_for(
    questions: list[list[list[str]]], count: int
) -> None:
    picked = pick(questions, count)
    everything = {name for lists in questions for ranking in lists for name in ranking}
    firsts = {next(iter(fuse(lists))) for lists in questions if any(lists)}
    assert len(picked) == len(set(picked)) == min(count, len(everything)) and set(picked) <= everything
    assert firsts <= set(picked) if len(firsts) <= count else set(picked) <= firsts


def test_requests_are_cut_into_sub_questions() -> None:
    assert sub_questions("Find the weather in Rome. After that, book a flight to Rome, and send mail to Ann.") == [
        "Find the weather in Rome",
        "book a flight to Rome",
        "send mail to Ann.",
    ]
    assert sub_questions("Black and white films") == ["Black and white films"]
    assert sub_questions("") == []


@pytest.mark.parametrize("embed", [None, hashed])
def test_the_index_finds_tools_by_what_they_do(embed: Any) -> None:
    index = ToolIndex.build(SPECS, questions={"stock_price": ["How much is Apple worth?"]}, embed=embed)
    assert index.retrieve("What is the weather in Rome?", 1) == ["getWeather"]
    assert index.retrieve("apple worth", 1) == ["stock_price"]
    assert set(index.retrieve("book a flight to Rome and then send a letter to Ann", 2)) == {"book_flight", "send_mail"}
    assert index.retrieve_all([["zzz"], ["share price"]], 1) == ["stock_price"]
    assert ToolIndex.build(SPECS).retrieve("zzz qqq", 3) == []
    with pytest.raises(ValueError, match="one name"):
        ToolIndex.build([SPECS[0], SPECS[0]])


@given(st.text(max_size=60), st.integers(1, 6))
@settings(max_examples=50)
def test_any_query_is_answered(query: str, count: int) -> None:
    assert len(INDEX.retrieve(query, count)) <= count


INDEX = ToolIndex.build(SPECS, embed=hashed)


BY_NAME = {each["function"]["name"]: each for each in SPECS}


def planned(*replies: str, count: int = 2) -> tuple[Planned, Scripted]:
    chat = Scripted(replies)
    search = PlannedSearch(ToolIndex.build(SPECS), BY_NAME, chat)
    return asyncio.run(search.retrieve("Sort out my trip to Rome and tell Ann", count, seed=1)), chat


def test_a_model_plans_the_search_and_judges_what_it_found() -> None:
    plan = json.dumps({"questions": [["flight to Rome", "book airports"], ["write a letter"], []]})
    found, chat = planned(plan, '{"keep": ["send_mail", "book_flight", "invented"], "missing": ""}')
    assert (found.names, found.rounds) == (("send_mail", "book_flight"), 1)
    assert found.questions == (("flight to Rome", "book airports"), ("write a letter",))
    assert '"name": "book_flight"' in chat.asked[1][0].content


def test_what_is_missing_is_searched_for_once_more() -> None:
    plan = json.dumps({"questions": [["flight to Rome"]]})
    found, chat = planned(
        plan, '{"keep": ["book_flight"], "missing": "weather"}', '{"keep": ["getWeather", "book_flight"]}'
    )
    assert (found.names, found.rounds, len(chat.asked)) == (("getWeather", "book_flight"), 2, 3)


def test_a_model_that_says_nothing_costs_nothing() -> None:
    found, _ = planned("I don't know", "nor here", count=3)
    assert found.rounds == 1 and set(found.names) <= set(BY_NAME) and found.questions
    assert planned('{"questions": 3}', '{"keep": "all", "missing": 4}')[0].rounds == 1


def test_documents_are_enriched_with_questions() -> None:
    chat = Scripted(lambda messages: '{"questions": ["Will it rain?"], "topics": ["umbrella", 3]}')
    asked = asyncio.run(write_questions(SPECS[:1], chat, seed=1))
    assert asked == {"getWeather": ["Will it rain?", "umbrella"]}
    assert ToolIndex.build(SPECS, questions=asked).retrieve("umbrella", 1) == ["getWeather"]


def test_long_specs_are_cut_and_stay_json() -> None:
    long = spec("wide", "d" * 3000, **{f"p{i}": "x" * 100 for i in range(30)})
    for limit in (100_000, 5000, 2000, 600, 150, 10):
        text = shorten(long, limit)
        assert json.loads(text)["name"] == "wide"
        assert len(text) <= max(limit, len('{"name": "wide"}'))
    assert json.loads(shorten(long, 100_000)) == long["function"]
    assert json.loads(shorten(SPECS[0], 2000)) == SPECS[0]["function"]
    anything = {"function": {"name": "any", "parameters": {"properties": {"x": True}}}}
    assert json.loads(shorten(anything, 60))["name"] == "any" and ToolIndex.build([anything]).names == ["any"]


def test_episode_recall_and_gap_as_worked_by_hand() -> None:
    # Gold {x, y}; the searches gave {x, a} and {b, c}: x alone, 1 of 2.
    assert episode_recall([["x", "a"], ["b", "c"]], {"x", "y"}) == 0.5
    assert episode_recall([], {"x"}) == 0.0 and episode_recall([["x"]], set()) == 1.0
    assert oracle_gap([1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]) == pytest.approx(0.25)


def problem(mode: ToolMode) -> tuple[Conversions, Problem]:
    world = Conversions(mode)
    return world, next(made for made in world.generate(random.Random(3)) if len(made.data["parts"]) == 2)


def test_the_modes_offer_what_they_should() -> None:
    offered = {}
    for mode in ToolMode:
        world, made = problem(mode)
        episode = world.reset(made, CallContext())
        offered[mode] = set(episode.tools)
    assert offered[ToolMode.ORACLE] == set(gold_tools(made)) and len(gold_tools(made)) == 3
    assert offered[ToolMode.RETRIEVAL] == {"search_tools", "call_tool"}
    assert offered[ToolMode.ALL] == set(world.box.tools) and len(offered[ToolMode.ALL]) > 400


def test_tools_that_were_never_found_work_and_are_counted() -> None:
    async def attempt() -> None:
        world, made = problem(ToolMode.RETRIEVAL)
        first, second, _ = gold_tools(made)  # the third adds
        episode = world.reset(made, CallContext(trajectory="t", seed=1))
        query = first.replace("_", " ")
        search = ToolCall(name="search_tools", arguments={"query": query, "count": 3})
        through = ToolCall(name="call_tool", arguments={"name": first, "arguments": {"value": 2}})
        direct, unfound = (ToolCall(name=name, arguments={"value": 2}) for name in (first, second))
        unknown = ToolCall(name="call_tool", arguments={"name": "convert_foot", "arguments": {}})
        wrong = ToolCall(name="call_tool", arguments={"name": first, "arguments": {"value": "two"}})
        results = (await episode.step(ParsedTurn(calls=(search,)))).results
        results += (await episode.step(ParsedTurn(calls=(through, direct, unfound, unknown, wrong)))).results
        assert [result.ok for result in results] == [True, True, True, True, False, False]
        assert json.loads(results[0].output.splitlines()[0])["name"] == first
        assert results[1].output == results[2].output and results[2].name == first
        assert "similar ones: convert_" in results[4].output and "value must be a number" in results[5].output
        other = episode.fork(CallContext(trajectory="u", seed=2))
        await other.call(unfound)
        found = len(episode.session.found & {first, second, "add_numbers"})
        verdict, forked = await episode.verify(made.answer), await other.verify("0")
        assert verdict.correct and verdict.parts == {"tool_recall": pytest.approx(found / 3), "calls_unfound": 1.0}
        assert not forked.correct and forked.parts == {"tool_recall": pytest.approx(found / 3), "calls_unfound": 2.0}
        assert json.loads(json.dumps(episode.state_dict()))["tools"]["search_tools"]["unfound"] == 1

    asyncio.run(attempt())


def test_searches_are_checked() -> None:
    tool = SearchTools()
    assert call(tool, query="miles", count=0).output == "error: count must be 1 to 20"
    assert call(tool, query="qqq").output == "no tool found"
    found = [json.loads(line)["name"] for line in call(tool, query="from mile to furlong").output.splitlines()]
    assert set(found[:2]) == {"convert_mile_to_furlong", "convert_furlong_to_mile"} and len(found) == 5
    assert tool.open(CallContext()).session.searches == [] and len(tool.session.searches) == 2


@pytest.mark.parametrize("mode", ToolMode)
def test_the_world_of_conversions_is_right(mode: ToolMode) -> None:
    world = Conversions(mode)
    world.validate()
    made = list(islice(world.generate(random.Random(5)), 40))
    assert made == list(islice(world.generate(random.Random(5)), 40))
    assert {len(one.data["parts"]) for one in made} == {1, 2}


def test_distractors_make_the_box_larger_and_no_answer_easier() -> None:
    assert len(distractors(18_000)) == MOST == 18_000 and list(distractors(5)) == list(distractors(9))[:5]
    with pytest.raises(ValueError, match="18000 distractors"):
        distractors(18_001)
    world = Conversions(distractors=600)
    assert len(world.box.tools) > 1000
    world.validate()
    found = world.box.index.retrieve("archive the tickets of a team", 3)
    assert call(world.box.tools[found[0]], key="a").output == "no records" and not call(world.box.tools[found[0]]).ok


def test_words_and_likeness() -> None:
    assert words("getCamelCase of snake_case, HTTP2") == ["get", "camel", "case", "of", "snake", "case", "http2"]
    assert [stem(word) for word in ("cities", "booking", "class", "is", "prices", "price")] == [
        *("cit", "book", "class", "is", "pric", "pric")
    ]
    assert cosine("a red fox", "a red fox") == pytest.approx(1.0, abs=1e-5) and cosine("", "fox") == 0.0
    assert cosine("red fox", "red foxes") > cosine("red fox", "blue whale")


def test_bleu_as_worked_by_hand() -> None:
    # 5 words against 6: 1-grams 5/5, 2-grams 3/4 ("the cat sat", "on mat": the, cat, sat, on | "on mat" is not there),
    # 3-grams 2/3, 4-grams 1/2; shortness exp(1 - 6/5); (1 * .75 * .66667 * .5) ** .25 = .70711
    assert bleu("the cat sat on the mat", "the cat sat on mat") == pytest.approx(0.70711 * 0.81873, abs=1e-4)
    # No 3-gram and no 4-gram: method 4 counts them as ln 4 / (2^i * 5), i = 1, 2: .13863 / 2 and .06931 / 1.
    # 1-grams 3/4, 2-grams 1/3: (.75 * .33333 * .06931 * .06931) ** .25 = .18618
    assert bleu("a b x c", "a b c d") == pytest.approx(0.18618, abs=1e-4)
    assert bleu("one two", "one two") == 1.0 and bleu("", "") == 1.0 and bleu("a", "") == bleu("a b", "c d") == 0.0


def data(name: str) -> Path:
    root = Path(os.environ.get("JOURNEYMAN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (root / name).exists():
        pytest.skip(f"{name} is not there")
    return root / name


def test_sub_questions_help_on_seal_tools() -> None:
    folder = data("seal_tools_dev")
    rows = [json.loads(line) for line in (folder / "tool.jsonl").read_text().splitlines()]
    specs = [
        {
            "function": {
                "name": r["api_name"],
                "description": r["api_description"],
                "parameters": {"properties": r["parameters"]},
            }
        }
        for r in rows
    ]
    index = ToolIndex.build(specs)
    asked = [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()][::5]
    gold = [{called["api"] for called in row["calling"]} for row in asked]
    whole, cut = (
        sum(recall(index.retrieve(row["query"], 5, split), names) for row, names in zip(asked, gold, strict=True))
        / len(asked)
        for split in ((lambda query: [query]), None)
    )
    assert len(specs) > 4000 and whole > 0.75 and cut > whole + 0.05 and cut > 0.88


def test_metatool_descriptions_can_be_searched() -> None:
    folder = data("metatool_multi") / "dataset"
    told = json.loads((folder / "plugin_des.json").read_text())
    asked = json.loads((folder / "data" / "multi_tool_query_golden.json").read_text())
    index = ToolIndex.build([{"function": {"name": name, "description": text}} for name, text in told.items()])
    mean = sum(recall(index.retrieve(row["query"], 5), row["tool"]) for row in asked) / len(asked)
    assert mean > 0.35  # advertisements and queries share few words: vectors of a model are needed here
