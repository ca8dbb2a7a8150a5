"""Recommending: measures by hand, tools that keep their promises, a target that nothing gives away."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from math import log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.base import validate, walked
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.recommend import Recommend, made_catalogue
from journeyman.environments.recommend_tools import Catalogue, Shelf, judged, ranked, read_ids
from journeyman.errors import DataError
from journeyman.llm import Scripted
from journeyman.messages import ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext

WORLD = Recommend()
ROWS = [
    {"id": "a", "title": "Ash", "colour": "red", "size": "big"},
    {"id": "b", "title": "Birch", "colour": "red", "size": "small"},
    {"id": "c", "title": "Cedar", "colour": "blue", "size": "small"},
    {"id": "d", "title": "Dill", "colour": "blue", "size": "big"},
    {"id": "e", "title": "Elm", "colour": "red", "size": "big"},
]
SMALL = Recommend(catalogue=ROWS, histories=[["a", "b", "e"]], length=2, questions=1)


def first(environment: Recommend, seed: int = 0) -> Problem:
    problem = next(environment.generate(random.Random(seed)))
    return replace(problem, tools=tuple(environment.tools()))


def opened(environment: Recommend) -> Episode:
    return environment.reset(first(environment), CallContext(trajectory="t", seed=1))


def calls(episode: Episode, *made: tuple[str, dict[str, Any]]) -> list[ToolResult]:
    async def run() -> list[ToolResult]:
        turns = [ParsedTurn(calls=(ToolCall(name=name, arguments=arguments),)) for name, arguments in made]
        return [result for turn in turns for result in (await episode.step(turn)).results]

    return asyncio.run(run())


def judged_list(environment: Recommend, items: Sequence[str]) -> Verdict:
    episode = opened(environment)
    return asyncio.run(episode.verify(", ".join(items)))


def others(problem: Problem, count: int) -> list[str]:
    taken = {*problem.data["history"], problem.data["target"]}
    return [item for item in WORLD.catalogue.items if item not in taken][:count]


def test_ndcg_by_hand() -> None:
    problem = first(WORLD)
    target, rest = problem.data["target"], others(problem, 9)
    third = judged_list(WORLD, [*rest[:2], target, *rest[2:]])
    assert third.score == 0.5 and third.parts["recall"] == 1.0 and third.correct  # 1 / log2(3 + 1)
    assert judged_list(WORLD, [target, *rest]).score == 1.0
    missing = judged_list(WORLD, [*rest, "f1", "f2"])
    assert missing.score == 0.0 and missing.parts["recall"] == 0.0 and not missing.correct


def test_unknown_ids_repeated_ones_and_the_history_are_taken_out() -> None:
    problem = first(WORLD)
    target, rest = problem.data["target"], others(problem, 9)
    # Two unknown ids before the target, which is third: without them it is first, but 8 items are no list of 10.
    short = judged_list(WORLD, ["x1", "x2", target, *rest[:7]])
    assert short.parts == {"ndcg": 1.0, "recall": 1.0, "real": 8.0, "complete": 0.0}
    assert short.score == 0.0 and not short.correct
    # With two more behind it the list is full.
    full = judged_list(WORLD, ["x1", "x2", problem.data["history"][0], rest[0], rest[0], target, *rest[1:]])
    assert full.score == pytest.approx(1 / log2(3)) and full.parts["real"] == 10.0


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a, b,c", ["a", "b", "c"]),
        ('["a", "b", 3]', ["a", "b", "3"]),
        ("[a, b]\n", ["a", "b"]),
        ("a\nb\n\n", ["a", "b"]),
        ("", []),
        ("[" * 9000, []),
    ],
)
def test_lists_are_read(text: str, ids: list[str]) -> None:
    assert [item for item in read_ids(text) if item] == ids


@settings(max_examples=60)
@given(
    st.permutations(list("abcde")), st.sampled_from(["colour", "size"]), st.sets(st.sampled_from("abcde"), min_size=1)
)
def test_ranking_is_a_permutation_of_its_input(items: list[str], attribute: str, history: set[str]) -> None:
    shelf = Shelf(catalogue=Catalogue(ROWS), history=tuple(history))
    made = ranked(shelf, attribute, items)
    assert sorted(made) == sorted(items)
    reply = Scripted([", ".join([*items[:2], "zebra", items[0]])])
    by_model = asyncio.run(judged(reply, shelf, attribute, items, 0))
    assert by_model[:2] == items[:2] and sorted(by_model) == sorted(items)


def test_ranking_follows_the_history_and_keeps_the_order_of_equals() -> None:
    shelf = Shelf(catalogue=Catalogue(ROWS), history=("a", "b", "d"))  # red twice, blue once; big twice, small once
    assert ranked(shelf, "colour", ["c", "d", "e", "a"]) == ["e", "a", "c", "d"]
    assert shelf.favourite("size") == ("big", 2)


def test_the_tools_of_an_attempt() -> None:
    episode = opened(SMALL)
    found, order, shown = calls(
        episode,
        ("retrieve", {"attribute": "colour", "value": "Blue"}),
        ("rank", {"attribute": "size"}),
        ("show", {}),
    )
    assert found.output == "c, d" and order.output in ("c, d", "d, c")
    assert "c: Cedar (colour blue, size small)" in shown.output
    more, memory = calls(
        episode, ("retrieve", {"attribute": "size", "value": "big", "k": 5}), ("rank", {"attribute": "colour"})
    )
    assert more.output == "d, e" and memory.output == "e, d"  # what the user had is not retrieved
    assert episode.state_dict()["shelf"]["memory"] == ["c", "d", "e"]
    fork = episode.fork(CallContext(trajectory="fork"))
    [again] = calls(fork, ("rank", {"attribute": "size"}))
    assert again.ok and again.output in ("e, d", "d, e")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("retrieve", {"attribute": "taste", "value": "x"}, "attributes are colour, size"),
        ("retrieve", {"attribute": "size", "value": "big", "k": 0}, "between 1 and 100"),
        ("rank", {"attribute": "size"}, "retrieve some first"),
        ("rank", {"attribute": "size", "items": ["a", "zebra"]}, "has no zebra"),
        ("show", {"items": ["zebra"]}, "has no zebra"),
    ],
)
def test_mistakes_are_observations(name: str, arguments: dict[str, Any], message: str) -> None:
    [result] = calls(opened(SMALL), (name, arguments))
    assert not result.ok and message in result.output


def test_the_user_answers_so_many_questions_about_what_is_wanted() -> None:
    episode = opened(SMALL)  # the target is e: red, big
    yes, over = calls(
        episode, ("ask", {"attribute": "colour", "value": "RED"}), ("ask", {"attribute": "size", "value": "small"})
    )
    assert yes.output == "yes" and not over.ok and "no more than 1 questions" in over.output
    [no] = calls(opened(SMALL), ("ask", {"attribute": "size", "value": "small"}))
    assert no.output == "no"
    assert "ask" not in WORLD.tools()


def test_tools_without_a_user_say_so() -> None:
    for name, arguments in (
        ("retrieve", {"attribute": "mood", "value": "dark"}),
        ("rank", {"attribute": "mood", "items": ["f100"]}),
    ):
        result = asyncio.run(WORLD.tools()[name].call(arguments))
        assert not result.ok and "no user" in result.output


def test_nothing_gives_the_target_away() -> None:
    for problem in islice(WORLD.generate(random.Random(3)), 50):
        target = problem.data["target"]
        assert target == problem.answer and target not in problem.data["history"]
        assert WORLD.catalogue.line(target) not in problem.question and f"{target}:" not in problem.question
    problem = first(WORLD)
    twin = replace(problem, data={**problem.data, "target": others(problem, 1)[0]})
    seen = []
    for one in (problem, twin):  # two users with the same history and another target see the same
        episode = WORLD.reset(one, CallContext(trajectory="t"))
        gold = WORLD.courses(problem)[0]
        made = [(step.call.name, dict(step.call.arguments)) for step in gold.steps if step.call]
        seen.append([result.output for result in calls(episode, *made)])
    assert seen[0] == seen[1]


def test_a_model_can_rank() -> None:
    def reversed_ids(messages: Sequence[Any]) -> str:
        return ", ".join(line.split(":")[0] for line in messages[0].content.splitlines()[::-1] if ":" in line)

    chat = Scripted(reversed_ids)
    environment = Recommend(catalogue=ROWS, histories=[["a", "b", "e"]], length=2, judge=chat)
    [_, order] = calls(
        opened(environment), ("retrieve", {"attribute": "colour", "value": "blue"}), ("rank", {"attribute": "size"})
    )
    assert order.output == "d, c" and "their size fits that user" in chat.asked[0][0].content
    assert "Elm" not in chat.asked[0][0].content  # the target is not among what the model sees
    environment.validate()


def test_worlds_are_valid_and_follow_their_seed() -> None:
    WORLD.validate()
    validate(WORLD, islice(WORLD.generate(random.Random(9)), 40))
    gold, had = (asyncio.run(walked(SMALL, first(SMALL), course)).verdict for course in SMALL.courses(first(SMALL)))
    assert gold.score == 1.0 and had.score == 0.0
    assert made_catalogue(1) == made_catalogue(1) != made_catalogue(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"catalogue": ROWS}, "belong together"),
        ({"catalogue": ROWS, "histories": [["a", "z"]]}, "hasn't: z"),
        ({"catalogue": ROWS, "histories": [["a", "a"]]}, "new to it"),
        ({"catalogue": [*ROWS, ROWS[0]], "histories": [["a", "b"]]}, "there twice"),
        ({"catalogue": [*ROWS, {"id": "z", "title": "Z"}], "histories": [["a", "b"]]}, "other attributes"),
    ],
)
def test_data_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recommend(**options)


def test_catalogues_come_from_files(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as made:
        made.execute("create table items(id, title, colour, size)")
        made.executemany("insert into items values (:id, :title, :colour, :size)", ROWS)
        made.execute("create table interactions(user, item)")
        made.executemany("insert into interactions values (?, ?)", [(2, "c"), (1, "a"), (2, "d"), (1, "b"), (1, "e")])
        made.commit()
    items, histories = tmp_path / "items.jsonl", tmp_path / "histories.jsonl"
    items.write_text("\n".join(map(json.dumps, ROWS)))
    histories.write_text('{"items": ["a", "b", "e"]}\n\n{"items": ["c", "d"]}\n')
    for environment in (
        Recommend(catalogue=str(database), length=2),
        Recommend(catalogue=str(items), histories=str(histories), length=2),
    ):
        seen = {(*p.data["history"], p.answer) for p in islice(environment.generate(random.Random(0)), 20)}
        assert seen == {("a", "b", "e"), ("c", "d")}
        environment.validate()
    for broken in (str(tmp_path / "none.db"), str(tmp_path / "none.jsonl")):
        with pytest.raises(DataError, match="can't be read"):
            Recommend(catalogue=broken)
