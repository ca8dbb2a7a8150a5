"""Calls against reference calls: names, parameters, values; one to one; sub-answers that are solved."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments import environment
from journeyman.messages import ToolCall
from journeyman.rewards import build_reward
from journeyman.rewards.matching import (
    assigned,
    call_similarity,
    calls_matched,
    earned_by_calls,
    exact_calls,
    matchtir,
    solved_calls,
    toolrl,
)
from journeyman.rewards.reference import reference_calls, reference_goals, schemas_of
from journeyman.trajectory import Turn
from tests.unit.calling import LOST, against, attempt, call, of, rejected, totals, turn, turns
from tests.unit.fakes import problem, some, trajectory

WANTED = call("f", a=1, b=2)
EXACT, VALUE, KEY, TOOL, NONE = (
    attempt(turn(WANTED)),
    attempt(turn(call("f", a=1, b=3))),
    attempt(turn(call("f", a=1))),
    attempt(turn(call("g", x=1))),
    attempt(),
)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=arguments),
    st.sampled_from(["f", "g"]),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=3),
)
LISTS = st.lists(CALLS, max_size=4)


def test_toolrl_by_hand() -> None:
    scores = toolrl(against([WANTED], EXACT, VALUE, KEY, TOOL, NONE, rejected(), LOST))
    # S_max = 1 + 1 + 2 = 4; S of the attempts: 1 + 1 + 2, 1 + 1 + 1, 1 + 1/2 + 1, 0, 0, 0; 6 S / 4 - 3, and 1 for the form
    assert totals(scores) == [4.0, 2.5, 1.75, -2.0, -3.0, -3.0, None]
    assert scores[2].parts == {"format": 1.0, "calls": 0.75, "names": 1.0, "parameters": 0.5, "values": 1.0}


def test_toolrl_takes_every_call_of_an_attempt_for_one_reference_call_each() -> None:
    gold = [WANTED, call("g", x=1)]
    # the names' Jaccard is 1/3, f is matched (1 + 2), g is not: S = 10/3 of S_max = 1 + 3 + 2 = 6; 6 * 10/18 - 3 = 1/3
    (score,) = toolrl(against(gold, attempt(turn(WANTED), turn(WANTED))))
    assert score.total == pytest.approx(1 + 1 / 3)
    assert totals(toolrl(against(gold, attempt(turn(WANTED), turn(call("g", x=1)))))) == [4.0]


def test_toolrl_where_no_call_is_right_pays_for_the_form_alone() -> None:
    assert totals(toolrl(against([], NONE, EXACT))) == [1.0, 0.0]


def test_toolrl_is_coarser_where_it_is_asked_to_be() -> None:
    one, other = attempt(turn(call("f", a=1, b=3))), attempt(turn(call("f", a=1)))
    found = {
        grain: totals(toolrl(against([WANTED], EXACT, one, other), granularity=grain))
        for grain in ("refined", "intermediate", "coarse")
    }
    assert found == {
        "refined": [4.0, 2.5, 1.0],  # a missing name takes the names' part whole: S = 1 + 0 + 1 of 4
        "intermediate": [4.0, 1.0, 1.0],  # S = 1 of 2
        "coarse": [4.0, -2.0, -2.0],
    }


def test_toolrl_finds_a_difference_where_exact_matching_sees_none() -> None:
    group = against([WANTED], VALUE, KEY, TOOL)
    assert len(set(totals(exact_calls(group)))) == 1 and len(set(totals(toolrl(group)))) == 3


@pytest.mark.parametrize(
    ("schedule", "step", "exact", "wrong"),
    [
        ("none", 0, 4.0, -2.0),
        ("two_stage", 29, 2.0, 0.0),  # the form 1, the calls +-1
        ("two_stage", 30, 3.5, -2.5),  # the form 1/2, the calls +-3
        ("smooth", 0, 4.0, 0.0),  # 2 and +-2
        ("smooth", 75, 4.0, -1.0),  # 3/2 and +-5/2
        ("smooth", 150, 4.0, -2.0),
        ("smooth", 900, 4.0, -2.0),
    ],
)
def test_toolrl_changes_its_weights_by_the_step(schedule: Any, step: int, exact: float, wrong: float) -> None:
    assert totals(toolrl(against([WANTED], EXACT, TOOL, step=step), schedule=schedule)) == [exact, wrong]


def test_toolrl_pays_for_long_thoughts_where_it_is_asked_to() -> None:
    thought = Turn(text=f"<think>{'word ' * 256}</think>", calls=(WANTED,), results=turn(WANTED).results)
    group = [against([WANTED], attempt(thought, answer=None), step=step) for step in (0, 105)]
    assert [toolrl(one, length="fixed")[0].parts["length"] for one in group] == [0.5, 0.5]
    growing = [toolrl(one, length="growing")[0].parts["length"] for one in group]
    assert growing == pytest.approx([256 / 384, 256 / 640])


def test_toolrl_on_a_smaller_scale() -> None:
    assert totals(toolrl(against([WANTED], EXACT, VALUE, TOOL), correct_max=1.0)) == [2.0, 1.5, 0.0]


def test_exact_calls_by_hand() -> None:
    assert totals(exact_calls(against([WANTED], EXACT, VALUE, NONE, LOST))) == [1.0, 0.0, 0.0, None]
    gold = [WANTED, call("g")]
    assert totals(exact_calls(against(gold, attempt(turn(*gold)), attempt(turn(*gold[::-1]))))) == [1.0, 0.0]


def test_without_a_reference_nothing_is_scored() -> None:
    for reward in (toolrl, exact_calls, matchtir, solved_calls):
        assert totals(reward(of(problem(data={}), EXACT))) == [None]


@settings(max_examples=60)
@given(calls=LISTS, gold=LISTS.filter(bool))
def test_how_much_matches_is_a_share_that_only_the_reference_earns_whole(calls: list, gold: list) -> None:
    shares = [calls_matched(calls, gold, grain)[0] for grain in ("fine", "intermediate", "coarse")]
    assert all(0 <= share <= 1 + 1e-12 for share in shares)
    assert calls_matched(gold, gold)[0] == pytest.approx(1)
    assert calls != gold or shares == pytest.approx([1, 1, 1])


# --- MatchTIR ---------------------------------------------------------------------------------------------------------


def test_matchtir_by_hand() -> None:
    first, second = call("f", a=1, b=2), call("f", b=2)
    gold = [call("f", a=1, b=2), call("f", a=1)]
    # likeness: first to gold 1, (1 + 1/2 + 1)/3 = 5/6; second to gold (1 + 1/2 + 1)/4 = 5/8, (1 + 0 + 0)/3 = 1/3
    # best together: 5/6 + 5/8 = 35/24 > 1 + 1/3; of {42, apples} and {42}: F1 2/3
    group = against(gold, attempt(turn(first), turn(second), answer="the 42 apples"))
    (score,) = matchtir(group)
    assert score.turns == pytest.approx((5 / 6, 5 / 8, 2 / 3)) and score.total == pytest.approx(17 / 8)
    assert matchtir(group, matching="greedy")[0].turns == pytest.approx((1, 1 / 3, 2 / 3))


def test_matchtir_pays_a_turn_the_mean_of_its_calls() -> None:
    group = against([WANTED], attempt(turn(WANTED, WANTED), answer=None), attempt(answer=None), LOST)
    assert turns(matchtir(group)) == [(0.5,), (), ()] and totals(matchtir(group)) == [0.5, 0.0, None]
    assert turns(matchtir(group, unmatched=0.5))[0] == (0.25,)  # (1 - 0.5) / 2
    assert turns(matchtir(against([], attempt(turn(WANTED)))))[0] == (0.0, 1.0)


def test_transport_shares_a_reference_call_among_the_calls() -> None:
    assert earned_by_calls([WANTED], [WANTED], matching="transport") == pytest.approx([1.0])
    assert earned_by_calls([WANTED, WANTED], [WANTED], matching="transport") == pytest.approx([0.5, 0.5])
    # a table of 1 and 0: the plan's diagonal is e^10 / (2 (e^10 + 1))
    both = [WANTED, call("g")]
    expected = math.exp(10) / (2 * (math.exp(10) + 1))
    assert earned_by_calls(both, both, matching="transport") == pytest.approx([expected, expected])
    assert earned_by_calls([WANTED], [], matching="transport") == [0.0]


@settings(max_examples=60)
@given(calls=LISTS, gold=LISTS)
def test_the_best_matching_is_never_worse_than_a_greedy_one(calls: list, gold: list) -> None:
    best, greedy = (sum(earned_by_calls(calls, gold, matching=kind)) for kind in ("optimal", "greedy"))
    assert best >= greedy - 1e-9
    taken = [one for one in assigned(calls, gold) if one is not None]
    assert len(taken) <= len(gold) and all(one in gold for one in taken)


def test_likeness_of_calls_without_parameters() -> None:
    assert call_similarity(call("g"), call("g")) == 1.0 and call_similarity(call("g"), call("f")) == 0.0


# --- FTRL -------------------------------------------------------------------------------------------------------------

GOALS = [{"tool": "search", "answer": "Paris"}, {"tool": "weather", "answer": "12"}]
SEARCHED = turn(call("search", q="a"), call("search", q="b"), outputs=("Paris it is", "Rome"))
ASKED = turn(call("weather"), outputs=("12 degrees",))


def solved(*attempts, **options: Any) -> list[tuple[float, ...]]:
    return turns(solved_calls(of(problem(data={"goals": GOALS}), *attempts), **options))


def test_solved_calls_by_hand() -> None:
    # 1 of 2 calls solves: 2 * 1 / 3; 1 of 1: 2 * 1 / 2; the answer with nothing missing: 1 / (1 + 0)
    (score,) = solved_calls(of(problem(data={"goals": GOALS}), attempt(SEARCHED, ASKED)))
    assert score.turns == pytest.approx((2 / 3, 1, 1)) and score.total == pytest.approx(8 / 3)
    assert solved(attempt(SEARCHED))[0] == pytest.approx((2 / 3, 1 / 2))  # one sub-answer is missing
    assert solved(attempt(SEARCHED, SEARCHED))[0] == pytest.approx((2 / 3, 0, 1 / 2))  # solved once is solved
    assert solved(attempt(SEARCHED, ASKED, answer="7"))[0][-1] == 0.5
    assert solved(attempt(SEARCHED, answer="7"))[0][-1] == 0.0
    assert solved(attempt(Turn(text=" "), answer=None))[0] == (-0.5,)
    assert solved(rejected())[0] == (-0.3,)
    assert solved(LOST)[0] == ()


def test_solved_calls_by_the_other_formulas() -> None:
    found = {name: solved(attempt(SEARCHED, ASKED), formula=name)[0][:2] for name in ("rate", "precision", "product")}
    assert found == {"rate": (1.0, 1.0), "precision": (0.5, 1.0), "product": (0.5, 1.0)}


def test_a_list_of_guesses_contains_the_answer_but_is_not_verified() -> None:
    guess = attempt(SEARCHED, ASKED, answer="41 or 42 or 43", correct=False)
    assert solved(guess)[0][-1] == 1.0 and solved(guess, answer="verified")[0][-1] == 0.5


# --- references -------------------------------------------------------------------------------------------------------


def test_reference_calls_come_from_the_problem_or_its_gold_course() -> None:
    for family in ("arithmetic", "tables", "databases", "calls", "built", "lookup"):
        maker = environment(family)
        made = maker.problems[0] if family == "built" else some(family, 1)[0]  # type: ignore[attr-defined]
        found = reference_calls(made)
        assert found is not None and len(found) == made.min_calls
    assert reference_calls(None) is None and reference_calls(problem(data={})) is None
    assert reference_calls(problem(data={}, family="nowhere")) is None
    assert reference_calls(problem(data={"reference_calls": []})) == ()


def test_a_gold_course_earns_everything() -> None:
    made = some("tables", 1)[0]
    calls = reference_calls(made)
    assert calls is not None
    right = attempt(turn(*calls), answer=made.answer, reference=made.answer)
    assert totals(toolrl(of(made, right))) == [4.0] and totals(matchtir(of(made, right))) == [2.0]


def test_reference_goals_are_the_worlds_or_beside_the_reference_calls() -> None:
    built: Any = environment("built")
    goals = reference_goals(built.problems[0])
    assert goals is not None and [goal.tool for goal in goals] == [
        one["tool"] for one in built.problems[0].data["goals"]
    ]
    beside = against([WANTED, call("g")], EXACT, reference_outputs=["3", "4"]).problem
    found = reference_goals(beside)
    assert found is not None and [(goal.tool, goal.answer) for goal in found] == [("f", "3"), ("g", "4")]
    assert reference_goals(against([WANTED], EXACT).problem) is None


def test_schemas_are_the_attempts_own_or_its_familys() -> None:
    assert list(schemas_of(EXACT)) == ["f", "g"]
    assert list(schemas_of(trajectory())["calculator"]["properties"]) == ["expression"]


def test_expressions_build_them() -> None:
    group = against([WANTED], EXACT)
    reward = build_reward('toolrl(granularity="coarse", correct_max=1) + 0.5 * matchtir(matching="greedy")')
    assert reward(group)[0].total == pytest.approx(2 + 0.5 * 2)
