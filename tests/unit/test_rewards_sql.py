"""Rewards for SQL on a small shop's database: results, names, tokens, a judge's opinion, cells that match."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.problem import Problem
from journeyman.rewards.sql import (
    asked_of,
    matched_cells,
    paverl_sql,
    query_of,
    reasoning_sql,
    sql_partials,
    sql_tokens,
)
from journeyman.trajectory import Trajectory
from tests.unit.calling import LOST, attempt, call, of, rejected, totals, turn
from tests.unit.fakes import problem, some
from tests.unit.supplies import RuleJudge

GOLD = "select count(*) from product"
COUNTED = {"database": "", "query": GOLD, "rows": [[80]], "ordered": False}


def asked(question: str = "How many products are there?", **data: Any) -> Problem:
    return problem(question, "80", family="databases", data={**COUNTED, **data})


def wrote(query: str, **fields: Any) -> Trajectory:
    return attempt(answer=f"```sql\n{query}\n```", **fields)


def test_reasoning_sql_by_hand() -> None:
    other = wrote("select count(*) from customer")
    judge = RuleJudge(lambda question: "4")
    attempts = (wrote(GOLD), other, wrote("select nothing from nowhere"), attempt(answer=None), rejected(), LOST)
    scores = reasoning_sql(of(asked(), *attempts), judge=judge)
    # all of it: 3 + 1 + 1 + 1 + 1, the judge isn't asked
    assert scores[0].total == 7.0
    # runs 1, judged 2 * 0.4, no table in common, 5 of 7 pairs of tokens in common, its form 1
    assert scores[1].total == pytest.approx(1 + 0.8 + 0 + 5 / 7 + 1)
    assert scores[1].parts == {
        **{"execution": 0.0, "syntax": 1.0, "schema": 0.0, "ngrams": pytest.approx(5 / 7), "form": 1.0, "judged": 0.4}
    }
    # fails; of (select nothing)(nothing from)(from nowhere) and the six of the reference none in common
    assert scores[2].total == pytest.approx(0.8 + 1)
    assert totals(scores)[3:] == [0.0, 0.0, None] and len(judge.asked) == 2


def test_a_judge_who_can_not_be_read_leaves_the_attempt_unscored() -> None:
    for said in ("four", "4 of 10", "11", "", "٤"):
        scores = reasoning_sql(of(asked(), wrote(GOLD), wrote("select 1")), judge=RuleJudge(lambda _, said=said: said))
        assert totals(scores) == [7.0, None]


def test_sql_partials_by_hand() -> None:
    scores = sql_partials(of(asked(), wrote(GOLD), wrote("select count(*) from customer"), LOST))
    assert totals(scores) == pytest.approx([7.0, 2 + 5 / 7, None])
    # of {product, price} and {product, price, colour} 2 of 3 names are in common, with the alias left out
    query = "select p.price from product p where p.colour = 'red'"
    made = sql_partials(of(asked(query="select price from product", rows=[[1.5]]), wrote(query)))
    assert made[0].parts["schema"] == pytest.approx(2 / 3)


def test_partial_rewards_stay_below_the_result_with_its_partials() -> None:
    almost, right = wrote("select count(*) from product where id > 0 limit 1"), wrote("select count(1) from product")
    one, other = totals(reasoning_sql(of(asked(), almost, right), judge=RuleJudge(lambda _: "10")))
    assert one is not None and other is not None and min(one, other) > 3  # both give the reference's rows
    wrong = totals(sql_partials(of(asked(), wrote("select count(*) from product where id < 9"))))[0]
    assert wrong is not None and wrong < 4


def test_which_query_an_attempt_stands_by() -> None:
    called = turn(call("sql", query="select 1"), call("sql", query="select 2"))
    assert query_of(attempt(called)) == "select 2"
    assert query_of(attempt(called, answer="SELECT 3")) == "SELECT 3"
    assert query_of(attempt(called, answer="```sql\nselect 4\n``` or ```SQL\nselect `5`\n```")) == "select `5`"
    assert query_of(attempt(turn(call("sql", query=7)))) == "" and query_of(attempt(answer=None)) == ""


def test_worlds_with_a_database_have_references_others_none() -> None:
    for family in ("tables", "databases"):
        made = some(family, 1)[0]
        found = asked_of(made)
        assert found is not None
        assert totals(sql_partials(of(made, wrote(found.query)))) == [7.0]
        assert totals(paverl_sql(of(made, wrote(found.query)))) == [10.0]
    nothing = problem(data={})
    assert asked_of(nothing) is None and asked_of(None) is None
    for scores in (sql_partials(of(nothing, wrote(GOLD))), paverl_sql(of(nothing, wrote(GOLD)))):
        assert totals(scores) == [None]


def test_paverl_sql_by_hand() -> None:
    attempts = (
        wrote(GOLD),
        wrote("select count(*) from customer"),  # runs, matches nothing
        wrote("select no_such from product"),
        wrote("select 80"),  # right, but shorter than 16 characters
        attempt(answer=None),
        LOST,
    )
    assert totals(paverl_sql(of(asked(), *attempts))) == [10.0, 0.5, 0.0, 0.0, 0.0, None]
    two = asked(query="select id, name from category where id < 3", rows=[[1, "toys"], [2, "books"]])
    half = "select id, id + 7 from category where id < 3"
    assert totals(paverl_sql(of(two, wrote(half)))) == [5.0]  # one of two columns


ROWS = [["a", 1], ["b", 2], ["c", 3], ["d", 4]]


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        (ROWS, 1.0),
        (ROWS[::-1], 1.0),
        ([["a", 4], ["b", 3], ["c", 2], ["d", 1]], 1.0),  # rows are not held together
        ([["x", *row] for row in ROWS], 1.0),  # a column too many is free
        ([[name] for name, _ in ROWS], 0.5),
        ([[name, 9] for name, _ in ROWS], 0.5),
        ([["A", 1.004], ["b", "2"], ["c", 3], ["d", 4]], 0.5),  # whole numbers have no tolerance
        (ROWS[:3], 0.75),  # 3 rows of 2 columns, of 4 and 2
        ([*ROWS, ["e", 5]], 1.0),
        ([*ROWS[:3], ["x", 4]], 0.5),
        ([*ROWS, *[["e", 5]] * 6], 0.0),  # six rows too many
        ([], 0.0),
    ],
)
def test_matched_cells_by_hand(rows: list, share: float) -> None:
    assert matched_cells(rows, ROWS) == pytest.approx(share)


def test_numbers_that_are_not_whole_may_be_off_by_a_little() -> None:
    assert matched_cells([[1.503]], [[1.5]]) == 1.0 and matched_cells([[1.506]], [[1.5]]) == 0.0
    assert matched_cells([[None]], [[None]]) == 1.0


CELLS = st.sampled_from(["a", "b", 1, 2, 2.5, None])
TABLES = st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))


@settings(max_examples=80)
@given(rows=TABLES, reference=TABLES, order=st.randoms())
def test_matched_cells_is_a_share_blind_to_the_order_of_rows(rows: list, reference: list, order: Any) -> None:
    share = matched_cells(rows, reference)
    assert 0 <= share <= 1 and (not reference or matched_cells(reference, reference) == 1)
    if len(rows) == len(reference):
        shuffled = list(rows)
        order.shuffle(shuffled)
        assert matched_cells(shuffled, reference) == share


def test_tokens_of_a_query() -> None:
    assert sql_tokens("SELECT t.\"Name\" FROM `T` WHERE x<>1.5 AND y='a b'") == [
        *("select", "t", ".", "name", "from", "t", "where", "x", "<>", "1.5", "and", "y", "=", "'a b'")
    ]
