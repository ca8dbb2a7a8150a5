"""Questions on databases: clear, right whatever the database, and graded by values."""

import asyncio
import random
import sqlite3
from dataclasses import replace
from itertools import islice
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.base import validate, walked
from journeyman.environments.database_profile import plural, profile, singular, words
from journeyman.environments.databases import Databases, is_ordered
from journeyman.environments.result_rows import read_rows, rows_found, same_cell, same_rows
from journeyman.errors import DataError
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.tools.sql import Sql
from tests.unit.fakes import call

SHOP = Databases()


@pytest.fixture(scope="module")
def chinook(shared_data: Path) -> Path:
    path = shared_data / "chinook_sqlite" / "chinook.db"
    if not path.is_file():
        pytest.skip("no chinook.db among the public data sets")
    return path


def some(world: Databases, count: int, seed: int = 0) -> list[Problem]:
    return list(islice(world.generate(random.Random(seed)), count))


def test_questions_on_the_shop_are_valid_whatever_the_seed() -> None:
    validate(SHOP, some(SHOP, 100, seed=1))


def test_questions_on_another_database_are_valid_and_follow_their_seed(chinook: Path) -> None:
    world = Databases(chinook)
    problems = some(world, 300, seed=5)
    validate(world, problems[:120])
    assert problems == some(Databases(chinook), 300, seed=5) != some(world, 300, seed=6)
    queries: dict[str, str] = {}
    assert all(queries.setdefault(p.question, p.data["query"]) == p.data["query"] for p in problems)
    joined = sum(" join " in p.data["query"] for p in problems)
    assert joined > 100 and any(p.data["query"].count(" join ") == 2 for p in problems)
    assert {"wrong aggregate", "wrong column", "missing filter", "missing join filter", "wrong order"} <= {
        one["mistake"] for p in problems for one in p.data["mistakes"]
    }


def test_the_answers_are_those_of_another_engine(chinook: Path) -> None:
    database = sqlite3.connect(chinook)
    for problem in some(Databases(chinook), 60, seed=2):
        found = database.execute(problem.data["query"]).fetchall()
        assert [list(row) for row in found] == problem.data["rows"]
    database.close()


def test_a_duckdb_file_is_asked_about_too(tmp_path: Path) -> None:
    database = duckdb.connect(str(tmp_path / "zoo.duckdb"))
    database.execute("create table keepers (id integer primary key, name varchar)")
    database.execute(
        "create table animals (id integer primary key, kind varchar, weight double, keeper_id integer references keepers(id))"
    )
    database.executemany("insert into keepers values (?, ?)", [[i, f"Keeper {i}"] for i in range(1, 6)])
    rows = [[i, ("cat", "dog", "owl")[i % 3], i * 1.25, i % 5 + 1] for i in range(1, 40)]
    database.executemany("insert into animals values (?, ?, ?, ?)", rows)
    database.close()
    world = Databases(tmp_path / "zoo.duckdb", show_schema=True)
    problems = some(world, 60)
    validate(world, problems)
    assert any("keeper's name" in p.question for p in problems) and any(
        "animals whose kind" in p.question for p in problems
    )
    episode = world.reset(replace(problems[0], tools=("sql",)), CallContext())
    system, user = episode.opening()
    assert "animals(id INTEGER, kind VARCHAR" in system.content and user.content == problems[0].question
    assert list(episode.tools) == ["sql"] and problems[0].min_calls == 1


def test_a_database_without_anything_to_ask_about_is_said_to_be_one(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").executescript("create table x (a); vacuum;").connection.close()
    with pytest.raises(DataError, match="nothing in this database to ask about"):
        some(Databases(tmp_path / "empty.db"), 1)


def test_a_profile_tells_measures_categories_and_names_from_keys() -> None:
    sql = SHOP.tools()["sql"]
    assert isinstance(sql, Sql)
    shop = profile(sql)
    product = shop["product"]
    assert product.measures == ("price", "weight") and product.whole == {"weight"}
    assert list(product.labels) == ["name"] and list(product.categories) == ["colour"]
    assert shop["purchase_line"].measures == ("amount", "discount") and shop["purchase_line"].noun == "purchase line"


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("InvoiceLine", "invoice line", "invoice lines"),
        ("tbl_categories", "tbl category", "tbl categories"),
        ("Boxes", "box", "boxes"),
        ("status", "status", "statuses"),
        ("HTTPServer2", "HTTP server 2", "HTTP server 2s"),
        ("days", "day", "days"),
    ],
)
def test_names_become_words(name: str, one: str, many: str) -> None:
    assert singular(words(name)) == one and plural(one) == many


def test_mistakes_in_hand_made_cells() -> None:
    assert same_cell(12.346, "12.35") and same_cell(12.346, 12.35)  # 0.004 off
    assert not same_cell(12.346, "12.36")  # 0.014 off
    assert not same_cell(0.004, "0.008")  # within 0.005, but not within a hundredth of it
    assert same_cell(1234567, "1,234,567") and not same_cell(1234567, "1234568")
    assert not same_cell(10**17, 10**17 + 64)
    assert same_cell("Rock", " rock ") and not same_cell("Rock", "Rock and Roll")
    assert same_cell(None, "null") and not same_cell(None, "0") and not same_cell(1, True)


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3) | st.none() | st.sampled_from([0.25, 1.5])), max_size=6
)


@settings(max_examples=100)
@given(ROWS, st.randoms())
def test_order_counts_only_where_it_was_asked_for(rows: list[tuple], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert same_rows(rows, shuffled, ordered=False)
    assert same_rows(rows, shuffled, ordered=True) == (rows == shuffled)
    assert not same_rows(rows, [*rows, ("a", 9)], ordered=False) and rows_found(rows, shuffled) == len(rows)
    if rows:
        assert not same_rows(rows, [*rows[1:], ("z", 9)], ordered=False)


def test_tolerance_does_not_disturb_the_matching() -> None:
    # Sorted as text both results pair 1.001 with 1.004 first; only the matching finds 1.0 ~ 1.004, 1.001 ~ 1.001.
    assert same_rows([(1.001, "x"), (1.002, "y")], [(1.001, "y"), (1.004, "x")], ordered=False)
    # 2 copies are not 1 copy and another.
    assert not same_rows([("a",), ("a",), ("b",)], [("a",), ("b",), ("b",)], ordered=False)


def test_rows_are_read_out_of_answers() -> None:
    assert read_rows("a | 1\n\n| b | 2 |", [("a", 1), ("b", 2)]) == [("a", "1"), ("b", "2")]
    assert read_rows("b, a", [("a",), ("b",)]) == [("b",), ("a",)]
    assert read_rows("a, 1", [("a", 1)]) == [("a", "1")]
    assert read_rows("Smith, John", [("Smith, John",)]) == [("Smith, John",)]
    assert read_rows("", [("a",)]) == []


SPIDER = [
    {"question": "Which cities are there?", "query": "SELECT name FROM city", "db_id": "geo"},
    {"question": "Cities by name?", "query": "SELECT name, size FROM city ORDER BY name", "db_id": "geo"},
    {
        "question": "The largest?",
        "SQL": "SELECT max(size) FROM city",
        "database": "geo/geo.sqlite",
        "evidence": "size is km2",
    },
    {"question": "Oops?", "query": "SELECT nothing FROM city", "db_id": "geo"},
    {"question": "None?", "query": "SELECT name FROM city WHERE size > 99", "db_id": "geo"},
    {"question": "Where?", "query": "SELECT 1", "db_id": "atlantis"},
    {"question": " ", "query": "SELECT 1", "db_id": "geo"},
    {"question": "No query?", "db_id": "geo"},
    {"question": "Too many?", "query": "SELECT a.name FROM city a, city b, city c, city d, city e", "db_id": "geo"},
]


@pytest.fixture
def geo(tmp_path: Path) -> Databases:
    (tmp_path / "geo").mkdir()
    database = sqlite3.connect(tmp_path / "geo" / "geo.sqlite")
    database.executescript(
        "create table city (name text, size real); insert into city values ('Elm', 7.5), ('Ash', 2), ('Fir', 2), ('Oak', 4);"
    )
    database.close()
    return Databases(folder=tmp_path)


def test_text_to_sql_rows_become_problems_or_are_kept_apart(geo: Databases) -> None:
    reading = geo.read(SPIDER)
    assert [(p.answer, p.data["ordered"]) for p in reading.problems] == [
        ("Elm\nAsh\nFir\nOak", False),
        ("Ash | 2.0\nElm | 7.5\nFir | 2.0\nOak | 4.0", True),
        ("7.5", False),
    ]
    assert reading.problems[2].question == "The largest?\nHint: size is km2"
    assert [(row.row, row.reason) for row in reading.apart] == [
        (3, "the gold query fails"),
        (4, "the gold query gives nothing"),
        (5, "no such database"),
        (6, "no question"),
        (7, "no query"),
        (8, "the gold query gives more than 200 rows"),  # 4^5 = 1024
    ]
    validate(geo, reading.problems)


def test_an_answer_is_graded_by_its_values_or_as_a_query(geo: Databases) -> None:
    names, ordered, largest = geo.read(SPIDER).problems
    assert geo.verify(names, "ash\nelm\noak\nfir") and geo.verify(names, "Fir, Oak, Ash, Elm")
    assert not geo.verify(names, "Ash\nElm\nFir") and not geo.verify(names, "Ash\nElm\nFir\nFir")
    assert not geo.verify(ordered, "Elm | 7.5\nAsh | 2\nFir | 2\nOak | 4")  # the question orders them
    assert geo.verify(ordered, "Ash | 2\nElm | 7.50\nFir | 2\nOak | 4.001") is False  # 4.0 is whole: no tolerance
    assert geo.verify(ordered, "Ash | 2\nElm | 7.504\nFir | 2\nOak | 4")
    assert geo.verify(largest, "select size from city order by size desc limit 1")
    assert geo.verify(names, "```sql\nSELECT name FROM city ORDER BY size\n```")
    assert not geo.verify(largest, "select min(size) from city") and not geo.verify(largest, "select nonsense")
    assert not geo.verify(largest, "drop table city") and geo.verify(largest, "select max(size) from city")


def test_the_verdict_says_how_many_of_the_rows_are_there(geo: Databases) -> None:
    names, *_ = geo.read(SPIDER).problems

    async def verdicts() -> list[tuple]:
        episode = geo.reset(names, CallContext())
        found = [await episode.verify(answer) for answer in (names.answer, "Ash\nElm\nx", "Ash\n" * 8, None)]
        return [(verdict.correct, verdict.score, verdict.parts["rows"]) for verdict in found]

    # 2 of 4 rows; 1 of the 4, diluted by 8 given ones.
    assert asyncio.run(verdicts()) == [(True, 1.0, 1.0), (False, 0.0, 0.5), (False, 0.0, 0.125), (False, 0.0, 0.0)]


def test_each_problem_has_the_tools_of_its_own_database(geo: Databases) -> None:
    names, *_ = geo.read(SPIDER).problems
    walk = asyncio.run(walked(geo, names, geo.courses(names)[0]))
    assert walk.outputs == ["city(name TEXT, size REAL)", "Elm\nAsh\nFir\nOak"] and walk.verdict.correct
    assert call(geo.tools()["sql"], query="select count(*) from product").output == "80"


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("select a from t order by a", True),
        ("select a from t where b in (select b from u order by c limit (1)) ", False),
        ("select a from t where b = ' order by ('", False),
        ("SELECT a FROM (select 1) GROUP BY a ORDER  BY count(*) desc limit 1", True),
    ],
)
def test_an_order_inside_parentheses_orders_nothing(query: str, ordered: bool) -> None:
    assert is_ordered(query) is ordered
