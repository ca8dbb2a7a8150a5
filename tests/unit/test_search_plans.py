"""Searches over plans: a graph of clauses, a hierarchy of drafts, and the strategies that use them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.errors import ConfigError
from journeyman.llm import Scripted
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.rollout.search.graph import VETO, Clause, Edge, GraphSearch, Plan, hints, random_share, ucb
from journeyman.rollout.search.hierarchy import Climb, Draft, by_number, by_votes, hierarchical, ranking
from journeyman.synthesis.base import Lesson, Studio
from journeyman.synthesis.strategies.plans import LEVELS, ToolPlans, hierarchical_plan, plan_search, told, values_in
from tests.unit.fakes import problem
from tests.unit.teachers import Asked, StubTeacher

A, B, C, D = Clause("first", "a"), Clause("first", "b"), Clause("second", "c"), Clause("second", "d")


class Two:
    """Plans of two slots with two values each."""

    def legal(self, plan: Plan) -> Sequence[Clause]:
        return ([A, B], [C, D], [])[len(plan)]

    def complete(self, plan: Plan) -> bool:
        return len(plan) == 2

    def open(self, plan: Plan) -> float:
        return 1 - len(plan) / 2


def graph(worth: dict[Plan, float | None], count: int, seed: int = 0) -> tuple[GraphSearch, list[float]]:
    async def judge(plan: Plan) -> float | None:
        return worth.get(plan, 0.0)

    async def run() -> list[float]:
        return [await search.simulate() for _ in range(count)]

    search = GraphSearch(Two(), judge, seed=seed)
    return search, asyncio.run(run())


def test_ucb_on_edges_by_hand() -> None:
    # 4/4 + 1.5 sqrt(2 ln 10 / 4) = 1 + 1.5 x 1.0730; 1/1 + 1.5 sqrt(2 ln 10)
    assert ucb(Edge(4, 4.0), 10) == pytest.approx(2.609, abs=1e-3)
    assert ucb(Edge(1, 1.0), 10) == pytest.approx(4.219, abs=1e-3)
    assert ucb(Edge(), 10) == float("inf")


def test_random_moves_by_hand() -> None:
    assert random_share(1.0) == 1.0 and random_share(0.0) == pytest.approx(0.4493, abs=1e-4)  # exp -.8


def test_plans_share_nodes_and_edges_add_up() -> None:
    search, scores = graph({(A, C): 1.0, (B, D): 0.5}, 40)
    assert set(search.nodes) == {A, B, C, D}  # C behind A and behind B is one node
    assert search.root.visits == 40 == sum(edge.visits for edge in search.root.edges.values())
    assert sum(edge.value for edge in search.root.edges.values()) == pytest.approx(sum(scores))
    # Every simulation but those that were completed at random behind their first clause passes a second edge.
    below = sum(edge.visits for one in (A, B) for edge in search.nodes[one].edges.values())
    assert below == 40 - 2
    assert search.best(2) == [((A, C), 1.0), ((B, D), 0.5)]
    assert graph({(A, C): 1.0, (B, D): 0.5}, 40)[1] == scores


def test_a_vetoed_plan_and_a_constraint() -> None:
    search, scores = graph({(A, C): None, (B, C): 1.0}, 30)
    assert VETO in scores and search.scores[A, C] == VETO
    visits = search.root.visits
    search.constrain(A)
    assert asyncio.run(search.simulate()) in (VETO, 0.0)
    assert search.root.visits == visits + 1 and (B, C) not in dict(search.best(9))  # statistics stay


def test_hints_by_hand() -> None:
    x, y = Clause("s", "x"), Clause("s", "y")
    n = [Clause("n", str(i)) for i in range(2)]
    plans = {(x, n[0]): 0.5, (x, n[1]): 0.3, (y, n[0]): 0.5, (y, n[1]): 0.1}
    # x .8, y .6, n0 1.0, n1 .4; behind n0: x .3, y .1, n1 .4
    assert hints(plans, 2) == [n[0], n[1]]
    alone = {(x, Clause("n", "0")): 0.5, (x, Clause("n", "1")): 0.3, (y, Clause("n", "2")): 0.5, (y, n[1]): 0.1}
    assert hints(alone, 1) == [x]  # x .8, y .6, n0 .5, n1 .4, n2 .5
    assert hints({(x, n[0]): 1.0, (x, n[1]): 1.0, (y,): 0.0}, 5) == n  # all that score have x: no question
    assert hints({}, 3) == hints({(x,): -1.0}, 3) == []


def counted(values: Mapping[str, float], texts: Sequence[str]) -> tuple[Callable, Callable, list[int]]:
    left, asked = list(texts), list[int]()

    async def propose(drafts: Sequence[Draft], number: int) -> str:
        asked.append(len(drafts))
        return left.pop(0)

    async def value(draft: Draft) -> float:
        return values[draft[-1]]

    return propose, by_number(value), asked


def test_hierarchical_climbs_by_hand() -> None:
    # 1 at first; 2 is better; 2 again and 2' are not strictly better: two failures end the line, 3 is never reached.
    propose, better, asked = counted(
        {"one": 1, "two": 2, "two'": 2, "three": 3}, ["one", "two", "two", "two'", "three"]
    )
    found = asyncio.run(hierarchical(1, propose, better, climb=Climb(lines=1)))
    assert found == [("two",)] and asked == [1] * 4
    # A rise between failures: 1, worse, 2, worse, worse.
    propose, better, asked = counted({"a": 1, "b": 0, "c": 2}, ["a", "b", "c", "b", "b"])
    assert asyncio.run(hierarchical(1, propose, better, climb=Climb(lines=1))) == [("c",)] and len(asked) == 5


def test_optima_are_joined_and_the_beam_goes_on() -> None:
    # Two lines of a text that is never bettered (its two failures repeat it), a trial that is worse, one that is better.
    texts = ["a", "a", "a", "b", "b", "b", "worse", "joined"]
    values = {"a": 1, "b": 2, "worse": 0, "joined": 3}
    propose, better, asked = counted(values, texts)
    found = asyncio.run(hierarchical(1, propose, better, climb=Climb(lines=2), parallel=1))
    assert found == [("joined",), ("b",), ("a",)] and asked == [1] * 6 + [2, 2]
    propose, better, asked = counted(values, texts)
    assert asyncio.run(hierarchical(1, propose, better, climb=Climb(lines=2, beam=1), parallel=1)) == [("joined",)]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=200, max_size=200), st.integers(1, 3), st.integers(1, 2))
def test_levels_keep_what_stands_above_and_proposals_are_bounded(numbers: list[int], lines: int, beam: int) -> None:
    made: list[tuple[Draft, str]] = []

    async def propose(drafts: Sequence[Draft], number: int) -> str:
        made.append((drafts[0][:-1], text := f"{numbers[len(made) % 200]}.{len(made)}"))
        return text

    async def value(draft: Draft) -> float:
        return sum(float(text.split(".")[0]) for text in draft)

    found = asyncio.run(hierarchical(2, propose, by_number(value), climb=Climb(lines=lines, beam=beam, steps=9)))
    first = {text for above, text in made if not above}
    assert 1 <= len(found) <= beam and all(len(draft) == 2 and draft[0] in first for draft in found)
    # A level has six values: at most 5 rises a line, each after at most one failure, then two.
    assert len(made) <= lines * 9 + 2 + beam * lines * 9 + 2


def test_votes_in_both_orders() -> None:
    async def longer(first: Draft, second: Draft) -> bool:
        return len(first[-1]) > len(second[-1])

    async def place(first: Draft, second: Draft) -> bool:
        return True

    async def mute(first: Draft, second: Draft) -> None:
        return None

    def asked(*judges: Any) -> tuple[bool, bool]:
        better = by_votes(judges)

        async def both() -> tuple[bool, bool]:
            return await better(("long",), ("l",)), await better(("l",), ("long",))

        return asyncio.run(both())

    async def shorter(first: Draft, second: Draft) -> bool:
        return len(first[-1]) < len(second[-1])

    assert asked(longer) == asked(longer, place, place, mute) == (True, False)
    assert asked(place) == asked(mute) == asked(longer, shorter) == (False, False)
    assert asked(longer, shorter, shorter) == (False, True)


def test_ranking_by_hand() -> None:
    async def value(draft: Draft) -> float:
        return float(draft[0])

    async def ranked() -> list[Draft]:
        return await ranking([("1",), ("3",), ("2",), ("3.0",)], by_number(value))

    assert asyncio.run(ranked()) == [("3",), ("3.0",), ("2",), ("1",)]


def taught(
    strategy: Callable[..., Coroutine[Any, Any, Sequence[Lesson]]],
    of: Problem,
    *,
    teacher: StubTeacher | None = None,
    chat: Scripted | None = None,
    **options: Any,
) -> Lesson:
    studio = Studio(teacher=teacher or StubTeacher(()), chat=chat, seed=3, problems=(of,))
    [lesson] = asyncio.run(strategy(Lesson(problem=of), studio, **options))
    return lesson


SPEC = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Book a table.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "guests": {"type": "integer"},
                "time": {"type": "string", "enum": ["noon", "night"]},
                "note": {"type": "string"},
            },
            "required": ["city", "guests", "time"],
        },
    },
}


def booking() -> Problem:
    data = {
        "specs": [SPEC],
        "turns": [
            {
                "user": "A table in Quito at noon for 9",
                "accepted": [{"name": "book", "arguments": {"city": ["Quito"], "guests": [9], "time": ["noon"]}}],
            }
        ],
    }
    return problem("A table in Quito at noon for 9", "", family="calls", tools=("book",), data=data)


def test_the_grammar_of_tool_plans() -> None:
    plans = ToolPlans.of(booking(), 2)
    tool = Clause("tool", "book")
    assert plans.legal(()) == [tool] and plans.open(()) == 1.0 and not plans.complete(())
    assert Clause("book.city", '"Quito"') in plans.legal((tool,)) and plans.open((tool,)) == 0.5
    one = (tool, Clause("book.city", '"Quito"'), Clause("book.guests", "9"), Clause("book.time", '"noon"'))
    assert plans.legal(one) == [Clause("end", ""), tool]
    assert plans.complete((*one, Clause("end", ""))) and plans.complete((*one, *one)) and not plans.complete(one)
    [call] = plans.calls_of(one)
    assert (call.name, dict(call.arguments)) == ("book", {"city": "Quito", "guests": 9, "time": "noon"})
    assert ToolPlans.of(problem("Hi", tools=("calculator",)), 1).tools == {}  # nothing in the question to calculate


def test_values_of_a_question() -> None:
    said = values_in('Is "old lamp" in New York or Rome for 007 or 12.5 dollars?')
    assert said[:5] == ["old lamp", "New York", "Rome", "007", 12.5] and "dollars" in said and "in" not in said


def test_plan_search_by_hand() -> None:
    lesson = taught(plan_search, booking(), simulations=150, calls=1)
    [made] = lesson.trajectories
    assert made.correct and made.provenance["strategies"] == ["plan_search"] and made.source == "plans"
    [call] = made.calls
    assert dict(call.arguments) == {"city": "Quito", "guests": 9, "time": "noon"}
    assert taught(plan_search, booking(), simulations=150, calls=1) == lesson
    assert taught(plan_search, problem("Hi", tools=("calculator",))).trajectories == ()


def test_plan_search_answers_with_the_last_result() -> None:
    [made] = taught(plan_search, problem('How much is "6*7"?'), simulations=20).trajectories
    # Of the plans that are right the one with the fewest calls.
    assert (
        made.correct and made.answer == "42" and [dict(one.arguments) for one in made.calls] == [{"expression": "6*7"}]
    )


def test_an_answer_of_the_user_binds_the_plans() -> None:
    asked: list[str] = []

    def chooses(messages: Sequence[Message]) -> str:
        asked.append(messages[-1].content)
        return "<choice>1</choice>"

    lesson = taught(plan_search, booking(), chat=Scripted(chooses), simulations=150, calls=1, ask=True)
    assert len(asked) <= 1 and lesson.trajectories and not lesson.refused
    unread = taught(plan_search, booking(), chat=Scripted(lambda _: "none"), simulations=150, calls=1, ask=True)
    assert [one.provenance["refused"] for one in unread.refused] == ["a choice that can't be read"] * len(asked)


def writes(messages: Sequence[Message]) -> str:
    """The goal that works, and nothing new ever after."""
    level = messages[-1].content.split('Write the level "')[1].split('"')[0]
    return f"<text>{level} as it should be</text>"


def by_plan(request: Asked) -> Sequence[str]:
    led = "sub-goals as it should be" in request.hint
    expression = "6*7" if led else "6+7"
    call = f'<tool_call>\n{{"name": "calculator", "arguments": {{"expression": "{expression}"}}}}\n</tool_call>'
    return (call, f"<answer>{42 if led else 13}</answer>")


def test_hierarchical_plan_by_hand() -> None:
    teacher = StubTeacher(by_plan)
    lesson = taught(hierarchical_plan, problem(), teacher=teacher, chat=Scripted(writes), levels=2, probes=2)
    [made] = lesson.trajectories
    assert made.correct and made.provenance["plan"] == told(("goal as it should be", "sub-goals as it should be"))
    assert [one.provenance["refused"] for one in lesson.refused] == ["another is kept"]
    # Plans that are the same as before are not compared, so that the last plan's probes are all that was tried.
    assert len(teacher.asked) == 2 and len({one.seed for one in teacher.asked}) == 2


def test_hierarchical_plan_by_a_judge_and_without_the_answer() -> None:
    def says(messages: Sequence[Message]) -> str:
        text = messages[-1].content
        if "strictly better" in text:
            return "<better>yes</better>"  # a judge that likes what comes first has no vote
        return "<text>The answer is 42.</text>"

    lesson = taught(
        hierarchical_plan,
        problem(),
        teacher=StubTeacher(by_plan),
        chat=Scripted(says),
        levels=1,
        lines=1,
        compare="writer",
        probes=1,
    )
    assert lesson.trajectories == () and "a plan that gives the answer away" in {
        one.provenance["refused"] for one in lesson.refused
    }
    with pytest.raises(ConfigError, match="needs a model that writes"):
        taught(hierarchical_plan, problem())


def test_there_are_five_levels() -> None:
    assert len(LEVELS) == 5 and told(("x", "")) == "goal: x"
