"""Tools: bounded, without side effects, and every mistake of a model is an observation."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.tools import TOOLS, Search, Sql, Tool, sql
from journeyman.tools.base import FunctionTool, ToolError
from journeyman.tools.calculator import calculate
from tests.unit.fakes import call

STOCK = {"stock": [{"shop": "north", "price": 3}, {"shop": "south", "price": 40}, {"shop": None, "price": 5}]}


class Mixed(FunctionTool):
    name = "mixed"

    async def run(self, text: str, count: int, share: float, loud: bool) -> str:
        """Do a bit of everything.

        In two paragraphs.
        """
        if count < 0:
            raise ToolError("count is negative")
        return f"{text!r} {count!r} {share!r} {loud!r}"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", "7"),
        ("(1+2)*3", "9"),
        (" 17 - 20 ", "-3"),
        ("-(-4)", "4"),
        ("+5", "5"),
        ("10/4", "2.5"),
        ("1/3", "0.3333333333"),  # ten decimals
        ("2/3", "0.6666666667"),
        ("0.1+0.2", "0.3"),  # decimal, not binary
        ("1.50*2", "3"),
        (".5*4", "2"),
        ("1e3+1", "1001"),
        ("-0.0", "0"),
        ("5e-11", "0"),
        ("100000000000000000000/3", "33333333333333333333.33333333"),  # 28 digits
        ("123456789012345678.5*1", "123456789012345678.5"),  # more digits than a float has
        ("99999999999999*99999999999999", "9999999999999800000000000001"),  # (10^14 - 1)^2, 28 digits
        ("(" * 90 + "1" + ")" * 90, "1"),
        ("-" * 199 + "1", "-1"),
    ],
)
def test_the_calculator_computes(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "1+", "1 2", "(1", "1)", "()", "...", "007", "1+\n2"),
        *("9**9**9", "9//2", "9%2", "1<<99", "~1", "1 if 1 else 2", "[1]", "1,2", "(1)(2)", "1_000", "0x10", "2j"),
        *("x", "e", "nan", "inf", "True", "abs(1)", "__import__('os').getcwd()", "lambda: 1", "'a'*9", "f'{1}'"),
        *("1/0", "0/0", "1/(2-2)", "1e999999", "1e999999*1e999999", "1e99999999999999999999", "1/1e-999"),
        *("9" * 200, "9" * 201, "9*" * 99 + "9", "(" * 100 + "1" + ")" * 99, "１+１", "1＋1", "½", "\x00", "\ud800"),
    ],
)
def test_what_the_calculator_cannot_compute_is_a_tool_error(expression: str) -> None:
    with pytest.raises(ToolError):
        calculate(expression)


@given(st.text(st.sampled_from("0123456789.eE+-*/() \t_x"), max_size=40) | st.text(max_size=210))
def test_any_text_gives_a_plain_number_or_a_tool_error(expression: str) -> None:
    try:
        value = calculate(expression)
    except ToolError:
        return
    assert abs(Decimal(value)) < 10**28
    assert set(value) <= set("-0123456789.") and len(value) <= 41


@given(st.integers(-(10**12), 10**12), st.sampled_from("+-*"), st.integers(-(10**12), 10**12))
def test_the_calculator_agrees_with_integers(a: int, operator: str, b: int) -> None:
    results = {"+": a + b, "-": a - b, "*": a * b}
    assert calculate(f"({a}){operator}({b})") == str(results[operator])


def test_a_tools_schema_comes_from_its_signature_and_docstring() -> None:
    assert Mixed().spec() == {
        "type": "function",
        "function": {
            "name": "mixed",
            "description": "Do a bit of everything.\n\nIn two paragraphs.",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "count": {"type": "integer"},
                    "share": {"type": "number"},
                    "loud": {"type": "boolean"},
                },
                "required": ["text", "count", "share", "loud"],
            },
        },
    }


GOOD: dict[str, Any] = {"text": "a", "count": 1, "share": 0.5, "loud": True}


@pytest.mark.parametrize(
    ("arguments", "observation"),
    [
        ({}, "error: mixed takes text, count, share, loud"),
        ({"text": "a", "count": 1, "share": 0.5}, "error: mixed takes text, count, share, loud"),
        ({**GOOD, "more": 1}, "error: mixed takes text, count, share, loud"),
        ({**GOOD, "text": 5}, "error: text must be a string"),
        ({**GOOD, "text": None}, "error: text must be a string"),
        ({**GOOD, "text": ["a"]}, "error: text must be a string"),
        ({**GOOD, "text": "\ud83d"}, "error: text has half of a surrogate pair in it"),
        ({**GOOD, "count": 1.0}, "error: count must be a integer"),
        ({**GOOD, "count": True}, "error: count must be a integer"),
        ({**GOOD, "share": "0.5"}, "error: share must be a number"),
        ({**GOOD, "share": True}, "error: share must be a number"),
        ({**GOOD, "loud": 1}, "error: loud must be a boolean"),
        ({**GOOD, "count": -1}, "error: count is negative"),
    ],
)
def test_wrong_arguments_are_observations(arguments: dict[str, Any], observation: str) -> None:
    result = call(Mixed(), **arguments)
    assert (result.name, result.ok, result.output) == ("mixed", False, observation)


def test_right_arguments_arrive_and_a_whole_number_is_a_number() -> None:
    result = call(Mixed(), **{**GOOD, "share": 2})
    assert (result.ok, result.output) == (True, "'a' 1 2.0 True") and result.seconds >= 0


def test_the_registered_tools_have_the_names_that_they_are_registered_under() -> None:
    needs: dict[str, dict[str, Any]] = {
        "search": {"documents": ["a"]},
        "sql": {"tables": STOCK},
        "schema": {"sql": Sql(STOCK)},
        "dictionary": {"entries": {"a": ["b"]}},
        "mcp": {"command": ["never-started"]},
    }
    made: dict[str, Tool] = {name: kind(**needs.get(name, {})) for name, kind in TOOLS.items()}
    for name, tool in made.items():
        function = tool.spec()["function"]
        assert function["name"] == name and function["description"] and function["parameters"]["type"] == "object"


def test_search_finds_the_document_that_fits_best() -> None:
    documents = ["The city of Babel is Cor.", "The mayor of Cor is Babel.", "The pet of Dan is dog."]
    search = Search(documents)
    assert call(search, query="mayor of Cor").output == documents[1]
    assert call(search, query="CITY of babel?!").output == documents[0]
    assert call(search, query="pet of dan").output == documents[2]
    assert call(search, query="zebra").output == "nothing found"
    assert call(search, query="").output == call(search, query="?! —").output == "error: the query has no word in it"
    assert not call(search, query="...").ok


def test_search_gives_as_many_documents_as_asked_and_no_more_than_there_are() -> None:
    found = call(Search(["a cat", "a dog", "a cat and a cat"], results=2), query="cat").output
    assert sorted(found.split("\n")) == ["a cat", "a cat and a cat"]
    assert call(Search(["a cat", "a dog"], results=5), query="cat").output == "a cat"


@given(st.text(max_size=60))
def test_any_query_can_be_searched_for(query: str) -> None:
    result = call(SEARCH, query=query)
    assert result.output


SEARCH = Search(["The city of Babel is Cor.", "naïve café 12"])


def test_sql_answers_with_rows() -> None:
    tool = Sql(STOCK)
    assert call(tool, query="select max(price) from stock").output == "40"
    assert call(tool, query="SELECT shop, price FROM stock ORDER BY price;").output == "north | 3\nnull | 5\nsouth | 40"
    assert call(tool, query="select price from stock where price > 99").output == "no rows"
    assert call(tool, query="with x as (select 1 as a) select a + 1 from x").output == "2"
    assert call(tool, query="from stock select sum(price)").output == "48"


REFUSED = [
    *("", ";", "-- nothing", "nonsense", "select", "select nothing from stock", "select * from elsewhere"),
    *("select 1; select 2", "select 1; drop table stock", "explain select 1", "prepare p as select 1"),
    *("insert into stock values ('x', 1)", "update stock set price = 0", "delete from stock", "drop table stock"),
    *("create table x (a int)", "create temp table x as select 1", "alter table stock add column z int", "vacuum"),
    "merge into stock using stock s on true when matched then delete",
    *("with x as (insert into stock values ('x', 1) returning *) select * from x",),
    *("with x as (delete from stock returning *) select * from x",),
    *("with x as (update stock set price = 0 returning *) select * from x",),
    *("with x as (copy stock to 'stolen.csv') select 1", "copy stock to 'stolen.csv'", "export database 'stolen'"),
    *("attach 'other.db'", "use memory", "detach memory", "checkpoint"),
    *("install httpfs", "load httpfs", "select * from duckdb_extensions()", "select * from duckdb_secrets()"),
    *(
        "set threads = 8",
        "reset threads",
        "set enable_external_access = true",
        "pragma threads = 8",
        "set variable x=1",
    ),
    *("pragma database_list", "call pragma_version()", "select getenv('HOME')"),
    *("select * from read_csv('pyproject.toml')", "select * from read_text('pyproject.toml')", "from 'a.parquet'"),
    *("select * from glob('*')", "select * from read_json('pyproject.toml')", "select * from sniff_csv('a.csv')"),
    *("select * from parquet_scan('a.parquet')", "select * from 'https://example.org/a.csv'"),
    *("select repeat('a', 1000000000)", "select lpad('a', 1000000000, 'b')", "select list_sum(range(1000000000))"),
    *("select \"repeat\"('a', 1000000000)", "select main.repeat ('a', 99)", "select count(*) from generate_series(9)"),
    *("select " + "(" * 700 + "1" + ")" * 700, "select " + "not " * 999 + "true", "select '" + "a" * 1000 + "'"),
    "select \ud800",
]


def test_sql_refuses_what_is_not_one_select_on_its_tables(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[secret]\n")
    tool = Sql(STOCK)
    before = call(tool, query="select *, rowid from stock").output
    for query in REFUSED:
        result = call(tool, query=query)
        assert not result.ok and result.output.startswith("error: ") and len(result.output) < 250, query
        assert "\n" not in result.output and "secret]" not in result.output
    assert call(Sql(STOCK), query="select *, rowid from stock").output == before
    # The first answer was remembered; this one is asked anew.
    assert call(tool, query="select *, rowid from stock where true").output == before
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


@given(st.text(max_size=80) | st.text(st.sampled_from("select ()*,'\";-from stock1"), max_size=60))
def test_any_text_is_an_observation_of_sql(query: str) -> None:
    assert call(SQL, query=query).output


SQL = Sql(STOCK)


def test_rows_and_characters_of_an_answer_are_bounded() -> None:
    tool = Sql({"many": [{"n": n, "text": "x" * 30} for n in range(1000)]})
    assert call(tool, query="select n from many order by n").output.split("\n") == [str(n) for n in range(20)]
    assert len(call(tool, query="select text, text from many").output) == 500


def test_an_endless_query_is_interrupted_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "SECONDS", 0.5)
    monkeypatch.setattr(sql, "PATIENCE", 0.02)
    endless = "with recursive t as (select 1 as a union all select a + 1 from t) select max(a) from t"
    tool, ticks = Sql(STOCK), 0

    async def both() -> str:
        nonlocal ticks
        asked = asyncio.create_task(tool.call({"query": endless}))
        while not asked.done():
            ticks += 1
            assert (await tool.call({"query": "select max(price) from stock"})).output == "40"
            await asyncio.sleep(0.01)
        return asked.result().output

    assert asyncio.run(both()) == "error: the query takes longer than 0.5 seconds"
    assert ticks > 3  # the event loop was not held up


def test_a_query_that_outlasts_the_loops_patience_is_answered_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "PATIENCE", 0.001)
    monkeypatch.setattr(sql, "SECONDS", 100.0)
    tool = Sql({"many": [{"n": n} for n in range(700)]})
    # 700 = 100 * 7: a.n and b.n are multiples of 7 in 100 of 700 rows, so 700^2 - 600^2 products are multiples of 7.
    assert call(tool, query="select count(*) from many a, many b where a.n * b.n % 7 = 0").output == "130000"


def test_nothing_of_a_query_is_visible_to_the_next_and_the_same_one_is_not_asked_twice() -> None:
    tool = Sql(STOCK)
    first = call(tool, query="select random()").output
    assert call(tool, query="select random()").output == first
    seeded = call(tool, query="select setseed(0.5), random()").output
    after = call(tool, query="select random() as again").output
    assert after not in (first, seeded.split(" | ")[1])
    assert call(tool, query="select count(*) from duckdb_tables() where table_name <> 'stock'").output == "0"
